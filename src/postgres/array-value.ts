/**
 * Arrays as they stand in a row: text[], oidvector, int2vector and attmissingval alike. Source: utils/array.h
 * (ArrayType), array_seek in utils/adt/arrayfuncs.c.
 */
import { FormatError } from "../errors.ts";
import { type Attribute, type RawValue, TupleDecoder } from "./heap-tuple.ts";

/** Offsets in an array's content, behind the varlena header; dimensions and lower bounds follow. */
const ARRAY = {
  dimensions: 0, //  ndim, i32
  dataOffset: 4, //  dataoffset, i32: of the elements, from the value's beginning; 0 where there is no null bitmap
  elementType: 8, // elemtype, OID
  sizes: 12, //      i32 for each dimension, then as many lower bounds
} as const;
/** MAXDIM */
const MOST_DIMENSIONS = 6;
/** The array is aligned with its varlena header, which is not part of the content. */
const VARLENA_HEADER_BYTES = 4;
const MAX_ALIGNMENT = 8;

/**
 * The elements of an array, in the order of its storage, whatever its dimensions.
 * @param content - of the varlena, plain.
 * @param element - length and alignment of the element's type; elements of variable length keep their headers.
 * @throws {FormatError} when it is damaged.
 */
export function parseArray(content: Buffer, element: Attribute, where: string): RawValue[] {
  const dimensions = content.length < ARRAY.sizes ? -1 : content.readInt32LE(ARRAY.dimensions);
  if (dimensions === 0) return [];
  const headerBytes = ARRAY.sizes + 8 * dimensions;
  if (dimensions < 0 || dimensions > MOST_DIMENSIONS || headerBytes > content.length) {
    throw damaged(where);
  }
  let count = 1;
  for (let i = 0; i < dimensions; i++) count *= content.readInt32LE(ARRAY.sizes + 4 * i);
  // A NULL takes a bit, everything else a byte at least.
  if (!(count >= 0 && count <= 8 * content.length)) throw damaged(where);
  const dataOffset = content.readInt32LE(ARRAY.dataOffset);
  const bitmap = dataOffset === 0 ? undefined : content.subarray(headerBytes);
  const start = dataOffset === 0 ? alignUp(headerBytes) : dataOffset - VARLENA_HEADER_BYTES;
  if (start < headerBytes || (count > 0 && start > content.length)) throw damaged(where);
  const decoder = new TupleDecoder(Array.from({ length: count }, () => element));
  return decoder.decodeValues(content.subarray(start), count, bitmap, where);
}

/** ARR_OVERHEAD_NONULLS: where elements begin, from the beginning of the content. */
function alignUp(headerBytes: number): number {
  const whole = headerBytes + VARLENA_HEADER_BYTES;
  return Math.ceil(whole / MAX_ALIGNMENT) * MAX_ALIGNMENT - VARLENA_HEADER_BYTES;
}

function damaged(where: string): FormatError {
  return new FormatError(`damaged row: ${where} has an array that cannot be read`);
}
