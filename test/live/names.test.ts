/**
 * The catalog reader on a cluster with a life behind it: mapped catalogs rewritten, relations renamed, dropped, moved
 * and half made, names of every alphabet. What it reads after the server stopped is what the server said just before,
 * and `tde ls` prints it, with the sizes that psql told.
 * TDE_TEST_MAJORS=all takes every major that npm brings.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import type { Catalog } from "../../src/catalog/catalog.ts";
import { type CatalogRelation, RELATION_KINDS } from "../../src/catalog/database-catalog.ts";
import { findRelations, relationName } from "../../src/catalog/names.ts";
import { openKeyringFromOptions } from "../../src/cli/open-keyring.ts";
import { createOutput } from "../../src/cli/output.ts";
import type { Datadir } from "../../src/datadir/datadir.ts";
import { formatRelationPath } from "../../src/datadir/relation-path.ts";
import { makeOwnFolder, type PostgresServer, type Row } from "../../src/demo/postgres-server.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { type Cluster, LIVE_MAJORS, makeCluster, serverHome } from "../support/cluster.ts";
import { catalogAt, datadirAt, relationsOf } from "../support/fixture-catalog.ts";
import { bytesOnDisk } from "../support/listed.ts";
import { runTdeThreaded } from "../support/tde.ts";

// Nothing changes the size of a file between the question and the stop.
const SETTINGS = ["max_prepared_transactions=4", "autovacuum=off"];
const majors = process.env["TDE_TEST_MAJORS"] === "all" ? LIVE_MAJORS : LIVE_MAJORS.slice(-1);
const STRANGE_NAMES = [
  "with space",
  'with "quotes"',
  "with.dot",
  "Заказы",
  "a'b\\c%d",
  "*",
  "select",
];

/** In `shop`, one statement after the other in one session. */
const LIFE = [
  "CREATE SCHEMA sales",
  "CREATE TABLE sales.orders (id int PRIMARY KEY, note text)",
  "CREATE TABLE old_name (id serial PRIMARY KEY, note text)",
  "ALTER TABLE old_name RENAME TO new_name",
  "ALTER INDEX old_name_pkey RENAME TO new_name_key",
  "CREATE TABLE dropped (id int PRIMARY KEY)",
  "DROP TABLE dropped",
  "CREATE TABLE events (at date, what text) PARTITION BY RANGE (at)",
  "CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
  "CREATE TABLE events_old PARTITION OF events DEFAULT PARTITION BY LIST (what)",
  "CREATE TABLE events_old_any PARTITION OF events_old DEFAULT",
  "CREATE INDEX ON events (at)",
  "CREATE TABLE base_table (id int)",
  "CREATE TABLE heir () INHERITS (base_table)",
  "CREATE UNLOGGED TABLE scratch (id int, note text)",
  "CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one",
  "CREATE VIEW view_of_orders AS SELECT * FROM orders",
  ...STRANGE_NAMES.map((name) => `CREATE TABLE ${quoted(name)} (id int, note text)`),
  "BEGIN",
  "CREATE TABLE aborted_table (id int PRIMARY KEY)",
  "ALTER TABLE orders RENAME TO aborted_name",
  "ROLLBACK",
  "BEGIN",
  "CREATE TABLE kept_of_two (id int)",
  "SAVEPOINT one",
  "CREATE TABLE aborted_in_savepoint (id int)",
  "ROLLBACK TO one",
  "SAVEPOINT two",
  "ALTER TABLE kept_of_two RENAME TO kept_in_savepoint",
  "RELEASE two",
  "COMMIT",
  "TRUNCATE scratch, sales.orders",
  "REINDEX TABLE orders",
  "CLUSTER orders USING orders_pkey",
  "ALTER TABLE heir SET TABLESPACE ext",
  // Each of them gets new files: pg_class, pg_attribute, pg_proc and pg_type by way of the map.
  ...["pg_class", "pg_attribute", "pg_proc", "pg_type", "pg_index", "pg_namespace", "pg_am"].map(
    (name) => `VACUUM FULL ${name}`,
  ),
  "VACUUM FULL pg_database",
  "VACUUM FULL pg_authid",
  "REINDEX TABLE pg_class",
  // After the rewriting, so that pg_class has versions of rows without hint bits, and chains of them in a page.
  ...Array.from(
    { length: 40 },
    (_, i) => `ALTER TABLE new_name RENAME COLUMN note${i || ""} TO note${i + 1}`,
  ),
  ...Array.from({ length: 40 }, (_, i) => `ALTER TABLE events_2024 SET (fillfactor = ${50 + i})`),
  ...Array.from({ length: 300 }, (_, i) => `CREATE TABLE many_${i} (id int PRIMARY KEY)`),
  ...Array.from({ length: 100 }, (_, i) => `DROP TABLE many_${3 * i}`),
  "BEGIN",
  "CREATE TABLE prepared_table (id int PRIMARY KEY)",
  "SAVEPOINT inner_one",
  "CREATE TABLE prepared_in_savepoint (id int)",
  "RELEASE inner_one",
  "ALTER TABLE base_table RENAME TO prepared_name",
  "DROP TABLE kept_in_savepoint",
  "PREPARE TRANSACTION 'left-open'",
];

