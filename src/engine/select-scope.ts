/**
 * From the scope options of a command to the scope that they mean: OIDs, relfilenumbers and paths, each of which must
 * be there. A slip must not leave something plain that was meant to be encrypted, so what is unknown or ambiguous is
 * refused, with what it may have been. Names are turned into the same parts by whoever reads the catalog; nothing
 * behind this module knows how a part was named.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { formatRelationPath, parseRelationPath } from "../datadir/relation-path.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { UsageError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import {
  makeScope,
  type Scope,
  type ScopedRelation,
  type ScopePart,
  serializeScope,
} from "../format/scope.ts";
import type { FileSystem } from "../storage/file-system.ts";
import {
  BUILT_IN_TABLESPACES,
  type NamedKind,
  parseSelection,
  type ScopeSelection,
  type Wanted,
  type WantedName,
  type WantedRelation,
} from "./scope-request.ts";

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

/** What names stand for. */
export interface ScopeNames {
  /**
   * @param text - as it was given; of a relation: all of its family, such as its indexes and its TOAST table.
   * @throws {UsageError} for a name that is unknown or means several things. @throws {TdeError} when the catalog cannot be read.
   */
  partsOf(kind: NamedKind, text: BytePath): readonly ScopePart[];
}

export interface SelectOptions {
  /** Opened when the first name has to be looked up. */
  readonly names: () => ScopeNames;
  /** How long the scope's text may be, which is as long as what is to hold it; undefined: of any length. */
  readonly limitBytes: number | undefined;
}

/** @throws {UsageError} for what is malformed, unknown or ambiguous; as `ScopeNames` for names. */
export function selectScope(
  known: KnownRelations,
  selection: ScopeSelection,
  { names, limitBytes }: SelectOptions,
): Scope {
  const { included, excluded } = parseSelection(selection, known.datadir);
  const found = findAll(known, [...included, ...excluded]);
  const parts = (wanted: readonly Wanted[]): ScopePart[] =>
    wanted.flatMap((one) =>
      one.kind === "name"
        ? names().partsOf(one.of, one.text)
        : [onlyPart(known, one, found.get(one) ?? new Map())],
    );
  const scope = makeScope(included.length === 0 ? "all" : parts(included), parts(excluded));
  if (limitBytes === undefined || serializeScope(scope).length <= limitBytes) return scope;
  const count = (scope.included === "all" ? 0 : scope.included.length) + scope.excluded.length;
  throw new UsageError(`${count} relations are too many for the manifest to name`, {
    hint: "Name their databases or tablespaces, and what of them to leave out.",
  });
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
      const { tablespaceOid } = one;
      if (tablespaceOid !== undefined && oids.includes(tablespaceOid))
        parts.set(`tablespace:${tablespaceOid}`, undefined);
    } else if (one.kind === "database") {
      databases.set(one.databaseOid, [...(databases.get(one.databaseOid) ?? []), parts]);
    } else if (one.kind === "relation") {
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
function onlyPart(
  known: KnownRelations,
  wanted: Exclude<Wanted, WantedName>,
  parts: Found,
): ScopePart {
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
