/**
 * Where the columns of the system catalogs stand, as the cluster's own pg_attribute says. Only of pg_attribute itself
 * tde knows the layout by heart, by major, and holds it against that catalog's rows about itself. So a server whose
 * catalogs have more columns, or in other places, is read rightly or refused with the name of the column that is
 * missing, and never read at the wrong place.
 */
import { FormatError } from "../errors.ts";
import type { ScopedRelation } from "../format/scope.ts";
import { factsOf, type Major } from "../postgres/version.ts";
import type { TransactionStates } from "../postgres/visibility.ts";
import {
  CatalogColumns,
  NAME_BYTES,
  type NamedAttribute,
  readVisibleRows,
  unknownColumn,
} from "./catalog-rows.ts";
import type { StoredFiles } from "./stored-files.ts";

/** The catalogs that tde reads: OIDs, which never change, and the columns that it needs of each. */
export const CATALOGS = {
  pg_attribute: { oid: 1249, needs: ["attrelid", "attname", "attlen", "attnum", "attalign"] },
  pg_class: {
    oid: 1259,
    // prettier-ignore
    needs: [
      "oid", "relname", "relnamespace", "relowner", "relam", "relfilenode", "reltablespace",
      "reltoastrelid", "relisshared", "relpersistence", "relkind", "relispartition",
    ],
  },
  pg_namespace: { oid: 2615, needs: ["oid", "nspname"] },
  pg_am: { oid: 2601, needs: ["oid", "amname"] },
  pg_index: { oid: 2610, needs: ["indexrelid", "indrelid"] },
  pg_inherits: { oid: 2611, needs: ["inhrelid", "inhparent"] },
  pg_database: {
    oid: 1262,
    // prettier-ignore
    needs: [
      "oid", "datname", "datdba", "encoding", "datistemplate", "datallowconn", "datconnlimit",
      "dattablespace",
    ],
  },
  pg_tablespace: { oid: 1213, needs: ["oid", "spcname", "spcowner"] },
  pg_authid: { oid: 1260, needs: ["oid", "rolname"] },
} as const;
export type CatalogName = keyof typeof CATALOGS;

export type CatalogLayout = Readonly<Record<CatalogName, CatalogColumns>>;

const NAMES = Object.keys(CATALOGS) as CatalogName[];

/**
 * Reads pg_attribute as far as it takes: the rows about system catalogs are the oldest, and stand at its beginning.
 * @param pgAttribute - where it is, in any database of the cluster.
 * @throws {FormatError} when a catalog is not as PostgreSQL's, and as `readVisibleRows`.
 */
export function readCatalogLayout(
  files: StoredFiles,
  pgAttribute: ScopedRelation,
  transactions: TransactionStates,
): CatalogLayout {
  const { major } = files.datadir;
  const byHeart = attributeColumns(major);
  const [attrelid, attname] = [byHeart.oid("attrelid"), byHeart.name("attname")];
  const [attlen, attnum] = [byHeart.int2("attlen"), byHeart.int2("attnum")];
  const attalign = byHeart.char("attalign");
  const open = new Map(NAMES.map((name) => [CATALOGS[name].oid as number, new Collected(name)]));
  const all = [...open.values()];
  readVisibleRows(files, pgAttribute, transactions, (row) => {
    const oid = attrelid(row);
    const collected = open.get(oid);
    if (collected === undefined) return true;
    const align = attalign(row);
    if (!isAlign(align)) throw notByHeart(major);
    const name = attname(row).toString("latin1");
    if (collected.add(attnum(row), { name, length: attlen(row), align })) open.delete(oid);
    return open.size > 0;
  });
  const layout = Object.fromEntries(all.map((one) => [one.name, one.columns()])) as CatalogLayout;
  for (const name of CATALOGS.pg_attribute.needs) {
    if (layout.pg_attribute.offsetOf(name) !== byHeart.offsetOf(name)) throw notByHeart(major);
  }
  return layout;
}

/** The columns of one catalog, as they come. */
class Collected {
  readonly name: CatalogName;
  private readonly byNumber: Map<number, NamedAttribute> = new Map();
  private readonly missing: Set<string>;
  private lastNeeded = 0;

  constructor(name: CatalogName) {
    this.name = name;
    this.missing = new Set(CATALOGS[name].needs);
  }

  /** @returns whether all that is needed is there, with every column before it. */
  add(attnum: number, attribute: NamedAttribute): boolean {
    if (attnum <= 0) return false;
    this.byNumber.set(attnum, attribute);
    if (this.missing.delete(attribute.name)) this.lastNeeded = Math.max(this.lastNeeded, attnum);
    return this.missing.size === 0 && this.leading().length >= this.lastNeeded;
  }

  columns(): CatalogColumns {
    const attributes = this.leading();
    const known = new Set(attributes.map(({ name }) => name));
    const absent = CATALOGS[this.name].needs.find((name) => !known.has(name));
    if (absent !== undefined) throw unknownColumn(this.name, absent);
    return new CatalogColumns(this.name, attributes);
  }

  /** From column 1 on, up to the first that is not there yet. */
  private leading(): NamedAttribute[] {
    const attributes: NamedAttribute[] = [];
    for (let attnum = 1; ; attnum++) {
      const attribute = this.byNumber.get(attnum);
      if (attribute === undefined) return attributes;
      attributes.push(attribute);
    }
  }
}

/** What tde knows of pg_attribute by heart, with what lies between as columns of bytes. */
function attributeColumns(major: Major): CatalogColumns {
  const { attlen, attnum, attalign } = factsOf(major).pgAttribute;
  const known = [
    { at: 0, name: "attrelid", length: 4 },
    { at: 4, name: "attname", length: NAME_BYTES },
    { at: attlen, name: "attlen", length: 2 },
    { at: attnum, name: "attnum", length: 2 },
    { at: attalign, name: "attalign", length: 1 },
  ];
  const attributes: NamedAttribute[] = [];
  let end = 0;
  for (const { at, name, length } of known) {
    if (at > end) attributes.push({ name: "", length: at - end, align: "c" });
    attributes.push({ name, length, align: "c" });
    end = at + length;
  }
  return new CatalogColumns("pg_attribute", attributes);
}

function isAlign(text: string): text is NamedAttribute["align"] {
  return ["c", "s", "i", "d"].includes(text);
}

function notByHeart(major: Major): FormatError {
  return new FormatError(`catalog pg_attribute is not as in PostgreSQL ${major}`, {
    hint: "This server is none that tde knows. Names of relations cannot be read; paths still work.",
  });
}
