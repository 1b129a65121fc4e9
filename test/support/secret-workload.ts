/**
 * Statements that put values which occur nowhere else into WAL, as rows, old rows, keys of each kind of index, messages
 * and sequences; and in records of which types each of them must then be found.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomBytes } from "../../src/crypto/primitives.ts";
import type { PostgresServer } from "../../src/demo/postgres-server.ts";

export interface SecretValue {
  readonly what: string;
  /** As WAL holds it. */
  readonly bytes: Buffer;
  /** So many bytes of it in a row are nowhere by chance. */
  readonly pieceBytes: number;
  /** Of records that hold it: as pg_waldump names them, without +INIT. */
  readonly types: readonly string[];
}

const PIECE_BYTES = 6;

/** Makes values that are found in WAL as certain bytes, and remembers these. */
class Values {
  readonly all: SecretValue[] = [];

  add(what: string, bytes: Buffer, ...types: readonly string[]): void {
    this.all.push({ what, bytes, pieceBytes: PIECE_BYTES, types });
  }

  text(what: string, ...types: readonly string[]): string {
    const letters = [...randomBytes(16)].map((byte) => String.fromCharCode(97 + (byte % 26)));
    this.add(what, Buffer.from(letters.join("")), ...types);
    return letters.join("");
  }

  /** Positive. */
  bigint(what: string, ...types: readonly string[]): bigint {
    const bytes = randomBytes(8);
    bytes[7] = (bytes[7] ?? 0) & 0x7f;
    this.add(what, bytes, ...types);
    return bytes.readBigInt64LE();
  }

  /** @returns an SQL literal. */
  bytea(what: string, ...types: readonly string[]): string {
    const bytes = randomBytes(12);
    this.add(what, bytes, ...types);
    return `'\\x${bytes.toString("hex")}'::bytea`;
  }

  /** Between 1 and 2. */
  double(what: string, ...types: readonly string[]): number {
    const value = 1 + randomBytes(6).readUIntLE(0, 6) / 2 ** 48;
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    this.add(what, bytes, ...types);
    return value;
  }

  /** A bigint, a text and a bytea. */
  row(...types: readonly string[]): string {
    const what = `first in ${types[0]}`;
    return [
      this.bigint(`bigint ${what}`, ...types),
      `'${this.text(`text ${what}`, ...types)}'`,
      this.bytea(`bytea ${what}`, ...types),
    ].join(", ");
  }
}

/**
 * @param folder - that the server may read.
 * @returns what was written.
 */
export async function writeSecrets(
  server: PostgresServer,
  database: string,
  folder: string,
): Promise<readonly SecretValue[]> {
  const values = new Values();
  const statements = [
    ...rows(values, join(folder, "rows")),
    ...catalog(values),
    ...btreeAndHash(values),
    ...otherIndexes(values),
    ...others(values),
  ];
  // A compressed image would hide the values as well.
  await server.run(database, "SET wal_compression = off", ...statements);
  return [...values.all, await hashOfKey(server, database)];
}

/** A hash index holds no key, but its hash, behind which zeros stand. */
async function hashOfKey(server: PostgresServer, database: string): Promise<SecretValue> {
  const [[hash] = []] = await server.query(database, "SELECT hashint8(max(h)) FROM m");
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(Number(hash));
  return { what: "hash of a key", bytes, pieceBytes: bytes.length, types: ["Hash INSERT"] };
}

/** @param copied - a file for COPY. */
function rows(values: Values, copied: string): string[] {
  const lines = [1, 2].map((i) => values.text(`row ${i} of COPY`, "Heap2 MULTI_INSERT"));
  writeFileSync(copied, lines.map((line) => `${line}\n`).join(""));
  return [
    "CREATE TABLE r (id bigint, t text, b bytea, n int) WITH (fillfactor = 50)",
    "CREATE INDEX r_n ON r (n)",
    "ALTER TABLE r REPLICA IDENTITY FULL",
    "INSERT INTO r VALUES (0, '', '', 0)",
    // Each row is the old one of what follows.
    `INSERT INTO r VALUES (${values.row("Heap INSERT", "Heap HOT_UPDATE")}, 1)`,
    `UPDATE r SET (id, t, b) = (${values.row("Heap HOT_UPDATE", "Heap UPDATE")}) WHERE n = 1`,
    `UPDATE r SET (id, t, b, n) = (${values.row("Heap UPDATE", "Heap DELETE")}, 2) WHERE n = 1`,
    "DELETE FROM r WHERE n = 2",
    "CREATE TABLE c (t text)",
    `COPY c FROM '${copied}'`,
    // Too long for a row: it is stored in pieces.
    `INSERT INTO r (b) SELECT string_agg(sha256(i::text::bytea), ${values.bytea("bytea in pieces", "Heap INSERT")})
       FROM generate_series(1, 200) i`,
  ];
}

function catalog(values: Values): string[] {
  const verifier = randomBytes(32).toString("base64");
  values.add("verifier of a password", Buffer.from(verifier), "Heap INSERT");
  const salt = randomBytes(16).toString("base64");
  const table = values.text("name of a table", "Heap INSERT", "Btree INSERT_LEAF");
  const column = values.text("name of a column", "Heap2 MULTI_INSERT");
  return [
    `CREATE TABLE ${table} (${column} int)`,
    `COMMENT ON TABLE r IS '${values.text("a comment", "Heap INSERT")}'`,
    `CREATE ROLE ${values.text("name of a role", "Heap INSERT")}
       PASSWORD 'SCRAM-SHA-256$4096:${salt}$${verifier}:${verifier}'`,
  ];
}

