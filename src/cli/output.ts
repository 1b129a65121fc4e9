/**
 * Everything that tde says: results on standard output, everything else on standard error. The only user of
 * chalk, which is loaded when there is something to colour and a terminal to show it.
 */
import { TdeError } from "../errors.ts";

export interface OutputOptions {
  readonly quiet?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

export interface Output {
  /** A result, one or more lines without the last line end. */
  result(text: string): void;
  /** A result as one JSON document. */
  json(value: unknown): void;
  /** What the user should know; not under --quiet. */
  note(text: string): void;
  /** Only under --verbose. */
  detail(text: string): void;
  warn(text: string): Promise<void>;
}

export function createOutput(options: OutputOptions): Output {
  return {
    result: (text) => writeResult(`${text}\n`),
    json: (value) => writeResult(`${JSON.stringify(value, undefined, 2)}\n`),
    note: (text) => void (options.quiet !== true && process.stderr.write(`${text}\n`)),
    detail: (text) => void (options.verbose === true && process.stderr.write(`${text}\n`)),
    warn: (text) => writeMessage("warning", text),
  };
}

/** An expected error: its message and what to do. */
export async function printError(error: TdeError): Promise<void> {
  await writeMessage("error", error.message);
  if (error.hint !== undefined) await writeMessage("hint", error.hint);
}

/** A bug: everything that helps to find it. */
export function printBug(error: unknown): void {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(
    `tde: error: this is a bug in tde\n${stack}\n` +
      "tde: hint: Please report it with the lines above and the command that you gave.\n",
  );
}

/**
 * Whoever read our results has gone (`tde show | head -1`): what follows goes nowhere, quietly. A command that
 * only prints should look at `resultsAreRead` and stop; one that works on files goes on.
 */
export function tolerateClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      if (stream === process.stdout) stdoutClosed = true;
    });
  }
}

export function resultsAreRead(): boolean {
  return !stdoutClosed;
}

let stdoutClosed = false;

function writeResult(text: string): void {
  if (!stdoutClosed) process.stdout.write(text);
}

async function writeMessage(kind: "error" | "warning" | "hint", text: string): Promise<void> {
  process.stderr.write(`tde: ${await coloured(kind)} ${text}\n`);
}

async function coloured(kind: "error" | "warning" | "hint"): Promise<string> {
  const label = `${kind}:`;
  if (!process.stderr.isTTY || (process.env["NO_COLOR"] ?? "") !== "") return label;
  const { Chalk } = await import("chalk");
  const chalk = new Chalk({ level: 1 });
  return { error: chalk.red, warning: chalk.yellow, hint: chalk.cyan }[kind](label);
}
