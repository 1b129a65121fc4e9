/**
 * From names to relations and back: what a name that the user gives means, and what the relation is called whose file
 * a message is about.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { nameWithoutSidecarSuffix, parseRelationPath } from "../datadir/relation-path.ts";
import { TdeError, UsageError } from "../errors.ts";
import type { Catalog } from "./catalog.ts";
import type { CatalogRelation, DatabaseCatalog } from "./database-catalog.ts";
import {
  type NamePart,
  parseNamePattern,
  parseRelationPattern,
  quoteName,
  type RelationPattern,
} from "./name-pattern.ts";
import { type Candidate, nearMatches } from "./near-matches.ts";
import type { CatalogDatabase, CatalogTablespace } from "./shared-catalogs.ts";

/** A relation and the database that it is in; of a shared one, any of them. */
export interface FoundRelation {
  readonly database: CatalogDatabase;
  readonly relation: CatalogRelation;
}

/** `shop.public.orders`, quoted where it must be; without the database where the relation is in all of them. */
export function relationName({ name }: CatalogDatabase, relation: CatalogRelation): string {
  const parts = [relation.schema, relation.name];
  return [...(relation.isShared ? [] : [name]), ...parts].map(quoteName).join(".");
}

/**
 * The relations that `[database.][schema.]name` means: one, or with `*` and `?` all that fit and have files. A name
 * without a schema is looked for in every schema but the system's own, one without a database in every database.
 * A partitioned table is found though it has no file of its own: `familyOf` tells its partitions.
 * @throws {UsageError} for what is malformed, unknown, ambiguous or has no files, with what it may have been.
 */
export function findRelations(catalog: Catalog, text: string): FoundRelation[] {
  const pattern = parseRelationPattern(text);
  const databases = databasesToSearch(catalog, pattern.database);
  const found: FoundRelation[] = [];
  const shared = new Set<number>();
  for (const { database, relation } of allRelations(catalog, databases)) {
    if (!fitsPattern(pattern, relation) || shared.has(relation.oid)) continue;
    if (relation.isShared) shared.add(relation.oid);
    found.push({ database, relation });
  }
  return choose(catalog, databases, pattern, text, found);
}

/** The databases that a name or pattern means. @throws {UsageError} when there is none. */
export function findDatabases(catalog: Catalog, text: string): CatalogDatabase[] {
  return findNamed("database", catalog.databases, parseNamePattern(text), text);
}

/** The tablespaces that a name or pattern means. @throws {UsageError} when there is none. */
export function findTablespaces(catalog: Catalog, text: string): CatalogTablespace[] {
  return findNamed("tablespace", catalog.tablespaces, parseNamePattern(text), text);
}

/**
 * What the relations are called that messages are about. Where names cannot be read, it says why once and gives none:
 * then the path alone has to do.
 */
export class RelationNames {
  private readonly datadir: Datadir;
  private readonly open: () => Catalog;
  private readonly sayWhyNot: (error: TdeError) => void;
  private catalog: Catalog | undefined;
  private hasFailed = false;
  private readonly unreadable: Set<number> = new Set();

  /**
   * @param open - opens the catalog when the first name is asked for.
   * @param sayWhyNot - called when the catalog, or that of one database, cannot be read: once for each.
   */
  constructor(datadir: Datadir, open: () => Catalog, sayWhyNot: (error: TdeError) => void) {
    this.datadir = datadir;
    this.open = open;
    this.sayWhyNot = sayWhyNot;
  }

  /**
   * @param path - relative to the data directory, of a relation file or sidecar; any fork and segment.
   * @returns `shop.public.orders`; undefined for other files, for orphans, and where names cannot be read.
   */
  nameOf(path: BytePath): string | undefined {
    const file = parseRelationPath(nameWithoutSidecarSuffix(path) ?? path, this.datadir);
    if (file === undefined) return undefined;
    const database = this.readDatabase(file.databaseOid);
    const relation = database?.relationOfFile(file);
    return database === undefined || relation === undefined
      ? undefined
      : relationName(database.database, relation);
  }

  /** @param oid - 0 for the shared relations, which every database knows. */
  private readDatabase(oid: number): DatabaseCatalog | undefined {
    if (this.hasFailed || this.unreadable.has(oid)) return undefined;
    try {
      this.catalog ??= this.open();
    } catch (error) {
      this.hasFailed = true;
      return this.fail(error);
    }
    try {
      if (oid === 0) return this.catalog.relationsOfAnyDatabase();
      const database = this.catalog.databaseByOid(oid);
      return database === undefined ? undefined : this.catalog.relationsOf(database);
    } catch (error) {
      this.unreadable.add(oid);
      return this.fail(error);
    }
  }

