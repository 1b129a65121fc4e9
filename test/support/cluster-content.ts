/**
 * The statements that fill a test cluster, and the secret marker strings that they spread: each marker is written
 * by one statement only, so that finding it tells which kind of file leaked. Names of objects are no secrets.
 */
import type { PostgresServer } from "../../src/demo/postgres-server.ts";

/** What a marker's name says: where PostgreSQL keeps it. Every one of them can be found in a plain cluster. */
export const MARKERS = {
  table: "MARKER-table-9f2c41d7",
  index: "MARKER-index-51be0a63",
  toastExternal: "MARKER-toast-external-0d93e8f1",
  unlogged: "MARKER-unlogged-c38d5e94",
  partition: "MARKER-partition-2a60f7bb",
  materialized: "MARKER-materialized-e4719d05",
  statistics: "MARKER-statistics-83b6c2fe",
  comment: "MARKER-comment-1c0fa9d8",
  largeObject: "MARKER-large-object-6be2d473",
  tablespace: "MARKER-tablespace-f05a18c9",
  inPlaceTablespace: "MARKER-in-place-9d7742ae",
  secondDatabase: "MARKER-second-database-30c6eb5f",
  preparedTransaction: "MARKER-prepared-b81d03f6",
  wal: "MARKER-wal-only-5ef9274c",
  notify: "MARKER-notify-a72c90e3",
  log: "MARKER-log-only-04d8b1f2",
  setting: "MARKER-setting-d6f35a88",
} as const;

export type MarkerName = keyof typeof MARKERS;

/** The markers that the small content holds. */
export const SMALL_MARKERS: readonly MarkerName[] = ["table", "index", "wal"];

/** Settings that the varied content needs, also when the cluster is started again. */
export const VARIED_SETTINGS: readonly string[] = [
  "max_prepared_transactions = 4",
  "allow_in_place_tablespaces = on",
  "logging_collector = on",
  "log_directory = 'log'",
  "log_filename = 'postgresql.log'",
];

/** A table with an index, in the database `shop`. */
export async function fillSmall(server: PostgresServer): Promise<void> {
  await server.run("postgres", "CREATE DATABASE shop");
  await server.run("shop", ...ordinaryTable(400), WAL_MARKER, "CHECKPOINT");
}

/**
 * @param tablespace - an empty folder outside the data directory that belongs to the server's user.
 */
export async function fillVaried(server: PostgresServer, tablespace: string): Promise<void> {
  await server.run(
    "postgres",
    "CREATE DATABASE shop",
    "CREATE DATABASE second",
    `CREATE TABLESPACE ext LOCATION '${tablespace}'`,
    "CREATE TABLESPACE inplace LOCATION ''",
    "CREATE ROLE clerk LOGIN PASSWORD 'a password of the tests'",
    `ALTER SYSTEM SET primary_conninfo = 'host=nowhere password=${MARKERS.setting}'`,
  );
  await server.run(
    "shop",
    ...ordinaryTable(5000),
    ...TOAST,
    ...EVERY_INDEX,
    ...OTHER_RELATIONS,
    ...TABLESPACES,
    ...OTHER_PLACES,
    WAL_MARKER,
    "VACUUM ANALYZE",
    "CHECKPOINT",
  );
  await server.run(
    "second",
    "CREATE TABLE ledger AS SELECT i, i * 3 AS amount FROM generate_series(1, 500) AS i",
    `INSERT INTO ledger VALUES (501, 0); ALTER TABLE ledger ADD note text DEFAULT '${MARKERS.secondDatabase}'`,
    `UPDATE ledger SET note = '${MARKERS.secondDatabase}' || i WHERE i < 20`,
    "CHECKPOINT",
  );
  // Left open: a file in pg_twophase, and a row that nobody sees yet.
  await server.run(
    "shop",
    "BEGIN",
    `INSERT INTO orders VALUES (900001, '${MARKERS.preparedTransaction}')`,
    "PREPARE TRANSACTION 'left-open'",
    "CHECKPOINT",
  );
}

function ordinaryTable(rows: number): string[] {
  return [
    "CREATE TABLE orders (id int PRIMARY KEY, note text)",
    `INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, ${rows}) AS i`,
    `UPDATE orders SET note = '${MARKERS.table}' WHERE id % 50 = 7`,
    // Only the index holds this text: the table has no such column.
    `CREATE INDEX orders_expression ON orders (('${MARKERS.index}-' || id))`,
    "DELETE FROM orders WHERE id % 10 = 3",
  ];
}

const WAL_MARKER = `SELECT pg_logical_emit_message(true, 'test', '${MARKERS.wal}')`;

