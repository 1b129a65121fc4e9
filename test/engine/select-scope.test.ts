/** From scope options to the scope that they mean, on a directory of nothing but names. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import {
  type KnownRelations,
  relationsOnDisk,
  type ScopeNames,
  selectScope,
} from "../../src/engine/select-scope.ts";
import type { ScopeSelection } from "../../src/engine/scope-request.ts";
import { UsageError } from "../../src/errors.ts";
import { SCOPE_LIMIT_BYTES, serializeScope } from "../../src/format/scope.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { makeSmallDatadir } from "../support/small-datadir.ts";

const IN_TABLESPACE = "PG_17_202406281";
const FILES = [
  "global/1260",
  "base/1/1259",
  "base/5/1259",
  "base/16384/1259",
  "base/16384/16390",
  "base/16384/16390_fsm",
  "base/16384/16390.1",
  "base/16384/16397",
  "base/16384/t3_16450",
  `pg_tblspc/16400/${IN_TABLESPACE}/16384/16390`,
  `pg_tblspc/16400/${IN_TABLESPACE}/16384/16410`,
  `pg_tblspc/16401/${IN_TABLESPACE}/5/16420`,
];

let folder = "";
let known: KnownRelations;

before(() => {
  folder = temporaryPath("scope");
  const root = join(folder, "data");
  makeSmallDatadir(root);
  mkdirSync(join(folder, "fast disk"));
  symlinkSync(join(folder, "fast disk"), join(root, "pg_tblspc/16400"));
  for (const path of FILES) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), "");
  }
  const fs = new NodeFileSystem();
  known = relationsOnDisk(fs, openDatadir(fs, bytePath(root)));
});

/** Stand for the catalog: each name is one thing, and "orders" a table with its index. */
const NAMES: ScopeNames = {
  partsOf(kind) {
    if (kind === "relation") return ["relation:1663/16384/16397", "relation:1663/16384/16390"];
    return [kind === "database" ? "database:16384" : "tablespace:16400"];
  },
};
const OPTIONS = { names: () => NAMES, limitBytes: SCOPE_LIMIT_BYTES };

type Options = Partial<Record<keyof ScopeSelection, readonly string[]>>;

function select(options: Options): string {
  const paths = (kind: keyof ScopeSelection): ReturnType<typeof bytePath>[] =>
    (options[kind] ?? []).map((text) => bytePath(text.replace("FOLDER", folder)));
  return serializeScope(
    selectScope(
      known,
      {
        tablespaces: paths("tablespaces"),
        databases: paths("databases"),
        relations: paths("relations"),
        exclude: paths("exclude"),
      },
      OPTIONS,
    ),
  );
}

const MEANT: readonly (readonly [Options, string])[] = [
  [{}, "all"],
  [{ databases: ["16384"] }, "database:16384"],
  [{ databases: ["base/5"] }, "database:5"],
  [{ databases: ["5", "16384", "5"] }, "database:16384,database:5"],
  [{ tablespaces: ["16400"] }, "tablespace:16400"],
  [{ tablespaces: ["pg_tblspc/16400/"] }, "tablespace:16400"],
  [{ tablespaces: ["FOLDER/fast disk"] }, "tablespace:16400"],
  [{ tablespaces: ["16401", "base"] }, "tablespace:16401,tablespace:1663"],
  [{ tablespaces: ["pg_global"] }, "tablespace:1664"],
  [{ relations: ["base/16384/16397"] }, "relation:1663/16384/16397"],
  [{ relations: ["base/16384/16390_fsm"] }, "relation:1663/16384/16390"],
  [{ relations: ["base/16384/16390.1"] }, "relation:1663/16384/16390"],
  [{ relations: [`pg_tblspc/16400/${IN_TABLESPACE}/16384/16390`] }, "relation:16400/16384/16390"],
  [{ relations: ["global/1260"] }, "relation:1664/0/1260"],
  [{ relations: ["0/1260"] }, "relation:1664/0/1260"],
  [{ relations: ["16384/1259"] }, "relation:1663/16384/1259"],
  [{ relations: ["16400/16384/16390"] }, "relation:16400/16384/16390"],
  [{ relations: ["16410"] }, "relation:16400/16384/16410"],
  [{ relations: ["16450"] }, "relation:1663/16384/16450"],
  [
    { relations: ["16397", "16420"], databases: ["1"], tablespaces: ["1664"] },
    "database:1,relation:16401/5/16420,relation:1663/16384/16397,tablespace:1664",
  ],
  [{ exclude: ["base/16384/16397"] }, "all except relation:1663/16384/16397"],
  [{ exclude: ["relation:16384/16397"] }, "all except relation:1663/16384/16397"],
  [{ exclude: ["base/5"] }, "all except database:5"],
  [{ exclude: ["database:5"] }, "all except database:5"],
  [{ exclude: ["tablespace:16400"] }, "all except tablespace:16400"],
  [{ exclude: ["pg_tblspc/16400"] }, "all except tablespace:16400"],
  [{ exclude: ["FOLDER/fast disk"] }, "all except tablespace:16400"],
  [
    { databases: ["16384"], exclude: ["global", "relation:16400/16384/16390"] },
    "database:16384 except relation:16400/16384/16390,tablespace:1664",
  ],
  // Whatever looks like neither number nor path is a name, and so is what stands in quotes.
  [{ databases: ["shop"] }, "database:16384"],
  [{ databases: ["016384"] }, "database:16384"],
  [{ databases: ['"5"'] }, "database:16384"],
  [{ tablespaces: ["fast"] }, "tablespace:16400"],
  [{ relations: ["public.orders"] }, "relation:1663/16384/16390,relation:1663/16384/16397"],
  [{ relations: ['"a/b"'] }, "relation:1663/16384/16390,relation:1663/16384/16397"],
  [
    { databases: ["5"], relations: ["base/16384/1259", "o*"] },
    "database:5,relation:1663/16384/1259,relation:1663/16384/16390,relation:1663/16384/16397",
  ],
  [{ exclude: ["orders"] }, "all except relation:1663/16384/16390,relation:1663/16384/16397"],
  [{ exclude: ["database:shop", "tablespace:fast"] }, "all except database:16384,tablespace:16400"],
];

