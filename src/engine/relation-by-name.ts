/**
 * From the name of one relation to its file, for commands that look at a single one.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { findRelations, relationName } from "../catalog/names.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { type Fork, formatRelationPath } from "../datadir/relation-path.ts";
import { UsageError } from "../errors.ts";
import { type CatalogFacts, HeldCatalog, nameFrom } from "./catalog-names.ts";
import type { EngineContext } from "./context.ts";

/**
 * @param text - `[database.][schema.]name`, in the command line's bytes.
 * @returns the path of the fork's first segment, relative to the data directory.
 * @throws {UsageError} for what is unknown, means several relations or has no file of its own. @throws as HeldCatalog.
 */
export function relationFileByName(
  engine: Pick<EngineContext, "fs" | "notice">,
  datadir: Datadir,
  facts: CatalogFacts,
  text: BytePath,
  fork: Fork,
): BytePath {
  const found = new HeldCatalog(engine, datadir, facts).ask((catalog) =>
    findRelations(catalog, nameFrom(text)),
  );
  const [first] = found;
  if (first === undefined || found.length > 1) {
    throw new UsageError(`${nameFrom(text)} means ${found.length} relations`, {
      hint: "Name one of them, without * and ?.",
    });
  }
  const { database, relation } = first;
  if (relation.file === undefined) {
    throw new UsageError(
      `${relationName(database, relation)} is a ${relation.kind}, which has no file of its own`,
      { hint: "Its rows are in its partitions: name one of them." },
    );
  }
  const place = { ...relation.file, fork, relationSegment: 0, backend: undefined } as const;
  return formatRelationPath(place, datadir);
}
