/**
 * WAL from a tar archive, as pg_basebackup -Ft makes one: bin/pg_waldump/archive_waldump.c of PostgreSQL 19, for the
 * WAL of every major. One segment at a time is in memory and nothing is written: where the archive has segments in
 * another order than WAL does, it is read once more from its beginning. Segments may be sealed, or in readable mode with
 * their sidecars anywhere in the archive.
 */
import { posix } from "node:path";
import { ByteStream } from "../../bytes/byte-stream.ts";
import { type BytePath, directoryOf, displayPath, nameOf } from "../../bytes/byte-path.ts";
import { StorageError } from "../../errors.ts";
import { ownParts } from "../../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../../storage/file-system.ts";
import { isSegmentSize, WAL_PAGE_BYTES, WAL_PAGE_HEADER } from "../../wal/page-header.ts";
import type { SegmentBytes } from "../../wal/segment-source.ts";
import { walFileName } from "../../wal/wal-file-name.ts";
import type { WalFormat } from "../../wal/wal-format.ts";
import { isContainer } from "../wal-archive/sealed-wal.ts";
import { decompressed, type Suffix, suffixOfContent } from "../../wal/compressed-wal.ts";
import { formatOfPages } from "./detect-format.ts";
import { openSegmentBytes } from "./segment-bytes.ts";
import type { FetchingSource, ShortRead } from "./source.ts";
import { TarStream } from "./tar-stream.ts";
import { openIfThere, type WalKeys } from "./wal-files.ts";
import { WaldumpError } from "./waldump-error.ts";

/** Names of archives, as parse_tar_compress_algorithm knows them, and how each is compressed. */
const ARCHIVES: readonly (readonly [RegExp, Suffix | undefined])[] = [
  [/\.tar$/, undefined],
  [/\.tgz$/, ".gz"],
  [/\.tar\.gz$/, ".gz"],
  [/\.tar\.lz4$/, ".lz4"],
  [/\.tar\.zst$/, ".zst"],
];

export function isArchiveName(path: BytePath): boolean {
  return ARCHIVES.some(([pattern]) => pattern.test(path));
}

const SEGMENT_MEMBER = /^(?:.*\/)?([0-9A-F]{24}(_tde)?)$/s;
/** Sidecars that were passed before their segments were asked for: as many as so many segments of 16 MB have. */
const KEPT_SIDECARS_BYTES = 2 ** 25;
/** The largest sealed segment: chunks have tags, and content may be what does not compress. */
const LARGEST_MEMBER_BYTES = 2 ** 30 + 2 ** 25;
const MARK_BYTES = 4;

export class ArchiveSource implements FetchingSource {
  readonly #fs: FileSystem;
  readonly #path: BytePath;
  /** How messages call it. */
  readonly #name: string;
  #timeline = 0;
  #segmentBytes = 0;
  #file: OpenFile | undefined;
  #tar: TarStream | undefined;
  /** Segments that were passed since the archive's beginning. */
  #passed = new Set<string>();
  #current = "";
  /** By the names of their segments; the oldest first. */
  readonly #sidecars = new Map<string, Buffer>();
  readonly #keys: WalKeys;
  #segment: SegmentBytes | undefined;

  constructor(fs: FileSystem, path: BytePath, keys: WalKeys) {
    this.#keys = keys;
    this.#fs = fs;
    this.#path = path;
    this.#name = displayPath(nameOf(path));
  }

