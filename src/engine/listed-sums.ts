/**
 * All relations of a database, a tablespace or a schema together.
 */
import { quoteName } from "../catalog/name-pattern.ts";
import type { CatalogDatabase } from "../catalog/shared-catalogs.ts";
import { byCodeUnits, type ListedRelation, type SortKey } from "./listed-relations.ts";
import { type FileSums, shareOf, SumOfFiles } from "./relation-files.ts";

export interface ListedSum extends FileSums {
  readonly relations: number;
  /** Undefined for a schema; 0 for the relations that all databases share. */
  readonly oid: number | undefined;
  /** Quoted where it must be; undefined for shared relations, and where it cannot be read. */
  readonly name: string | undefined;
  /** Undefined for what the catalog does not have. */
  readonly database: CatalogDatabase | undefined;
}

/** Relations one by one, by the schema of the table that each belongs to; what has no name is in none. */
export function sumsBySchema(rows: Iterable<ListedRelation>, sort: SortKey): ListedSum[] {
  const sums = new Map<string, { adder: SumOfFiles; relations: number; first: ListedRelation }>();
  for (const row of rows) {
    if (row.tableSchema === undefined) continue;
    const database = row.database === undefined ? [] : [row.database.name];
    const name = [...database, row.tableSchema].map(quoteName).join(".");
    const sum = sums.get(name) ?? { adder: new SumOfFiles(), relations: 0, first: row };
    sums.set(name, sum);
    sum.relations++;
    sum.adder.add(row);
  }
  const listed = [...sums].map(
    ([
      name,
      {
        adder,
        relations,
        first: { database },
      },
    ]) => ({
      ...adder.sums(),
      relations,
      oid: undefined,
      name,
      database,
    }),
  );
  return sortSums(listed, sort);
}

export function sortSums(sums: readonly ListedSum[], sort: SortKey): ListedSum[] {
  const byName = (a: ListedSum, b: ListedSum): number => byCodeUnits(a.name ?? "", b.name ?? "");
  const byOid = (a: ListedSum, b: ListedSum): number => (a.oid ?? 0) - (b.oid ?? 0);
  const first: Readonly<Record<SortKey, (a: ListedSum, b: ListedSum) => number>> = {
    name: byName,
    oid: byOid,
    size: (a, b) => b.sizeBytes - a.sizeBytes,
    pages: (a, b) => b.pages - a.pages,
    share: (a, b) => shareOf(a) - shareOf(b),
  };
  return sums.toSorted((a, b) => first[sort](a, b) || byName(a, b) || byOid(a, b));
}
