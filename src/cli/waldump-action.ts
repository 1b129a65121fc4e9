/**
 * Runs `tde waldump`. It stands in for pg_waldump: options, words and exit codes are that program's, so it takes its
 * arguments apart itself and reports its errors itself.
 */
import { TdeError } from "../errors.ts";
import type { Dialect } from "../engine/waldump/dialect.ts";
import type { WalKeys } from "../engine/waldump/wal-files.ts";
import { openWaldump } from "../engine/waldump/waldump.ts";
import { usageProblem, WaldumpError } from "../engine/waldump/waldump-error.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { getopt, type GetoptEvent } from "./getopt.ts";
import { keyringFlagsOf } from "./keyring-events.ts";
import { createOutput } from "./output.ts";
import { packageVersion } from "./package-version.ts";
import { pathArgument, rawEnvironment } from "./raw-arguments.ts";
import { writeToStandardOutput } from "./standard-output.ts";
import { GetoptError, parseWaldumpOptions, WALDUMP_OPTIONS } from "./waldump-options.ts";
import { WALDUMP_HELP } from "./waldump-help.ts";

const NAME = "tde waldump";
const HELP_POINTER = `Try "${NAME} --help" for more information.`;
const FAILURE = 1;

/** Where output and messages go. */
export interface WaldumpTerminal {
  /** Takes bytes of standard output before it returns. @returns false when nobody reads them any more. */
  readonly write: (bytes: Uint8Array) => boolean;
  /** @param line - a message for standard error, with its end of line. */
  readonly say: (line: string) => void;
}

const PROCESS_TERMINAL: WaldumpTerminal = {
  write: writeToStandardOutput,
  say: (line) => void process.stderr.write(line),
};

/** @param args - what follows `waldump`. @returns the exit code. */
export async function runWaldump(
  args: readonly string[],
  terminal: WaldumpTerminal = PROCESS_TERMINAL,
): Promise<number> {
  const print = (text: string): void => void terminal.write(Buffer.from(text));
  const [first] = args;
  if (first === "--help" || first === "-?") {
    print(WALDUMP_HELP);
    return 0;
  }
  if (first === "--version" || first === "-V") {
    print(`${NAME} ${packageVersion()}\n`);
    return 0;
  }
  const { events, positionals } = getopt(args, WALDUMP_OPTIONS);
  const pgdata = rawEnvironment("PGDATA");
  const fs = new NodeFileSystem();
  const opened = await openWaldump(fs, {
    path: lastPath(events),
    segments: positionals.map(pathArgument),
    pgdata: pgdata === undefined ? undefined : pathArgument(pgdata),
    standardInput: () => process.stdin,
    startThreads: async (count, context, keys) => {
      const { ChunkThreads } = await import("../engine/waldump/chunk-threads.ts");
      return new ChunkThreads(count, context, keys);
    },
    keys: keysWhenNeeded(fs, events),
  });
  const interrupt = listenForInterrupt();
  try {
    if (args.length === 0) throw usageProblem("no arguments specified");
    const request = parseWaldumpOptions(events, positionals, opened);
    if ("rmgrs" in request) {
      print(request.rmgrs.map((name) => `${name}\n`).join(""));
      return 0;
    }
    await opened.run(request, {
      stopped: interrupt.stopped,
      note: (message) => say(terminal, message),
      write: terminal.write,
    });
    return 0;
  } catch (error) {
    report(terminal, error, opened.dialect);
    return FAILURE;
  } finally {
    interrupt.end();
    await opened.close();
  }
}

/** A keyring is opened, and its code loaded, when the first encrypted file is met: at most once. */
function keysWhenNeeded(fs: FileSystem, events: readonly GetoptEvent[]): WalKeys {
  let keys: Promise<DataKeys | undefined> | undefined;
  const open = async (): Promise<DataKeys | undefined> => {
    const { openKeyringIfNamed } = await import("./open-keyring.ts");
    const output = createOutput({ quiet: true });
    const flags = { ...keyringFlagsOf(events), quiet: true };
    return (await openKeyringIfNamed(flags, NAME, output, fs))?.dataKeys;
  };
  return () => (keys ??= open());
}

function lastPath(events: readonly GetoptEvent[]): ReturnType<typeof pathArgument> | undefined {
  const values = events.flatMap((event) =>
    event.kind === "option" && event.name === "path" ? [event.value ?? ""] : [],
  );
  const last = values.at(-1);
  return last === undefined ? undefined : pathArgument(last);
}

/** As common/logging.c of the major prints it. @throws what is no expected error. */
function report(terminal: WaldumpTerminal, error: unknown, dialect: Dialect): void {
  if (error instanceof GetoptError) {
    if (error.complaint !== undefined) say(terminal, error.complaint);
    sayHint(terminal, dialect);
    return;
  }
  if (error instanceof WaldumpError) {
    say(terminal, `${error.tryHelp ? "error" : dialect.fatalLabel}: ${error.message}`);
    if (error.detail !== undefined) say(terminal, `detail: ${error.detail}`);
    if (error.tryHelp) sayHint(terminal, dialect);
    return;
  }
  if (!(error instanceof TdeError)) throw error;
  say(terminal, `error: ${error.message}`);
  if (error.hint !== undefined) say(terminal, `hint: ${error.hint}`);
}

function say(terminal: WaldumpTerminal, message: string): void {
  terminal.say(`${NAME}: ${message}\n`);
}

function sayHint(terminal: WaldumpTerminal, { labelsHint }: Dialect): void {
  if (labelsHint) say(terminal, `hint: ${HELP_POINTER}`);
  else terminal.say(`${HELP_POINTER}\n`);
}

/** The first interrupt ends the reading; statistics of what was read so far are printed. */
function listenForInterrupt(): { stopped: () => boolean; end: () => void } {
  let interrupted = false;
  const listener = (): void => void (interrupted = true);
  process.once("SIGINT", listener);
  return { stopped: () => interrupted, end: () => process.off("SIGINT", listener) };
}
