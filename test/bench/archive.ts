/**
 * How long a server waits for `tde wal archive` of one segment, process start included, beside what archives without
 * encryption use: gzip at its fastest, and cp. One core each.
 */
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ServerHome } from "../../src/demo/postgres-server.ts";
import { compressesZstd } from "../../src/compression/zstd.ts";
import { compare, type Comparison } from "./measure.ts";
import { writeWal } from "./waldump.ts";

export interface ArchiveBench {
  readonly home: ServerHome;
  readonly path: string;
  readonly tde: (...args: string[]) => readonly string[];
  readonly run: (command: readonly string[]) => void;
  readonly runs: number;
  readonly say: (text: string) => void;
}

const SEGMENTS_MB = 48;
const LEAST_RUNS = 9;

export async function benchArchive(bench: ArchiveBench): Promise<Comparison[]> {
  const { path, tde, run, say } = bench;
  const runs = Math.max(bench.runs, LEAST_RUNS);
  const [, name] = await writeWal({ ...bench, walMb: SEGMENTS_MB }, join(path, "archive-bench"));
  const segment = join(path, name);
  copyFileSync(join(path, "archive-bench/pg_wal", name), segment);
  const archive = join(path, "archive");
  mkdirSync(archive);
  const stored = join(archive, name);
  const beside = join(path, "beside");
  const keys = ["--keyring", join(path, "app.keyring"), "--key-file", join(path, "kek.key")];
  run(tde("keyring", "create", ...keys, "--new-key-file"));
  const oneCore = existsSync("/usr/bin/taskset") ? ["taskset", "-c", "0"] : [];
  const shell = (text: string): readonly string[] => [...oneCore, "sh", "-c", text];
  const gzip = shell(`gzip -1 -c '${segment}' > '${beside}'`);
  const copy = shell(`cp '${segment}' '${beside}' && '${process.execPath}' -e 0`);
  const cases: readonly (readonly [string, string, readonly string[]])[] = [
    ["none", "cp and node -e 0", copy],
    ["gzip", "gzip -1", gzip],
    ["lz4", "gzip -1", gzip],
    ...(compressesZstd() ? [["zstd", "gzip -1", gzip] as const] : []),
  ];
  const results: Comparison[] = [];
  for (const [method, other, command] of cases) {
    const title = `wal archive, ${method}`;
    const args = ["wal", "archive", "--compress", method, segment, stored, ...keys];
    const result = await compare(
      title,
      {
        name: `tde ${title}`,
        prepare: () => rmSync(stored, { force: true }),
        run: { command: [...oneCore, ...tde(...args)] },
      },
      { name: other, prepare: () => rmSync(beside, { force: true }), run: { command } },
      runs,
    );
    say(`${title}: ${result.ratio.toFixed(2)} x ${other}`);
    results.push(result);
  }
  return results;
}
