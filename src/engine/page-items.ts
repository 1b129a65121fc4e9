/**
 * What the line pointers of a page lead to: rows of a heap page with the raw fields of their headers, items of an index
 * page as bytes. A damaged line is told as such, and the others are read.
 */
import type { Fork } from "../datadir/relation-path.ts";
import { FormatError } from "../errors.ts";
import { countLinePointers, LINE_POINTER_STATE, readLinePointer } from "../postgres/heap-page.ts";
import { parseTupleHeader, type TupleHeader } from "../postgres/heap-tuple.ts";
import { PAGE_HEADER } from "../postgres/page.ts";

export interface PageItem {
  /** From 1, as in a ctid. */
  readonly line: number;
  readonly state: "unused" | "normal" | "redirect" | "dead" | "damaged";
  /** In the page; of a redirect: the line that it leads to. */
  readonly offset: number;
  readonly lengthBytes: number;
  /** Of a row, on a heap page. */
  readonly tuple: TupleHeader | undefined;
  /** What follows the row's header, or the whole item of an index: users' data. */
  readonly data: Buffer | undefined;
  readonly problem: string | undefined;
}

export interface PageItems {
  /** Pages of indexes and sequences have a special space; a sequence's single row is one of a heap all the same. */
  readonly isHeap: boolean;
  readonly items: readonly PageItem[];
}

const STATES = ["unused", "normal", "redirect", "dead"] as const;
/** A sequence's special space holds one number (commands/sequence.c, SEQ_MAGIC). */
const SEQUENCE_MAGIC = 0x1717;
const SEQUENCE_SPECIAL_BYTES = 8;

/**
 * @param page - one whole page, plain.
 * @param where - for messages.
 * @returns undefined for what has no line pointers: other forks than main, a page that is no page.
 */
export function pageItems(page: Buffer, fork: Fork, where: string): PageItems | undefined {
  // The pages of the other forks have a header, but a content of their own; an init fork is a relation's first page.
  if (fork !== "main" && fork !== "init") return undefined;
  const count = countOf(page, where);
  if (count === undefined) return undefined;
  const isHeap = count === 0 || hasHeapLayout(page);
  const items = Array.from({ length: count }, (_, i) => readItem(page, i + 1, isHeap, where));
  // The first page of most indexes has other data where line pointers would be.
  return isHeap || items.every(isOfIndex) ? { isHeap, items } : undefined;
}

/** No index has redirects, nor storage behind an unused line. */
function isOfIndex({ state, offset }: PageItem): boolean {
  return state === "normal" || state === "dead" || (state === "unused" && offset === 0);
}

/** Undefined where the header's bounds make no sense. */
function countOf(page: Buffer, where: string): number | undefined {
  try {
    return countLinePointers(page, where);
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

function hasHeapLayout(page: Buffer): boolean {
  const special = page.readUInt16LE(PAGE_HEADER.special);
  if (special === page.length) return true;
  return (
    special === page.length - SEQUENCE_SPECIAL_BYTES &&
    page.readUInt32LE(special) === SEQUENCE_MAGIC
  );
}

function readItem(page: Buffer, line: number, isHeap: boolean, where: string): PageItem {
  const nothing = { tuple: undefined, data: undefined, problem: undefined };
  try {
    const { state, offset, lengthBytes } = readLinePointer(page, line, where);
    const item = { line, state: STATES[state], offset, lengthBytes, ...nothing };
    if (state !== LINE_POINTER_STATE.normal) return item;
    const bytes = page.subarray(offset, offset + lengthBytes);
    if (!isHeap) return { ...item, data: bytes };
    const tuple = parseTupleHeader(bytes, `${where} line ${line}`);
    return { ...item, tuple, data: bytes.subarray(tuple.dataOffset) };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {
      line,
      state: "damaged",
      offset: 0,
      lengthBytes: 0,
      ...nothing,
      problem: error.message,
    };
  }
}
