/**
 * Page checksums, sums, and the search for zero pages at memory speed, in WebAssembly. The pages lie in the module's own
 * memory, which files are read straight into: nothing is copied, and one call does a whole chunk. Source of the
 * module: page-checksum.as.ts; the plain version that it must agree with: page-checksum.ts.
 */
import assert from "node:assert";
import { instantiateWasm } from "../bytes/wasm-module.ts";
import { MAX_BLOCK_SIZE_BYTES, MIN_BLOCK_SIZE_BYTES } from "./page.ts";

interface Exports {
  checksums(pages: number, count: number, blockSize: number, firstBlock: number, out: number): void;
  zeroPages(pages: number, count: number, blockSize: number, out: number): void;
  sums(start: number, bytes: number, out: number): void;
}

/** How much the sums of `sumUp` are of, in one row. */
const ROW_BYTES = 128;

/** The module reads up to one vector past the last page; results follow behind that. */
const GAP_BYTES = 64;

export class PageChecksummer {
  /** The whole area, shared with the module: read files straight into it. */
  readonly pages: Buffer;
  readonly #memory: ArrayBuffer;
  readonly #exports: Exports;
  readonly #resultsOffset: number;

  /** @param capacityBytes - how large a chunk can be: bytes in `pages`, a multiple of 1024, up to 1 GB. */
  constructor(capacityBytes: number) {
    assert(
      capacityBytes > 0 && capacityBytes <= 2 ** 30 && capacityBytes % MIN_BLOCK_SIZE_BYTES === 0,
    );
    this.#resultsOffset = capacityBytes + GAP_BYTES;
    const resultsBytes = Math.max(
      ROW_BYTES,
      (capacityBytes / MIN_BLOCK_SIZE_BYTES) * Uint16Array.BYTES_PER_ELEMENT,
    );
    const { exports, memory } = instantiateWasm<Exports>(
      import.meta.url,
      "page-checksum",
      this.#resultsOffset + resultsBytes,
    );
    this.#exports = exports;
    this.#memory = memory;
    this.pages = Buffer.from(this.#memory, 0, capacityBytes);
  }

  /**
   * Checksums of `pageCount` pages that begin at `offsetBytes` (a multiple of 16) in `pages`, numbered from
   * `firstBlock`. Their pd_checksum fields count as zero and are left untouched.
   * @param into - takes one checksum a page, from its start.
   */
  compute(
    offsetBytes: number,
    pageCount: number,
    blockSizeBytes: number,
    firstBlock: number,
    into: Uint16Array,
  ): void {
    this.#check(offsetBytes, pageCount, blockSizeBytes, into.length);
    this.#exports.checksums(
      offsetBytes,
      pageCount,
      blockSizeBytes,
      firstBlock,
      this.#resultsOffset,
    );
    into.set(new Uint16Array(this.#memory, this.#resultsOffset, pageCount));
  }

  /** As compute; writes 1 for a page whose bytes are all zero and 0 for any other. */
  findZeroPages(
    offsetBytes: number,
    pageCount: number,
    blockSizeBytes: number,
    into: Uint8Array,
  ): void {
    this.#check(offsetBytes, pageCount, blockSizeBytes, into.length);
    this.#exports.zeroPages(offsetBytes, pageCount, blockSizeBytes, this.#resultsOffset);
    into.set(new Uint8Array(this.#memory, this.#resultsOffset, pageCount));
  }

  /**
   * 128 bytes of sums over the first `bytes` bytes of `pages`: to find out whether they are the same again. Whatever
   * changes at one place changes them, and of many changes none goes unnoticed but by a chance of 1 in 2^32. No
   * protection against somebody who wants them to be the same.
   * @param bytes - behind them zeros are written, up to a multiple of 128.
   * @returns a copy.
   */
  sumUp(bytes: number): Buffer {
    assert(Number.isInteger(bytes) && bytes >= 0 && bytes <= this.pages.length);
    const rounded = Math.ceil(bytes / ROW_BYTES) * ROW_BYTES;
    this.pages.fill(0, bytes, rounded);
    this.#exports.sums(0, rounded, this.#resultsOffset);
    return Buffer.from(Buffer.from(this.#memory, this.#resultsOffset, ROW_BYTES));
  }

  #check(offsetBytes: number, pageCount: number, blockSizeBytes: number, room: number): void {
    assert(isBlockSize(blockSizeBytes), `block size ${blockSizeBytes}`);
    assert(Number.isInteger(pageCount) && pageCount >= 0 && pageCount <= room);
    assert(Number.isInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes % 16 === 0);
    assert(offsetBytes + pageCount * blockSizeBytes <= this.pages.length);
  }
}

function isBlockSize(bytes: number): boolean {
  return (
    bytes >= MIN_BLOCK_SIZE_BYTES && bytes <= MAX_BLOCK_SIZE_BYTES && (bytes & (bytes - 1)) === 0
  );
}
