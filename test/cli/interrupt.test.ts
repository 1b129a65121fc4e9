/** What a signal does to a command that writes: the first one asks it to stop, a second one does not ask. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

const MODULE = new URL("../../src/cli/interrupt.js", import.meta.url).href;

/** Says what it is told, and takes no notice of it: a command in the midst of a long step. */
const PROGRAM = `
  const { interruptSignal } = await import(${JSON.stringify(MODULE)});
  const signal = interruptSignal();
  signal.addEventListener("abort", () => console.log("asked to stop: " + signal.reason.name));
  setInterval(() => {}, 1000);
  console.log("ready");
`;

for (const [first, second] of [
  ["SIGINT", "SIGINT"],
  ["SIGTERM", "SIGINT"],
  ["SIGINT", "SIGTERM"],
] as const) {
  test(
    `${first} lets the step in hand end, ${second} behind it ends the process at once`,
    { timeout: 60_000 },
    async (t) => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM]);
      t.after(() => child.kill("SIGKILL"));
      let [output, errors] = ["", ""];
      child.stdout.on("data", (data: Buffer) => (output += data.toString()));
      child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
      const says = async (text: string): Promise<void> => {
        while (!output.includes(text)) await once(child.stdout, "data");
      };
      const ended = once(child, "close");
      await says("ready");
      child.kill(first);
      await says("asked to stop: Interrupted");
      assert.equal(child.exitCode, null);
      child.kill(second);
      assert.deepEqual(await ended, [130, null]);
      assert.match(
        errors,
        /^tde: stopping after the step in hand; interrupt again to stop at once\n$/,
      );
    },
  );
}
