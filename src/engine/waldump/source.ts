/**
 * Where `tde waldump` has its segments from: files of a directory here; a pipe and an archive have files of their own.
 */
import { setTimeout } from "node:timers/promises";
import type { BytePath } from "../../bytes/byte-path.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { ReadFailure } from "../../wal/read-outcome.ts";
import type { SegmentBytes, SegmentSource } from "../../wal/segment-source.ts";
import { parseWalFileName, walFileName } from "../../wal/wal-file-name.ts";
import type { Location } from "./locate.ts";
import { type OpenSegment, openSegmentFile, type WalKeys } from "./wal-files.ts";
import { WaldumpError } from "./waldump-error.ts";

/** A source that fetches segments when it is asked to, and then has them at once. */
export interface FetchingSource extends SegmentSource {
  /**
   * Has this segment, and no other, from now on.
   * @returns false where there is no more, and that is no error.
   * @throws {WaldumpError} when it cannot be had.
   */
  fetch(high: number, low: number): Promise<boolean>;
  /** What is said of a segment that ends inside a page; undefined: what is said of a file. */
  shortRead?(failure: ShortRead): WaldumpError;
  close(): Promise<void>;
}

export type ShortRead = ReadFailure & { readonly kind: "short" };

/** In follow mode a server may be about to make the file: how long it is waited for. */
const APPEARANCE_TRIES = 10;
const APPEARANCE_WAIT_MS = 500;

export class DirectorySource implements FetchingSource {
  readonly #fs: FileSystem;
  readonly #location: Location;
  readonly #follow: boolean;
  readonly #keys: WalKeys;
  #high = -1;
  #low = -1;
  #segment: OpenSegment | undefined;

  constructor(fs: FileSystem, location: Location, follow: boolean, keys: WalKeys) {
    this.#fs = fs;
    this.#location = location;
    this.#follow = follow;
    this.#keys = keys;
  }

  segment(high: number, low: number): SegmentBytes | undefined {
    return high === this.#high && low === this.#low ? this.#segment : undefined;
  }

  async fetch(high: number, low: number): Promise<boolean> {
    await this.close();
    this.#segment = await this.#open(high, low);
    this.#high = high;
    this.#low = low;
    return true;
  }

  async close(): Promise<void> {
    this.#segment?.close();
    this.#segment = undefined;
  }

  async #open(high: number, low: number): Promise<OpenSegment> {
    const { directory, segmentBytes, timeline, givenNames } = this.#location;
    const name = walFileName({ timeline, high, low }, segmentBytes) as BytePath;
    for (let tries = 0; tries < APPEARANCE_TRIES; tries++) {
      const segment = await openSegmentFile(this.#fs, directory, name, this.#keys);
      if (segment !== undefined) return segment;
      if (!this.#follow) break;
      await setTimeout(APPEARANCE_WAIT_MS);
    }
    // A file that was named on the command line is read under that name: `.partial`.
    for (const given of givenNames) {
      const named = parseWalFileName(given, segmentBytes);
      if (!given.startsWith(name) || named === undefined) continue;
      const segment = await openSegmentFile(this.#fs, directory, given, this.#keys);
      if (segment !== undefined) return segment;
    }
    throw new WaldumpError(`could not find file "${name}": No such file or directory`);
  }
}