for (const [options, scope] of MEANT) {
  test(`${JSON.stringify(options)} means ${scope}`, () => {
    assert.equal(select(options), scope);
  });
}

/** What the message says, and what the hint offers instead. */
const REFUSED: readonly (readonly [Options, RegExp, RegExp])[] = [
  [{ databases: ["7"] }, /no database 7/, /Its databases: 1, 5, 16384\./],
  [{ databases: [""] }, /empty name is no database/, /Give its name/],
  [
    { tablespaces: ["99"] },
    /no tablespace "99"/,
    /pg_default, pg_global, 16400 \(.*fast disk\), 16401\./,
  ],
  [{ tablespaces: ["FOLDER"] }, /no tablespace/, /16400/],
  [{ relations: ["16390"] }, /16390 is in 2 places/, /base\/16384\/16390, pg_tblspc\/16400\//],
  [{ relations: ["1259"] }, /in 3 places/, /base\/1\/1259, base\/16384\/1259, base\/5\/1259/],
  [{ relations: ["16384/16390"] }, /in 2 places/, /pg_tblspc\/16400/],
  [{ relations: ["base/5/16397"] }, /no relation base\/5\/16397/, /base\/16384\/16397/],
  [{ relations: ["5/1258"] }, /no relation 5\/1258/, /The nearest: base\/5\/1259, /],
  [{ exclude: ["tablespace:"] }, /empty name is no tablespace/, /Give its name/],
  [{ relations: ["base/5/PG_VERSION"] }, /no relation/, /pg_relation_filepath/],
  [{ relations: ["base/16384/16390_tde"] }, /no relation/, /pg_relation_filepath/],
  [{ relations: ["16384/0"] }, /no relation/, /pg_relation_filepath/],
  [{ relations: ["../16384/16397"] }, /no relation/, /pg_relation_filepath/],
  [{ exclude: ["16384"] }, /does not say what it names/, /database:OID/],
  [{ exclude: ["database:7"] }, /no database 7/, /16384/],
  [{ exclude: ["relation:77"] }, /no relation 77/, /nearest/],
];

for (const [options, message, hint] of REFUSED) {
  test(`${JSON.stringify(options)} is refused with what it may have been`, () => {
    assert.throws(
      () => select(options),
      (error) =>
        error instanceof UsageError && message.test(error.message) && hint.test(error.hint ?? ""),
    );
  });
}

test("the catalog is read only when there is a name to look up", () => {
  const selection = { tablespaces: [], databases: [], relations: [], exclude: [] };
  const options = {
    names: (): ScopeNames => {
      throw new UsageError("the catalog was read");
    },
    limitBytes: undefined,
  };
  const numbers = { ...selection, databases: [bytePath("5")], relations: [bytePath("16397")] };
  assert.equal(
    serializeScope(selectScope(known, numbers, options)),
    "database:5,relation:1663/16384/16397",
  );
  const named = { ...selection, databases: [bytePath("shop")] };
  assert.throws(() => selectScope(known, named, options), /the catalog was read/);
});

test("more relations than the manifest's line holds are refused before anything is written", () => {
  const many: KnownRelations = {
    ...known,
    *list() {
      for (let i = 0; i < 3000; i++)
        yield { tablespaceOid: 1663, databaseOid: 16384, relfilenumber: 20000 + i };
    },
  };
  const relations = Array.from({ length: 3000 }, (_, i) => bytePath(`16384/${20000 + i}`));
  const selection = { tablespaces: [], databases: [], relations, exclude: [] };
  assert.throws(() => selectScope(many, selection, OPTIONS), UsageError);
  const fewer = { ...selection, relations: relations.slice(0, 2000) };
  assert.equal(selectScope(many, fewer, OPTIONS).included.length, 2000);
});
