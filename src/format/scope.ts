/**
 * Which relations an encryption covers: the whole cluster, or parts of it, less other parts. A value with one text,
 * which stands in the manifest, and the one question that everything asks of it. Where the parts come from is
 * engine/select-scope.ts. Specified in docs/FORMAT.md, "Manifest".
 */
import { FormatError } from "../errors.ts";

/** `relation:` is `<tablespace>/<database>/<relfilenumber>`: all forks and segments of it. */
export type ScopePart =
  `database:${number}` | `relation:${number}/${number}/${number}` | `tablespace:${number}`;

/** Parts are in strictly rising order of their bytes. */
export interface Scope {
  readonly included: "all" | readonly ScopePart[];
  readonly excluded: readonly ScopePart[];
}

export const WHOLE_CLUSTER: Scope = { included: "all", excluded: [] };

/** What tells whether a relation is in scope: the numbers of its path, 0 for the database of global/. */
export interface ScopedRelation {
  readonly tablespaceOid: number;
  readonly databaseOid: number;
  readonly relfilenumber: number;
}

/** A scope ready for many questions. */
export type ScopeFilter = (relation: ScopedRelation) => boolean;

export function scopeFilter({ included, excluded }: Scope): ScopeFilter {
  const isExcluded = memberOf(excluded);
  const isIncluded = included === "all" ? (): boolean => true : memberOf(included);
  return (relation) => isIncluded(relation) && !isExcluded(relation);
}

export function isSameScope(a: Scope, b: Scope): boolean {
  return serializeScope(a) === serializeScope(b);
}

/** A longer text would not fit into its line of the manifest. */
export const SCOPE_LIMIT_BYTES = 65000;

/** Without doubles and in the one order. */
export function makeScope(
  included: "all" | readonly ScopePart[],
  excluded: readonly ScopePart[],
): Scope {
  const sorted = (parts: readonly ScopePart[]): ScopePart[] => [...new Set(parts)].sort();
  return { included: included === "all" ? "all" : sorted(included), excluded: sorted(excluded) };
}

/** `all`, `database:5,tablespace:16400`, `all except relation:1663/5/16384`. */
export function serializeScope({ included, excluded }: Scope): string {
  const text = included === "all" ? "all" : included.join(",");
  return excluded.length === 0 ? text : `${text} except ${excluded.join(",")}`;
}

const OID = "(?:0|[1-9]\\d{0,9})";
const PART = `(?:database:${OID}|relation:${OID}/${OID}/${OID}|tablespace:${OID})`;
const PARTS = `${PART}(?:,${PART})*`;
const SCOPE = new RegExp(`^(all|${PARTS})(?: except (${PARTS}))?$`);

/** The form of `serializeScope`'s text, but for the order of its parts. */
export const SCOPE_FORM: RegExp = SCOPE;

/** @param where - the file that holds the text, for messages. @throws {FormatError} when it is not canonical. */
export function parseScope(text: string, where: string): Scope {
  const match = SCOPE.exec(text);
  if (match === null) throw new FormatError(`${where} has no valid scope`);
  const [, included = "", excluded] = match;
  return {
    included: included === "all" ? "all" : parseParts(included, where),
    excluded: excluded === undefined ? [] : parseParts(excluded, where),
  };
}

function parseParts(text: string, where: string): ScopePart[] {
  const parts = text.split(",") as ScopePart[];
  if (parts.some((part, i) => i > 0 && part <= (parts[i - 1] ?? ""))) {
    throw new FormatError(`${where} has a scope that is not in rising order`);
  }
  return parts;
}

function memberOf(parts: readonly ScopePart[]): ScopeFilter {
  const named = new Set<ScopePart>(parts);
  if (named.size === 0) return () => false;
  return ({ tablespaceOid, databaseOid, relfilenumber }) =>
    named.has(`database:${databaseOid}`) ||
    named.has(`tablespace:${tablespaceOid}`) ||
    named.has(`relation:${tablespaceOid}/${databaseOid}/${relfilenumber}`);
}