for (const major of majors) {
  test(`names and files of PostgreSQL ${major} after much DDL are those that the server said before it stopped, plain and encrypted`, async () => {
    const cluster = await makeCluster({ major, checksums: true, content: "small" });
    try {
      const { datadir, folder } = cluster;
      const { names, listing } = await live(cluster);
      assertTruth(datadir, names, catalogAt(datadir));
      assertListing(datadir, listing);

      const keyring = join(folder, "app.keyring");
      const keyFile = join(folder, "kek.key");
      const options = ["--keyring", keyring, "--key-file", keyFile];
      tde("keyring", "create", ...options, "--new-key-file");
      tde("encrypt-datadir", "-D", datadir, ...options);
      const catalog = catalogAt(datadir, { keys: await keysIn(keyring, keyFile) });
      assertTruth(datadir, names, catalog);
      assertFound(catalog);
      assertListing(datadir, listing, ...options);
    } finally {
      cluster.remove();
    }
  });
}

test("after a crash names are those that reached the files, and are said to be perhaps stale", async () => {
  const cluster = await makeCluster({
    major: LIVE_MAJORS[0] ?? 17,
    checksums: true,
    content: "small",
  });
  try {
    const server = await cluster.start();
    await server.run("shop", "CREATE TABLE before_checkpoint (id int)", "CHECKPOINT");
    await server.run("shop", "CREATE TABLE after_checkpoint (id int)");
    await server.crash();
    const catalog = catalogAt(cluster.datadir);
    assert.equal(catalog.mayBeStale, true);
    const names = [...relationsOf(catalog, "shop").relations()].map(({ name }) => name);
    assert.ok(names.includes("before_checkpoint"));
  } finally {
    cluster.remove();
  }
});

/** Rows by database: what the server says of every relation in it. */
type Truth = ReadonlyMap<string, readonly Row[]>;

async function live(cluster: Cluster): Promise<{ names: Truth; listing: ListingTruth }> {
  const places = ["ext", "moved"].map((name) => join(cluster.folder, name));
  for (const place of places) makeOwnFolder(place, serverHome(cluster.major).user);
  const server = await cluster.start(SETTINGS);
  try {
    await server.run(
      "postgres",
      ...["ext", "moved"].map((name, i) => `CREATE TABLESPACE ${name} LOCATION '${places[i]}'`),
      "CREATE DATABASE moving",
      "CREATE DATABASE gone",
      "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0",
      "CREATE DATABASE cyrillic ENCODING 'KOI8R' TEMPLATE template0",
      "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0",
      `CREATE DATABASE ${quoted('Base "Ж"')}`,
      "DROP DATABASE gone",
    );
    await server.run("moving", "CREATE TABLE moved_table (id int PRIMARY KEY, note text)");
    await server.run("moving", "CREATE TABLE stays (id int) TABLESPACE ext");
    await server.run("postgres", "ALTER DATABASE moving SET TABLESPACE moved");
    await server.run("latin", 'CREATE TABLE "Größe" (id int)', 'CREATE TABLE "naïve ÿ" (id int)');
    await server.run("cyrillic", 'CREATE TABLE "Заказы" (id int)');
    // chr() of such a database makes a byte that is no UTF-8.
    const statement = `'CREATE TABLE "caf' || chr(233) || '" (id int)'`;
    await server.run("bytes", `DO $$ BEGIN EXECUTE ${statement.replaceAll("$", "$$")}; END $$`);
    await server.run("shop", ...LIFE);
    return { names: await truthOf(server, TRUTH), listing: await listingTruthOf(server) };
  } finally {
    await server.stop();
  }
}

