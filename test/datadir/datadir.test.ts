import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { type Datadir, openDatadir } from "../../src/datadir/datadir.ts";
import { FormatError, StateError } from "../../src/errors.ts";
import { SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { readFixture } from "../support/fixtures.ts";
import { CATALOG_VERSIONS } from "../support/listings.ts";
import { makeSmallDatadir } from "../support/small-datadir.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();

for (const major of SUPPORTED_MAJORS) {
  test(`a data directory of ${major} opens`, (t) => {
    const root = join(temporaryDirectory(t), "data");
    makeSmallDatadir(root, major);
    const datadir = open(root);
    assert.equal(datadir.major, major);
    assert.equal(datadir.catalogVersion, CATALOG_VERSIONS[major]);
    assert.equal(datadir.blocksPerSegment, 131072);
    assert.deepEqual(datadir.tablespaces, []);
    assert.equal(datadir.walTarget, undefined);
    const file = readFixture(`control/${major}/pg_control`);
    assert.deepEqual(datadir.controlBytes, file.subarray(0, 512));
  });
}

/** What is done to a good data directory, and what opening it says then. */
const PROBLEMS: readonly (readonly [string, typeof StateError, RegExp, (root: string) => void])[] =
  [
    ["is missing", StateError, /is not a directory/, (root) => rmSync(root, { recursive: true })],
    [
      "has no PG_VERSION",
      StateError,
      /PG_VERSION is missing/,
      (root) => rmSync(join(root, "PG_VERSION")),
    ],
    [
      "has no pg_control",
      StateError,
      /global\/pg_control is missing/,
      (root) => rmSync(join(root, "global/pg_control")),
    ],
    [
      "was disabled by pg_upgrade --link",
      StateError,
      /was disabled, as pg_upgrade --link does/,
      (root) => renameSync(join(root, "global/pg_control"), join(root, "global/pg_control.old")),
    ],
    [
      "is a base backup in tar format",
      StateError,
      /tar format: it has base\.tar\.gz/,
      (root) => {
        rmSync(join(root, "PG_VERSION"));
        writeFileSync(join(root, "base.tar.gz"), "");
      },
    ],
    [
      "has a pipe for PG_VERSION",
      StateError,
      /PG_VERSION is missing/,
      (root) => {
        rmSync(join(root, "PG_VERSION"));
        execFileSync("mkfifo", [join(root, "PG_VERSION")]);
      },
    ],
  ];

test("a copy of pg_control beside it is no obstacle", (t) => {
  const root = join(temporaryDirectory(t), "data");
  makeSmallDatadir(root);
  copyFileSync(join(root, "global/pg_control"), join(root, "global/pg_control.old"));
  assert.equal(open(root).major, 17);
});

for (const [what, kind, message, damage] of PROBLEMS) {
  test(`a directory that ${what} is refused`, (t) => {
    const root = join(temporaryDirectory(t), "data");
    makeSmallDatadir(root);
    damage(root);
    assert.throws(() => open(root), { name: kind.name, message });
  });
}

test("versions that do not fit, and damage, are format errors", (t) => {
  const root = join(temporaryDirectory(t), "data");
  makeSmallDatadir(root);
  const control = readFixture("control/17/pg_control");
  const opening = (file: string, content: Buffer | string, message: RegExp): void => {
    writeFileSync(join(root, file), content);
    assert.throws(() => open(root), { name: FormatError.name, message });
  };
  opening("PG_VERSION", "16\n", /PG_VERSION says 16, global\/pg_control is of PostgreSQL 17/);
  opening("PG_VERSION", "9.6\n", /PostgreSQL 9\.6 is not supported/);
  opening("PG_VERSION", "x", /does not hold a PostgreSQL version number/);
  opening("PG_VERSION", "1".repeat(1000), /more than the 64 that such a file can have/);
  writeFileSync(join(root, "PG_VERSION"), "17\n");
  opening("global/pg_control", "", /cut short: 0 bytes/);
  opening("global/pg_control", control.subarray(0, 511), /cut short: 511 bytes/);
  opening("global/pg_control", Buffer.concat([control, control]), /more than the 8192/);
  opening("global/pg_control", Buffer.alloc(8192), /unknown pg_control version 0/);
  writeFileSync(join(root, "global/pg_control"), control);
  assert.equal(open(root).major, 17);
});

test("tablespaces and moved WAL are found, links of either kind and folders", (t) => {
  const { parent, root } = datadirWithSpaces(t, { 16500: "../../spaces/a", 16400: undefined });
  symlinkSync(join(parent, "spaces/a"), join(root, "pg_tblspc/16387"));
  rmSync(join(root, "pg_tblspc/16500"));
  writeFileSync(join(root, "pg_tblspc/notes"), "");
  mkdirSync(join(parent, "wal"));
  rmSync(join(root, "pg_wal"), { recursive: true });
  symlinkSync("../wal", join(root, "pg_wal"));
  const datadir = open(root);
  assert.equal(datadir.walTarget, join(parent, "wal"));
  assert.deepEqual(datadir.tablespaces, [
    {
      oid: 16387,
      path: "pg_tblspc/16387",
      linkTarget: join(parent, "spaces/a"),
      realPath: join(parent, "spaces/a"),
    },
    {
      oid: 16400,
      path: "pg_tblspc/16400",
      linkTarget: undefined,
      realPath: join(root, "pg_tblspc/16400"),
    },
  ]);
});

/** Where tablespaces lead, relative to pg_tblspc, and what is said of it. */
const BAD_LINKS: readonly (readonly [string, Readonly<Record<number, string>>, RegExp])[] = [
  ["to nowhere", { 16400: "../../spaces/none" }, /pg_tblspc\/16400" leads to nowhere/],
  ["to a file", { 16400: "../PG_VERSION" }, /16400" does not lead to a directory/],
  ["to itself", { 16400: "16400" }, /16400" is part of a loop/],
  ["to each other", { 16400: "16401", 16401: "16400" }, /1640[01]" is part of a loop/],
  ["to the data directory", { 16400: ".." }, /overlaps the data directory/],
  ["into the data directory", { 16400: "../base/5" }, /overlaps the data directory/],
  ["to one place", { 16400: "../../spaces/a", 16401: "../../spaces/a" }, /overlaps the place of/],
  [
    "into another's folder",
    { 16400: "../../spaces/a", 16401: "../../spaces/a/PG_17_202406281" },
    /16401" leads to .*overlaps the place of pg_tblspc\/16400/,
  ],
  [
    "into another's folder, in the other order",
    { 16401: "../../spaces/a", 16400: "../../spaces/a/PG_17_202406281" },
    /16401" leads to .*overlaps the place of pg_tblspc\/16400/,
  ],
];

for (const [where, spaces, message] of BAD_LINKS) {
  test(`tablespace links that lead ${where} are refused`, (t) => {
    const { root } = datadirWithSpaces(t, spaces);
    assert.throws(() => open(root), { name: "StateError", message });
  });
}

test("one tablespace may lie beside another's folder, and two clusters may share a place", (t) => {
  const spaces = { 16400: "../../spaces/a", 16401: "../../spaces/a/PG_16_202307071" };
  const { root } = datadirWithSpaces(t, spaces);
  assert.equal(open(root).tablespaces.length, 2);
});

test("a pg_wal that leads nowhere or into the data directory is refused", (t) => {
  const { root } = datadirWithSpaces(t, {});
  for (const [target, message] of [
    ["../none", /pg_wal" leads to nowhere/],
    ["base", /pg_wal" leads to .*overlaps the data directory/],
    ["..", /pg_wal" leads to .*overlaps the data directory/],
    ["pg_wal", /pg_wal" is part of a loop/],
  ] as const) {
    rmSync(join(root, "pg_wal"), { recursive: true, force: true });
    symlinkSync(target, join(root, "pg_wal"));
    assert.throws(() => open(root), { name: "StateError", message });
  }
});

function open(root: string): Datadir {
  return openDatadir(fs, bytePath(root));
}

/** A data directory, folders spaces/a/PG_17... and PG_16... beside it, and links or folders in pg_tblspc. */
function datadirWithSpaces(
  t: TestContext,
  spaces: Readonly<Record<number, string | undefined>>,
): { parent: string; root: string } {
  const parent = temporaryDirectory(t);
  const root = join(parent, "data");
  makeSmallDatadir(root);
  mkdirSync(join(parent, "spaces/a/PG_17_202406281"), { recursive: true });
  mkdirSync(join(parent, "spaces/a/PG_16_202307071"), { recursive: true });
  for (const [oid, target] of Object.entries(spaces)) {
    const path = join(root, "pg_tblspc", oid);
    if (target === undefined) mkdirSync(path);
    else symlinkSync(target, path);
  }
  return { parent, root };
}
