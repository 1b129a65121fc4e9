/**
 * Single pages, slots, sidecar pages and manifest entries: held against what pageinspect printed of the same files,
 * against the plain bytes, and shown only where they authenticate.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { inspectEntry } from "../../src/engine/inspect-entry.ts";
import { type InspectedPage, inspectPage } from "../../src/engine/inspect-page.ts";
import { inspectSidecar } from "../../src/engine/inspect-sidecar.ts";
import { type PageItem, pageItems } from "../../src/engine/page-items.ts";
import { KeyError, StateError, UsageError } from "../../src/errors.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { formatLsn, INVALID_LSN } from "../../src/postgres/lsn.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { FIXTURE_MAJORS, type FixtureMajor, unpackFixture } from "../support/fixture.ts";
import { type TruthRow, truthTable } from "../support/fixture-truth.ts";
import { edit, flipBit, sidecarOf, slotAt } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  SmallEngine,
} from "../support/small-cluster.ts";

const fs = new NodeFileSystem();
const KEYS = testKeys();
const plain = makeSmallCluster();
const encrypted = copyOf(plain);
await new SmallEngine().encrypt(encrypted);

interface Place {
  readonly datadir?: string;
  readonly block?: number;
  readonly keys?: DataKeys | undefined;
}

function pageOf(path: string, { datadir = encrypted, block, keys }: Place = {}): InspectedPage {
  const opened = openDatadir(fs, bytePath(datadir));
  return inspectPage(fs, opened, { path: bytePath(path), block, maxEpoch: undefined }, keys);
}

function originalOf(path: string, block: number): Buffer {
  const bytes = readFileSync(join(plain, path));
  return bytes.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
}

/** The majors whose server had the extension; the layout is the same in all. */
const PAGEINSPECT_MAJORS: readonly FixtureMajor[] = [FIXTURE_MAJORS[0], 19];

for (const major of PAGEINSPECT_MAJORS) {
  test(`line pointers and row headers are those that pageinspect of ${major} prints`, () => {
    const { datadir } = unpackFixture(major, temporaryPath("whole"));
    const files = new Map(
      truthTable(major, "relations.csv").map(({ relname, path }) => [relname, path]),
    );
    const seen = new Map<string, { page: InspectedPage; items: readonly PageItem[] }>();
    const lines = truthTable(major, "heap_items.csv");
    for (const line of lines) {
      const [path, block] = [files.get(line["relname"] ?? "") ?? "", Number(line["blk"])];
      const known = seen.get(`${path} ${block}`) ?? readItems(datadir, path, block);
      seen.set(`${path} ${block}`, known);
      assertSameLine(known, line, `${path} block ${block} line ${line["lp"]}`);
    }
    assert.ok(lines.length > 300 && seen.size > 5);
  });
}

function readItems(
  datadir: string,
  path: string,
  block: number,
): { page: InspectedPage; items: readonly PageItem[] } {
  const page = pageOf(path, { datadir, block });
  const items = pageItems(page.content ?? Buffer.alloc(0), "main", path)?.items ?? [];
  return { page, items };
}

const LP_FLAGS = ["unused", "normal", "redirect", "dead"];

function assertSameLine(
  { page, items }: { page: InspectedPage; items: readonly PageItem[] },
  truth: TruthRow,
  where: string,
): void {
  const number = (name: string): number | undefined =>
    truth[name] == null ? undefined : Number(truth[name]);
  const header = page.stored?.header;
  assert.deepEqual(
    [header?.lower, header?.upper, header?.special, header?.flags],
    [number("lower"), number("upper"), number("special"), number("flags")],
    where,
  );
  assert.equal(formatLsn(header?.lsn ?? INVALID_LSN), unpadded(truth["lsn"] ?? ""));
  const item = items[(number("lp") ?? 0) - 1];
  assert.deepEqual(
    [item?.state, item?.offset, item?.lengthBytes],
    [LP_FLAGS[number("lp_flags") ?? -1], number("lp_off"), number("lp_len")],
    where,
  );
  const tuple = item?.tuple;
  const ctid = tuple === undefined ? null : `(${tuple.ctid.block},${tuple.ctid.offsetNumber})`;
  assert.deepEqual(
    [tuple?.xmin, tuple?.xmax, tuple?.field3, tuple?.infomask2, tuple?.infomask, tuple?.dataOffset],
    ["t_xmin", "t_xmax", "t_field3", "t_infomask2", "t_infomask", "t_hoff"].map(number),
    where,
  );
  assert.equal(ctid, truth["t_ctid"], where);
}

