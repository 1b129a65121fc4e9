/**
 * What the catalog reader says of clusters that it cannot read, or not wholly: which file and block, and that paths
 * still work.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { RelationNames } from "../../src/catalog/names.ts";
import type { Unsealing } from "../../src/catalog/stored-files.ts";
import { TdeError } from "../../src/errors.ts";
import { readManifestHeader } from "../../src/format/manifest.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import {
  catalogAt,
  datadirAt,
  makeSmallCatalogCluster,
  relationsOf,
} from "../support/fixture-catalog.ts";
import { testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";
import { SmallEngine } from "../support/small-cluster.ts";

const BLOCK = 8192;
/** The relfilenumbers that initdb gives. */
const PG_CLASS = "base/1/1259";
const PG_ATTRIBUTE = "base/1/1249";
const PG_NAMESPACE = "base/1/2615";
const PG_DATABASE = "global/1262";
const PATHS_WORK = /^Names of relations cannot be read; paths still work\./;

test("a small cluster is read, plain and encrypted", async () => {
  const datadir = makeSmallCatalogCluster();
  const names = (unsealing: Unsealing = {}): string[] =>
    [...relationsOf(catalogAt(datadir, unsealing), "template1").relations()].map(
      ({ name }) => name,
    );
  const plain = names();
  assert.equal(plain.length, 415);
  await new SmallEngine().encrypt(datadir);
  assert.deepEqual(names({ keys: testKeys(), manifest: manifestOf(datadir) }), plain);
});

test("a catalog page that fails its checksum is told by file and block", () => {
  const datadir = makeSmallCatalogCluster();
  changePage(datadir, PG_CLASS, 3, (page) => page.fill(0x5a, 4000, 4100), false);
  assert.throws(() => relationsOf(catalogAt(datadir), "template1"), {
    code: "integrity",
    message: "base/1/1259 block 3 fails its checksum",
    hint: PATHS_WORK,
  });
});

test("a catalog page with an impossible header is told by file and block, though its checksum is right", () => {
  const datadir = makeSmallCatalogCluster();
  changePage(datadir, PG_CLASS, 3, (page) => page.writeUInt16LE(9000, 14));
  assert.throws(() => relationsOf(catalogAt(datadir), "template1"), {
    code: "format",
    message: "damaged page: base/1/1259 block 3 has an impossible header",
  });
});

test("a catalog with any bytes of any page changed is read or refused by an error of tde", () => {
  const datadir = makeSmallCatalogCluster();
  const originals = new Map(
    [PG_CLASS, PG_ATTRIBUTE, PG_NAMESPACE, PG_DATABASE].map((file) => [
      file,
      readFileSync(join(datadir, file)),
    ]),
  );
  let refused = 0;
  const change = fc.tuple(fc.nat(BLOCK - 1), fc.nat(255));
  assertProperty(
    fc.property(
      fc.constantFrom(...originals.keys()),
      fc.nat(1),
      fc.array(change, { minLength: 1, maxLength: 30 }),
      (file, block, changes) => {
        const whole = originals.get(file) ?? Buffer.alloc(0);
        const at = block * BLOCK < whole.length ? block : 0;
        changePage(datadir, file, at, (page) => {
          for (const [offset, value] of changes) page[offset] = value;
        });
        try {
          const catalog = catalogAt(datadir);
          // Its own row may be gone.
          const database = catalog.databaseByOid(1);
          if (database !== undefined) Array.from(catalog.relationsOf(database).relations());
        } catch (error) {
          assert.ok(error instanceof TdeError, error instanceof Error ? error.stack : "");
          refused++;
        } finally {
          writeFileSync(join(datadir, file), whole);
        }
      },
    ),
    120,
  );
  assert.ok(refused > 0);
});

test("an encrypted catalog without a keyring, or with another one, is a key error", async () => {
  const datadir = makeSmallCatalogCluster();
  await new SmallEngine().encrypt(datadir);
  assert.throws(() => catalogAt(datadir), {
    code: "key",
    message: '"base/1/1249" is encrypted, and no keyring was given',
    hint: /Paths work without it\.$/,
  });
  assert.throws(() => catalogAt(datadir, { keys: testKeys(1, { fill: 9 }) }), { code: "key" });
  const other = testKeys(1, { keyringId: "00000000000000ff" });
  assert.throws(() => catalogAt(datadir, { keys: other }), { code: "key" });
});

test("nothing of an encrypted catalog is used when a tag of it does not hold", async () => {
  const datadir = makeSmallCatalogCluster();
  await new SmallEngine().encrypt(datadir);
  changePage(datadir, PG_CLASS, 3, (page) => {
    page[5000] = (page[5000] ?? 0) ^ 1;
  });
  assert.throws(() => relationsOf(catalogAt(datadir, { keys: testKeys() }), "template1"), {
    code: "integrity",
    message: "base/1/1259 block 3: the page does not authenticate",
    hint: PATHS_WORK,
  });
});

test("a sealed catalog without its sidecar is never read as it is", async () => {
  const datadir = makeSmallCatalogCluster();
  const plain = readFileSync(join(datadir, PG_CLASS));
  await new SmallEngine().encrypt(datadir);
  rmSync(join(datadir, `${PG_CLASS}_tde`));
  const keys = testKeys();
  const read = (unsealing: Unsealing): unknown =>
    relationsOf(catalogAt(datadir, unsealing), "template1");
  assert.throws(() => read({ keys }), {
    code: "integrity",
    message: '"base/1/1259" is sealed, but its sidecar is missing',
  });
  // What somebody put in its place: with the manifest it is known not to belong there.
  writeFileSync(join(datadir, PG_CLASS), plain);
  assert.throws(() => read({ keys, manifest: manifestOf(datadir) }), {
    code: "integrity",
    message: '"base/1/1259" has no sidecar, but the manifest says that it is sealed',
  });
});

