/** Pages of relations that are longer than one file. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StoredFiles } from "../../src/catalog/stored-files.ts";
import type { Datadir } from "../../src/datadir/datadir.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { datadirAt } from "../support/fixture-catalog.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";

const BLOCK = 8192;
const PG_CLASS = { tablespaceOid: 1663, databaseOid: 1, relfilenumber: 1259 };
const BLOCKS_PER_SEGMENT = 4;

test("the segments of a relation are read one after the other, with blocks counted through", () => {
  const { datadir, path, whole } = segmented();
  const blocks = whole.length / BLOCK;
  assert.ok(blocks > 2 * BLOCKS_PER_SEGMENT && blocks % BLOCKS_PER_SEGMENT !== 0);
  const pages: Buffer[] = [];
  const places: string[] = [];
  new StoredFiles(new NodeFileSystem(), datadir, {}).readPages(PG_CLASS, (page, where) => {
    pages.push(Buffer.from(page));
    places.push(where);
    return true;
  });
  assert.ok(Buffer.concat(pages).equals(whole));
  assert.equal(places[5], "base/1/1259.1 block 5");

  // A page in another place than its own has a wrong checksum: its block number goes into it.
  writeFileSync(`${path}.1`, whole.subarray(0, BLOCKS_PER_SEGMENT * BLOCK));
  assert.throws(
    () => new StoredFiles(new NodeFileSystem(), datadir, {}).readPages(PG_CLASS, () => true),
    {
      code: "integrity",
      message: "base/1/1259.1 block 4 fails its checksum",
    },
  );
});

test("who has seen enough reads no further", () => {
  const { datadir } = segmented();
  let count = 0;
  new StoredFiles(new NodeFileSystem(), datadir, {}).readPages(PG_CLASS, () => ++count < 3);
  assert.equal(count, 3);
});

/** A cluster whose segments have four blocks, and pg_class in its files. */
function segmented(): { datadir: Datadir; path: string; whole: Buffer } {
  const root = makeSmallCluster();
  const path = join(root, "base/1/1259");
  const whole = readFileSync(path);
  const segmentBytes = BLOCKS_PER_SEGMENT * BLOCK;
  for (let at = 0; at < whole.length; at += segmentBytes) {
    const suffix = at === 0 ? "" : `.${at / segmentBytes}`;
    writeFileSync(`${path}${suffix}`, whole.subarray(at, at + segmentBytes));
  }
  const datadir = datadirAt(root);
  const sizes = { blocksPerSegment: BLOCKS_PER_SEGMENT };
  return {
    datadir: { ...datadir, ...sizes, control: { ...datadir.control, ...sizes } },
    path,
    whole,
  };
}