const TRUTH = `
  SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relisshared, am.amname, c.reltoastrelid,
         i.indrelid, (SELECT min(inhparent) FROM pg_inherits WHERE inhrelid = c.oid),
         c.relispartition, pg_relation_filepath(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid
   WHERE c.relname::text NOT LIKE 'caf%' -- of the database "bytes": no text that a client could have
   ORDER BY c.oid`;

async function truthOf(server: PostgresServer, query: string): Promise<Truth> {
  const truth = new Map<string, readonly Row[]>();
  const databases = await server.query(
    "postgres",
    "SELECT datname FROM pg_database WHERE datallowconn ORDER BY oid",
  );
  for (const [name] of databases) truth.set(name ?? "", await server.query(name ?? "", query));
  return truth;
}

/** Shared relations, of which every database tells, come under the database "". */
interface ListingTruth {
  readonly relations: readonly Row[];
  readonly databases: readonly Row[];
  readonly tablespaces: readonly Row[];
}

const LISTING_TRUTH = `
  SELECT CASE WHEN c.relisshared THEN '' ELSE current_database() END, n.nspname, c.relname, c.oid, c.relkind,
         c.reltoastrelid, pg_relation_filenode(c.oid), pg_relation_filepath(c.oid),
         CASE WHEN c.relkind <> 'p' THEN t.spcname END,
         -- Two empty tables are locked by the prepared transaction: to ask for their sizes would wait for its end.
         CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) ELSE 0 END,
         CASE WHEN l.relation IS NULL THEN pg_total_relation_size(c.oid) ELSE 0 END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_database d ON d.datname = current_database()
    JOIN pg_tablespace t ON t.oid = coalesce(nullif(c.reltablespace, 0), d.dattablespace)
    LEFT JOIN pg_locks l ON l.relation = c.oid AND l.database = d.oid AND l.mode = 'AccessExclusiveLock'
   WHERE c.relkind IN ('r', 'p', 'i', 't', 'm', 'S') AND c.relname::text NOT LIKE 'caf%'`;

async function listingTruthOf(server: PostgresServer): Promise<ListingTruth> {
  const byDatabase = await truthOf(server, LISTING_TRUTH);
  const shared = byDatabase.get("postgres")?.filter(([database]) => database === "") ?? [];
  const others = [...byDatabase.values()].flat().filter(([database]) => database !== "");
  return {
    relations: [...shared, ...others],
    databases: await server.query(
      "postgres",
      `SELECT d.datname, d.oid, pg_encoding_to_char(encoding), spcname FROM pg_database d
         JOIN pg_tablespace t ON t.oid = dattablespace ORDER BY d.oid`,
    ),
    tablespaces: await server.query(
      "postgres",
      "SELECT spcname, oid, pg_tablespace_location(oid) FROM pg_tablespace ORDER BY oid",
    ),
  };
}

/** What `tde ls` prints is what psql said, and every file of the directory is in it. */
function assertListing(datadir: string, truth: ListingTruth, ...options: string[]): void {
  const list = (by: string, ...more: string[]): JsonRow[] => {
    const args = ["ls", datadir, "--by", by, "--sort", "oid", "--format", "json", ...more];
    return (JSON.parse(tde(...args, ...options)) as Record<string, JsonRow[]>)[`${by}s`] ?? [];
  };
  const text = (rows: readonly Row[]): string[] => rows.map((row) => JSON.stringify(row)).sort();
  const rows = list("relation", "--system");
  // template0 takes no connections, and of the database "bytes" psql could not give all names as text.
  const told = rows.filter(
    ({ oid, database, relation }) =>
      oid !== undefined && database !== "template0" && !String(relation).startsWith("caf"),
  );
  assert.deepEqual(text(told.map(listedRow)), text(truth.relations));

  const files = rows.filter(({ path }) => path !== undefined);
  assert.deepEqual(
    new Map(files.map(({ path, sizeBytes }) => [String(path), sizeBytes])),
    bytesOnDisk(datadir),
  );
  // The two tables that were made by a transaction which is only prepared, and an index.
  const orphans = rows.filter(({ remark }) => remark === "orphan");
  assert.deepEqual([orphans.length, orphans.every(({ oid }) => oid === undefined)], [3, true]);
  assert.ok(rows.every(({ remark }) => remark === undefined || remark === "orphan"));

  const databases = list("database").filter(({ oid }) => oid !== 0);
  assert.deepEqual(
    databases.map((one) => [one["database"], String(one.oid), one["encoding"], one["tablespace"]]),
    truth.databases,
  );
  assert.deepEqual(
    list("tablespace").map(({ name, oid, location }) => [name, String(oid), location ?? ""]),
    truth.tablespaces,
  );
}

