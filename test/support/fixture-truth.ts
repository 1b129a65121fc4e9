/**
 * What the servers themselves said of the clusters in fixtures/datadir just before they were stopped: tables of CSV.
 */
import { brotliDecompressSync } from "node:zlib";
import { Parser, type ReadEntry } from "tar";
import type { FixtureMajor } from "./fixture.ts";
import { readFixture } from "./fixtures.ts";

/** One row by the names of its columns; null is what COPY writes for NULL: nothing, without quotes. */
export type TruthRow = Readonly<Record<string, string | null>>;

const archives = new Map<FixtureMajor, ReadonlyMap<string, string>>();

/** @param name - such as `relations.csv` or `rows/pg_catalog.pg_type.csv`. */
export function truthTable(major: FixtureMajor, name: string): TruthRow[] {
  const text = archiveOf(major).get(name);
  if (text === undefined) throw new Error(`the truth of fixture ${major} has no ${name}`);
  return parseCsv(text);
}

/** Rows of a table of `shop`, whose file in the archive bears its OID. */
export function truthRows(major: FixtureMajor, schema: string, table: string): TruthRow[] {
  const known = truthTable(major, "rows.csv");
  const found = known.find(({ schema: one, relname }) => one === schema && relname === table);
  if (found?.["file"] == null) throw new Error(`fixture ${major} tells no rows of ${table}`);
  return truthTable(major, found["file"]);
}

function archiveOf(major: FixtureMajor): ReadonlyMap<string, string> {
  let archive = archives.get(major);
  if (archive === undefined) {
    archive = unpack(brotliDecompressSync(readFixture(`datadir/${major}/truth.tar.br`)));
    archives.set(major, archive);
  }
  return archive;
}

function unpack(tar: Buffer): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const parser = new Parser({
    onReadEntry: (entry: ReadEntry) => {
      const parts: Buffer[] = [];
      entry.on("data", (part) => parts.push(part));
      entry.on("end", () =>
        files.set(entry.path.replace(/^truth\//, ""), Buffer.concat(parts).toString("utf8")),
      );
    },
  });
  parser.end(tar);
  return files;
}

/** RFC 4180 as COPY writes it: a header line, quotes where a value needs them. */
function parseCsv(text: string): TruthRow[] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  for (const [, quoted, plain = "", end] of text.matchAll(
    /(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g,
  )) {
    if (end === "" && row.length === 0 && plain === "" && quoted === undefined) break;
    row.push(quoted === undefined ? plain || null : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    rows.push(row);
    row = [];
  }
  const [names = [], ...lines] = rows;
  return lines.map((values) =>
    Object.fromEntries(names.map((name, i) => [name ?? "", values[i] ?? null])),
  );
}
