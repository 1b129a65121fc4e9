/**
 * What `tde ls` lists, as JSON: one document whose rows are a line each, so that it is printed as it is made.
 */
import { displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { Listing } from "../engine/list-directory.ts";
import type { ListedRelation } from "../engine/listed-relations.ts";
import type { ListedSum } from "../engine/listed-sums.ts";
import type { FileSums } from "../engine/relation-files.ts";
import type { LineWriter } from "./standard-output.ts";

type JsonObject = Readonly<Record<string, unknown>>;

export class JsonRows {
  private readonly writer: LineWriter;

  /** @param head - fields that stand before the rows. @param name - of the list of rows. */
  constructor(writer: LineWriter, name: string, head: JsonObject) {
    this.writer = writer;
    writer.line(`{ ${jsonText(head).slice(1, -1)}, "${name}": [`);
  }

  rows<Row>(rows: Iterable<Row>, toJson: (row: Row) => JsonObject): void {
    let before: string | undefined;
    for (const row of rows) {
      if (before !== undefined && !this.writer.line(`${before},`)) return;
      before = jsonText(toJson(row));
    }
    if (before !== undefined) this.writer.line(before);
  }

  end(): void {
    this.writer.line("] }");
  }
}

/** Names may hold what disturbs a terminal: control characters, and those that change the direction of text. */
function jsonText(value: JsonObject): string {
  return JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );
}

export function relationToJson(row: ListedRelation, { catalog }: Listing): JsonObject {
  const { name, database, relation, place, path, totalBytes, remark } = row;
  return {
    name,
    database: database?.name,
    schema: relation?.schema,
    relation: relation?.name,
    oid: relation?.oid,
    kind: relation?.kind,
    remark,
    persistence: relation?.persistence,
    accessMethod: relation?.accessMethod,
    toastOid: relation?.toastOid,
    belongsTo: relation?.belongsTo,
    databaseOid: place?.databaseOid,
    tablespaceOid: place?.tablespaceOid,
    tablespace: place && catalog?.tablespaceName(place.tablespaceOid),
    relfilenumber: place?.relfilenumber,
    path: path === undefined ? undefined : displayPath(path),
    ...sumsToJson(row),
    totalBytes,
  };
}

export function sumToJson(
  row: ListedSum,
  by: "schema" | "database" | "tablespace",
  { catalog }: Listing,
  { tablespaces }: Datadir,
): JsonObject {
  const { name, oid, database, relations } = row;
  const own =
    by === "database" && database !== undefined
      ? {
          database: database.name,
          encoding: database.encodingName,
          tablespaceOid: database.tablespaceOid,
          tablespace: catalog?.tablespaceName(database.tablespaceOid),
        }
      : by === "schema"
        ? { database: database?.name }
        : {};
  const target =
    by === "tablespace" ? tablespaces.find((one) => one.oid === oid)?.linkTarget : undefined;
  const location = target === undefined ? undefined : displayPath(target);
  return { name, oid, ...own, location, relations, ...sumsToJson(row) };
}

function sumsToJson({ mainBytes, sizeBytes, pages, sealedBytes, keys }: FileSums): JsonObject {
  const uses = keys.map(({ keyId, count }) => ({ keyId, pages: count }));
  return { mainBytes, sizeBytes, pages, encryptedBytes: sealedBytes, keys: uses };
}
