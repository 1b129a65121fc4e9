/**
 * Heap tuples: the header, and the values of a row. Which values there are, how long and how aligned, is what
 * pg_attribute says of the table; a tuple does not say it. Source: access/htup_details.h (HeapTupleHeaderData),
 * access/tupmacs.h (att_align_pointer, att_addlength_pointer), heap_deform_tuple in access/common/heaptuple.c.
 */
import { FormatError } from "../errors.ts";
import { varlenaSizeBytes } from "./varlena.ts";

/** Offsets in a tuple, little-endian. */
export const TUPLE_HEADER = {
  xmin: 0, //       t_xmin, u32
  xmax: 4, //       t_xmax, u32: an xid or, as the infomask says, a multixact id
  field3: 8, //     t_cid or t_xvac, u32
  ctidBlock: 12, // t_ctid.ip_blkid: two u16, the high one first
  ctidOffset: 16, // t_ctid.ip_posid, u16
  infomask2: 18, // t_infomask2, u16
  infomask: 20, //  t_infomask, u16
  hoff: 22, //      t_hoff, u8: where the values begin
  bits: 23, //      t_bits: the null bitmap, where there is one
} as const;
export const TUPLE_HEADER_BYTES = 23;

/** Bits of t_infomask. */
export const INFOMASK = {
  hasNull: 0x0001,
  xmaxExclusiveLock: 0x0040,
  xmaxKeyShareLock: 0x0010,
  xmaxLockOnly: 0x0080,
  xminCommitted: 0x0100,
  xminInvalid: 0x0200,
  xmaxCommitted: 0x0400,
  xmaxInvalid: 0x0800,
  xmaxIsMulti: 0x1000,
  movedOff: 0x4000,
  movedIn: 0x8000,
} as const;

/** The low bits of t_infomask2 count the tuple's values. */
const NATTS_MASK = 0x07ff;

export interface TupleHeader {
  readonly xmin: number;
  readonly xmax: number;
  readonly field3: number;
  readonly ctid: { readonly block: number; readonly offsetNumber: number };
  readonly infomask: number;
  readonly infomask2: number;
  /** How many values the tuple has; the table may have more columns. */
  readonly attributeCount: number;
  /** t_hoff: where the values begin. */
  readonly dataOffset: number;
}

/**
 * @param tuple - the bytes that its line pointer names.
 * @param where - the row, for messages.
 * @throws {FormatError} when the header does not fit.
 */
export function parseTupleHeader(tuple: Buffer, where: string): TupleHeader {
  if (tuple.length < TUPLE_HEADER_BYTES) throw damaged(where, "is shorter than its header");
  const infomask = tuple.readUInt16LE(TUPLE_HEADER.infomask);
  const infomask2 = tuple.readUInt16LE(TUPLE_HEADER.infomask2);
  const attributeCount = infomask2 & NATTS_MASK;
  const dataOffset = tuple.readUInt8(TUPLE_HEADER.hoff);
  const bitmapBytes = (infomask & INFOMASK.hasNull) === 0 ? 0 : Math.ceil(attributeCount / 8);
  if (dataOffset < TUPLE_HEADER.bits + bitmapBytes || dataOffset > tuple.length) {
    throw damaged(where, "has an impossible header length");
  }
  return {
    xmin: tuple.readUInt32LE(TUPLE_HEADER.xmin),
    xmax: tuple.readUInt32LE(TUPLE_HEADER.xmax),
    field3: tuple.readUInt32LE(TUPLE_HEADER.field3),
    ctid: {
      block:
        tuple.readUInt16LE(TUPLE_HEADER.ctidBlock) * 0x10000 +
        tuple.readUInt16LE(TUPLE_HEADER.ctidBlock + 2),
      offsetNumber: tuple.readUInt16LE(TUPLE_HEADER.ctidOffset),
    },
    infomask,
    infomask2,
    attributeCount,
    dataOffset,
  };
}

/** What pg_attribute says of one column, dropped ones included: their values still stand in old rows. */
export interface Attribute {
  /** attlen: bytes of a fixed-size type, -1 of a varlena, -2 of a C string. */
  readonly length: number;
  /** attalign: c is 1 byte, s 2, i 4, d 8. */
  readonly align: "c" | "s" | "i" | "d";
  /** attmissingval: of rows older than the column; null where there is none. */
  readonly missing?: Buffer | null | undefined;
}

/** The bytes of one value, a view of the tuple, with a varlena's header in front; null for NULL. */
export type RawValue = Buffer | null;

const ALIGNMENT: Readonly<Record<Attribute["align"], number>> = { c: 1, s: 2, i: 4, d: 8 };

/**
 * Takes the values of a table's rows apart, up to the last column that is wanted.
 */
