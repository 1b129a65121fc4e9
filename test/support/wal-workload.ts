/** Statements after which the WAL holds records of nearly every type that one server without standbys writes. */
import type { PostgresServer } from "../../src/demo/postgres-server.ts";

/** What the statements need, and what makes more types and forms of records. */
export const WORKLOAD_SETTINGS: readonly string[] = [
  "wal_level = logical",
  "max_prepared_transactions = 4",
  "track_commit_timestamp = on",
  "wal_log_hints = on",
  "wal_compression = on",
  "max_wal_size = '1GB'",
  "wal_keep_size = '1GB'",
  "wal_consistency_checking = 'generic,brin'",
];

/** @param tablespace - an empty folder outside the data directory that belongs to the server's user. */
export async function runWorkload(server: PostgresServer, tablespace: string): Promise<void> {
  await server.run("postgres", ...SHARED_OBJECTS, `CREATE TABLESPACE ts LOCATION '${tablespace}'`);
  await server.run("w", ...HEAP, ...LOCKS, ...TRANSACTIONS, ...INDEXES, ...OTHERS);
  await server.run("postgres", "DROP DATABASE w2", ...POSITIONS);
}

const SHARED_OBJECTS = [
  "CREATE DATABASE w",
  "CREATE DATABASE w2",
  "SELECT pg_create_restore_point('before the workload')",
  "SELECT pg_replication_origin_create('elsewhere')",
];

const HEAP = [
  "CREATE TABLE h (id int PRIMARY KEY, a int, t text) WITH (fillfactor = 70)",
  "INSERT INTO h SELECT i, i, 'row ' || i FROM generate_series(1, 3000) i",
  "CREATE TABLE copied AS SELECT * FROM h",
  "UPDATE h SET a = a + 1 WHERE id % 3 = 0",
  "UPDATE h SET t = repeat(t, 20) WHERE id % 50 = 0",
  "UPDATE h SET id = id + 100000 WHERE id % 100 = 0",
  "DELETE FROM h WHERE id % 7 = 0",
  "CHECKPOINT",
  "UPDATE h SET a = 0 WHERE id < 200",
  "SELECT count(*) FROM h",
  "INSERT INTO h VALUES (1, 1, 'again') ON CONFLICT (id) DO UPDATE SET a = 99",
  "VACUUM h",
  "VACUUM (FREEZE) copied",
  "CREATE TABLE toasted (id int, t text)",
  "INSERT INTO toasted SELECT i, string_agg(md5((i * j)::text), '') FROM generate_series(1, 8) i, generate_series(1, 200) j GROUP BY i",
  "TRUNCATE toasted, copied",
  "VACUUM FULL pg_class",
  "CLUSTER h USING h_pkey",
];

/** In one session a subtransaction is a locker of its own: together with its parent it makes a MultiXact. */
const LOCKS = [
  "BEGIN",
  "SELECT count(*) FROM (SELECT * FROM h WHERE id < 40 FOR KEY SHARE) s",
  "SAVEPOINT one",
  "UPDATE h SET a = a + 1 WHERE id < 20",
  "SELECT count(*) FROM (SELECT * FROM h WHERE id < 40 FOR UPDATE) s",
  "COMMIT",
  "BEGIN",
  "LOCK TABLE h IN ACCESS EXCLUSIVE MODE",
  "ALTER TABLE h ADD extra int",
  "COMMIT",
  "VACUUM (FREEZE) h",
];

const TRANSACTIONS = [
  "BEGIN",
  ...Array.from({ length: 70 }, (_, i) => `SAVEPOINT s${i}; INSERT INTO h VALUES (${200_000 + i})`),
  "DROP TABLE toasted",
  "COMMIT",
  "BEGIN",
  "CREATE TABLE never (i int)",
  "SAVEPOINT s",
  "INSERT INTO never VALUES (1)",
  "ROLLBACK",
  "BEGIN",
  "CREATE TABLE prepared (i int PRIMARY KEY)",
  "SAVEPOINT s",
  "INSERT INTO prepared VALUES (1)",
  "PREPARE TRANSACTION 'first ''quoted'' name'",
  "COMMIT PREPARED 'first ''quoted'' name'",
  "BEGIN",
  "DROP TABLE prepared",
  "INSERT INTO h VALUES (300000)",
  "PREPARE TRANSACTION 'second'",
  "ROLLBACK PREPARED 'second'",
  "SELECT pg_replication_origin_session_setup('elsewhere')",
  "BEGIN",
  "SELECT pg_replication_origin_xact_setup('0/ABCDEF01', '2024-02-29 12:34:56.789+00')",
  "INSERT INTO h VALUES (400000)",
  "COMMIT",
  "SELECT pg_replication_origin_session_reset()",
  "SELECT pg_replication_origin_advance('elsewhere', '0/ABCDEF99')",
  "SELECT pg_replication_origin_drop('elsewhere')",
];

const INDEXES = [
  "CREATE TABLE x (id int, p point, b box, a int[], t text)",
  ...[
    "x_btree ON x (t) INCLUDE (id)",
    "x_dedup ON x ((id % 3))",
    "x_hash ON x USING hash (id)",
    "x_gist ON x USING gist (b)",
    "x_gin ON x USING gin (a) WITH (fastupdate = on)",
    "x_gin2 ON x USING gin (a) WITH (fastupdate = off)",
    "x_spgist ON x USING spgist (p)",
    "x_spgist2 ON x USING spgist (t)",
    "x_brin ON x USING brin (id) WITH (pages_per_range = 1, autosummarize = off)",
  ].map((index) => `CREATE INDEX ${index}`),
  `INSERT INTO x SELECT i, point(i % 97, i % 31), box(point(i, i), point(i + 2, i + 4)),
     ARRAY[i % 5, i % 200, i], 'text ' || i FROM generate_series(1, 1500) i`,
  "SELECT gin_clean_pending_list('x_gin')",
  "SELECT brin_summarize_new_values('x_brin')",
  "SELECT brin_desummarize_range('x_brin', 2)",
  "DELETE FROM x WHERE id % 10 <> 0",
  "VACUUM x",
  "INSERT INTO x SELECT i, point(1, 1), box(point(1, 1), point(2, 2)), ARRAY[1], 'same' FROM generate_series(1, 600) i",
  "UPDATE x SET id = id + 1",
  "DELETE FROM x",
  "VACUUM x",
  "VACUUM x",
];

const OTHERS = [
  "CREATE SEQUENCE q",
  "SELECT nextval('q') FROM generate_series(1, 100)",
  "SELECT setval('q', 4711)",
  "CREATE TABLE in_ts (i int) TABLESPACE ts",
  "INSERT INTO in_ts VALUES (1)",
  "DROP TABLE in_ts",
  "DROP TABLESPACE ts",
  "CREATE UNLOGGED TABLE u (i int PRIMARY KEY)",
  "SELECT pg_logical_emit_message(true, 'prefix', 'transactional')",
  "SELECT pg_logical_emit_message(false, '', E'\\\\x00ff41'::bytea)",
  "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM h",
  "REFRESH MATERIALIZED VIEW m",
  "DROP TABLE x",
];

const POSITIONS = [
  "ALTER SYSTEM SET full_page_writes = off",
  "SELECT pg_reload_conf()",
  "SELECT pg_sleep(0.2)",
  "CHECKPOINT",
  "ALTER SYSTEM RESET full_page_writes",
  "SELECT pg_reload_conf()",
  "SELECT pg_sleep(0.2)",
  "CHECKPOINT",
  "SELECT pg_switch_wal()",
  "SELECT txid_current()",
];
