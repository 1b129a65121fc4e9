/**
 * Directories of 32-bit builds: their pages are those of any other server, so they are encrypted page by page. Their WAL is
 * not, and is sealed whole.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SEALED_PAGE_MARK } from "../../src/format/page-message.ts";
import { PAGE_HEADER } from "../../src/postgres/page.ts";
import { readFixture } from "../support/fixtures.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const CONTROL = "global/pg_control";

/** Whole, of the size that pg_control says; its first page does not say of which cluster it is. */
function withSegment(datadir: string, sizeBytes: number): string {
  const segment = join(datadir, WAL_FILE);
  truncateSync(segment, sizeBytes);
  const bytes = readFileSync(segment).fill(0, 0, 8192);
  writeFileSync(segment, bytes);
  return datadir;
}

/** PGlite's 18 of wasm32, and 64-bit fields aligned to 4 bytes, which change nothing but where pg_control has them. */
const BUILDS: Readonly<Record<string, () => Buffer>> = {
  "that aligns to 8 bytes": () => readFixture("control/18-wasm32/pg_control"),
  "that aligns to 4 bytes": () => readFixture("control/15-i386/pg_control"),
};

for (const [build, control] of Object.entries(BUILDS)) {
  test(`a directory of a 32-bit build ${build} is encrypted page by page, its WAL whole, and comes back`, async () => {
    const is18 = build.includes("8 bytes");
    const plain = withSegment(makeSmallCluster(is18 ? 18 : 15), 2 ** 24);
    writeFileSync(join(plain, CONTROL), control());
    const datadir = copyOf(plain);
    const small = new SmallEngine();
    await small.encrypt(datadir, { wal: "readable" });
    assert.match(small.notices.join("\n"), /32-bit build: its WAL is sealed whole/);
    assert.ok(existsSync(join(datadir, `${ORDINARY}_tde`)));
    const flags = readFileSync(join(datadir, ORDINARY)).readUInt16LE(PAGE_HEADER.flags);
    assert.notEqual(flags & SEALED_PAGE_MARK, 0);
    assert.ok(!existsSync(join(datadir, `${WAL_FILE}_tde`)));
    assert.ok(!readFileSync(join(datadir, WAL_FILE)).equals(readFileSync(join(plain, WAL_FILE))));
    const report = await small.verify(datadir);
    assert.equal(report.problems.length, 0);
    await small.decrypt(datadir);
    assertSameTree(treeOf(datadir), treeOf(plain));
  });
}

test("the same cluster of a 64-bit build has its WAL in readable mode", async () => {
  const datadir = withSegment(makeSmallCluster(17), 2 ** 20);
  const small = new SmallEngine();
  await small.encrypt(datadir, { wal: "readable" });
  assert.deepEqual(small.notices, []);
  assert.ok(existsSync(join(datadir, `${WAL_FILE}_tde`)));
});