/** PostgreSQL 19 prints leading zeros. */
function unpadded(lsn: string): string {
  return lsn.replace(/\/0+(?=.)/, "/");
}

test("with a keyring a sealed page is shown as it was, also of the last page and of a zero page", () => {
  for (const [path, block] of [
    [ORDINARY, 0],
    [LARGE, 70],
    [ODD, 1],
    [ODD, 2],
    [ODD, 3],
  ] as const) {
    const { sealed, content } = pageOf(path, { block, keys: KEYS });
    assert.deepEqual(sealed?.problems, [], path);
    assert.ok(content?.equals(originalOf(path, block)), `${path} ${block}`);
  }
});

test("the odd tail of a file is shown, and has no header", () => {
  const { stored, content, sizeBytes } = pageOf(ODD, { block: 5, keys: KEYS });
  assert.deepEqual([stored, content?.toString(), sizeBytes], [undefined, "an odd tail", 11]);
});

test("without a keyring a sealed page shows its header and its slot, and nothing of its content", () => {
  const { stored, sealed, content } = pageOf(ORDINARY);
  assert.equal(content, undefined);
  assert.deepEqual(sealed?.problems, []);
  const original = originalOf(ORDINARY, 0);
  assert.equal(stored?.header.lower, original.readUInt16LE(12));
  assert.equal(stored?.computedChecksum, stored?.header.checksum);
  const sidecar = readFileSync(sidecarOf(join(encrypted, ORDINARY)));
  assert.ok(sealed?.slot?.equals(sidecar.subarray(slotAt(0), slotAt(1))));
});

const DAMAGES: readonly (readonly [string, (datadir: string) => void, string])[] = [
  ["a bit of the page", (at) => flipBit(join(at, LARGE), (BLOCK_SIZE + 5000) * 8), "tag"],
  [
    "a bit of its slot's tag",
    (at) => flipBit(sidecarOf(join(at, LARGE)), (slotAt(1) + 60) * 8),
    "tag",
  ],
  [
    "a bit of a neighbour's slot, so that the sidecar page is not authentic",
    (at) => flipBit(sidecarOf(join(at, LARGE)), (slotAt(2) + 60) * 8),
    "sidecar",
  ],
  ["the sidecar", (at) => truncateSync(sidecarOf(join(at, LARGE)), 100), "sidecar"],
  ["that the sidecar is there", (at) => rmSync(sidecarOf(join(at, LARGE))), "mark"],
];

for (const [what, damage, kind] of DAMAGES) {
  test(`nothing of a page is shown after a change of ${what}`, () => {
    const datadir = copyOf(encrypted);
    damage(datadir);
    const { sealed, content } = pageOf(LARGE, { datadir, block: 1, keys: KEYS });
    assert.equal(content, undefined);
    const kinds = sealed?.problems.map((problem) => problem.kind);
    assert.ok(kinds?.includes(kind as never), String(kinds));
  });
}

test("a damaged neighbour does not keep a page from being shown", () => {
  const datadir = copyOf(encrypted);
  edit(join(datadir, LARGE), (bytes) => void bytes.fill(7, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE));
  const { content } = pageOf(LARGE, { datadir, block: 1, keys: KEYS });
  assert.ok(content?.equals(originalOf(LARGE, 1)));
});

test("a keyring with another key shows nothing, and says that it is the key", () => {
  const { sealed, content } = pageOf(ORDINARY, { keys: testKeys(1, { fill: 9 }) });
  assert.equal(content, undefined);
  assert.ok(sealed?.problems.some(({ kind }) => kind === "key"));
});

test("a damaged line pointer is told as such, and the others are read", () => {
  const page = Buffer.from(originalOf(ORDINARY, 0));
  page.writeUInt32LE((100 << 17) | (1 << 15) | 8190, 24 + 4);
  const items = pageItems(page, "main", "a page")?.items ?? [];
  assert.match(items[1]?.problem ?? "", /line 2/);
  const sound = pageItems(originalOf(ORDINARY, 0), "main", "a page")?.items ?? [];
  assert.deepEqual(items.toSpliced(1, 1), sound.toSpliced(1, 1));
  assert.ok(sound.some(({ state }) => state === "normal"));
});

