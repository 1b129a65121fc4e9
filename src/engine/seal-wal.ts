/**
 * The segments of pg_wal that are sealed in readable mode, or sealed anew: after everything else, the last one first.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { walFilesOf } from "../datadir/pg-wal.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import type { WalFacts } from "../datadir/wal-segment.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DueStep, FilePatch } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { EngineContext } from "./context.ts";
import { type Places, stepsFor, walTarget } from "./plan-items.ts";
import { type OrderedSegment, SealOrder } from "./wal-readable/seal-order.ts";
import { byNumber } from "./wal-readable/wal-folder.ts";

interface DirectorySegment extends OrderedSegment {
  /** Relative to the data directory. */
  readonly path: BytePath;
}

/** Paths of segments, in any order. Holds one entry for each segment of pg_wal. */
export class WalToSeal {
  private readonly datadir: Datadir;
  private readonly places: Places;
  private readonly plainRoot: BytePath;
  private readonly segments: DirectorySegment[] = [];

  /** @param plainRoot - where the plain segments are: another directory where a copy is brought up to date. */
  constructor(datadir: Datadir, places: Places, plainRoot: BytePath = places.source) {
    this.datadir = datadir;
    this.places = places;
    this.plainRoot = plainRoot;
  }

  /** A plain segment, to be sealed. */
  add(path: BytePath): void {
    const plain = joinPath(this.plainRoot, path);
    this.push(path, { plain, target: walTarget(this.places, path) });
  }

  /** One that is stored as it should be, and plain at hand, too. */
  addUnchanged(path: BytePath): void {
    this.push(path, { plain: joinPath(this.plainRoot, path) });
  }

  /** One that is sealed already, to be sealed anew. */
  addAnew(path: BytePath): void {
    this.push(path, { target: walTarget(this.places, path) });
  }

  /** One that stays as it is stored: a record may cross from one into another, whatever becomes of each. */
  addStored(path: BytePath): void {
    this.push(path, {});
  }

  /**
   * For each segment that stays as it is, although the next one does not: its CRC of the record that crosses. The caller
   * writes it before it asks for the next one; it is read back then.
   * @param paths - of such segments; after `run`.
   */
  *crossingCrcs(
    { fs }: EngineContext,
    facts: WalFacts,
    paths: ReadonlySet<BytePath>,
  ): Generator<FilePatch> {
    const { walSegmentSizeBytes: sizeBytes } = this.datadir.control;
    const order = this.order(fs, facts);
    for (const segment of this.segments) {
      if (!paths.has(segment.path)) continue;
      const crc = order.crossingCrc(segment);
      if (crc === undefined) continue;
      yield { path: segment.path, sizeBytes, parts: [crc] };
      order.requireCrossing(segment);
    }
  }

  /** @param commit - lets a segment and its sidecar take their places. */
  async run(
    { fs, signal }: EngineContext,
    runner: TaskRunner,
    facts: WalFacts,
    commit: (steps: readonly DueStep[]) => void,
  ): Promise<void> {
    await this.order(fs, facts).run(runner, signal, ({ path }) =>
      // The sidecar first: ciphertext without one must never exist.
      commit(stepsFor(this.places, sidecarName(path), path)),
    );
  }

  private order(fs: FileSystem, facts: WalFacts): SealOrder<DirectorySegment> {
    const { walSegmentSizeBytes } = this.datadir.control;
    return new SealOrder(fs, facts, walSegmentSizeBytes, this.segments.toSorted(byNumber));
  }

  private push(path: BytePath, more: Pick<OrderedSegment, "plain" | "target">): void {
    const root = this.places.output ?? this.places.source;
    this.segments.push({ ...segmentOf(this.datadir, root, path), ...more });
  }
}

/** Readable mode was asked for, or is what nobody chose against; what becomes of the segments is another thing. */
export function tellOfSealedWal(
  { notice }: Pick<EngineContext, "notice">,
  { control }: Datadir,
  wal: WalMode,
): void {
  if (wal !== "readable" || control.is64Bit) return;
  notice(
    "pg_control is of a 32-bit build: its WAL is sealed whole, and pg_waldump does not read it before it is decrypted",
  );
}

/** @param paths - of class "wal". @returns them in the order of WAL. */
export function segmentsOf(datadir: Datadir, paths: readonly BytePath[]): DirectorySegment[] {
  return paths.map((path) => segmentOf(datadir, datadir.root, path)).toSorted(byNumber);
}

function segmentOf(datadir: Datadir, root: BytePath, path: BytePath): DirectorySegment {
  const files = walFilesOf(datadir, root, path);
  assert(files !== undefined, `"${path}" is no WAL segment`);
  return { path, number: files.identity.relfilenumber, place: files.place, files };
}
