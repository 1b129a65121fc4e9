/**
 * One WAL segment in readable mode as files: reads a plain one with what is around it and gives its stored form and
 * sidecar, or reads those and gives the original. A segment is held in memory whole.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { sha256 } from "../crypto/primitives.ts";
import { FormatError, KeyError } from "../errors.ts";
import { derivePageKey, deriveSidecarMacKey } from "../format/file-keys.ts";
import { newFileSalt } from "../format/file-salt.ts";
import { type FileIdentity, NO_BACKEND, sameIdentity } from "../format/identity.ts";
import type { Problem } from "../format/problem.ts";
import {
  parseSidecarPage,
  type SidecarHead,
  type SidecarPageHead,
} from "../format/sidecar-page.ts";
import {
  isOriginal as holdsOriginal,
  type OpenedSegment,
  openSegment,
  type WalDepth,
  type WalOpenContext,
} from "../format/wal/open-segment.ts";
import {
  bytesOf,
  completeLeading,
  mapPlainSegment,
  type SegmentPlace,
} from "../format/wal/plain-map.ts";
import type { OpenCrc } from "../format/wal/record-checksum.ts";
import { sealSegment } from "../format/wal/seal-segment.ts";
import { MapMemory, type SegmentMap } from "../format/wal/segment-map.ts";
import { WAL_SIDECAR_PAGE_BYTES } from "../format/wal/wal-slot.ts";
import { dekFor } from "../keyring/data-keys.ts";
import { readExactly, readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { WAL_PAGE_BYTES } from "../wal/page-header.ts";
import type { SegmentBytes } from "../wal/segment-source.ts";
import { DerivedFileKeys } from "./open-relation.ts";
import type { RunFacts } from "./relation-job.ts";

export interface WalSegmentFiles {
  /** As messages name it. */
  readonly path: BytePath;
  /** Plain or stored. */
  readonly segment: BytePath;
  /** Of the stored one. */
  readonly sidecar: BytePath;
  readonly identity: FileIdentity;
  readonly place: SegmentPlace;
}

/** What stands around a plain segment. */
export interface WalSurroundings {
  /** Plain segments before it, the nearest first. */
  readonly before: readonly BytePath[];
  /** What the segments after it begin with, plain, the nearest first: as far as a record that crosses into them goes. */
  readonly after: readonly Uint8Array[];
}

/** Facts of a run that a segment needs. */
export interface WalFacts extends Pick<
  RunFacts,
  "keys" | "keyringId" | "epoch" | "latestEpoch" | "saltKey"
> {
  /** What segments are read into; without it each has memory of its own. */
  readonly memory?: SegmentMemory;
}

/** Memory for one segment after the other: with the next one, what a function gave back of the last one is gone. */
export class SegmentMemory {
  readonly map: MapMemory = new MapMemory();
  #bytes: Buffer = Buffer.alloc(0);

