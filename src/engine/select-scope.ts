/**
 * From the scope options of a command to the scope that they mean: OIDs, relfilenumbers and paths, each of which must
 * be there. A slip must not leave something plain that was meant to be encrypted, so what is unknown or ambiguous is
 * refused, with what it may have been. Names of databases, tablespaces and relations are turned into the same parts
 * by a reader of the catalog; nothing behind this module knows how a part was named.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import {
  DEFAULT_TABLESPACE_OID,
  formatRelationPath,
  GLOBAL_TABLESPACE_OID,
  parseOid,
  parseRelationPath,
} from "../datadir/relation-path.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { UsageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import {
  makeScope,
  type Scope,
  SCOPE_LIMIT_BYTES,
  type ScopedRelation,
  type ScopePart,
  serializeScope,
} from "../format/scope.ts";
import type { FileSystem } from "../storage/file-system.ts";

/** As the command line has them. Union of what is named, the whole cluster where nothing is, less `exclude`. */
export interface ScopeSelection {
  readonly tablespaces: readonly BytePath[];
  readonly databases: readonly BytePath[];
  readonly relations: readonly BytePath[];
  readonly exclude: readonly BytePath[];
}

export const NOTHING_SELECTED: ScopeSelection = {
  tablespaces: [],
  databases: [],
  relations: [],
  exclude: [],
};

/** The relations that a selection can mean. */
export interface KnownRelations {
  readonly datadir: Datadir;
  /** Each at least once; read anew for every pass. */
  readonly list: () => Iterable<ScopedRelation>;
}

export function relationsOnDisk(fs: FileSystem, datadir: Datadir): KnownRelations {
  return {
    datadir,
    *list(): Generator<ScopedRelation> {
      for (const { classification } of walkDatadir(fs, datadir.root, datadir)) {
        if (classification.class === "relation") yield classification.file;
      }
    },
  };
}

/** Those that a manifest names, too: what is missing on disk can still be asked for. */
export function relationsOfManifest(
  { datadir, list }: KnownRelations,
  manifest: Manifest,
): KnownRelations {
  return {
    datadir,
    *list(): Generator<ScopedRelation> {
      yield* list();
      for (const { path, class: entryClass } of manifest.entries()) {
        const file =
          entryClass === "P" || entryClass === "O" ? parseRelationPath(path, datadir) : undefined;
        if (file !== undefined) yield file;
      }
    },
  };
}

export function selectsEverything(selection: ScopeSelection): boolean {
  return Object.values(selection).every((named: readonly BytePath[]) => named.length === 0);
}

/** @throws {UsageError} for what is malformed, unknown or ambiguous. */
export function selectScope(known: KnownRelations, selection: ScopeSelection): Scope {
  const { tablespaces, databases, relations, exclude } = selection;
  const { datadir } = known;
  const included: Wanted[] = [
    ...tablespaces.map((text) => parseTablespace(text, datadir)),
    ...databases.map((text) => parseDatabase(text)),
    ...relations.map((text) => parseRelation(text, datadir)),
  ];
  const excluded = exclude.map((text) => parseExcluded(text, datadir));
  const found = findAll(known, [...included, ...excluded]);
  const parts = (wanted: readonly Wanted[]): ScopePart[] =>
    wanted.map((one) => onlyPart(known, one, found.get(one) ?? new Map()));
  const scope = makeScope(included.length === 0 ? "all" : parts(included), parts(excluded));
  if (serializeScope(scope).length <= SCOPE_LIMIT_BYTES) return scope;
  throw new UsageError(
    `${relations.length + exclude.length} relations are too many for the manifest to name`,
    {
      hint: "Name their databases or tablespaces, and what of them to leave out.",
    },
  );
}

