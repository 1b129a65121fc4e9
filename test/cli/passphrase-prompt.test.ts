import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { Interrupted } from "../../src/cli/interrupt.ts";
import { askPassphrase, LineEditor, type Terminal } from "../../src/cli/passphrase-prompt.ts";
import { KeyError } from "../../src/errors.ts";

/** A terminal whose user types `chunks`; `shown` is what stands on its screen. */
function terminalWith(chunks: readonly (string | Buffer)[]): {
  terminal: Terminal;
  input: PassThrough;
  shown: () => string;
  modes: boolean[];
} {
  const input = new PassThrough();
  const output = new PassThrough();
  const modes: boolean[] = [];
  const raw = Object.assign(input, { setRawMode: (on: boolean) => void modes.push(on) });
  for (const chunk of chunks) input.write(chunk);
  const terminal = { input: raw, output, close: (): void => void input.destroy() };
  return { terminal, input, shown: () => String(output.read() ?? ""), modes };
}

async function typed(...chunks: (string | Buffer)[]): Promise<string> {
  const { terminal } = terminalWith(chunks);
  return (await askPassphrase(terminal, "passphrase", false)).toString();
}

test("what is typed is not shown, and the terminal is put back", async () => {
  const { terminal, shown, modes } = terminalWith(["hun", "ter2\r"]);
  const passphrase = await askPassphrase(terminal, "passphrase of k", false);
  assert.equal(passphrase.toString(), "hunter2");
  assert.equal(shown(), "passphrase of k: \n");
  assert.deepEqual(modes, [true, false]);
});

test("backspace removes a whole character, Ctrl-U the line, arrow keys are no text", async () => {
  assert.equal(await typed("caf\u00e9\u{1f511}\u007f\u007f\bx\r"), "cax");
  assert.equal(await typed("\u007f\u007fa\n"), "a");
  assert.equal(await typed("wrong\u0015right\r"), "right");
  assert.equal(await typed("a\u001b[A\u001b[1;5Cb\u001bOPc\r"), "abc");
  assert.equal(await typed("a\u0001\u0002b\r"), "ab");
  assert.equal(await typed("a\tb c \r"), "a\tb c ");
});

test("a character that arrives in two parts is whole", async () => {
  assert.equal(await typed(Buffer.from([0xc3]), Buffer.from([0xa9]), "\r"), "é");
});

test("a new passphrase is asked for twice, again when they differ, and not for ever", async () => {
  const twice = (...lines: string[]): Promise<Buffer> =>
    askPassphrase(terminalWith(lines.map((line) => `${line}\r`)).terminal, "p", true);
  assert.equal((await twice("a", "a")).toString(), "a");
  assert.equal((await twice("a", "b", "c", "c")).toString(), "c");
  await assert.rejects(twice("a", "b", "a", "b", "a", "b"), KeyError);
});

test("Ctrl-C interrupts, Ctrl-D and a closed terminal give nothing; the terminal is put back", async () => {
  for (const [keys, kind] of [
    ["abc\u0003", Interrupted],
    ["\u0004", KeyError],
  ] as const) {
    const { terminal, modes } = terminalWith([keys]);
    await assert.rejects(askPassphrase(terminal, "p", false), kind);
    assert.deepEqual(modes, [true, false]);
  }
  const { terminal, input } = terminalWith(["abc"]);
  input.end();
  await assert.rejects(askPassphrase(terminal, "p", false), KeyError);
});

test("a line over 1024 bytes stays too long instead of being cut to fit", () => {
  const editor = new LineEditor();
  editor.feed(Buffer.alloc(5000, 0x61));
  assert.equal(editor.take().length, 1025);
});
