/**
 * What a running server says its tables hold, in a form that can be compared: for every table of every database
 * the number of rows and a sum over their hashes, which does not depend on their order.
 */
import type { PostgresServer } from "./postgres-server.ts";

export interface TableChecksum {
  readonly rows: number;
  /** Sum of hashtextextended() of each row as text, decimal. */
  readonly checksum: string;
}

/**
 * Reads every table, populated materialized view and sequence of every database that takes connections, system catalogs
 * and large objects included. TOAST tables are read through the tables that they belong to.
 * @returns by name: `shop.public.orders`.
 */
export async function tableChecksums(
  server: PostgresServer,
): Promise<ReadonlyMap<string, TableChecksum>> {
  const checksums = new Map<string, TableChecksum>();
  const databases = await server.query(
    "postgres",
    'SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname COLLATE "C"',
  );
  for (const [database] of databases) {
    if (database === null || database === undefined) continue;
    for (const [name, rows, checksum] of await rowsOf(server, database)) {
      checksums.set(`${database}.${name}`, { rows: Number(rows), checksum: String(checksum) });
    }
  }
  return checksums;
}

async function rowsOf(
  server: PostgresServer,
  database: string,
): Promise<readonly (readonly (string | null)[])[]> {
  // The server itself puts the statement together and quotes every name in it.
  const parts = await server.query(
    database,
    `SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended((%s)::text, 0)::numeric), 0)'
              ' FROM ONLY %I.%I AS tde_row', n.nspname || '.' || c.relname,
              -- A sequence has no row type from 14 on.
              CASE c.relkind WHEN 'S' THEN 'ROW(last_value, is_called)' ELSE 'tde_row.*' END,
              n.nspname, c.relname)
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'm', 'S') AND c.relispopulated AND NOT pg_is_other_temp_schema(n.oid)
      ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
  );
  return server.query(database, parts.map(([part]) => part).join("\nUNION ALL\n"));
}