  private fail(error: unknown): undefined {
    if (!(error instanceof TdeError)) throw error;
    this.sayWhyNot(error);
  }
}

/** Schemas whose relations are meant only where the schema is named: the catalogs, and what the server makes itself. */
export const SYSTEM_SCHEMA: RegExp = /^(?:pg_.*|information_schema)$/s;

function fitsPattern({ schema, name }: RelationPattern, relation: CatalogRelation): boolean {
  if (!name.fits(relation.name)) return false;
  return schema === undefined ? !SYSTEM_SCHEMA.test(relation.schema) : schema.fits(relation.schema);
}

function isPattern({ database, schema, name }: RelationPattern): boolean {
  return [database, schema, name].some((part) => part?.isPattern === true);
}

function hasFiles({ file, kind }: CatalogRelation): boolean {
  return file !== undefined || kind === "partitioned table" || kind === "partitioned index";
}

function databasesToSearch(catalog: Catalog, part: NamePart | undefined): CatalogDatabase[] {
  const usable = catalog.databases.filter(({ isInvalid }) => !isInvalid);
  return part === undefined ? usable : findNamed("database", usable, part, part.text);
}

function* allRelations(
  catalog: Catalog,
  databases: readonly CatalogDatabase[],
): Generator<FoundRelation, void, undefined> {
  for (const database of databases) {
    for (const relation of catalog.relationsOf(database).relations()) yield { database, relation };
  }
}

/** @throws {UsageError} unless the pattern means something, and only one thing where it says so. */
function choose(
  catalog: Catalog,
  databases: readonly CatalogDatabase[],
  pattern: RelationPattern,
  text: string,
  found: readonly FoundRelation[],
): FoundRelation[] {
  const withFiles = found.filter(({ relation }) => hasFiles(relation));
  if (isPattern(pattern) && withFiles.length > 0) return withFiles;
  const [first, ...others] = found;
  if (first === undefined || (isPattern(pattern) && withFiles.length === 0)) {
    throw unknown("relation", text, pattern.name.text, candidates(catalog, databases, pattern));
  }
  if (others.length > 0) {
    throw new UsageError(`${text} means ${found.length} relations`, {
      hint: `Say which: ${listOf(found.map(({ database, relation }) => relationName(database, relation)))}.`,
    });
  }
  if (withFiles.length === 0) {
    const { database, relation } = first;
    throw new UsageError(
      `${relationName(database, relation)} is a ${relation.kind}, which has no files`,
      { hint: "Name the table that it rests on." },
    );
  }
  return withFiles;
}

/** System relations come only for a name that says so. */
function* candidates(
  catalog: Catalog,
  databases: readonly CatalogDatabase[],
  { schema, name }: RelationPattern,
): Generator<Candidate> {
  for (const { database, relation } of allRelations(catalog, databases)) {
    const isSystem = SYSTEM_SCHEMA.test(relation.schema);
    if (isSystem && schema === undefined && relation.name !== name.text) continue;
    if (hasFiles(relation)) {
      yield { name: relation.name, shown: () => relationName(database, relation) };
    }
  }
}

function findNamed<T extends { readonly name: string }>(
  kind: "database" | "tablespace",
  known: readonly T[],
  part: NamePart,
  text: string,
): T[] {
  const found = known.filter(({ name }) => part.fits(name));
  if (found.length > 0) return found;
  const all = known.map(({ name }) => ({ name, shown: () => quoteName(name) }));
  throw unknown(
    kind,
    text,
    part.text,
    all,
    `Its ${kind}s: ${listOf(all.map((one) => one.shown()))}.`,
  );
}

function unknown(
  kind: "relation" | "database" | "tablespace",
  text: string,
  wanted: string,
  known: Iterable<Candidate>,
  otherwise = `Names are as in psql's \\d: [database.][schema.]name, folded to lower case outside of double quotes.`,
): UsageError {
  const near = nearMatches(wanted, known);
  return new UsageError(`there is no ${kind} ${text}`, {
    hint: near.length > 0 ? `The nearest: ${listOf(near)}.` : otherwise,
  });
}

const MOST_LISTED = 8;

function listOf(names: readonly string[]): string {
  const more = names.length > MOST_LISTED ? `, and ${names.length - MOST_LISTED} more` : "";
  return names.slice(0, MOST_LISTED).join(", ") + more;
}
