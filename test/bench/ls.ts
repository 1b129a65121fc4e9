/**
 * How long `tde ls` takes beside a warm `ls -lR` of the same directory, plain and encrypted, with many relations.
 */
import { compare, type Comparison } from "./measure.ts";

export interface LsBench {
  /** A cluster of small relations. */
  readonly plain: string;
  /** Where its encrypted copy goes. */
  readonly encrypted: string;
  readonly tde: (...args: string[]) => readonly string[];
  readonly keys: readonly string[];
  readonly run: (command: readonly string[]) => void;
  readonly runs: number;
}

export async function benchLs(bench: LsBench): Promise<Comparison[]> {
  const { plain, encrypted, tde, keys, run, runs } = bench;
  run(tde("encrypt-datadir", "-D", plain, "--output", encrypted, ...keys));
  const cases: readonly (readonly [string, string, readonly string[]])[] = [
    ["ls", plain, []],
    ["ls, encrypted", encrypted, keys],
    ["ls --by database, encrypted", encrypted, ["--by", "database", ...keys]],
  ];
  const results: Comparison[] = [];
  for (const [title, datadir, args] of cases) {
    const ours = { name: "tde ls", run: { command: tde("ls", "-D", datadir, ...args) } };
    const theirs = { name: "ls -lR", run: { command: ["ls", "-lR", datadir] } };
    results.push(await compare(title, ours, theirs, runs));
  }
  return results;
}