test("a page without line pointers is not taken for rows", () => {
  const garbage = originalOf(ODD, 3);
  assert.equal(pageItems(garbage, "main", "garbage"), undefined);
  assert.equal(pageItems(originalOf(`${LARGE}_fsm`, 0), "fsm", "a free space map"), undefined);
  const metapage = originalOf("base/1/2662", 0);
  assert.equal(pageItems(metapage, "main", "a B-tree's first page"), undefined);
});

test("a block is counted within the fork, as PostgreSQL does, and must be there", () => {
  const at = (path: string, block?: number) => (): unknown => pageOf(path, { block: block ?? 0 });
  assert.throws(at(ORDINARY, 9999), /has no block 9999: its last one is/);
  assert.throws(at("base/1/90002"), /it is empty/);
  assert.throws(at("base/1/77777"), UsageError);
  assert.throws(at("pg_hba.conf"), UsageError);
  assert.throws(at("../data/base/1/1259"), UsageError);
});

function sidecarPage(
  path: string,
  block?: number,
  keys?: DataKeys,
  datadir = encrypted,
): ReturnType<typeof inspectSidecar> {
  const opened = openDatadir(fs, bytePath(datadir));
  return inspectSidecar(fs, opened, { path: bytePath(path), block }, keys);
}

test("a sidecar page tells its place, its slots and whether its MAC holds", () => {
  const first = sidecarPage(LARGE);
  assert.deepEqual([first.head.pageNumber, first.head.last, first.mac], [0, false, undefined]);
  assert.deepEqual([first.usedSlots, [...first.keys]], [63, [[1, 63]]]);
  const last = sidecarPage(LARGE, 63, KEYS);
  assert.deepEqual([last.head.pageNumber, last.head.last, last.mac], [1, true, true]);
  assert.equal(last.belongsTo, LARGE);
  assert.deepEqual(last.problems, []);
});

test("an altered sidecar page is told, and one of another file, too", () => {
  const datadir = copyOf(encrypted);
  flipBit(sidecarOf(join(datadir, ORDINARY)), slotAt(0) * 8 + 8 * 60);
  const altered = sidecarPage(ORDINARY, 0, KEYS, datadir);
  assert.equal(altered.mac, false);
  assert.match(altered.problems.join(), /checksum is wrong/);
  writeFileSync(
    sidecarOf(join(datadir, LARGE)),
    readFileSync(sidecarOf(join(encrypted, ORDINARY))),
  );
  assert.match(sidecarPage(LARGE, 0, KEYS, datadir).problems.join(), /it belongs to base\/1\/1259/);
  assert.throws(() => sidecarPage("base/1/90002"), UsageError);
  assert.throws(() => sidecarPage(ORDINARY, 0, KEYS, plain), StateError);
});

test("a line of the manifest is told with what is there now, authentic only under a keyring", () => {
  const datadir = copyOf(encrypted);
  const entryOf = (path: string, keys?: DataKeys): ReturnType<typeof inspectEntry> =>
    inspectEntry(fs, bytePath(datadir), path as BytePath, keys);
  const { entry, authentic, now } = entryOf(ORDINARY);
  const sizeBytes = readFileSync(join(plain, ORDINARY)).length;
  assert.deepEqual([entry.class, entry.sizeBytes, authentic], ["P", sizeBytes, false]);
  assert.deepEqual(entry.keys, [{ keyId: 1, count: sizeBytes / BLOCK_SIZE }]);
  assert.equal(now?.sizeBytes, sizeBytes);
  assert.equal(entryOf("pg_hba.conf", KEYS).authentic, true);
  rmSync(join(datadir, "pg_hba.conf"));
  assert.equal(entryOf("pg_hba.conf").now, undefined);
  assert.throws(() => entryOf("base/1/77777"), UsageError);
  assert.throws(() => entryOf(ORDINARY, testKeys(1, { keyringId: "1".repeat(16) })), KeyError);
  assert.throws(() => inspectEntry(fs, bytePath(plain), ORDINARY as BytePath, KEYS), StateError);
});
