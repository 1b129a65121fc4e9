/**
 * The real pg_waldump of each major at hand on encrypted segments, without any key: that of 15, and with
 * TDE_STOCK_TOOLS those of others. TDE_WAL_FIXTURES adds whole sets to the small ones.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import {
  findStockTools,
  requireStockTools,
  STOCK_MAJOR,
  type StockTools,
} from "../support/stock-tools.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { SMALL_SET_MAJORS, unpackSmallSet, unpackWholeSet } from "../support/waldump-cases.ts";

const SETS = ["tl2", "contrecord", "wal", "segbig"];
const OPTIONS = [[], ["--bkp-details"], ["--stats=record"]];

for (const major of SMALL_SET_MAJORS) {
  const tools = findStockTools(major, "pg_waldump");
  const skip = tools === undefined && major !== STOCK_MAJOR ? "TDE_STOCK_TOOLS has none" : false;
  test(
    `pg_waldump of ${major} prints the same of encrypted segments, plain, with details and as statistics`,
    { skip },
    async (t) => {
      const pgWaldump = tools ?? requireStockTools(t);
      if (pgWaldump === undefined) return;
      const small = unpackSmallSet(major, temporaryDirectory(t)).folder;
      const runs = await compareSets(t, pgWaldump, small);
      const whole = join(process.env["TDE_WAL_FIXTURES"] ?? "", String(major));
      const more =
        process.env["TDE_WAL_FIXTURES"] !== undefined && existsSync(whole)
          ? await compareSets(t, pgWaldump, unpackWholeSet(whole, temporaryDirectory(t)).folder)
          : 0;
      assert.ok(runs >= 9);
      t.diagnostic(`${runs + more} runs`);
    },
  );
}

/** @returns how many runs were compared. */
async function compareSets(t: TestContext, tools: StockTools, folder: string): Promise<number> {
  let runs = 0;
  for (const set of SETS.filter((name) => existsSync(join(folder, name)))) {
    const plain = join(folder, set);
    const encrypted = join(temporaryDirectory(t), set);
    cpSync(plain, encrypted, { recursive: true });
    await encryptWal(new SmallEngine().engine, testKeys(2), { folder: bytePath(encrypted) });
    for (const [first, last] of rangesIn(plain)) {
      for (const options of OPTIONS) {
        const run = (path: string): Dump => dump(tools, path, [...options, first, last]);
        assertSameDump(run(encrypted), run(plain), `${set} ${first} ${options.join()}`);
        runs++;
      }
    }
  }
  return runs;
}

interface Dump {
  readonly status: number | null;
  readonly lines: readonly string[];
  readonly error: string;
}

function dump(tools: StockTools, path: string, args: readonly string[]): Dump {
  const { status, stdout, stderr } = tools.run("pg_waldump", ["-p", path, ...args]);
  const lines = stdout.replace(/( payload \(\d+ bytes\): ).*/g, "$1").split("\n");
  return { status, lines, error: stderr };
}

function assertSameDump(encrypted: Dump, plain: Dump, what: string): void {
  assert.notEqual(plain.status, null, what);
  assert.equal(encrypted.status, plain.status, what);
  // The first line that differs: a comparison of all of them takes minutes to print.
  const at = plain.lines.findIndex((line, i) => line !== encrypted.lines[i]);
  assert.equal(encrypted.lines[at], plain.lines[at], what);
  assert.equal(encrypted.lines.length, plain.lines.length, what);
  assert.ok(plain.lines.length > 10, what);
  if (encrypted.error !== plain.error) {
    // Where a header is cut off, or a recycled segment goes on with what pg_waldump takes for one, it finds zeros.
    assert.match(encrypted.error, /: invalid record length at \S+: .* got 0\n$/, what);
    const last = (error: string): string | undefined => /^.* record at [^:]+: /m.exec(error)?.[0];
    assert.equal(last(encrypted.error), last(plain.error), what);
  }
}

/** First and last of the segments of one timeline that follow each other. */
function rangesIn(folder: string): [string, string][] {
  const ranges: [string, string][] = [];
  for (const name of readdirSync(folder)
    .filter((one) => /^[0-9A-F]{24}$/.test(one))
    .sort()) {
    const range = ranges.at(-1);
    if (range !== undefined && isNext(range[1], name)) range[1] = name;
    else ranges.push([name, name]);
  }
  return ranges;
}

/** Of the sets, whose segments have 1 MB, or 16 MB in the first log file. */
function isNext(name: string, next: string): boolean {
  const numberOf = (one: string): number =>
    Number.parseInt(one.slice(8, 16), 16) * 4096 + Number.parseInt(one.slice(16), 16);
  return name.slice(0, 8) === next.slice(0, 8) && numberOf(next) === numberOf(name) + 1;
}
