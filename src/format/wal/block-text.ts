/**
 * One WAL block in WebAssembly's memory, parted into secrets and structure. Source of the module: block-text.as.ts.
 */
import { instantiateWasm } from "../../bytes/wasm-module.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";

interface Exports {
  joinRanges(ranges: number, count: number, base: number): number;
  part(
    block: number,
    end: number,
    ranges: number,
    count: number,
    text: number,
    structure: number,
  ): number;
  scatter(text: number, block: number, ranges: number, count: number): void;
  takeWords(block: number, offsets: number, count: number, kept: number): void;
  putWords(block: number, offsets: number, count: number, kept: number): void;
}

const BLOCK = 0;
const RANGES = BLOCK + WAL_PAGE_BYTES;
/** Start and end of more ranges than a block has that do not touch. */
const RANGES_LENGTH = WAL_PAGE_BYTES + 16;
const WORDS = RANGES + 4 * RANGES_LENGTH;
/** More than a block has records. */
const WORDS_LENGTH = 512;
const KEPT = WORDS + 4 * WORDS_LENGTH;
/** Before the structure and behind the text. */
const ROOM_BYTES = 512;
const TEXT = KEPT + 4 * WORDS_LENGTH;
const STRUCTURE = TEXT + WAL_PAGE_BYTES + 2 * ROOM_BYTES;
const MEMORY_BYTES = STRUCTURE + WAL_PAGE_BYTES;

let shared: BlockText | undefined;

/** That of this thread: one block at a time. */
export function blockText(): BlockText {
  shared ??= new BlockText();
  return shared;
}

export class BlockText {
  /** To be filled in before `part`: start and end of secrets, rising, in offsets of the segment. */
  readonly ranges: Int32Array;
  /** To be filled in before `part`: offsets in the block of words that count as zero. */
  readonly words: Int32Array;
  readonly #memory: ArrayBuffer;
  readonly #module: Exports;
  readonly #block: Buffer;
  readonly #text: Buffer;
  #rangeCount = 0;
  #wordCount = 0;

  constructor() {
    const { exports, memory } = instantiateWasm<Exports>(
      import.meta.url,
      "block-text",
      MEMORY_BYTES,
    );
    this.#module = exports;
    this.#memory = memory;
    this.#block = Buffer.from(memory, BLOCK, WAL_PAGE_BYTES);
    this.#text = Buffer.from(memory, TEXT, WAL_PAGE_BYTES);
    this.ranges = new Int32Array(memory, RANGES, RANGES_LENGTH);
    this.words = new Int32Array(memory, WORDS, WORDS_LENGTH);
  }

  /** Bytes that stand right before the structure. @param count - at most ROOM_BYTES. */
  before(count: number): Buffer {
    return Buffer.from(this.#memory, STRUCTURE - count, count);
  }

  /** The first bytes of the text that `part` found, and what was put behind it. */
  text(count: number): Buffer {
    return Buffer.from(this.#memory, TEXT, count);
  }

  /** The first bytes of the structure, with so many of those before it. */
  structure(before: number, count: number): Buffer {
    return Buffer.from(this.#memory, STRUCTURE - before, before + count);
  }

  /**
   * Parts a block of the segment.
   * @param base - its offset. @param end - of its bytes that count. @param rangeCount - with wordCount: of what was
   *   filled in.
   * @returns how much of it is text, the rest is structure.
   */
  part(
    segment: Buffer,
    base: number,
    end: number,
    rangeCount: number,
    wordCount: number,
  ): { readonly textBytes: number; readonly structureBytes: number } {
    segment.copy(this.#block, 0, base, base + WAL_PAGE_BYTES);
    this.#rangeCount = this.#module.joinRanges(RANGES, rangeCount, base);
    this.#wordCount = wordCount;
    this.#module.takeWords(BLOCK, WORDS, wordCount, KEPT);
    const textBytes = this.#module.part(BLOCK, end, RANGES, this.#rangeCount, TEXT, STRUCTURE);
    const lastEnd = this.#rangeCount === 0 ? 0 : (this.ranges[2 * this.#rangeCount - 1] ?? 0);
    return { textBytes, structureBytes: Math.max(lastEnd, end) - textBytes };
  }

  /** Where in the text the byte at this offset of the block is, which is the beginning of a secret. */
  positionOf(offset: number): number {
    let position = 0;
    for (let i = 0; i < 2 * this.#rangeCount; i += 2) {
      const start = this.ranges[i] ?? 0;
      const end = this.ranges[i + 1] ?? 0;
      if (offset < end) return position + offset - start;
      position += end - start;
    }
    return position;
  }

  /** Puts a text in the place of the one that `part` found, also in the segment. */
  scatter(text: Buffer, segment: Buffer, base: number): void {
    const isThere = text.buffer === this.#memory && text.byteOffset === TEXT;
    if (!isThere) text.copy(this.#text, 0, 0, WAL_PAGE_BYTES);
    this.#module.scatter(TEXT, BLOCK, RANGES, this.#rangeCount);
    this.#module.putWords(BLOCK, WORDS, this.#wordCount, KEPT);
    this.#block.copy(segment, base);
  }
}
