/**
 * `tde sync` of a copy in which one page of a hundred changed, beside `tde verify` of that copy: both read and decrypt
 * all of it.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { compare, type Comparison } from "./measure.ts";

const BLOCK_BYTES = 8192;
/** One page of so many is changed, at random places. */
const ONE_IN = 100;

export interface SyncBench {
  /** A plain cluster; some of its pages are changed before each run. */
  readonly source: string;
  /** Its encrypted copy. */
  readonly copy: string;
  readonly tde: (...args: string[]) => readonly string[];
  readonly keys: readonly string[];
  readonly runs: number;
}

export async function compareSync({
  source,
  copy,
  tde,
  keys,
  runs,
}: SyncBench): Promise<Comparison> {
  return await compare(
    "sync, 1 % of pages changed",
    {
      name: "tde sync",
      prepare: () => changePages(source),
      run: { command: tde("sync", source, copy, ...keys) },
    },
    { name: "tde verify", run: { command: tde("verify", "-D", copy, ...keys) } },
    runs,
  );
}

/** A byte in each of them: no server reads this cluster any more. */
function changePages(source: string): void {
  for (const database of readdirSync(join(source, "base"))) {
    for (const name of readdirSync(join(source, "base", database))) {
      if (/^\d+(\.\d+)?$/.test(name)) changePagesOf(join(source, "base", database, name));
    }
  }
}

function changePagesOf(path: string): void {
  const file = openSync(path, "r+");
  try {
    const pages = Math.floor(fstatSync(file).size / BLOCK_BYTES);
    const byte = Buffer.alloc(1);
    for (let left = Math.floor(pages / ONE_IN); left > 0; left--) {
      const at = Math.floor(Math.random() * pages) * BLOCK_BYTES + 5000;
      readSync(file, byte, 0, 1, at);
      writeSync(file, Buffer.of((byte[0] ?? 0) ^ 0xff), 0, 1, at);
    }
  } finally {
    closeSync(file);
  }
}