/** What one option asks for, before it is known to exist. Numbers that it leaves open are undefined. */
type Wanted = { readonly text: BytePath } & (
  | { readonly kind: "tablespace"; readonly tablespaceOid: number }
  | { readonly kind: "database"; readonly databaseOid: number }
  | {
      readonly kind: "relation";
      readonly tablespaceOid?: number | undefined;
      readonly databaseOid?: number | undefined;
      readonly relfilenumber: number;
    }
);
type WantedRelation = Extract<Wanted, { readonly kind: "relation" }>;

const BUILT_IN_TABLESPACES: ReadonlyMap<string, number> = new Map([
  ["base", DEFAULT_TABLESPACE_OID],
  ["pg_default", DEFAULT_TABLESPACE_OID],
  ["global", GLOBAL_TABLESPACE_OID],
  ["pg_global", GLOBAL_TABLESPACE_OID],
]);

function parseTablespace(text: BytePath, datadir: Datadir): Wanted {
  const path = text.replace(/(?<=.)\/+$/, "");
  const place = datadir.tablespaces.find(({ path: link, linkTarget, realPath }) =>
    [link, linkTarget, realPath].includes(path as BytePath),
  );
  const tablespaceOid = BUILT_IN_TABLESPACES.get(path) ?? place?.oid ?? parseOid(path);
  if (tablespaceOid !== undefined) return { text, kind: "tablespace", tablespaceOid };
  throw unknownTablespace(text, datadir);
}

