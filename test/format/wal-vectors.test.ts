/**
 * The vectors of WAL segments in docs/FORMAT.md, held against a reading of that page that knows nothing of the code,
 * and then against the code: it stores the same bytes, and gives the originals back.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { secretKey, sha256 } from "../../src/crypto/primitives.ts";
import { walIdentity } from "../../src/datadir/wal-segment.ts";
import { derivePageKey, deriveSidecarMacKey } from "../../src/format/file-keys.ts";
import { serializeIdentity } from "../../src/format/identity.ts";
import type { Problem } from "../../src/format/problem.ts";
import { openSegment } from "../../src/format/wal/open-segment.ts";
import { bytesOf, mapPlainSegment } from "../../src/format/wal/plain-map.ts";
import { closeCrc } from "../../src/format/wal/record-checksum.ts";
import { sealSegment } from "../../src/format/wal/seal-segment.ts";
import { parseWalFileName } from "../../src/wal/wal-file-name.ts";
import { vectorsOf } from "../support/format-document.ts";
import { type BookIdentity, bookKeys, identityBytes } from "../support/sealed-by-the-book.ts";
import { type BookSegment, type BookStored, storeRun } from "../support/wal-by-the-book.ts";

/** A piece of a segment, which is zero elsewhere; page headers are written over texts. */
type Piece =
  | { readonly at: number; readonly hex: string }
  | { readonly at: number; readonly text: string; readonly bytes: number }
  | { readonly at: number; readonly header: string; readonly pages: number };

interface SegmentVector {
  readonly name: string;
  readonly fileSalt: string;
  readonly nonceEnd: string;
  readonly identityBytes: string;
  readonly pageKey: string;
  readonly commitment: string;
  readonly sidecarMacKey: string;
  readonly original: readonly Piece[];
  readonly originalSha256: string;
  readonly blocks: readonly {
    readonly block: number;
    readonly aad: string;
    readonly plaintextSha256: string;
    readonly slot: string;
    readonly stored?: string;
    readonly storedSha256: string;
  }[];
  readonly carrySlots: readonly string[];
  readonly recordCrcs: Readonly<Record<string, string>>;
  readonly storedSha256: string;
  readonly sidecarBytes: number;
  readonly sidecarSha256: string;
}

interface WalVector {
  readonly name: string;
  readonly major: number;
  readonly segmentBytes: number;
  readonly systemIdentifier: string;
  readonly keyringId: string;
  readonly keyId: number;
  readonly dek: string;
  readonly segments: readonly SegmentVector[];
}

const BLOCK = 8192;

function originalOf({ original }: SegmentVector, segmentBytes: number): Buffer {
  const bytes = Buffer.alloc(segmentBytes);
  for (const piece of original) {
    if ("hex" in piece) bytes.write(piece.hex, piece.at, "hex");
    else if ("text" in piece) bytes.fill(piece.text, piece.at, piece.at + piece.bytes, "latin1");
    else writeHeaders(bytes, piece);
  }
  return bytes;
}

/** Of pages that one record goes through: their addresses rise, and what is left of the record falls. */
function writeHeaders(
  bytes: Buffer,
  { at, header, pages }: { readonly at: number; readonly header: string; readonly pages: number },
): void {
  const own = Buffer.from(header, "hex");
  const [address, left] = [own.readBigUInt64LE(8), own.readUInt32LE(16)];
  for (let page = 0; page < pages; page++) {
    own.writeBigUInt64LE(address + BigInt(BLOCK * page), 8);
    own.writeUInt32LE(left - (BLOCK - own.length) * page, 16);
    own.copy(bytes, at + BLOCK * page);
  }
}

function identityOf(vector: WalVector, { name }: SegmentVector): BookIdentity {
  const [timeline, log, number] = [0, 8, 16].map((at) => parseInt(name.slice(at, at + 8), 16));
  const perLog = 2 ** 32 / vector.segmentBytes;
  return {
    systemIdentifier: vector.systemIdentifier,
    tablespace: timeline ?? 0,
    database: 0,
    relfilenumber: String((log ?? 0) * perLog + (number ?? 0)),
    fork: "wal",
    segment: vector.segmentBytes,
    firstBlock: 0,
    backend: 0xffffffff,
  };
}

function bookSegments(vector: WalVector): BookSegment[] {
  return vector.segments.map((segment) => ({
    original: originalOf(segment, vector.segmentBytes),
    nonceEnd: Buffer.from(segment.nonceEnd, "hex"),
    file: {
      blockSize: BLOCK,
      dataChecksums: false,
      keyringId: vector.keyringId,
      identity: identityOf(vector, segment),
      fileSalt: Buffer.from(segment.fileSalt, "hex"),
      macKeyId: vector.keyId,
      deks: new Map([[vector.keyId, secretKey(Buffer.from(vector.dek, "hex"))]]),
    },
  }));
}

function hexSha256(bytes: Buffer): string {
  return sha256(bytes).toString("hex");
}

const vectors = vectorsOf<WalVector>("WAL segments");