test("a server whose pg_attribute is laid out in another way is refused", () => {
  const datadir = makeSmallCatalogCluster();
  // Of the row about its third column: attrelid, attname, atttypid, then attlen, which is 4.
  const row = Buffer.alloc(72);
  row.writeUInt32LE(1249, 0);
  row.write("atttypid", 4);
  row.writeUInt32LE(26, 68);
  const at = readFileSync(join(datadir, PG_ATTRIBUTE)).indexOf(row);
  assert.ok(at >= 0);
  changePage(datadir, PG_ATTRIBUTE, Math.floor(at / BLOCK), (page) => {
    page.writeInt16LE(8, (at % BLOCK) + 72);
  });
  assert.throws(() => catalogAt(datadir), {
    code: "format",
    message: "catalog pg_attribute is not as in PostgreSQL 17",
    hint: /^This server is none that tde knows\. Names .*; paths still work\.$/,
  });
});

test("a catalog that lacks a column is refused by the name of both", () => {
  const datadir = makeSmallCatalogCluster();
  renameEverywhere(datadir, PG_ATTRIBUTE, "relfilenode", "relfilething");
  assert.throws(() => catalogAt(datadir), {
    code: "format",
    message: "catalog pg_class has no column relfilenode as PostgreSQL's has",
    hint: /^This server is none that tde knows\. Names .*; paths still work\.$/,
  });
});

test("a map that does not name a catalog, and one that is damaged, are refused", () => {
  const datadir = makeSmallCatalogCluster();
  const path = join(datadir, "base/1/pg_filenode.map");
  const map = readFileSync(path);
  writeFileSync(path, map.fill(0, 100, 104));
  assert.throws(() => catalogAt(datadir), { code: "format", message: /fails its CRC check$/ });
  const count = map.readUInt32LE(4);
  for (let i = 0; i < count; i++) {
    if (map.readUInt32LE(8 + 8 * i) === 1249) map.writeUInt32LE(9999, 8 + 8 * i);
  }
  map.writeUInt32LE(crc32c(map, 0, 520), 520);
  writeFileSync(path, map);
  assert.throws(() => catalogAt(datadir), {
    code: "format",
    message: "pg_filenode.map of database 1 does not name pg_attribute",
  });
});

test("a database without its folder is told when it is read; the others are not affected", () => {
  const catalog = catalogAt(makeSmallCatalogCluster());
  assert.throws(() => relationsOf(catalog, "shop"), {
    code: "storage",
    message: /pg_filenode\.map/,
  });
  assert.equal(relationsOf(catalog, "template1").count, 415);
});

test("where names cannot be read the reason is told once, for each database, and paths have to do", () => {
  const datadir = makeSmallCatalogCluster();
  const said: string[] = [];
  const namesOf = (unsealing: Unsealing = {}): RelationNames =>
    new RelationNames(
      datadirAt(datadir),
      () => catalogAt(datadir, unsealing),
      (error) => said.push(error.message),
    );
  const names = namesOf();
  const nameOf = (path: string): string | undefined => names.nameOf(path as BytePath);
  assert.equal(nameOf("base/16386/1259"), undefined);
  assert.equal(nameOf("base/16386/1259_fsm"), undefined);
  assert.equal(said.length, 1);
  assert.equal(nameOf("base/1/1259_vm_tde"), "template1.pg_catalog.pg_class");
  assert.equal(nameOf("global/1260"), "pg_catalog.pg_authid");
  for (const path of ["base/1/99999", "base/777/1259", "PG_VERSION", "base/1/t3_1259"]) {
    assert.equal(nameOf(path), undefined);
  }
  assert.equal(said.length, 1);

  writeFileSync(join(datadir, "global/pg_filenode.map"), "");
  const broken = namesOf();
  for (const path of ["base/1/1259", "base/1/1260", "global/1260"]) {
    assert.equal(broken.nameOf(path as BytePath), undefined);
  }
  assert.equal(said.length, 2);
});

function manifestOf(datadir: string): Unsealing["manifest"] {
  return readManifestHeader(() => [readFileSync(join(datadir, "tde.manifest"))], "tde.manifest");
}

/** @param valid - whether the page gets the checksum that fits. */
function changePage(
  datadir: string,
  file: string,
  block: number,
  change: (page: Buffer) => void,
  valid = true,
): void {
  const path = join(datadir, file);
  const bytes = readFileSync(path);
  const page = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
  change(page);
  if (valid) page.writeUInt16LE(pageChecksum(page, block), 8);
  writeFileSync(path, bytes);
}

/** Gives a name of that length or less another text, on every page. */
function renameEverywhere(datadir: string, file: string, from: string, to: string): void {
  const name = (text: string): Buffer =>
    Buffer.concat([Buffer.from(text), Buffer.alloc(64 - text.length)]);
  const blocks = readFileSync(join(datadir, file)).length / BLOCK;
  let found = 0;
  for (let block = 0; block < blocks; block++) {
    changePage(datadir, file, block, (page) => {
      for (let at = page.indexOf(name(from)); at >= 0; at = page.indexOf(name(from), at + 1)) {
        name(to).copy(page, at);
        found++;
      }
    });
  }
  assert.ok(found > 0);
}
