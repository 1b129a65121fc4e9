/**
 * tde's command line. Each of the two ways to take arguments apart is loaded only where it is needed, since a look at
 * a few WAL records should take no longer than they do. Nothing else in tde ends the process.
 */
import { keepMemoryOutOfCores } from "../storage/core-dump.ts";
import { ExitCode, restoreExitCode } from "./exit-codes.ts";
import { printBug, tolerateClosedPipe } from "./output.ts";
import { rawArguments } from "./raw-arguments.ts";

/** @param argv - process.argv. Sets process.exitCode and returns when the command has ended. */
export async function main(argv: readonly string[]): Promise<void> {
  keepMemoryOutOfCores();
  tolerateClosedPipe();
  const [command, ...args] = rawArguments(argv);
  if (command === "waldump") return await waldump(args);
  const { runProgram } = await import("./program.ts");
  const isRestore = command === "wal" && args[0] === "restore";
  await runProgram(rawArguments(argv));
  if (isRestore) process.exitCode = restoreExitCode(Number(process.exitCode ?? ExitCode.ok));
}

/** It stands in for a C program, whose options commander would read otherwise. */
async function waldump(args: readonly string[]): Promise<void> {
  try {
    const { runWaldump } = await import("./waldump-action.ts");
    process.exitCode = await runWaldump(args);
  } catch (error) {
    printBug(error);
    process.exitCode = ExitCode.bug;
  }
}