  /** The major of the first segment in the archive. @throws {WaldumpError} when there is none. */
  async format(): Promise<WalFormat | undefined> {
    return formatOfPages(await this.#firstPage());
  }

  /** Learns the segments' size from the first of them. @throws {WaldumpError} when there is none. */
  async prepare(timeline: number): Promise<{ segmentBytes: number }> {
    const bytes = (await this.#firstPage()).readInt32LE(WAL_PAGE_HEADER.segmentSize);
    if (!isSegmentSize(bytes)) {
      throw new WaldumpError(
        `invalid WAL segment size in WAL file from archive "${this.#name}" (${bytes} ${bytes === 1 ? "byte" : "bytes"})`,
        { detail: "The WAL segment size must be a power of two between 1 MB and 1 GB." },
      );
    }
    this.#timeline = timeline;
    this.#segmentBytes = bytes;
    return { segmentBytes: bytes };
  }

  segment(high: number, low: number): SegmentBytes | undefined {
    return this.#current === this.#fileName(high, low) ? this.#segment : undefined;
  }

  async fetch(high: number, low: number): Promise<boolean> {
    const name = this.#fileName(high, low);
    this.#segment = undefined;
    if (this.#passed.has(name)) await this.#rewind();
    const tar = await this.#open();
    for (;;) {
      const found = await this.#nextSegment(tar);
      if (found === undefined) {
        throw new WaldumpError(`could not find WAL "${name}" in archive "${this.#name}"`);
      }
      if (found === name) break;
    }
    this.#segment = await this.#openMember(tar, name);
    this.#current = name;
    return true;
  }

  shortRead({ fileName, offset, wanted }: ShortRead): WaldumpError {
    const read = offset % WAL_PAGE_BYTES;
    return new WaldumpError(
      `WAL segment "${fileName}" in archive "${this.#name}" is too short: read ${read} of ${read + wanted} bytes`,
    );
  }

  async close(): Promise<void> {
    await this.#tar?.close();
    this.#tar = undefined;
    this.#file?.close();
    this.#file = undefined;
  }

  async #firstPage(): Promise<Buffer> {
    const tar = await this.#open();
    try {
      for (;;) {
        const name = await this.#nextSegment(tar);
        if (name === undefined) break;
        const start = Buffer.from(await this.#guard(tar.take(WAL_PAGE_BYTES)));
        const page = isContainer(start) ? await this.#firstPageIn(tar, name, start) : start;
        if (page.length === WAL_PAGE_BYTES) return page;
      }
    } finally {
      await this.#rewind();
    }
    throw new WaldumpError(`could not find WAL in archive "${this.#name}"`);
  }

  /** The name of the next member that is a segment. */
  async #nextSegment(tar: TarStream): Promise<string | undefined> {
    for (;;) {
      const member = await this.#guard(tar.next());
      if (member === undefined) return undefined;
      // Only files of the archive itself or of pg_wal are WAL of this cluster.
      const path = posix.normalize(member.name);
      const [, name, isSidecar] = SEGMENT_MEMBER.exec(path) ?? [];
      if (!member.isRegular || name === undefined) continue;
      if (path.length > name.length && !path.startsWith("pg_wal")) continue;
      if (isSidecar !== undefined) {
        await this.#keepSidecar(tar, name.slice(0, -isSidecar.length));
        continue;
      }
      if (this.#passed.has(name)) continue;
      this.#passed.add(name);
      return name;
    }
  }

  async #openMember(tar: TarStream, name: string): Promise<SegmentBytes> {
    const mark = Buffer.from(await this.#guard(tar.take(MARK_BYTES)));
    const most = isContainer(mark) ? LARGEST_MEMBER_BYTES : this.#segmentBytes;
    const rest = await this.#guard(tar.take(most - mark.length));
    return await this.#openBytes(Buffer.concat([mark, rest]), name);
  }

  async #firstPageIn(tar: TarStream, name: string, start: Buffer): Promise<Buffer> {
    const rest = await this.#guard(tar.take(LARGEST_MEMBER_BYTES));
    const segment = await this.#openBytes(Buffer.concat([start, rest]), name);
    const page = Buffer.alloc(WAL_PAGE_BYTES);
    return page.subarray(0, segment.read(page, 0, page.length, 0));
  }

  async #openBytes(bytes: Buffer, name: string): Promise<SegmentBytes> {
    return await openSegmentBytes(bytes, {
      folder: nameOf(this.#path),
      name: name as BytePath,
      keys: this.#keys,
      sidecar: async () => await this.#findSidecar(name),
    });
  }

  /** Behind the segment it is found first; else anywhere. */
  async #findSidecar(name: string): Promise<Buffer | undefined> {
    for (const isAgain of [false, true]) {
      if (isAgain) await this.#rewind();
      const tar = await this.#open();
      while (!this.#sidecars.has(name)) {
        if ((await this.#nextSegment(tar)) === undefined) break;
      }
      const found = this.#sidecars.get(name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  async #keepSidecar(tar: TarStream, name: string): Promise<void> {
    this.#sidecars.set(name, Buffer.from(await this.#guard(tar.take(KEPT_SIDECARS_BYTES))));
    let bytes = [...this.#sidecars.values()].reduce((sum, { length }) => sum + length, 0);
    for (const [oldest, { length }] of this.#sidecars) {
      if (bytes <= KEPT_SIDECARS_BYTES || oldest === name) return;
      this.#sidecars.delete(oldest);
      bytes -= length;
    }
  }

  async #rewind(): Promise<void> {
    await this.close();
    this.#passed = new Set();
  }

  async #open(): Promise<TarStream> {
    if (this.#tar !== undefined) return this.#tar;
    const file = openIfThere(this.#fs, directoryOf(this.#path), nameOf(this.#path));
    if (file === undefined) throw new WaldumpError(`could not open file "${this.#name}"`);
    this.#file = file;
    const start = Buffer.alloc(MARK_BYTES);
    file.read(start, 0, start.length, 0);
    const named = ARCHIVES.find(([pattern]) => pattern.test(this.#path))?.[1];
    // The gzip decoder says of other content what pg_waldump says of it; else content tells more than a name.
    const suffix = named === undefined || named === ".gz" ? named : suffixOfContent(start);
    const parts = ownParts(file);
    this.#tar = new TarStream(
      new ByteStream(suffix === undefined ? parts : decompressed(parts, suffix)),
    );
    return this.#tar;
  }

  /** Errors of decoders as pg_waldump reports them. */
  async #guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof WaldumpError || error instanceof StorageError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new WaldumpError(`could not decompress data: ${why}`);
    }
  }

  #fileName(high: number, low: number): string {
    return walFileName({ timeline: this.#timeline, high, low }, this.#segmentBytes);
  }
}