function parseDatabase(text: BytePath): Wanted {
  const databaseOid = parseOid(text.replace(/^base\//, ""));
  if (databaseOid !== undefined) return { text, kind: "database", databaseOid };
  throw new UsageError(`"${displayPath(text)}" is no OID of a database`, {
    hint: 'Names come with reading the catalog, which tde does not do yet. "SELECT oid, datname FROM pg_database" tells the OIDs.',
  });
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
  throw new UsageError(`"${displayPath(text)}" is no relation`, {
    hint: `Give a path (base/16384/16397), DATABASE/RELFILENUMBER or a relfilenumber; names come with reading the catalog, which tde does not do yet. "SELECT pg_relation_filepath('orders')" tells the path.`,
  });
}

/** Every form of the other options; a bare number could be any of three things. */
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
  return parseTablespace(text, datadir);
}

/** The parts that each option can mean, by their text. */
type Found = Map<ScopePart, ScopedRelation | undefined>;

function findAll({ datadir, list }: KnownRelations, wanted: readonly Wanted[]): Map<Wanted, Found> {
  const found = new Map<Wanted, Found>(wanted.map((one) => [one, new Map()]));
  const databases = new Map<number, Found[]>();
  const relations = new Map<number, { wanted: WantedRelation; parts: Found }[]>();
  for (const [one, parts] of found) {
    if (one.kind === "tablespace") {
      const oids = [...BUILT_IN_TABLESPACES.values(), ...datadir.tablespaces.map(({ oid }) => oid)];
      if (oids.includes(one.tablespaceOid)) parts.set(`tablespace:${one.tablespaceOid}`, undefined);
    } else if (one.kind === "database") {
      databases.set(one.databaseOid, [...(databases.get(one.databaseOid) ?? []), parts]);
    } else {
      const same = relations.get(one.relfilenumber) ?? [];
      relations.set(one.relfilenumber, [...same, { wanted: one, parts }]);
    }
  }
  if (databases.size + relations.size === 0) return found;
  for (const relation of list()) {
    const { databaseOid, relfilenumber } = relation;
    for (const parts of databases.get(databaseOid) ?? [])
      parts.set(`database:${databaseOid}`, undefined);
    for (const { wanted: one, parts } of relations.get(relfilenumber) ?? []) {
      if (isWhere(relation, one)) parts.set(relationPart(relation), relation);
    }
  }
  return found;
}

/** @throws {UsageError} when an option means nothing, or several things. */
function onlyPart(known: KnownRelations, wanted: Wanted, parts: Found): ScopePart {
  const [part] = parts.keys();
  if (part !== undefined && parts.size === 1) return part;
  const { datadir } = known;
  const text = displayPath(wanted.text);
  if (part !== undefined) {
    const paths = [...parts.values()].flatMap((relation) =>
      relation === undefined ? [] : [pathOf(relation, datadir)],
    );
    throw new UsageError(`relfilenumber ${text} is in ${parts.size} places`, {
      hint: `Say which: ${listOf(paths)}.`,
    });
  }
  switch (wanted.kind) {
    case "tablespace":
      throw unknownTablespace(wanted.text, datadir);
    case "database":
      throw unknownDatabase(known, text);
    case "relation":
      throw unknownRelation(known, wanted);
  }
}

function unknownTablespace(text: BytePath, { root, tablespaces }: Datadir): UsageError {
  const known = tablespaces.map(
    ({ oid, linkTarget }) =>
      `${oid}${linkTarget === undefined ? "" : ` (${displayPath(linkTarget)})`}`,
  );
  return new UsageError(`there is no tablespace "${displayPath(text)}" in "${displayPath(root)}"`, {
    hint: `Its tablespaces: ${listOf(["pg_default", "pg_global", ...known])}. Other names come with reading the catalog, which tde does not do yet.`,
  });
}

function unknownDatabase({ datadir, list }: KnownRelations, text: string): UsageError {
  const known = new Set<number>();
  for (const { databaseOid } of list()) if (databaseOid > 0) known.add(databaseOid);
  const oids = [...known].sort((a, b) => a - b).map(String);
  return new UsageError(`there is no database ${text} in "${displayPath(datadir.root)}"`, {
    hint: `Its databases: ${listOf(oids)}.`,
  });
}

function unknownRelation({ datadir, list }: KnownRelations, wanted: WantedRelation): UsageError {
  const near = new Map<string, number>();
  for (const relation of list()) {
    // In the same place whatever its number; elsewhere only by the very number.
    const isNear = isWhere(relation, wanted) || relation.relfilenumber === wanted.relfilenumber;
    if (!isNear) continue;
    near.set(pathOf(relation, datadir), Math.abs(relation.relfilenumber - wanted.relfilenumber));
    if (near.size > MOST_LISTED) near.delete(furthest(near));
  }
  const paths = [...near].sort(([, a], [, b]) => a - b).map(([path]) => path);
  return new UsageError(
    `there is no relation ${displayPath(wanted.text)} in "${displayPath(datadir.root)}"`,
    {
      hint:
        paths.length > 0
          ? `The nearest: ${listOf(paths)}.`
          : `"SELECT pg_relation_filepath('orders')" tells the path of a relation.`,
    },
  );
}

function furthest(near: ReadonlyMap<string, number>): string {
  return [...near].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
}

/** Whether a relation is in the database and tablespace that are asked for; what is left open fits all. */
function isWhere(relation: ScopedRelation, wanted: WantedRelation): boolean {
  return (
    (wanted.databaseOid ?? relation.databaseOid) === relation.databaseOid &&
    (wanted.tablespaceOid ?? relation.tablespaceOid) === relation.tablespaceOid
  );
}

function relationPart(relation: ScopedRelation): ScopePart {
  const { tablespaceOid, databaseOid, relfilenumber } = relation;
  return `relation:${tablespaceOid}/${databaseOid}/${relfilenumber}`;
}

/** Of its main fork. */
function pathOf(relation: ScopedRelation, datadir: Datadir): string {
  const name = { fork: "main", relationSegment: 0, backend: undefined } as const;
  return displayPath(formatRelationPath({ ...relation, ...name }, datadir));
}

const MOST_LISTED = 8;

function listOf(names: readonly string[]): string {
  const more = names.length > MOST_LISTED ? `, and ${names.length - MOST_LISTED} more` : "";
  return names.slice(0, MOST_LISTED).join(", ") + more;
}
