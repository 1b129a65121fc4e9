/**
 * What `tde ls` lists, as a table. Numbers come first and names last, as in `ls -l`: so the width of every column is
 * known before the first line, and no name, however wide its letters, moves what stands beside it.
 */
import { displayPath } from "../bytes/byte-path.ts";
import { RELATION_KINDS } from "../catalog/database-catalog.ts";
import { quoteName } from "../catalog/name-pattern.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { Listing } from "../engine/list-directory.ts";
import type { ListedRelation } from "../engine/listed-relations.ts";
import type { ListedSum } from "../engine/listed-sums.ts";
import { type FileSums, shareOf } from "../engine/relation-files.ts";

export class RelationTable {
  private readonly listing: Listing;
  private readonly numbers: NumberColumns;
  private readonly kindWidth = widest(Object.values(RELATION_KINDS));
  private readonly tablespaceWidth: number;

  constructor(listing: Listing) {
    this.listing = listing;
    this.numbers = new NumberColumns(listing, listing.files.eachSums());
    const { tablespaces = [] } = listing.catalog ?? {};
    this.tablespaceWidth = widest([
      "tablespace",
      ...tablespaces.map(({ name }) => quoteName(name)),
    ]);
  }

  header(): string {
    const kind = padded("kind", this.kindWidth);
    const tablespace = padded("tablespace", this.tablespaceWidth);
    return this.numbers.header(["total", "size"]) + `${kind}  ${tablespace}  name`;
  }

  line(row: ListedRelation): string {
    const { relation, place, remark, name, path = "", totalBytes } = row;
    const { catalog } = this.listing;
    const kind = relation?.kind ?? (remark === "orphan" ? "orphan" : "");
    const oid = place?.tablespaceOid;
    const tablespace =
      oid === undefined
        ? ""
        : catalog === undefined
          ? `${oid}`
          : quoteName(catalog.tablespaceName(oid));
    const missing = remark === "no-file" ? `  (its file ${displayPath(path)} is missing)` : "";
    return (
      this.numbers.line([totalBytes, row.sizeBytes], row) +
      `${padded(kind, this.kindWidth)}  ${padded(tablespace, this.tablespaceWidth)}  ` +
      `${name ?? displayPath(path)}${missing}`
    );
  }
}

/** Databases, tablespaces or schemas. */
export class FolderTable {
  private readonly by: "schema" | "database" | "tablespace";
  private readonly listing: Listing;
  private readonly numbers: NumberColumns;
  private readonly columns: readonly (readonly [string, (row: ListedSum) => string])[];
  private readonly widths: readonly number[];

  constructor(
    rows: readonly ListedSum[],
    by: "schema" | "database" | "tablespace",
    listing: Listing,
    datadir: Datadir,
  ) {
    this.by = by;
    this.listing = listing;
    this.numbers = new NumberColumns(listing, rows);
    const oid = (row: ListedSum): string => String(row.oid || "");
    const { catalog } = listing;
    this.columns = {
      schema: [],
      database: [
        ["oid", oid],
        ["encoding", (row: ListedSum) => row.database?.encodingName ?? ""],
        [
          "tablespace",
          ({ database }: ListedSum) =>
            database === undefined || catalog === undefined
              ? ""
              : quoteName(catalog.tablespaceName(database.tablespaceOid)),
        ],
      ] as const,
      tablespace: [
        ["oid", oid],
        [
          "location",
          (row: ListedSum) =>
            displayPath(datadir.tablespaces.find((one) => one.oid === row.oid)?.linkTarget ?? ""),
        ],
      ] as const,
    }[by];
    this.widths = this.columns.map(([title, text]) => widest([title, ...rows.map(text)]));
  }

  header(): string {
    const titles = this.columns.map(([title], i) => `${padded(title, this.widths[i] ?? 0)}  `);
    return `${this.numbers.header(["relations", "size"])}${titles.join("")}name`;
  }

  line(row: ListedSum): string {
    const values = this.columns.map(([, text], i) => `${padded(text(row), this.widths[i] ?? 0)}  `);
    return (
      this.numbers.line([row.relations, row.sizeBytes], row) +
      `${values.join("")}${row.name ?? this.nameless(row)}`
    );
  }

  private nameless({ oid }: ListedSum): string {
    if (oid === 0) return "(shared by all databases)";
    return this.listing.catalog === undefined ? `(${this.by} ${oid})` : "(not in the catalog)";
  }
}

/** Two numbers, pages, and where anything is encrypted the share and the keys. */
class NumberColumns {
  private readonly widths: { readonly bytes: number; readonly pages: number; keys: number };
  private readonly hasKeys: boolean;

  /** @param rows - all that can be printed, or more. */
  constructor({ evidence, files }: Listing, rows: Iterable<FileSums>) {
    let [bytes, pages] = [0, 0];
    for (const { sums } of files.sumsOfFolders()) {
      bytes += sums.sizeBytes;
      pages += sums.pages;
    }
    this.hasKeys = evidence !== "none";
    this.widths = {
      bytes: Math.max("relations".length, String(bytes).length),
      pages: Math.max("pages".length, String(pages).length),
      keys: "keys".length,
    };
    if (!this.hasKeys) return;
    for (const row of rows) this.widths.keys = Math.max(this.widths.keys, keysText(row).length);
  }

  header(titles: readonly [string, string]): string {
    return this.joined(titles, "pages", "encrypted", "keys");
  }

  line([first, second]: readonly [number, number], row: FileSums): string {
    const numbers = [String(first), String(second)] as const;
    return this.joined(numbers, String(row.pages), shareText(row), keysText(row));
  }

  private joined(
    [first, second]: readonly [string, string],
    pages: string,
    share: string,
    keys: string,
  ): string {
    const { widths } = this;
    const all = [first.padStart(widths.bytes), second.padStart(widths.bytes)];
    all.push(pages.padStart(widths.pages));
    if (this.hasKeys) all.push(share.padStart("encrypted".length), keys.padEnd(widths.keys));
    return `${all.join("  ")}  `;
  }
}

/** Never 100 % where a byte is plain, nor 0 % where one is sealed. */
function shareText(sums: FileSums): string {
  if (sums.sizeBytes === 0) return "-";
  const share = shareOf(sums);
  if (share > 0 && share < 0.01) return "<1 %";
  return `${Math.floor(share * 100)} %`;
}

/** `1:4090,2:148`: pages under each key. */
function keysText({ keys }: FileSums): string {
  return keys.map(({ keyId, count }) => `${keyId}:${count}`).join(",") || "-";
}

function widest(texts: readonly string[]): number {
  return texts.reduce((most, text) => Math.max(most, columnsOf(text)), 0);
}

function padded(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - columnsOf(text)));
}

/** How many columns of a terminal a text takes: letters of East Asia two, accents none. Unicode UAX #11, roughly. */
function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text)
    columns += WIDE.test(character) ? 2 : NO_WIDTH.test(character) ? 0 : 1;
  return columns;
}

const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u;
const NO_WIDTH = /\p{M}/u;