  take(sizeBytes: number): Buffer {
    if (this.#bytes.length < sizeBytes) this.#bytes = Buffer.allocUnsafeSlow(sizeBytes);
    return this.#bytes.subarray(0, sizeBytes);
  }
}

/** @param segmentNumber - LSN of its first byte / its size. */
export function walIdentity(
  systemIdentifier: bigint,
  { high, low, timeline }: SegmentPlace,
  segmentBytes: number,
): FileIdentity {
  return {
    systemIdentifier,
    tablespaceOid: timeline,
    databaseOid: 0,
    relfilenumber: ((BigInt(high) << 32n) | BigInt(low)) / BigInt(segmentBytes),
    fork: "wal",
    relationSegment: segmentBytes,
    firstBlock: 0,
    backend: NO_BACKEND,
  };
}

export interface SealedWalSegment {
  readonly segment: Buffer;
  readonly sidecar: Buffer;
  readonly openCrc: OpenCrc | undefined;
  readonly zeroBlocks: number;
}

/** @throws {KeyError} when the keyring lacks its current key; {StorageError}. */
export function sealWalSegment(
  fs: FileSystem,
  facts: WalFacts,
  files: WalSegmentFiles,
  { before, after }: WalSurroundings,
): SealedWalSegment {
  const segment = readSegment(fs, files, facts.memory);
  const opened = new Map<number, SegmentBytes>();
  const at = (distance: number): SegmentBytes | undefined => {
    let bytes = opened.get(distance);
    if (bytes !== undefined) return bytes;
    if (distance > 0) {
      const start = after[distance - 1];
      bytes = start && bytesOf(Buffer.from(start.buffer, start.byteOffset, start.byteLength));
    } else {
      const path = before[-distance - 1];
      bytes = path === undefined ? undefined : fileBytes(fs, path);
    }
    if (bytes !== undefined) opened.set(distance, bytes);
    return bytes;
  };
  return sealMapped(mapPlainSegment(segment, files.place, { at }, facts.memory?.map), facts, files);
}

export interface ResealedWalSegment extends SealedWalSegment {
  /** SHA-256 of the plain segment. */
  readonly plainDigest: Buffer;
}

/**
 * A stored segment with another salt, other nonces and the current key, taken apart as it was before.
 * @param before - the stored segment before it, where there is one.
 * @param report - must throw: nothing is sealed anew that does not authenticate.
 */
export function resealWalSegment(
  fs: FileSystem,
  facts: WalFacts,
  files: WalSegmentFiles,
  before: BytePath | undefined,
  report: (problem: Problem) => never,
): ResealedWalSegment {
  const { map, segment } = openWalSegment(fs, facts, files, "decrypt", report);
  const plainDigest = sha256(segment);
  assert(map !== undefined, "what was opened without a problem has a map");
  completeLeading(map, (bytes) => {
    if (before === undefined) {
      const message = "the segment before it, in which its first record begins, is missing";
      return report({ kind: "missing", path: displayPath(files.path), message });
    }
    return withFile(fs, before, (file) => {
      const end = Buffer.alloc(bytes);
      readExactly(file, end, 0, bytes, file.stat().sizeBytes - bytes);
      return end;
    });
  });
  return { ...sealMapped(map, facts, files), plainDigest };
}

/** @param map - of a plain segment, whose bytes are replaced. */
function sealMapped(
  map: SegmentMap,
  { keys, keyringId, epoch, saltKey }: WalFacts,
  files: WalSegmentFiles,
): SealedWalSegment {
  if (keys === undefined) throw new KeyError("sealing needs an opened keyring");
  const fileSalt = newFileSalt(saltKey, files.path);
  const keyId = keys.currentKeyId;
  const dek = dekFor(keys, keyringId, keyId, displayPath(files.path));
  const { identity } = files;
  const sealed = sealSegment(map, {
    head: { identity, keyringId, fileSalt },
    keyId,
    pageKey: derivePageKey(dek, fileSalt, keyId, identity),
    macKey: deriveSidecarMacKey(dek, fileSalt, identity),
    epoch,
  });
  return { segment: map.segment, ...sealed };
}

/** What is read at a time of a segment before: enough to find where a record begins. */
function fileBytes(fs: FileSystem, path: BytePath): SegmentBytes {
  return {
    read: (buffer, offset, length, position) =>
      withFile(fs, path, (file) => file.read(buffer, offset, length, position)),
  };
}

export interface OpenedWalSegment extends OpenedSegment {
  /** As stored or, where it was decrypted without a problem, the original. Of depth "sidecar" the first page alone. */
  readonly segment: Buffer;
  readonly sidecarDigest: Buffer;
  /** Undefined where the sidecar says none. */
  readonly fileSalt?: Buffer | undefined;
}

/**
 * Checks a stored segment and, when asked, decrypts it in memory. Without keys its form alone is checked.
 * @param report - may throw.
 */
export function openWalSegment(
  fs: FileSystem,
  facts: WalFacts,
  files: WalSegmentFiles,
  depth: WalDepth,
  report: (problem: Problem) => void,
): OpenedWalSegment {
  const startBytes = depth === "sidecar" ? WAL_PAGE_BYTES : undefined;
  const segment = readSegment(fs, files, facts.memory, startBytes);
  const bytes = { segment, sidecar: readSidecar(fs, files) };
  return openWalBytes(bytes, facts, files, depth, report);
}

/** Both files of a stored segment. */
export interface WalSegmentBytes {
  readonly segment: Buffer;
  readonly sidecar: Buffer;
}

/** As openWalSegment, of what is in memory already. */
export function openWalBytes(
  { segment, sidecar }: WalSegmentBytes,
  facts: WalFacts,
  files: Pick<WalSegmentFiles, "path" | "identity">,
  depth: WalDepth,
  report: (problem: Problem) => void,
): OpenedWalSegment {
  const sidecarDigest = sha256(sidecar);
  const context = openContext({ segment, sidecar }, facts, files, report);
  if (context === undefined) {
    const nothing = { blocksByKey: new Map(), newestBlocks: 0, macKeyIds: new Set<number>() };
    return { ...nothing, segment, sidecarDigest, map: undefined };
  }
  const { fileSalt } = context.head;
  return { ...openSegment(segment, sidecar, context, depth), segment, sidecarDigest, fileSalt };
}

/** Whether a plain segment is, bit for bit, what its sidecar was made for. Anything else is reported, too. */
export function isOriginalWalSegment(
  fs: FileSystem,
  facts: WalFacts,
  files: WalSegmentFiles,
  report: (problem: Problem) => void,
): boolean {
  return holdPlainWalSegment(fs, facts, files, report).isOriginal;
}

/** As isOriginalWalSegment. @returns also SHA-256 of the sidecar that it was held against. */
export function holdPlainWalSegment(
  fs: FileSystem,
  facts: WalFacts,
  files: WalSegmentFiles,
  report: (problem: Problem) => void,
): { readonly isOriginal: boolean; readonly sidecarDigest: Buffer } {
  const sidecar = readSidecar(fs, files);
  const sidecarDigest = sha256(sidecar);
  const segment = readSegment(fs, files, facts.memory);
  const context = openContext({ segment, sidecar }, facts, files, report);
  const isOriginal = context !== undefined && holdsOriginal(segment, sidecar, context);
  return { isOriginal, sidecarDigest };
}

function openContext(
  { segment, sidecar }: WalSegmentBytes,
  { keys, epoch, latestEpoch, memory }: Pick<WalFacts, "keys" | "epoch" | "latestEpoch" | "memory">,
  files: Pick<WalSegmentFiles, "path" | "identity">,
  report: (problem: Problem) => void,
): WalOpenContext | undefined {
  const path = displayPath(files.path);
  const head = walSidecarHead(sidecar);
  if (typeof head === "string") {
    report({ kind: "sidecar", path, message: head });
    return undefined;
  }
  if (!sameIdentity(head.identity, files.identity)) {
    report({ kind: "identity", path, message: identityMessage(head, files) });
    return undefined;
  }
  const { relationSegment: segmentBytes } = files.identity;
  if (segment.length !== segmentBytes) {
    const message = `the segment has ${segment.length} bytes where ${segmentBytes} are right`;
    report({ kind: "size", path, message });
    return undefined;
  }
  // Yours, and not the one that the directory names: where its manifest cannot be read, it names none.
  if (keys !== undefined && head.keyringId !== keys.keyringId) {
    const message = `${path} needs keyring ${head.keyringId}, yours is keyring ${keys.keyringId}`;
    report({ kind: "key", path, message });
    return undefined;
  }
  return {
    head,
    keys: keys && new DerivedFileKeys(keys, head, path),
    maxEpoch: latestEpoch ?? epoch,
    path,
    report,
    memory: memory?.map,
  };
}

/** The salt that a segment's sidecar names, unauthenticated; undefined where it names none. */
export function walFileSalt(fs: FileSystem, sidecar: BytePath): Buffer | undefined {
  const page = Buffer.alloc(WAL_SIDECAR_PAGE_BYTES);
  const count = withFile(fs, sidecar, (file) => readUpTo(file, page, 0, page.length, 0));
  const head = walSidecarHead(page.subarray(0, count));
  return typeof head === "string" ? undefined : head.fileSalt;
}

/** What the first page of a segment's sidecar says; in words why it says nothing. */
export function walSidecarHead(sidecar: Buffer): SidecarPageHead | string {
  if (sidecar.length < WAL_SIDECAR_PAGE_BYTES) return "the sidecar is cut";
  const head = parseSidecarPage(sidecar.subarray(0, WAL_SIDECAR_PAGE_BYTES));
  if (typeof head === "string") return head;
  return head.identity.fork === "wal" ? head : "the sidecar is not that of a WAL segment";
}

/** That a segment is sealed as another one than its name says. */
function identityMessage(
  { identity }: SidecarHead,
  files: Pick<WalSegmentFiles, "identity">,
): string {
  const own = files.identity;
  if (identity.systemIdentifier !== own.systemIdentifier) {
    return `it is of cluster ${identity.systemIdentifier}, not ${own.systemIdentifier}`;
  }
  return `it is segment ${identity.relfilenumber} of timeline ${identity.tablespaceOid}, not ${own.relfilenumber} of ${own.tablespaceOid}`;
}

/** More than the sidecar of the largest segment has. */
export const WAL_SIDECAR_LIMIT_BYTES: number = 2 ** 26;

function readSidecar(fs: FileSystem, { sidecar }: WalSegmentFiles): Buffer {
  return readWhole(fs, sidecar, WAL_SIDECAR_LIMIT_BYTES);
}

/** @param startBytes - of the buffer, as large as the file, only so much is filled. Left out: all of it. */
function readSegment(
  fs: FileSystem,
  files: WalSegmentFiles,
  memory?: SegmentMemory,
  startBytes?: number,
): Buffer {
  return readWhole(fs, files.segment, files.identity.relationSegment, memory, startBytes);
}

function readWhole(
  fs: FileSystem,
  path: BytePath,
  limitBytes: number,
  memory?: SegmentMemory,
  startBytes: number = limitBytes,
): Buffer {
  return withFile(fs, path, (file) => {
    const { sizeBytes } = file.stat();
    if (sizeBytes > limitBytes) {
      throw new FormatError(
        `file "${displayPath(path)}" has ${sizeBytes} bytes, more than the ${limitBytes} that it can have`,
      );
    }
    const bytes = memory?.take(sizeBytes) ?? Buffer.allocUnsafe(sizeBytes);
    readExactly(file, bytes, 0, Math.min(startBytes, sizeBytes), 0);
    return bytes;
  });
}
