/**
 * The buffers of one chunk: a run of pages and the sidecar pages that hold their slots, side by side in the
 * memory of the checksum module, so that files are read and written without a copy and checksums take one call.
 */
import { PageChecksummer } from "../postgres/page-checksum-wasm.ts";
import { slotsPerPage } from "./sidecar-page.ts";

/** About what one read or write moves; large enough that system calls do not count. */
const CHUNK_TARGET_BYTES = 2 ** 20;

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
  private readonly checksummer: PageChecksummer;

  constructor(blockSizeBytes: number) {
    this.blockSizeBytes = blockSizeBytes;
    this.slotsPerPage = slotsPerPage(blockSizeBytes);
    const bytesPerSidecarPage = this.slotsPerPage * blockSizeBytes;
    const sidecarPages = Math.max(1, Math.round(CHUNK_TARGET_BYTES / bytesPerSidecarPage));
    this.slotCapacity = sidecarPages * this.slotsPerPage;
    const dataBytes = this.slotCapacity * blockSizeBytes;
    const sidecarBytes = sidecarPages * blockSizeBytes;
    this.checksummer = new PageChecksummer(dataBytes + sidecarBytes);
    this.data = this.checksummer.pages.subarray(0, dataBytes);
    this.sidecar = this.checksummer.pages.subarray(dataBytes, dataBytes + sidecarBytes);
    this.checksums = new Uint16Array(this.slotCapacity);
    this.zero = new Uint8Array(this.slotCapacity);
  }

  /** Fills `checksums` for the first `pageCount` pages. @param firstBlock - number of the first one in its fork. */
  checksumData(pageCount: number, firstBlock: number): void {
    this.checksummer.compute(0, pageCount, this.blockSizeBytes, firstBlock, this.checksums);
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

  /** Fills `zero` for the first `pageCount` pages: 1 where every byte is zero. */
  findZeroPages(pageCount: number): void {
    this.checksummer.findZeroPages(0, pageCount, this.blockSizeBytes, this.zero);
  }

  sidecarPage(index: number): Buffer {
    return this.sidecar.subarray(index * this.blockSizeBytes, (index + 1) * this.blockSizeBytes);
  }

  /** Where the slot of the chunk's n-th block begins in `sidecar`. */
  slotAt(index: number): number {
    const page = Math.floor(index / this.slotsPerPage);
    return page * this.blockSizeBytes + 24 + (index % this.slotsPerPage) * 128;
  }
}
