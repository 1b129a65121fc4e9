/**
 * The buffers of one chunk: a run of pages and the sidecar pages that hold their slots, side by side in the
 * memory of the checksum module, so that files are read and written without a copy and checksums take one call.
 */
import { PageChecksummer } from "../postgres/page-checksum-wasm.ts";
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "../crypto/primitives.ts";
import { MESSAGE_START } from "./page-message.ts";
import { slotOffset, slotsPerPage } from "./sidecar-page.ts";
import { SLOT } from "./slot.ts";

/** About what one read or write moves; large enough that system calls do not count. */
const CHUNK_TARGET_BYTES = 2 ** 20;

/** Slots, and so blocks, in a chunk of pages of that size. */
export function slotsPerChunk(blockSizeBytes: number): number {
  const bytesPerSidecarPage = slotsPerPage(blockSizeBytes) * blockSizeBytes;
  const sidecarPages = Math.max(1, Math.round(CHUNK_TARGET_BYTES / bytesPerSidecarPage));
  return sidecarPages * slotsPerPage(blockSizeBytes);
}

export interface MessageViews {
  /** Of a whole page: plaintext or ciphertext of its message, but for the two sealed bytes while it is ciphertext. */
  readonly text: Buffer;
  readonly nonce: Buffer;
  readonly tag: Buffer;
  readonly commitment: Buffer;
}

export class Chunk {
  readonly blockSizeBytes: number;
  readonly slotsPerPage: number;
  /** Slots, and so blocks, in a full chunk: a whole number of sidecar pages. */
  readonly slotCapacity: number;
  /** The pages' bytes; an odd tail of the file stands right behind the last whole page. */
  readonly data: Buffer;
  readonly sidecar: Buffer;
  /** What checksums and zeroes found, a value for each page. */
  readonly checksums: Uint16Array;
  readonly zero: Uint8Array;
  /**
   * What a page's message is made of, by block: views made once, because a new one for each page would cost as much
   * as all the checks of its slot.
   */
  readonly views: readonly MessageViews[];
  /** Where one message is decrypted before its tag is known to hold: as long as a block, or as a whole page's text. */
  readonly plaintext: Buffer;
  readonly pagePlaintext: Buffer;
  private readonly checksummer: PageChecksummer;

  constructor(blockSizeBytes: number) {
    this.blockSizeBytes = blockSizeBytes;
    this.slotsPerPage = slotsPerPage(blockSizeBytes);
    this.slotCapacity = slotsPerChunk(blockSizeBytes);
    const sidecarPages = this.slotCapacity / this.slotsPerPage;
    const dataBytes = this.slotCapacity * blockSizeBytes;
    const sidecarBytes = sidecarPages * blockSizeBytes;
    this.checksummer = new PageChecksummer(dataBytes + sidecarBytes);
    this.data = this.checksummer.pages.subarray(0, dataBytes);
    this.sidecar = this.checksummer.pages.subarray(dataBytes, dataBytes + sidecarBytes);
    this.checksums = new Uint16Array(this.slotCapacity);
    this.zero = new Uint8Array(this.slotCapacity);
    this.views = Array.from({ length: this.slotCapacity }, (_, index) => this.viewsOf(index));
    this.plaintext = Buffer.alloc(blockSizeBytes);
    this.pagePlaintext = this.plaintext.subarray(MESSAGE_START);
  }

  /**
   * Fills `checksums` for pages from `start` on.
   * @param firstBlock - number, in its fork, of the chunk's first page.
   */
  checksumData(pageCount: number, firstBlock: number, start = 0): void {
    this.checksummer.compute(
      start * this.blockSizeBytes,
      pageCount,
      this.blockSizeBytes,
      firstBlock + start,
      start === 0 ? this.checksums : this.checksums.subarray(start),
    );
  }

  /** Fills `checksums` for the first `pageCount` sidecar pages. */
  checksumSidecar(pageCount: number, firstBlock: number): void {
    this.checksummer.compute(
      this.data.length,
      pageCount,
      this.blockSizeBytes,
      firstBlock,
      this.checksums,
    );
  }

  /** Fills `zero` for pages from `start` on: 1 where every byte is zero. */
  findZeroPages(pageCount: number, start = 0): void {
    const found = start === 0 ? this.zero : this.zero.subarray(start);
    const { blockSizeBytes } = this;
    this.checksummer.findZeroPages(start * blockSizeBytes, pageCount, blockSizeBytes, found);
  }

  /** Sums over the first `dataBytes` of the data, which tell whether they are the same again. */
  sumUpData(dataBytes: number): Buffer {
    return this.checksummer.sumUp(dataBytes);
  }

  sidecarPage(index: number): Buffer {
    return this.sidecar.subarray(index * this.blockSizeBytes, (index + 1) * this.blockSizeBytes);
  }

  /** Where the slot of the chunk's n-th block begins in `sidecar`. */
  slotAt(index: number): number {
    const page = Math.floor(index / this.slotsPerPage);
    return page * this.blockSizeBytes + slotOffset(index % this.slotsPerPage);
  }

  private viewsOf(index: number): MessageViews {
    const slotAt = this.slotAt(index);
    const field = (offset: number, length: number): Buffer =>
      this.sidecar.subarray(slotAt + offset, slotAt + offset + length);
    const pageAt = index * this.blockSizeBytes;
    return {
      text: this.data.subarray(pageAt + MESSAGE_START, pageAt + this.blockSizeBytes),
      nonce: field(SLOT.nonce, NONCE_BYTES),
      tag: field(SLOT.tag, TAG_BYTES),
      commitment: field(SLOT.commitment, KEY_BYTES),
    };
  }
}
