/**
 * Line pointers of a heap page: where its tuples are. Everything is checked against the page before it is used, since
 * a page without data checksums may hold anything. Source: storage/bufpage.h, storage/itemid.h (ItemIdData).
 */
import { FormatError } from "../errors.ts";
import { isZero, PAGE_HEADER, PAGE_HEADER_BYTES } from "./page.ts";

/** lp_flags. Only a normal one has a tuple; a redirect names another line of the page, the root of a HOT chain. */
export const LINE_POINTER_STATE = { unused: 0, normal: 1, redirect: 2, dead: 3 } as const;

/** ItemIdData: a u32 of lp_off (15 bits), lp_flags (2) and lp_len (15). */
const LINE_POINTER_BYTES = 4;
const PAGE_LAYOUT_VERSION = 4;
/** pd_upper of a page that has never been filled. */
const NEVER_FILLED = 0;

export interface LinePointer {
  /** From 1, as in a ctid. */
  readonly offsetNumber: number;
  readonly state: 0 | 1 | 2 | 3;
  /** Of the tuple within the page; of a redirect: the line that it leads to. */
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * @param page - one whole page.
 * @param where - the block, for messages: `base/5/1259 block 3`.
 * @returns how many line pointers it has; 0 for one that the server has not filled yet.
 * @throws {FormatError} when it is no page of that size, or its bounds are impossible.
 */
export function countLinePointers(page: Buffer, where: string): number {
  const upper = page.readUInt16LE(PAGE_HEADER.upper);
  if (upper === NEVER_FILLED && isZero(page)) return 0;
  const lower = page.readUInt16LE(PAGE_HEADER.lower);
  const special = page.readUInt16LE(PAGE_HEADER.special);
  const sizeVersion = page.readUInt16LE(PAGE_HEADER.pageSizeVersion);
  const sound =
    sizeVersion === page.length + PAGE_LAYOUT_VERSION &&
    lower >= PAGE_HEADER_BYTES &&
    lower <= upper &&
    upper <= special &&
    special <= page.length &&
    (lower - PAGE_HEADER_BYTES) % LINE_POINTER_BYTES === 0;
  if (!sound) throw new FormatError(`damaged page: ${where} has an impossible header`);
  return (lower - PAGE_HEADER_BYTES) / LINE_POINTER_BYTES;
}

/**
 * @param offsetNumber - 1 to `countLinePointers`.
 * @throws {FormatError} when a normal one leads out of the part of the page that holds tuples.
 */
export function readLinePointer(page: Buffer, offsetNumber: number, where: string): LinePointer {
  const item = page.readUInt32LE(PAGE_HEADER_BYTES + (offsetNumber - 1) * LINE_POINTER_BYTES);
  const state = ((item >>> 15) & 3) as LinePointer["state"];
  const offset = item & 0x7fff;
  const lengthBytes = item >>> 17;
  if (state === LINE_POINTER_STATE.normal) {
    const upper = page.readUInt16LE(PAGE_HEADER.upper);
    const special = page.readUInt16LE(PAGE_HEADER.special);
    if (offset < upper || offset + lengthBytes > special) {
      throw new FormatError(`damaged page: ${where} line ${offsetNumber} leads out of its tuples`);
    }
  }
  return { offsetNumber, state, offset, lengthBytes };
}
