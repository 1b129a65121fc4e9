/**
 * WAL from a pipe: one segment or several in their order, plain, compressed or sealed. Where it begins, how large its
 * segments are and which timeline it is, the first page tells.
 */
import { ByteStream } from "../../bytes/byte-stream.ts";
import { IntegrityError, TdeError } from "../../errors.ts";
import { isSegmentSize, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import type { SegmentBytes } from "../../wal/segment-source.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { isContainer } from "../wal-archive/sealed-wal.ts";
import { decompressed, suffixOfContent } from "../../wal/compressed-wal.ts";
import { formatOfPages } from "./detect-format.ts";
import type { LsnHalves } from "./request.ts";
import type { FetchingSource } from "./source.ts";
import { asStructure, inMemory, isGuarded } from "./segment-bytes.ts";
import { unsealedSegments } from "./sealed-stream.ts";
import type { WalKeys } from "./wal-files.ts";
import { WaldumpError } from "./waldump-error.ts";

/** How messages call it. */
export const STREAM_NAME = "-";

export interface StreamPlace {
  readonly segmentBytes: number;
  readonly timeline: number;
  readonly start: LsnHalves;
}

const MARK_BYTES = 4;

/** One segment at a time is in memory. */
export class StreamSource implements FetchingSource {
  readonly #stream: ByteStream;
  readonly #keys: WalKeys;
  #failure: Error | undefined;
  #segmentBytes = 0;
  #high = -1;
  #low = -1;
  #segment: SegmentBytes | undefined;
  /** Where the stream stands. */
  #nextHigh = 0;
  #nextLow = 0;

  private constructor(stream: ByteStream, keys: WalKeys) {
    this.#stream = stream;
    this.#keys = keys;
  }

  static async open(parts: AsyncIterable<Uint8Array>, keys: WalKeys): Promise<StreamSource> {
    let stream = new ByteStream(parts);
    const suffix = suffixOfContent(await stream.peek(MARK_BYTES));
    if (suffix !== undefined) stream = new ByteStream(decompressed(stream.parts(), suffix));
    // What is wrong with a decoder's data is said when it is read.
    const start = await stream.peek(MARK_BYTES).catch(() => Buffer.alloc(0));
    return new StreamSource(
      isContainer(start) ? new ByteStream(unsealedSegments(stream, keys)) : stream,
      keys,
    );
  }

  /** The major of the first page; undefined where it has none that tde knows. @throws {WaldumpError} */
  async format(): Promise<WalFormat | undefined> {
    return formatOfPages(await this.#peek(WAL_PAGE_BYTES));
  }

  /** @throws {WaldumpError} when there is no WAL page. */
  async place(): Promise<StreamPlace> {
    const page = await this.#peek(WAL_PAGE_BYTES);
    if (page.length < WAL_PAGE_BYTES) {
      throw new WaldumpError(
        `could not read file "${STREAM_NAME}": read ${page.length} of ${WAL_PAGE_BYTES}`,
      );
    }
    const bytes = page.readUInt32LE(WAL_PAGE_HEADER.segmentSize);
    const low = page.readUInt32LE(WAL_PAGE_HEADER.pageAddress);
    if (formatOfPages(page) === undefined || !isSegmentSize(bytes) || low % bytes !== 0) {
      throw new WaldumpError("standard input does not begin with a WAL segment");
    }
    this.#segmentBytes = bytes;
    this.#nextLow = low;
    this.#nextHigh = page.readUInt32LE(WAL_PAGE_HEADER.pageAddress + 4);
    return {
      segmentBytes: bytes,
      timeline: page.readUInt32LE(WAL_PAGE_HEADER.timeline),
      start: { high: this.#nextHigh, low },
    };
  }

  segment(high: number, low: number): SegmentBytes | undefined {
    return high === this.#high && low === this.#low ? this.#segment : undefined;
  }

  async fetch(high: number, low: number): Promise<boolean> {
    const distance = (high - this.#nextHigh) * 2 ** 32 + (low - this.#nextLow);
    if (distance < 0) throw new WaldumpError("standard input begins after the start WAL location");
    await this.#read(() => this.#stream.skip(distance));
    const bytes = await this.#read(() => this.#stream.take(this.#segmentBytes));
    this.#segment = await this.#open(bytes);
    this.#high = high;
    this.#low = low;
    this.#nextLow = low + this.#segmentBytes;
    this.#nextHigh = high;
    return bytes.length > 0;
  }

  async close(): Promise<void> {
    await this.#stream.close();
  }

  async #open(bytes: Buffer): Promise<SegmentBytes> {
    if (!isGuarded(bytes)) return inMemory(bytes);
    if ((await this.#keys()) === undefined) return asStructure(inMemory(bytes));
    throw new IntegrityError("standard input is encrypted, and no sidecar comes with it", {
      hint: "Name the segment's file, with its sidecar (_tde) beside it. Without --keyring its structure is shown.",
    });
  }

  async #peek(count: number): Promise<Buffer> {
    return this.#read(() => this.#stream.peek(count));
  }

  /** What came once of a pipe comes no more: an error is said again. */
  async #read<T>(read: () => Promise<T>): Promise<T> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return await read();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#failure =
        error instanceof TdeError
          ? error
          : new WaldumpError(`could not read standard input: ${why}`);
      throw this.#failure;
    }
  }
}