// The compressed column has no marker: pglz puts a control byte before every eighth character.
const TOAST = [
  "CREATE TABLE documents (id int PRIMARY KEY, plain text, packed text)",
  "ALTER TABLE documents ALTER plain SET STORAGE EXTERNAL",
  `INSERT INTO documents SELECT i, repeat('${MARKERS.toastExternal} ' || i || ' ', 150),
          repeat('x', 100000) || string_agg(md5(i * 1000 + j || ''), '')
     FROM generate_series(1, 12) AS i, generate_series(1, 150) AS j GROUP BY i`,
];

const EVERY_INDEX = [
  `CREATE TABLE places (id int, spot point, area box, tags int[], words tsvector, name text)`,
  `INSERT INTO places SELECT i, point(i % 71, i % 37), box(point(i, i), point(i + 3, i + 5)),
          ARRAY[i % 7, i % 11, i % 13], to_tsvector('simple', 'word' || i % 40 || ' place' || i), 'place ' || i
     FROM generate_series(1, 2000) AS i`,
  "CREATE INDEX places_btree ON places USING btree (name) INCLUDE (id)",
  "CREATE INDEX places_hash ON places USING hash (name)",
  "CREATE INDEX places_gist ON places USING gist (area)",
  "CREATE INDEX places_gin_array ON places USING gin (tags)",
  "CREATE INDEX places_gin_words ON places USING gin (words)",
  "CREATE INDEX places_spgist ON places USING spgist (spot)",
  "CREATE INDEX places_spgist_text ON places USING spgist (name)",
  "CREATE INDEX places_brin ON places USING brin (id) WITH (pages_per_range = 2)",
  "DELETE FROM places WHERE id % 9 = 0",
];

const OTHER_RELATIONS = [
  "CREATE UNLOGGED TABLE sessions (id int PRIMARY KEY, token text)",
  `INSERT INTO sessions SELECT i, '${MARKERS.unlogged}' || i FROM generate_series(1, 300) AS i`,
  "CREATE TABLE events (at date, what text) PARTITION BY RANGE (at)",
  "CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
  "CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
  "CREATE TABLE events_other PARTITION OF events DEFAULT",
  "CREATE INDEX events_at ON events (at)",
  `INSERT INTO events SELECT date '2024-01-01' + i, '${MARKERS.partition}' || i FROM generate_series(1, 900) AS i`,
  `CREATE MATERIALIZED VIEW summary AS
     SELECT at, count(*) AS n, '${MARKERS.materialized}' || min(at) AS label FROM events GROUP BY at`,
  "CREATE SEQUENCE ticket START 1000 INCREMENT 7 CACHE 5",
  "SELECT nextval('ticket') FROM generate_series(1, 20)",
  "CREATE TABLE empty_table (id serial PRIMARY KEY, anything jsonb)",
  "CREATE TYPE mood AS ENUM ('sad', 'fine', 'happy')",
  `CREATE TABLE popular AS SELECT i, CASE WHEN i % 3 = 0 THEN 'ordinary' ELSE 'usual' END AS label,
          'fine'::mood AS mood FROM generate_series(1, 600) AS i`,
  // An index on an expression has statistics of its own; its most common value is this text.
  `CREATE INDEX popular_expression ON popular ((CASE WHEN label = 'usual' THEN '${MARKERS.statistics}' END))`,
  `COMMENT ON TABLE popular IS '${MARKERS.comment}'`,
];

const TABLESPACES = [
  "CREATE TABLE elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE ext, note text) TABLESPACE ext",
  `INSERT INTO elsewhere SELECT i, '${MARKERS.tablespace}' || i FROM generate_series(1, 500) AS i`,
  "CREATE TABLE inside (id int, note text) TABLESPACE inplace",
  `INSERT INTO inside SELECT i, '${MARKERS.inPlaceTablespace}' || i FROM generate_series(1, 500) AS i`,
];

const OTHER_PLACES = [
  `SELECT lo_from_bytea(0, convert_to(repeat('${MARKERS.largeObject}', 3) || md5(i || ''), 'UTF8'))
     FROM generate_series(1, 20) AS i`,
  // More than the buffers of the queue hold, so that its pages are written out; a short payload each, to lie
  // within one page.
  `SELECT pg_notify('channel', '${MARKERS.notify}' || i || repeat('n', 4000)) FROM generate_series(1, 60) AS i`,
  "SET log_statement = 'all'",
  `SELECT 1 /* ${MARKERS.log} */`,
  "SET log_statement = 'none'",
];