for (const vector of vectors) {
  const segments = bookSegments(vector);
  const book = storeRun(segments, vector.major);

  test(`vector of WAL segments by the book: ${vector.name}`, () => {
    for (const [i, { file }] of segments.entries()) {
      const expected = vector.segments[i] ?? assert.fail();
      const { stored, sidecar, slots, carrySlots } = book[i] ?? assert.fail();
      assert.equal(hexSha256(segments[i]?.original ?? assert.fail()), expected.originalSha256);
      assert.equal(identityBytes(file.identity).toString("hex"), expected.identityBytes);
      const keys = bookKeys(file, vector.keyId);
      assert.equal(keys.pageKey.toString("hex"), expected.pageKey);
      assert.equal(keys.commitment.toString("hex"), expected.commitment);
      assert.equal(keys.sidecarMacKey.toString("hex"), expected.sidecarMacKey);
      for (const { block, ...of } of expected.blocks) {
        const { aad, plaintext, slot } = slots[block] ?? assert.fail();
        const bytes = stored.subarray(block * BLOCK, (block + 1) * BLOCK);
        assert.equal(aad.toString("hex"), of.aad);
        assert.equal(hexSha256(plaintext), of.plaintextSha256);
        assert.equal(slot.toString("hex"), of.slot);
        assert.equal(hexSha256(bytes), of.storedSha256);
        if (of.stored !== undefined)
          assert.equal(bytes.toString("hex").replace(/(00)+$/, ""), of.stored);
      }
      assert.deepEqual(
        carrySlots.map((slot) => slot.toString("hex")),
        expected.carrySlots,
      );
      for (const [at, crc] of Object.entries(expected.recordCrcs)) {
        assert.equal(stored.toString("hex", Number(at), Number(at) + 4), crc);
      }
      assert.equal(hexSha256(stored), expected.storedSha256);
      assert.equal(sidecar.length, expected.sidecarBytes);
      assert.equal(hexSha256(sidecar), expected.sidecarSha256);
    }
  });

  test(`vector of WAL segments by the code: ${vector.name}`, () => {
    for (const i of segments.keys()) {
      const { stored, sidecar } = storedByTheCode(vector, segments, book, i);
      assertSameBytes(sidecar, book[i]?.sidecar, `sidecar of segment ${i}`);
      assertSameBytes(stored, book[i]?.stored, `segment ${i}`);
      assertOpens(vector, segments[i] ?? assert.fail(), book[i] ?? assert.fail(), i);
    }
  });
}

function assertSameBytes(actual: Buffer, expected: Buffer | undefined, what: string): void {
  const at = actual.findIndex((byte, i) => byte !== expected?.[i]);
  assert.equal(at, -1, `${what} differs at byte ${at}`);
  assert.equal(actual.length, expected?.length);
}

/** What the code needs of a segment. */
function contextOf(
  vector: WalVector,
  { file }: BookSegment,
  index: number,
): {
  readonly place: NonNullable<ReturnType<typeof parseWalFileName>>;
  readonly head: Parameters<typeof sealSegment>[1]["head"];
  readonly dek: ReturnType<typeof secretKey>;
} {
  const { name } = vector.segments[index] ?? assert.fail();
  const place = parseWalFileName(name, vector.segmentBytes) ?? assert.fail();
  const identity = walIdentity(BigInt(vector.systemIdentifier), place, vector.segmentBytes);
  assert.deepEqual(serializeIdentity(identity), identityBytes(file.identity));
  const head = { identity, keyringId: vector.keyringId, fileSalt: file.fileSalt };
  return { place, head, dek: file.deks.get(vector.keyId) ?? assert.fail() };
}

function storedByTheCode(
  vector: WalVector,
  segments: readonly BookSegment[],
  book: readonly BookStored[],
  index: number,
): { stored: Buffer; sidecar: Buffer } {
  const own = segments[index] ?? assert.fail();
  const { place, head, dek } = contextOf(vector, own, index);
  const stored = Buffer.from(own.original);
  const at = (distance: number): ReturnType<typeof bytesOf> | undefined => {
    const neighbour = segments[index + distance];
    return neighbour && bytesOf(neighbour.original);
  };
  const { sidecar, openCrc } = sealSegment(mapPlainSegment(stored, place, { at }), {
    head,
    keyId: vector.keyId,
    pageKey: derivePageKey(dek, head.fileSalt, vector.keyId, head.identity),
    macKey: deriveSidecarMacKey(dek, head.fileSalt, head.identity),
    epoch: 0n,
    fillNonces: (nonces) => {
      for (let block = 0; block < nonces.length / 12; block++) {
        nonces.writeUInt32LE(block, 12 * block);
        own.nonceEnd.copy(nonces, 12 * block + 4);
      }
    },
  });
  if (openCrc !== undefined) {
    const rest = restOfRecord(book.slice(index + 1).map((next) => next.stored));
    stored.writeUInt32LE(closeCrc(openCrc, rest), openCrc.crcAt);
  }
  return { stored, sidecar };
}

/** What the segments begin with of a record that began before them, page by page. */
function restOfRecord(segments: readonly Buffer[]): Buffer[] {
  const pages: Buffer[] = [];
  let left = segments[0]?.readUInt32LE(16) ?? 0;
  for (const segment of segments) {
    for (let page = 0; page < segment.length && left > 0; page += BLOCK) {
      const start = page + (page === 0 ? 40 : 24);
      pages.push(segment.subarray(start, Math.min(start + left, page + BLOCK)));
      left -= pages.at(-1)?.length ?? 0;
    }
  }
  return pages;
}

function assertOpens(
  vector: WalVector,
  segment: BookSegment,
  { stored, sidecar }: BookStored,
  index: number,
): void {
  const { head, dek } = contextOf(vector, segment, index);
  const bytes = Buffer.from(stored);
  const problems: Problem[] = [];
  const keys = {
    pageKey: (keyId: number) => derivePageKey(dek, head.fileSalt, keyId, head.identity),
    macKey: () => deriveSidecarMacKey(dek, head.fileSalt, head.identity),
  };
  const report = (problem: Problem): void => void problems.push(problem);
  openSegment(bytes, sidecar, { head, keys, maxEpoch: 0n, path: "segment", report }, "decrypt");
  assert.deepEqual(problems, []);
  assert.ok(bytes.equals(segment.original));
}