export class TupleDecoder {
  private readonly attributes: readonly Attribute[];
  /**
   * Where each value begins, in bytes from the first one, in rows where no NULL precedes it; undefined behind the first
   * column of variable length.
   */
  readonly fixedOffsets: readonly (number | undefined)[];

  /** @param attributes - by attnum, from 1 on, without a gap. */
  constructor(attributes: readonly Attribute[]) {
    this.attributes = attributes;
    const offsets: (number | undefined)[] = [];
    let at: number | undefined = 0;
    for (const { length, align } of attributes) {
      // A varlena may begin unaligned with a short header, so that its place is known only from the row.
      const start: number | undefined =
        at === undefined || length < 0 ? undefined : alignUp(at, align);
      offsets.push(start);
      at = start === undefined ? undefined : start + length;
    }
    this.fixedOffsets = offsets;
  }

  /**
   * All values of one row.
   * @param tuple - the whole tuple; not copied.
   * @throws {FormatError} when a value does not fit into it.
   */
  decode(tuple: Buffer, header: TupleHeader, where: string): RawValue[] {
    const stored = Math.min(header.attributeCount, this.attributes.length);
    const bitmap = nullBitmap(tuple, header);
    const values = this.decodeValues(tuple.subarray(header.dataOffset), stored, bitmap, where);
    // Columns that were added later have one value for all of these rows, which pg_attribute keeps.
    for (const { missing } of this.attributes.slice(stored)) values.push(missing ?? null);
    return values;
  }

  /**
   * The first `count` values of a row, or the elements of an array, which are laid out alike.
   * @param data - from the first value on; that is where alignment counts from.
   * @param bitmap - a bit for each, 0 for a NULL, which takes no room; undefined where there is none.
   * @throws {FormatError} when a value does not fit.
   */
  decodeValues(data: Buffer, count: number, bitmap: Buffer | undefined, where: string): RawValue[] {
    const values: RawValue[] = [];
    let at = 0;
    for (let index = 0; index < count; index++) {
      if (isNull(bitmap, index)) {
        values.push(null);
        continue;
      }
      const { length, align } = this.attributes[index] ?? NEVER;
      const start = valueStart(data, at, length, align);
      at = start + valueSizeBytes(data, start, length, where);
      if (at > data.length) throw damaged(where, `ends within value ${index + 1}`);
      values.push(data.subarray(start, at));
    }
    return values;
  }

  /**
   * Where the value of a column of fixed size stands in the tuple, without a look at the values before it.
   * @param index - attnum - 1.
   * @returns undefined where it is NULL, missing, or not before every NULL and value of variable length.
   * @throws {FormatError} when it does not fit into the tuple.
   */
  fixedOffset(
    tuple: Buffer,
    header: TupleHeader,
    index: number,
    where: string,
  ): number | undefined {
    const offset = this.fixedOffsets[index];
    if (offset === undefined || index >= header.attributeCount) return undefined;
    const bitmap = nullBitmap(tuple, header);
    if (bitmap !== undefined) {
      for (let before = 0; before <= index; before++) if (isNull(bitmap, before)) return undefined;
    }
    const start = header.dataOffset + offset;
    const { length } = this.attributes[index] ?? NEVER;
    if (start + length > tuple.length) throw damaged(where, `ends within value ${index + 1}`);
    return start;
  }
}

const NEVER: Attribute = { length: 1, align: "c" };

function nullBitmap(tuple: Buffer, { infomask, dataOffset }: TupleHeader): Buffer | undefined {
  const hasNull = (infomask & INFOMASK.hasNull) !== 0;
  return hasNull ? tuple.subarray(TUPLE_HEADER.bits, dataOffset) : undefined;
}

function isNull(bitmap: Buffer | undefined, index: number): boolean {
  return bitmap !== undefined && ((bitmap[index >> 3] ?? 0) & (1 << (index & 7))) === 0;
}

function valueStart(data: Buffer, at: number, length: number, align: Attribute["align"]): number {
  // Padding is zero and no short header is: a varlena that follows without padding has one.
  return length === -1 && (data[at] ?? 0) !== 0 ? at : alignUp(at, align);
}

function alignUp(offset: number, align: Attribute["align"]): number {
  const unit = ALIGNMENT[align];
  return Math.ceil(offset / unit) * unit;
}

function valueSizeBytes(data: Buffer, start: number, length: number, where: string): number {
  if (length > 0) return length;
  if (length === -1) return varlenaSizeBytes(data, start, where);
  const end = data.indexOf(0, start);
  if (end < 0) throw damaged(where, "ends within a C string");
  return end + 1 - start;
}

function damaged(where: string, why: string): FormatError {
  return new FormatError(`damaged row: ${where} ${why}`);
}
