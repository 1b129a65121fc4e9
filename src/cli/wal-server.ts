/**
 * `tde wal archive` and `tde wal restore` as a server calls them, once for each file of its WAL: a bundle of their own
 * that loads neither commander nor any other command. What is not plainly right on the command line, and help, is left to
 * the whole program.
 */
import { COMPRESSION_METHODS } from "../compression/stream.ts";
import type { Compression } from "../format/container.ts";
import { keepMemoryOutOfCores } from "../storage/core-dump.ts";
import { ExitCode, restoreExitCode } from "./exit-codes.ts";
import { getopt, type GetoptEvent, type OptionShape } from "./getopt.ts";
import { keyringFlagsOf, valuesOf } from "./keyring-events.ts";
import { printBug, tolerateClosedPipe } from "./output.ts";
import { pathArgument, rawArguments } from "./raw-arguments.ts";
import { reportError } from "./report-error.ts";
import { archive, restore } from "./wal-actions.ts";

const WITH_VALUE = ["keyring", "state", "key-file", "passphrase-file", "passphrase-fd"];
const COMMON: readonly OptionShape[] = [
  ...[...WITH_VALUE, "unwrap-command", "wrap-command"].map((name) => shape(name, "required")),
  { ...shape("quiet", "none"), short: "q" },
  { ...shape("verbose", "none"), short: "v" },
];
const OPTIONS: Readonly<Record<string, readonly OptionShape[]>> = {
  archive: [...COMMON, shape("compress", "required")],
  restore: [...COMMON, shape("allow-plain", "none")],
};

/**
 * @param argv - process.argv. Sets process.exitCode where it did what was asked for.
 * @returns false where the whole program has to look at the command line.
 */
export async function serve(argv: readonly string[]): Promise<boolean> {
  keepMemoryOutOfCores();
  const [, command = "", ...args] = rawArguments(argv);
  const { events, positionals } = getopt(args, OPTIONS[command] ?? []);
  const [first, second] = positionals.map(pathArgument);
  if (first === undefined || second === undefined || positionals.length > 2) return false;
  const compress = compressionOf(events);
  const descriptors = valuesOf(events, "passphrase-fd");
  const areNumbers = descriptors.every((text) => /^[0-9]{1,6}$/.test(text));
  if (events.some(({ kind }) => kind === "error") || compress === "unknown" || !areNumbers)
    return false;
  const flags = {
    ...keyringFlagsOf(events),
    quiet: valuesOf(events, "quiet").length > 0,
    verbose: valuesOf(events, "verbose").length > 0,
  };
  tolerateClosedPipe();
  const isRestore = command === "restore";
  if (isRestore) process.on("uncaughtException", endRestoreByBug);
  try {
    const allowPlain = valuesOf(events, "allow-plain").length > 0;
    if (isRestore) await restore(first, second, { ...flags, allowPlain });
    else await archive(first, second, { ...flags, compress });
  } catch (error) {
    process.exitCode = await reportError(error);
  }
  if (isRestore) process.exitCode = restoreExitCode(Number(process.exitCode ?? ExitCode.ok));
  return true;
}

/** Node itself would end with 1, which recovery takes for the end of the archive. */
export function endRestoreByBug(error: unknown): void {
  printBug(error);
  process.exit(restoreExitCode(ExitCode.bug));
}

function compressionOf(events: readonly GetoptEvent[]): Compression | undefined | "unknown" {
  const named = valuesOf(events, "compress").at(-1);
  const methods: readonly Compression[] = ["none", ...COMPRESSION_METHODS];
  return named === undefined ? undefined : (methods.find((one) => one === named) ?? "unknown");
}

function shape(name: string, argument: "none" | "required"): OptionShape {
  // As commander takes them.
  return { name, argument, wholeNameOnly: true };
}
