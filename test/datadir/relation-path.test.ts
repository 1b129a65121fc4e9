import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import {
  formatRelationName,
  formatRelationPath,
  nameWithoutSidecarSuffix,
  parseOid,
  parseRelationName,
  parseRelationPath,
  type RelationFile,
  replacedName,
  sidecarName,
  workingName,
} from "../../src/datadir/relation-path.ts";
import { assertProperty } from "../support/property.ts";

const CLUSTER = { major: 17, catalogVersion: 202406281, blocksPerSegment: 131072 } as const;
const MAX = 2 ** 32 - 1;
const path = (text: string): BytePath => text as BytePath;

const FILES: readonly (readonly [string, RelationFile])[] = [
  ["base/5/16384", file(1663, 5, 16384)],
  ["base/5/16384.1", file(1663, 5, 16384, { relationSegment: 1 })],
  ["base/5/16384_fsm", file(1663, 5, 16384, { fork: "fsm" })],
  ["base/5/16384_vm.12", file(1663, 5, 16384, { fork: "vm", relationSegment: 12 })],
  ["base/5/16384_init", file(1663, 5, 16384, { fork: "init" })],
  ["base/5/t3_16450", file(1663, 5, 16450, { backend: 3 })],
  ["base/5/t0_16450_fsm.2", file(1663, 5, 16450, { fork: "fsm", relationSegment: 2, backend: 0 })],
  ["base/4294967295/4294967295", file(1663, MAX, MAX)],
  ["base/5/1.32767", file(1663, 5, 1, { relationSegment: 32767 })],
  ["global/1260", file(1664, 0, 1260)],
  ["global/1260_vm", file(1664, 0, 1260, { fork: "vm" })],
  ["pg_tblspc/16400/PG_17_202406281/16384/16397", file(16400, 16384, 16397)],
];

for (const [text, expected] of FILES) {
  test(`${text} is a relation file, and its path is made from its parts`, () => {
    assert.deepEqual(parseRelationPath(path(text), CLUSTER), expected);
    assert.equal(formatRelationPath(expected, CLUSTER), text);
  });
}

test("whatever PostgreSQL would not write is no relation file", () => {
  const names = [
    "0",
    "016384",
    "16384.0",
    "16384.01",
    "16384.",
    "16384_",
    "16384_main",
    "16384_fs",
  ];
  names.push(
    "16384_fsm_vm",
    "16384.1_fsm",
    "16384_tde",
    "4294967296",
    "16384.4294967296",
    "-1",
    "",
  );
  names.push(
    "16384.1.1",
    "16384\n",
    "t_16384",
    "t3_",
    "t03_16384",
    "t3_t3_16384",
    "T3_16384",
    " 1",
  );
  names.push("16384.32768"); // its blocks would have numbers above 2^32
  names.push("t4294967295_16384", "99999999999999999999", "١٢٣");
  for (const name of names) {
    assert.equal(parseRelationPath(path(`base/5/${name}`), CLUSTER), undefined, name);
  }
  const paths = ["16384", "base/16384", "base/0/16384", "base/05/16384", "base/x/16384"];
  paths.push("base/5/6/16384", "global/5/16384", "global/t3_16384", "base/4294967296/16384");
  paths.push("pg_tblspc/16400/16384", "pg_tblspc/16400/PG_16_202307071/16384/16397");
  paths.push("pg_tblspc/16400/PG_17_202406281/16397", "pg_tblspc/0/PG_17_202406281/1/1");
  paths.push("pg_tblspc/1663/PG_17_202406281/1/1", "pg_tblspc/1664/PG_17_202406281/1/1");
  paths.push("/base/5/16384", "./base/5/16384", "base/5/../5/16384", "other/5/16384");
  for (const text of paths) {
    assert.equal(parseRelationPath(path(text), CLUSTER), undefined, text);
  }
});

test("a relation's name reads back from its parts, whatever they are", () => {
  const name = fc.record(
    {
      relfilenumber: fc.integer({ min: 1, max: MAX }),
      fork: fc.constantFrom("main", "fsm", "vm", "init"),
      relationSegment: fc.integer({ min: 0, max: MAX }),
      backend: fc.option(fc.integer({ min: 0, max: MAX - 1 }), { nil: undefined }),
    },
    { noNullPrototype: true },
  );
  assertProperty(
    fc.property(name, (parts) => {
      assert.deepEqual(parseRelationName(formatRelationName(parts)), parts);
    }),
  );
});

