/**
 * Catalogs in blocks of another size than 8 kB, and in more than one file, plain and sealed. Both are made of a real
 * cluster's: its rows on larger pages, its files cut after a few blocks.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { catalogAt, makeSmallCatalogCluster, relationsOf } from "../support/fixture-catalog.ts";
import { edit, sidecarOf } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { BLOCK_SIZE, copyOf, SmallEngine } from "../support/small-cluster.ts";

/** Offsets in pg_control of 17. */
const CONTROL = { blockSize: 216, blocksPerSegment: 220, crc: 288 } as const;
const HEAPS = /^(?:1249|1259|2601|2610|2611|2615|1260|1262|1213)$/;
const TYPES = { ...NOTHING_SELECTED, relations: [bytePath("template1.pg_catalog.pg_type")] };

function setControl(datadir: string, offset: number, value: number): void {
  edit(join(datadir, "global/pg_control"), (bytes) => {
    bytes.writeUInt32LE(value, offset);
    bytes.writeUInt32LE(crc32c(bytes, 0, CONTROL.crc), CONTROL.crc);
  });
}

/** Makes `change` with every relation file, whose name it is given. */
function withFiles(datadir: string, change: (path: string, name: string) => void): void {
  for (const folder of ["base/1", "global"])
    for (const name of readdirSync(join(datadir, folder)))
      if (/^\d+(?:_\w+)?$/.test(name)) change(join(datadir, folder, name), name);
}

/** A cluster whose catalogs have the rows of each page at the end of a larger one. */
function withBlocksOf(blockSize: number): string {
  const datadir = makeSmallCatalogCluster();
  setControl(datadir, CONTROL.blockSize, blockSize);
  withFiles(datadir, (path, name) => {
    if (!HEAPS.test(name)) return;
    edit(path, (bytes) => {
      const pages: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += BLOCK_SIZE)
        pages.push(enlarged(bytes.subarray(at, at + BLOCK_SIZE), blockSize, pages.length));
      return Buffer.concat(pages);
    });
  });
  return datadir;
}

function enlarged(page: Buffer, blockSize: number, block: number): Buffer {
  const more = blockSize - BLOCK_SIZE;
  const large = Buffer.alloc(blockSize);
  const [lower, upper] = [page.readUInt16LE(12), page.readUInt16LE(14)];
  page.copy(large, 0, 0, lower);
  page.copy(large, upper + more, upper);
  for (const offset of [14, 16]) large.writeUInt16LE(page.readUInt16LE(offset) + more, offset);
  large.writeUInt16LE(blockSize | 4, 18);
  for (let at = 24; at < lower; at += 4) {
    const pointer = page.readUInt32LE(at);
    // A redirect and an unused pointer have no bytes on the page.
    if (((pointer >>> 15) & 1) === 1 && pointer >>> 17 > 0) large.writeUInt32LE(pointer + more, at);
  }
  large.writeUInt16LE(pageChecksum(large, block), 8);
  return large;
}

function withSegmentsOf(blocks: number): string {
  const datadir = makeSmallCatalogCluster();
  setControl(datadir, CONTROL.blocksPerSegment, blocks);
  withFiles(datadir, (path) => {
    const bytes = readFileSync(path);
    for (let from = 0; from < bytes.length || from === 0; from += blocks * BLOCK_SIZE) {
      const suffix = from === 0 ? "" : `.${from / (blocks * BLOCK_SIZE)}`;
      writeFileSync(`${path}${suffix}`, bytes.subarray(from, from + blocks * BLOCK_SIZE));
    }
  });
  return datadir;
}

function namesIn(datadir: string): string[] {
  const catalog = catalogAt(datadir, { keys: testKeys() });
  return [...relationsOf(catalog, "template1").relations()].map(({ name }) => name);
}

const segmented = withSegmentsOf(4);

for (const [what, datadir] of [
  ["blocks of 16 kB", withBlocksOf(16384)],
  ["files of four blocks", segmented],
] as const) {
  test(`catalogs in ${what} are read, plain and sealed, and a name leads to its files`, async () => {
    const names = namesIn(makeSmallCatalogCluster());
    assert.deepEqual(namesIn(datadir), names);
    const sealed = copyOf(datadir);
    await new SmallEngine().encrypt(sealed);
    assert.deepEqual(namesIn(sealed), names);
    const { selected, problems } = await new SmallEngine().verify(sealed, { scope: TYPES });
    assert.deepEqual(problems, []);
    assert.ok(selected?.included.includes("relation:1663/1/1247"));
  });
}

test("a catalog's later file that is gone with its sidecar gives no names, and is named", async () => {
  const sealed = copyOf(segmented);
  await new SmallEngine().encrypt(sealed);
  const second = join(sealed, "base/1/1259.2");
  assert.ok(statSync(second).size > 0);
  for (const path of [second, sidecarOf(second)]) rmSync(path);
  await assert.rejects(new SmallEngine().verify(sealed, { scope: TYPES }), {
    code: "integrity",
    message: /"base\/1\/1259\.2": it is missing/,
  });
});
