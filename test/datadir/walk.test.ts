import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { type BytePath, bytePath, toNativePath } from "../../src/bytes/byte-path.ts";
import { type WalkEntry, walkDatadir } from "../../src/datadir/walk.ts";
import { SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { readFixture } from "../support/fixtures.ts";
import { CATALOG_VERSIONS, describe, readListing, summarize } from "../support/listings.ts";
import { assertProperty } from "../support/property.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();
const CLUSTER = { major: 17, catalogVersion: 202406281, blocksPerSegment: 131072 } as const;

for (const major of SUPPORTED_MAJORS) {
  test(`a directory with the files of a real cluster of ${major} is listed whole, in order`, (t) => {
    const root = join(temporaryDirectory(t), "data");
    const listing = readListing(major);
    mkdirSync(root);
    for (const { path, kind, target } of listing) {
      const full = join(root, path);
      if (kind === "directory") mkdirSync(full, { recursive: true });
      if (kind === "file") writeFileSync(full, "");
      if (target === undefined) continue;
      mkdirSync(join(dirname(full), target), { recursive: true });
      symlinkSync(target, full);
    }
    const cluster = { major, catalogVersion: CATALOG_VERSIONS[major], blocksPerSegment: 131072 };
    const entries = [...walkDatadir(fs, bytePath(root), cluster)];
    assert.deepEqual(
      entries.map(({ kind, path }) => `${kind} ${path}`),
      listing.map(({ kind, path }) => `${kind} ${path}`),
    );
    assert.equal(summarize(entries), readFixture(`listings/${major}.classes.txt`).toString());
  });
}

test("any names come in the order of the bytes of whole paths", (t) => {
  const parent = temporaryDirectory(t);
  let count = 0;
  const part = fc.constantFrom(
    "a",
    "a.b",
    "a-b",
    "a0",
    "a/a",
    "a!/x",
    "b/é",
    "é",
    "a/.",
    "B",
    "aa/",
  );
  assertProperty(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const root = join(parent, String(count++));
      mkdirSync(root);
      for (const name of parts) makeFile(join(root, name.replaceAll("/.", "/dot")));
      const paths = list(root).map(({ path }) => path);
      const sorted = [...new Set(paths)].sort((a, b) =>
        Buffer.compare(Buffer.from(a, "latin1"), Buffer.from(b, "latin1")),
      );
      assert.deepEqual(paths, sorted);
    }),
    50,
  );
});

test("a name that is not UTF-8 comes byte by byte", (t) => {
  const root = temporaryDirectory(t);
  const name = Buffer.from([0x66, 0xff, 0x0a, 0x22, 0x80]);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name]), "");
  const [entry] = list(root);
  assert.deepEqual(toNativePath(entry?.path ?? ("" as BytePath)), name);
});

test("only the links to WAL and tablespaces are followed", (t) => {
  const parent = temporaryDirectory(t);
  const root = join(parent, "data");
  makeFile(join(root, "pg_tblspc/.keep"));
  makeFile(join(parent, "wal/000000010000000000000001"));
  makeFile(join(parent, "space/PG_17_202406281/5/16384"));
  makeFile(join(parent, "space/PG_16_202307071/5/16384"));
  makeFile(join(parent, "space/notes"));
  makeFile(join(parent, "elsewhere/secret"));
  symlinkSync("../wal", join(root, "pg_wal"));
  symlinkSync(join(parent, "space"), join(root, "pg_tblspc/16400"));
  symlinkSync(join(parent, "elsewhere"), join(root, "log"));
  symlinkSync(join(parent, "elsewhere"), join(root, "pg_tblspc/other"));
  symlinkSync("..", join(root, "loop"));
  const lines = list(root).map(
    ({ path, classification }) => `${path}: ${describe(classification)}`,
  );
  assert.deepEqual(lines, [
    "log: link",
    "loop: link",
    "pg_tblspc: directory",
    "pg_tblspc/.keep: sealed",
    "pg_tblspc/16400: link followed",
    "pg_tblspc/16400/PG_16_202307071: foreign",
    "pg_tblspc/16400/PG_17_202406281: directory",
    "pg_tblspc/16400/PG_17_202406281/5: directory",
    "pg_tblspc/16400/PG_17_202406281/5/16384: relation main",
    "pg_tblspc/16400/notes: foreign",
    "pg_tblspc/other: link",
    "pg_wal: link followed",
    "pg_wal/000000010000000000000001: wal",
  ]);
});

test("a relation with an init fork beside it is known as unlogged, in its own folder only", (t) => {
  const root = temporaryDirectory(t);
  for (const path of ["base/5/7", "base/5/7_init", "base/5/8", "base/6/7"]) {
    makeFile(join(root, path));
  }
  const lines = list(root).map(
    ({ path, classification }) => `${path}: ${describe(classification)}`,
  );
  assert.deepEqual(
    lines.filter((line) => line.includes("relation")),
    [
      "base/5/7: relation main expendable",
      "base/5/7_init: relation init",
      "base/5/8: relation main",
      "base/6/7: relation main",
    ],
  );
});

function list(root: string): WalkEntry[] {
  return [...walkDatadir(fs, bytePath(root), CLUSTER)];
}

/** Makes an empty file, or a folder for a path that ends in a slash, unless something is in the way. */
function makeFile(path: string): void {
  try {
    mkdirSync(path.endsWith("/") ? path : dirname(path), { recursive: true });
    if (!path.endsWith("/")) writeFileSync(path, "");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code !== "EEXIST" && code !== "EISDIR" && code !== "ENOTDIR") throw error;
  }
}
