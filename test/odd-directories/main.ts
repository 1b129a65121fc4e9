/**
 * `npm run odd-directories`: directories that are too large for the tests: very many files, a sparse relation, WAL
 * segments of every size, a relation of two segments. Each is encrypted, verified and decrypted, and must be as it
 * was; printed are times and peak memory.
 *
 *   npm run odd-directories -- [--only TEXT]
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measure, type Sample } from "../bench/measure.ts";
import { temporaryPath } from "../support/cluster.ts";
import { runTdeThreaded, TDE_PROGRAM } from "../support/tde.ts";
import { ODD_DIRECTORIES, type OddDirectory } from "./odd-directories.ts";

const { values: options } = parseArgs({ options: { only: { type: "string", default: "" } } });

const lines = [
  "| directory | encrypt | verify | decrypt | peak memory |",
  "| --- | --- | --- | --- | --- |",
];
for (const directory of ODD_DIRECTORIES.filter(({ name }) => name.includes(options.only))) {
  process.stderr.write(`${directory.name}\n`);
  lines.push(await row(directory));
}
process.stdout.write(`${lines.join("\n")}\n`);

async function row({ name, make }: OddDirectory): Promise<string> {
  const folder = temporaryPath("odd");
  try {
    const keys = ["--keyring", join(folder, "app.keyring"), "--key-file", join(folder, "kek.key")];
    runTdeThreaded(["keyring", "create", ...keys, "--new-key-file"]);
    const datadir = join(folder, "data");
    mkdirSync(folder, { recursive: true });
    const { assertSealed, assertSame } = await make(datadir);
    const samples: Sample[] = [];
    for (const command of ["encrypt-datadir", "verify", "decrypt-datadir"]) {
      const args = [TDE_PROGRAM, command, "-D", datadir, ...keys];
      samples.push(await measure({ command: [process.execPath, ...args] }));
      if (command === "verify") assertSealed?.();
    }
    await assertSame();
    const times = samples.map(({ seconds }) => `${seconds.toFixed(1)} s`);
    const peak = Math.max(...samples.map(({ peakMib }) => peakMib));
    return `| ${[name, ...times, `${Math.round(peak)} MiB`].join(" | ")} |`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
