/**
 * What a command ended with, as a message and an exit code. Commander's own errors are program.ts's.
 */
import { TdeError } from "../errors.ts";
import { ExitCode } from "./exit-codes.ts";
import { Interrupted } from "./interrupt.ts";
import { printBug, printError } from "./output.ts";

/** @returns the exit code. */
export async function reportError(error: unknown): Promise<number> {
  if (error instanceof Interrupted) {
    process.stderr.write("tde: interrupted\n");
    return ExitCode.interrupted;
  }
  if (error instanceof TdeError) {
    await printError(error);
    return ExitCode[error.code];
  }
  printBug(error);
  return ExitCode.bug;
}
