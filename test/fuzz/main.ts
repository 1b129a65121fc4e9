/**
 * `npm run fuzz`: damaged WAL for the reader, the descriptions and the command line of `tde waldump`.
 *
 *   npm run fuzz -- [--seed 1] [--records 1000000] [--seconds 3600] [--files 4]
 *
 * Prints how much was tried. Exit code 1: a crash, a hang, an exit code that is none of tde's, or more memory than a
 * small heap has; the message names the seed of the round, and `--seed N --records 1` does that round again.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type FuzzResult, runFuzz } from "./run-fuzz.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    records: { type: "string", default: "1000000" },
    seconds: { type: "string", default: "3600" },
    files: { type: "string", default: "4" },
  },
});
const ROUNDS_PER_LINE = 200;

const result = await runFuzz(
  {
    seed: Number(values.seed),
    records: Number(values.records),
    seconds: Number(values.seconds),
    filesPerRound: Number(values.files),
    folder: mkdtempSync(join(tmpdir(), "tde-fuzz-")),
  },
  (soFar) => {
    if (soFar.rounds % ROUNDS_PER_LINE === 0) process.stderr.write(`${summary(soFar)}\n`);
  },
);
process.stdout.write(`${summary(result)}\n`);
if (result.problem !== undefined) {
  process.stdout.write(`${result.problem}\n`);
  process.exitCode = 1;
}

function summary({ rounds, mutated, described, refused, files, memoryKb }: FuzzResult): string {
  const memory = Math.round(memoryKb / 1024);
  return `${rounds} rounds: ${mutated} mutated records, of which ${described} were described and ${refused} refused; ${files} damaged files; at most ${memory} MB`;
}