test("any text either is no relation's name or reads back the same", () => {
  const piece = fc.constantFrom(
    "0",
    "1",
    "16384",
    "_",
    ".",
    "t",
    "fsm",
    "vm",
    "init",
    "tde",
    "new",
  );
  assertProperty(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const text = pieces.join("");
      const parts = parseRelationName(text);
      if (parts !== undefined) assert.equal(formatRelationName(parts), text);
    }),
    1000,
  );
});

test("an OID has one spelling", () => {
  assert.equal(parseOid("1"), 1);
  assert.equal(parseOid("4294967295"), MAX);
  for (const text of ["", "0", "01", "4294967296", "1 ", "+1", "1e3", "0x10", "99999999999"]) {
    assert.equal(parseOid(text), undefined);
  }
});

/** File, its sidecar, its working name, and the working name of its sidecar. */
const NAMES: readonly (readonly [string, string, string, string])[] = [
  ["16397", "16397_tde", "16397_tdenew", "16397_tdenew_tde"],
  ["16397.1", "16397_tde.1", "16397_tdenew.1", "16397_tdenew_tde.1"],
  ["16397_fsm.1", "16397_fsm_tde.1", "16397_fsm_tdenew.1", "16397_fsm_tdenew_tde.1"],
  ["t3_16450", "t3_16450_tde", "t3_16450_tdenew", "t3_16450_tdenew_tde"],
  ["a.b/16397.1", "a.b/16397_tde.1", "a.b/16397_tdenew.1", "a.b/16397_tdenew_tde.1"],
];

for (const [name, sidecar, working, workingSidecar] of NAMES) {
  test(`the names derived from ${name} lead back to it`, () => {
    assert.equal(sidecarName(path(name)), sidecar);
    assert.equal(nameWithoutSidecarSuffix(path(sidecar)), name);
    assert.equal(workingName(path(name)), working);
    assert.equal(replacedName(path(working)), name);
    assert.equal(workingName(path(sidecar)), workingSidecar);
    assert.equal(replacedName(path(workingSidecar)), sidecar);
    assert.equal(sidecarName(path(working)), workingSidecar);
    assert.equal(replacedName(path(name)), undefined);
    assert.equal(replacedName(path(sidecar)), undefined);
    assert.equal(parseRelationName(working), undefined);
    assert.equal(parseRelationName(sidecar), undefined);
  });
}

test("other files have working names, too, and each leads back to one file", () => {
  const expected: readonly (readonly [string, string])[] = [
    ["postgresql.auto.conf", "postgresql_tdenew.auto.conf"],
    ["pg_hba.conf", "pg_hba_tdenew.conf"],
    [".pgpass", "_tdenew.pgpass"],
    ["global/pg_control", "global/pg_control_tdenew"],
    ["base/5/pg_internal.init", "base/5/pg_internal.init_tdenew"],
    ["base/pgsql_tmp/pgsql_tmp12.0", "base/pgsql_tmp/pgsql_tmp12.0_tdenew"],
  ];
  for (const [name, working] of expected) {
    assert.equal(workingName(path(name)), working);
    assert.equal(replacedName(path(working)), name);
  }
  const piece = fc.constantFrom(
    "pgsql_tmp",
    "pg_internal.init",
    "_tde",
    "_tdenew",
    ".",
    "1",
    "a",
    "/",
  );
  assertProperty(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 6 }), (pieces) => {
      const name = path(pieces.join(""));
      if (name.endsWith("/")) return;
      assert.equal(replacedName(workingName(name)), name);
      assert.equal(nameWithoutSidecarSuffix(sidecarName(name)), name);
    }),
    1000,
  );
});

test("a working name is one that pg_checksums tolerates where it tolerates the file", () => {
  // pg_checksums.c: skips names by prefix, otherwise dies on a dot that no number but 0 follows.
  const tolerated = (name: string): boolean =>
    /^(?:pgsql_tmp|pg_internal\.init)/.test(name) || /^[^.]*(?:\.[1-9][0-9]*)?$/.test(name);
  const names = ["16397", "16397.1", "16397_tde", "16397_tde.3", "16397_vm_tde.3", "t3_16397_init"];
  for (const name of [
    ...names,
    "pg_internal.init",
    "pg_internal.init.77",
    "pgsql_tmp1.2",
    "README",
  ]) {
    assert.ok(tolerated(workingName(path(name))), name);
  }
});

function file(
  tablespaceOid: number,
  databaseOid: number,
  relfilenumber: number,
  rest: Partial<RelationFile> = {},
): RelationFile {
  const usual = { fork: "main", relationSegment: 0, backend: undefined } as const;
  return { tablespaceOid, databaseOid, relfilenumber, ...usual, ...rest };
}