/** Of the lists in it, such as keys, none is looked at here. */
type JsonRow = Readonly<Record<string, string | number | undefined>>;

function listedRow(row: JsonRow): Row {
  const letter = Object.entries(RELATION_KINDS).find(([, kind]) => kind === row["kind"])?.[0];
  const values = [
    row["database"] ?? "",
    row["schema"],
    row["relation"],
    row["oid"],
    letter,
    row["toastOid"] ?? 0,
    row["relfilenumber"],
    row["path"],
    row["tablespace"],
    row["mainBytes"],
    row["totalBytes"],
  ];
  return values.map((value) => (value === undefined ? null : String(value)));
}

/** What a command prints that succeeds. */
function tde(...args: readonly string[]): string {
  const { status, stdout, stderr } = runTdeThreaded(args);
  assert.equal(status, 0, stderr);
  return stdout;
}

async function keysIn(keyring: string, keyFile: string): Promise<DataKeys> {
  const flags = { keyring: bytePath(keyring), keyFile: [bytePath(keyFile)], quiet: true };
  const opened = await openKeyringFromOptions(flags, "a test", createOutput(flags));
  return opened.dataKeys;
}

function assertTruth(path: string, truth: Truth, catalog: Catalog): void {
  const datadir = datadirAt(path);
  assert.equal(catalog.mayBeStale, false);
  const names = catalog.databases.filter((one) => one.allowsConnections).map(({ name }) => name);
  assert.deepEqual(names, [...truth.keys()]);
  for (const [name, rows] of truth) {
    const relations = [...relationsOf(catalog, name).relations()].sort((a, b) => a.oid - b.oid);
    const found = relations.map((relation) => asRow(relation, datadir));
    if (name === "bytes") {
      const [text, ...others] = found.filter(([, , relname]) => relname?.startsWith("caf"));
      assert.deepEqual([text?.[2], others], ["caf\\xe9", []]);
      found.splice(found.indexOf(text ?? []), 1);
    }
    assert.deepEqual(found, rows, name);
  }
}

function asRow(relation: CatalogRelation, datadir: Datadir): Row {
  const kinds = Object.entries(RELATION_KINDS);
  const { file } = relation;
  const main = { fork: "main", relationSegment: 0, backend: undefined } as const;
  return [
    String(relation.oid),
    relation.schema,
    relation.name,
    kinds.find(([, kind]) => kind === relation.kind)?.[0] ?? "",
    relation.persistence.charAt(0),
    relation.isShared ? "t" : "f",
    relation.accessMethod ?? null,
    String(relation.toastOid ?? 0),
    relation.kind.endsWith("index") ? String(relation.belongsTo) : null,
    relation.parentOid === undefined ? null : String(relation.parentOid),
    relation.isPartition ? "t" : "f",
    file === undefined ? null : formatRelationPath({ ...file, ...main }, datadir),
  ];
}

/** Names as users give them. */
function assertFound(catalog: Catalog): void {
  const found = (text: string): string[] =>
    findRelations(catalog, text).map(({ database, relation }) => relationName(database, relation));
  for (const name of STRANGE_NAMES) {
    const whole = `shop.public.${/^[a-z]+$/.test(name) ? name : quoted(name)}`;
    assert.deepEqual(found(whole), [whole]);
  }
  assert.throws(() => found("orders"), {
    code: "usage",
    message: "orders means 2 relations",
    hint: "Say which: shop.public.orders, shop.sales.orders.",
  });
  assert.deepEqual(found("sales.orders"), ["shop.sales.orders"]);
  assert.deepEqual(found('"Größe"'), ['latin.public."Größe"']);
  const partitions = new Set(found("shop.*.events*"));
  const [events] = findRelations(catalog, "shop.public.events");
  assert.ok(events !== undefined);
  const family = catalog
    .relationsOf(events.database)
    .familyOf(events.relation.oid, { partitions: true });
  const tables = family.filter(({ kind }) => kind === "table").map(({ name }) => name);
  assert.deepEqual(tables.sort(), ["events_2024", "events_old_any"]);
  for (const table of tables) assert.ok(partitions.has(`shop.public.${table}`));
  assert.ok(family.some(({ name }) => name === "events_old_any_at_idx"));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
