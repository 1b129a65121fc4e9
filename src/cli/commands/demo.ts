/**
 * `tde demo`: options and help only; demo/demo.ts does the work.
 */
import { Command, InvalidArgumentError } from "commander";

export function demoCommand(): Command {
  return new Command("demo")
    .description("a real PostgreSQL cluster, encrypted, checked, decrypted and started again")
    .option("--keep", "leave everything where it is at the end")
    .option("--major <number>", "the major version of PostgreSQL", parseMajor)
    .action(async (flags: DemoFlags) => {
      const { runDemo } = await import("../../demo/demo.ts");
      process.exitCode = await runDemo({
        out: (text) => void process.stdout.write(`${text}\n`),
        keep: flags.keep === true,
        major: flags.major,
      });
    });
}

interface DemoFlags {
  readonly keep?: boolean | undefined;
  readonly major?: number | undefined;
}

function parseMajor(text: string): number {
  if (/^[1-9][0-9]$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a major version, such as 17.");
}