function btreeAndHash(values: Values): string[] {
  const types = ["INSERT_LEAF", "INSERT_UPPER", "SPLIT_R", "SPLIT_L", "NEWROOT"];
  const key = values.text("key of B-tree", ...types.map((type) => `Btree ${type}`));
  const often = values.text("key of many rows", "Btree INSERT_POST");
  return [
    "CREATE TABLE k (t text, i bigint, b bytea)",
    "CREATE INDEX k_t ON k (t)",
    "CREATE INDEX k_i ON k (i)",
    "CREATE INDEX k_b ON k (b)",
    // Not in the first page images.
    "INSERT INTO k VALUES ('', 0, '')",
    `INSERT INTO k (i, b) VALUES (${values.bigint("bigint key", "Btree INSERT_LEAF")},
       ${values.bytea("bytea key", "Btree INSERT_LEAF")})`,
    `INSERT INTO k SELECT '${key}' || repeat('k', 300) || i FROM generate_series(1000, 1200) i`,
    `INSERT INTO k SELECT '${key}' || repeat('k', 300) || 1000 - i FROM generate_series(1, 200) i`,
    "CREATE TABLE d (n int, t text)",
    "CREATE INDEX d_t ON d (t)",
    `INSERT INTO d SELECT i, '${often}' FROM generate_series(1, 1000) i`,
    // A row in the place of another one goes into the middle of a posting list.
    "DELETE FROM d WHERE n % 3 = 0",
    "VACUUM d",
    `INSERT INTO d SELECT i, '${often}' FROM generate_series(1, 50) i`,
    "CREATE TABLE m (h bigint)",
    "CREATE INDEX m_h ON m USING hash (h)",
    "INSERT INTO m VALUES (0)",
    `INSERT INTO m VALUES (${values.bigint("key with a hash", "Heap INSERT")})`,
  ];
}

function otherIndexes(values: Values): string[] {
  const gin = values.text(
    "key of GIN",
    ...["INSERT", "UPDATE_META_PAGE", "INSERT_LISTPAGE", "SPLIT"].map((type) => `Gin ${type}`),
  );
  const gist = values.double("key of GiST", "Gist PAGE_UPDATE", "Gist PAGE_SPLIT");
  const point = values.double("point in SP-GiST", "SPGist ADD_LEAF", "SPGist PICKSPLIT");
  const prefix = values.text("prefix in SP-GiST", "SPGist ADD_NODE");
  const half = prefix.slice(0, 10);
  values.add("half of that prefix", Buffer.from(half), "SPGist SPLIT_TUPLE");
  const moved = values.text("text in SP-GiST", "SPGist MOVE_LEAFS");
  return [
    "CREATE TABLE x (a text[], b box, p point, s text)",
    "CREATE INDEX x_a ON x USING gin (a) WITH (fastupdate = off)",
    "CREATE INDEX x_a2 ON x USING gin (a) WITH (fastupdate = on)",
    "CREATE INDEX x_b ON x USING gist (b)",
    "CREATE INDEX x_p ON x USING spgist (p)",
    "CREATE INDEX x_s ON x USING spgist (s)",
    `INSERT INTO x (a) SELECT ARRAY['${gin}' || i, '${gin}' || repeat('g', 60) || i] FROM generate_series(1, 300) i`,
    `INSERT INTO x (b, p) SELECT box(point(${gist}, i), point(i + 2, i)), point(i % 7, ${point} * (1 + i % 2))
       FROM generate_series(1, 500) i`,
    `INSERT INTO x (s) SELECT '${prefix}' || chr(65 + i % 50) || i FROM generate_series(1, 200) i`,
    `INSERT INTO x (s) VALUES ('${prefix}~'), ('${half}~')`,
    `INSERT INTO x (s) SELECT chr(97 + i % 20) || '${moved}' || repeat('s', 100) || i FROM generate_series(1, 200) i`,
    "CREATE TABLE z (i bigint, t text)",
    `INSERT INTO z VALUES (${values.bigint("bigint in BRIN", "BRIN INSERT")},
       '${values.text("text in BRIN", "BRIN INSERT")}')`,
    "CREATE INDEX z_i ON z USING brin (i, t) WITH (pages_per_range = 1)",
    `INSERT INTO z VALUES (${values.bigint("later bigint in BRIN", "BRIN SAMEPAGE_UPDATE")},
       '${values.text("later text in BRIN", "BRIN SAMEPAGE_UPDATE")}')`,
  ];
}

function others(values: Values): string[] {
  const message = "LogicalMessage MESSAGE";
  return [
    `SELECT pg_logical_emit_message(true, 'p', '${values.text("message", message)}')`,
    `SELECT pg_logical_emit_message(false, 'p', ${values.bytea("message in bytes", message)})`,
    `CREATE SEQUENCE s1 START ${values.bigint("start of a sequence", "Sequence LOG")}`,
    "CREATE SEQUENCE s2",
    `SELECT setval('s2', ${values.bigint("value of a sequence", "Sequence LOG")})`,
    `CREATE TABLE i AS SELECT '${values.text("text in images", "XLOG FPI", "XLOG FPI_FOR_HINT")}' || i AS t
       FROM generate_series(1, 100) i`,
    "CHECKPOINT",
    "SELECT count(*) FROM i",
    "CREATE INDEX i_t ON i (t)",
  ];
}
