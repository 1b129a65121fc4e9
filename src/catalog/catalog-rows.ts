/**
 * The visible rows of a system catalog, one after the other, and the values of their leading columns. These columns
 * are of fixed size and never NULL, so that each stands at one place in every row.
 */
import { FormatError } from "../errors.ts";
import type { ScopedRelation } from "../format/scope.ts";
import { countLinePointers, LINE_POINTER_STATE, readLinePointer } from "../postgres/heap-page.ts";
import {
  type Attribute,
  parseTupleHeader,
  TupleDecoder,
  type TupleHeader,
} from "../postgres/heap-tuple.ts";
import { isVisible, type TransactionStates } from "../postgres/visibility.ts";
import type { StoredFiles } from "./stored-files.ts";

export interface Row {
  /** Valid until the next row is taken. */
  readonly tuple: Buffer;
  readonly header: TupleHeader;
  /** Which row it is, for messages: `base/5/1259 block 3 line 7`. */
  readonly where: string;
}

/**
 * @param take - returns false to read no further.
 * @throws {FormatError} when a page or row is damaged, and as `StoredFiles.readPages`.
 */
export function readVisibleRows(
  files: StoredFiles,
  relation: ScopedRelation,
  transactions: TransactionStates,
  take: (row: Row) => boolean,
): void {
  files.readPages(relation, (page, block) => {
    const count = countLinePointers(page, block);
    for (let offsetNumber = 1; offsetNumber <= count; offsetNumber++) {
      const { state, offset, lengthBytes } = readLinePointer(page, offsetNumber, block);
      if (state !== LINE_POINTER_STATE.normal) continue;
      const where = `${block} line ${offsetNumber}`;
      const tuple = page.subarray(offset, offset + lengthBytes);
      const header = parseTupleHeader(tuple, where);
      if (!isVisible(header, transactions)) continue;
      if (!take({ tuple, header, where })) return false;
    }
    return true;
  });
}

/** A column of pg_attribute's: its name, and what it takes to find its values. */
export interface NamedAttribute extends Attribute {
  readonly name: string;
}

/** NAMEDATALEN: bytes of a value of type name, zeros at its end included. */
export const NAME_BYTES = 64;

/** The leading columns of one catalog. */
export class CatalogColumns {
  private readonly catalog: string;
  private readonly attributes: readonly NamedAttribute[];
  private readonly decoder: TupleDecoder;

  /** @param attributes - by attnum, from 1 on, without a gap. */
  constructor(catalog: string, attributes: readonly NamedAttribute[]) {
    this.catalog = catalog;
    this.attributes = attributes;
    this.decoder = new TupleDecoder(attributes);
  }

  /** Where a column begins, in bytes from a row's first value; undefined where that is not known of every row. */
  offsetOf(name: string): number | undefined {
    return this.decoder.fixedOffsets[this.attributes.findIndex((one) => one.name === name)];
  }

  oid(name: string): (row: Row) => number {
    const at = this.column(name, 4);
    return (row) => row.tuple.readUInt32LE(at(row));
  }

  int4(name: string): (row: Row) => number {
    const at = this.column(name, 4);
    return (row) => row.tuple.readInt32LE(at(row));
  }

  int2(name: string): (row: Row) => number {
    const at = this.column(name, 2);
    return (row) => row.tuple.readInt16LE(at(row));
  }

  /** Of the type "char": one byte. */
  char(name: string): (row: Row) => string {
    const at = this.column(name, 1);
    return (row) => String.fromCharCode(row.tuple.readUInt8(at(row)));
  }

  bool(name: string): (row: Row) => boolean {
    const at = this.column(name, 1);
    return (row) => row.tuple.readUInt8(at(row)) !== 0;
  }

  /** The bytes of a name, without the zeros after them: a view of the row. */
  name(name: string): (row: Row) => Buffer {
    const at = this.column(name, NAME_BYTES);
    return (row) => {
      const start = at(row);
      const end = row.tuple.indexOf(0, start);
      const isWhole = end >= start && end < start + NAME_BYTES;
      if (isWhole) return row.tuple.subarray(start, end);
      throw new FormatError(`damaged row: ${row.where} has a name without an end`);
    };
  }

  /** Where a column stands in a row. */
  private column(name: string, lengthBytes: number): (row: Row) => number {
    const { catalog, decoder } = this;
    const index = this.attributes.findIndex((attribute) => attribute.name === name);
    if (index < 0 || this.attributes[index]?.length !== lengthBytes) {
      throw unknownColumn(catalog, name);
    }
    return ({ tuple, header, where }) => {
      const at = decoder.fixedOffset(tuple, header, index, where);
      if (at !== undefined) return at;
      throw new FormatError(`damaged row: ${where} has no ${name}`);
    };
  }
}

export function unknownColumn(catalog: string, name: string): FormatError {
  return new FormatError(`catalog ${catalog} has no column ${name} as PostgreSQL's has`, {
    hint: "This server is none that tde knows. Names of relations cannot be read; paths still work.",
  });
}
