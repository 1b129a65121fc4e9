/**
 * Which relations are meant: whole tablespaces, whole databases, single relations with all their forks and segments.
 */
import type { RelationFile } from "../datadir/relation-path.ts";

/**
 * Each part as the manifest's header spells it: `database:<oid>`, `relation:<tablespace>/<database>/<relfilenumber>`,
 * `tablespace:<oid>`.
 */
export type RelationScope = readonly string[];

export function isInScope(scope: RelationScope, file: RelationFile): boolean {
  const { tablespaceOid, databaseOid, relfilenumber } = file;
  return (
    scope.includes(`tablespace:${tablespaceOid}`) ||
    scope.includes(`database:${databaseOid}`) ||
    scope.includes(`relation:${tablespaceOid}/${databaseOid}/${relfilenumber}`)
  );
}
