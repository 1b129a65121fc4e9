/**
 * What the scope options of a command ask for, text by text: a number, a path, or a name, which is what looks like
 * neither. Whether it is there, and what a name means, is select-scope.ts's question.
 */
import { type BytePath, displayPath, withoutTrailingSlashes } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import {
  DEFAULT_TABLESPACE_OID,
  GLOBAL_TABLESPACE_OID,
  parseOid,
  parseRelationPath,
} from "../datadir/relation-path.ts";
import { UsageError } from "../errors.ts";

/** As the command line has them. Union of what is named, the whole cluster where nothing is, less `exclude`. */
export interface ScopeSelection {
  readonly tablespaces: readonly BytePath[];
  readonly databases: readonly BytePath[];
  readonly relations: readonly BytePath[];
  readonly exclude: readonly BytePath[];
  /** A partitioned table that is named means its partitions, too. */
  readonly withPartitions?: boolean | undefined;
}

export const NOTHING_SELECTED: ScopeSelection = {
  tablespaces: [],
  databases: [],
  relations: [],
  exclude: [],
};

export function selectsEverything(selection: ScopeSelection): boolean {
  const { tablespaces, databases, relations, exclude } = selection;
  return [tablespaces, databases, relations, exclude].every((named) => named.length === 0);
}

/** What one option asks for, before it is known to exist. Numbers that it leaves open are undefined. */
export type Wanted = { readonly text: BytePath } &
  /** Undefined for a path where no tablespace is. */
  (
    | { readonly kind: "tablespace"; readonly tablespaceOid: number | undefined }
    | { readonly kind: "database"; readonly databaseOid: number }
    | {
        readonly kind: "relation";
        readonly tablespaceOid?: number | undefined;
        readonly databaseOid?: number | undefined;
        readonly relfilenumber: number;
      }
    /** Only the catalog knows which numbers it stands for. */
    | { readonly kind: "name"; readonly of: NamedKind }
  );
export type WantedRelation = Extract<Wanted, { readonly kind: "relation" }>;
export type WantedName = Extract<Wanted, { readonly kind: "name" }>;
export type NamedKind = "tablespace" | "database" | "relation";

export const BUILT_IN_TABLESPACES: ReadonlyMap<string, number> = new Map([
  ["base", DEFAULT_TABLESPACE_OID],
  ["pg_default", DEFAULT_TABLESPACE_OID],
  ["global", GLOBAL_TABLESPACE_OID],
  ["pg_global", GLOBAL_TABLESPACE_OID],
]);

/** What is left out comes second. @throws {UsageError} for what is neither number nor path nor name. */
export function parseSelection(
  { tablespaces, databases, relations, exclude }: ScopeSelection,
  datadir: Datadir,
): { readonly included: readonly Wanted[]; readonly excluded: readonly Wanted[] } {
  return {
    included: [
      ...tablespaces.map((text) => parseTablespace(text, datadir)),
      ...databases.map((text) => parseDatabase(text)),
      ...relations.map((text) => parseRelation(text, datadir)),
    ],
    excluded: exclude.map((text) => parseExcluded(text, datadir)),
  };
}

/** Whether the catalog has to be read to know what is selected. */
export function hasNames(selection: ScopeSelection, datadir: Datadir): boolean {
  const { included, excluded } = parseSelection(selection, datadir);
  return [...included, ...excluded].some(({ kind }) => kind === "name");
}

function parseTablespace(text: BytePath, datadir: Datadir): Wanted {
  const path = withoutTrailingSlashes(text);
  const place = datadir.tablespaces.find(({ path: link, linkTarget, realPath }) =>
    [link, linkTarget, realPath].includes(path),
  );
  const tablespaceOid = BUILT_IN_TABLESPACES.get(path) ?? place?.oid ?? parseOid(path);
  const isPlace = tablespaceOid !== undefined || looksLikePath(text);
  return isPlace ? { text, kind: "tablespace", tablespaceOid } : nameOf("tablespace", text);
}

function parseDatabase(text: BytePath): Wanted {
  const databaseOid = parseOid(text.replace(/^base\//, ""));
  if (databaseOid !== undefined) return { text, kind: "database", databaseOid };
  return nameOf("database", text);
}

/** @throws {UsageError} for an empty one. */
function nameOf(of: NamedKind, text: BytePath): Wanted {
  if (text !== "") return { text, kind: "name", of };
  throw new UsageError(`an empty name is no ${of}`, { hint: "Give its name, OID or path." });
}

/** A slash in a name needs quotes around it. */
export function looksLikePath(text: BytePath): boolean {
  return text.includes("/") && !text.includes('"');
}

function parseRelation(text: BytePath, datadir: Datadir): Wanted {
  const file = parseRelationPath(text, datadir);
  if (file !== undefined) return { ...file, text, kind: "relation" };
  const numbers = text.split("/").map((part) => (part === "0" ? 0 : parseOid(part)));
  const relfilenumber = numbers.at(-1);
  const isWellFormed = numbers.length <= 3 && !numbers.includes(undefined);
  if (isWellFormed && relfilenumber !== undefined && relfilenumber > 0) {
    const [databaseOid, tablespaceOid] = [numbers.at(-2), numbers.at(-3)];
    return { text, kind: "relation", tablespaceOid, databaseOid, relfilenumber };
  }
  if (looksLikePath(text)) throw noRelation(text);
  return nameOf("relation", text);
}

function noRelation(text: BytePath): UsageError {
  return new UsageError(`"${displayPath(text)}" is no relation`, {
    hint: `Give a name ([database.][schema.]name), a path (base/16384/16397), DATABASE/RELFILENUMBER or a relfilenumber; "SELECT pg_relation_filepath('orders')" tells the path.`,
  });
}

/** Every form of the other options; a bare number could be any of three things, a bare name is a relation's. */
function parseExcluded(text: BytePath, datadir: Datadir): Wanted {
  const [, kind, rest] = /^(tablespace|database|relation):(.*)$/s.exec(text) ?? [];
  const value = (rest ?? text) as BytePath;
  if (kind === "tablespace") return parseTablespace(value, datadir);
  if (kind === "database") return parseDatabase(value);
  if (kind === "relation" || parseRelationPath(text, datadir) !== undefined)
    return parseRelation(value, datadir);
  if (/^base\/[0-9]+$/.test(text)) return parseDatabase(text);
  if (/^[0-9/]+$/.test(text)) {
    throw new UsageError(`--exclude ${displayPath(text)} does not say what it names`, {
      hint: `Give tablespace:OID, database:OID or relation:DATABASE/RELFILENUMBER, or a path.`,
    });
  }
  const place = parseTablespace(text, datadir);
  return place.kind === "tablespace" ? place : nameOf("relation", text);
}
