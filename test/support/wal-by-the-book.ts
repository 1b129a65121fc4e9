/**
 * WAL segments stored as docs/FORMAT.md says, written from that page and from nothing in src/format or
 * src/wal/structure: the second opinion that the product's own form is held against.
 */
import { gcmEncrypt, secretKey } from "../../src/crypto/primitives.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { plainWal, type PlainRecord } from "./plain-records.ts";
import { secretsByTheBook } from "./readable-by-the-book.ts";
import { assembleSidecar, type BookFile, bookKeys, identityBytes } from "./sealed-by-the-book.ts";

const BLOCK = 8192;
const RECORD_CRC = 20;
const SEALED_CRC = 1;
const OPEN_HEADER = 2;

export interface BookSegment {
  readonly original: Buffer;
  readonly file: BookFile;
  /** Behind the block's number as u32 the rest of its nonce: 8 bytes. */
  readonly nonceEnd: Buffer;
}

export interface BookWalSlot {
  readonly slot: Buffer;
  readonly aad: Buffer;
  readonly plaintext: Buffer;
}

export interface BookStored {
  readonly stored: Buffer;
  readonly sidecar: Buffer;
  /** Of the blocks. */
  readonly slots: readonly BookWalSlot[];
  readonly carrySlots: readonly Buffer[];
}

/** What of a record lies in one segment. */
interface Part {
  readonly record: PlainRecord;
  /** 1 for each byte of the record that is secret, its padding included. */
  readonly secret: Uint8Array;
  /** [from, to) of the record's bytes that are in the segment. */
  readonly from: number;
  readonly to: number;
}

/** Stores a run of segments that follow each other, with the records that cross from one into the next. */
export function storeRun(segments: readonly BookSegment[], major: number): BookStored[] {
  const segmentBytes = segments[0]?.original.length ?? 0;
  const run = Buffer.concat(segments.map(({ original }) => original));
  const { records, openHeaders } = plainWal(run, major, segmentBytes);
  const stored = Buffer.from(run);
  const done = segments.map((segment, i) => {
    const start = i * segmentBytes;
    const parts = records.flatMap((record) => partIn(record, major, start, start + segmentBytes));
    const bytes = stored.subarray(start, start + segmentBytes);
    return storeSegment(bytes, start, segment, parts, openHeaders);
  });
  // Last, over what is stored by then.
  for (const { bytes, places } of records) {
    const now = Buffer.from(bytes.map((_, i) => stored[places[i] ?? 0] ?? 0));
    const crc = crc32c(now, 0, RECORD_CRC, crc32c(now, 24));
    for (let i = 0; i < 4; i++) stored[places[RECORD_CRC + i] ?? 0] = (crc >>> (8 * i)) & 0xff;
  }
  return done;
}

function partIn(record: PlainRecord, major: number, start: number, end: number): Part[] {
  const inside = [...record.places.keys()].filter((i) => {
    const place = record.places[i] ?? 0;
    return place >= start && place < end;
  });
  const [from, to] = [inside[0], inside.at(-1)];
  if (from === undefined || to === undefined) return [];
  return [{ record, secret: secretsByTheBook(record, major), from, to: to + 1 }];
}

/** @param bytes - the segment, which becomes the stored one. @param start - where it is in the run. */
function storeSegment(
  bytes: Buffer,
  start: number,
  { original, file, nonceEnd }: BookSegment,
  parts: readonly Part[],
  openHeaders: readonly number[],
): BookStored {
  const id = identityBytes(file.identity);
  const keys = bookKeys(file, file.macKeyId);
  const key = secretKey(keys.pageKey);
  const blockCount = bytes.length / BLOCK;
  // The guard.
  if (headerBytes(original, 0) > 0) {
    bytes.write("TDEW", 20, "latin1");
    for (let i = 24; i < 32; i++) bytes[i] = ~(bytes[i] ?? 0) & 0xff;
  }
  const slots: BookWalSlot[] = [];
  for (let block = 0; block < blockCount; block++) {
    const base = block * BLOCK;
    const { structureStart, structureEnd, secret, crcs, isOpen } = takeBlockApart(
      original,
      block,
      start,
      parts,
      openHeaders,
    );
    let zerosFrom = original.subarray(base, base + BLOCK).findLastIndex((byte) => byte !== 0) + 1;
    zerosFrom = Math.max(zerosFrom, structureEnd);
    const isZero = zerosFrom === 0;
    const sealsEnd = !isOpen && structureEnd > 0 && structureEnd < zerosFrom;
    if (sealsEnd) zerosFrom = Math.max(zerosFrom, structureEnd + 4);
    const ownCrc = sealedCrc(original, block, start, parts);
    const fields = Buffer.concat([
      Buffer.of(isZero ? 5 : 4, 1),
      numbers(2, (ownCrc === undefined ? 0 : SEALED_CRC) | (isOpen ? OPEN_HEADER : 0)),
      numbers(4, file.macKeyId),
      Buffer.alloc(8),
      numbers(4, BLOCK, structureStart, structureEnd, zerosFrom),
    ]);
    const zeroed = Buffer.from(bytes.subarray(base, base + zerosFrom));
    for (const at of crcs) zeroed[at] = 0;
    const structure = Buffer.from(zeroed.filter((_, i) => secret[i] === 0));
    const secrets = Buffer.from(
      bytes.subarray(base, base + zerosFrom).filter((_, i) => secret[i] === 1),
    );
    const aad = Buffer.concat([
      Buffer.from("tde/v1/wal"),
      id,
      numbers(4, block),
      fields,
      structure,
    ]);
    const plaintext = Buffer.concat([secrets, ownCrc ?? Buffer.alloc(0)]);
    const nonce = Buffer.concat([numbers(4, block), nonceEnd]);
    const { ciphertext, tag } = gcmEncrypt(key, nonce, aad, plaintext);
    for (let at = 0, next = 0; at < zerosFrom; at++) {
      if (secret[at] === 1) bytes[base + at] = ciphertext[next++] ?? 0;
    }
    const end = base + structureEnd;
    const sealedEnd = Buffer.from(sealsEnd ? bytes.subarray(end, end + 4) : Buffer.alloc(4));
    if (sealsEnd) bytes.fill(0, end, end + 4);
    const sealed = ownCrc === undefined ? Buffer.alloc(4) : ciphertext.subarray(-4);
    const slot = Buffer.concat(
      [fields, nonce, Buffer.alloc(12), tag, keys.commitment, sealedEnd, sealed],
      128,
    );
    slots.push({ slot, aad, plaintext });
  }
  const carrySlots = carriesOf(parts);
  const all = [...slots.map(({ slot }) => slot), ...carrySlots];
  return { stored: bytes, sidecar: assembleSidecar(file, all), slots, carrySlots };
}

interface BlockParts {
  readonly structureStart: number;
  readonly structureEnd: number;
  /** For each byte of the block 1 where it is secret. */
  readonly secret: Uint8Array;
  /** Bytes of the block that belong to an xl_crc. */
  readonly crcs: readonly number[];
  /** Structure ends in the header of a record that is not taken apart. */
  readonly isOpen: boolean;
}

function takeBlockApart(
  original: Buffer,
  block: number,
  start: number,
  parts: readonly Part[],
  openHeaders: readonly number[],
): BlockParts {
  const base = start + block * BLOCK;
  const secret = new Uint8Array(BLOCK).fill(1);
  const header = headerBytes(original, block);
  secret.fill(0, 0, header);
  const crcs: number[] = [];
  let [first, end] = [BLOCK, -1];
  for (const { record, secret: ofRecord, from, to } of parts) {
    for (let i = from; i < to; i++) {
      const at = (record.places[i] ?? 0) - base;
      if (at < 0 || at >= BLOCK) continue;
      first = Math.min(first, at);
      end = Math.max(end, at + 1);
      secret[at] = ofRecord[i] ?? 0;
      if (i >= RECORD_CRC && i < RECORD_CRC + 4) crcs.push(at);
    }
  }
  const open = openHeaders.find((at) => at >= base && at < base + BLOCK);
  if (open !== undefined) {
    first = Math.min(first, open - base);
    end = Math.min(open - base + RECORD_CRC, BLOCK);
    secret.fill(0, open - base, end);
  }
  const isOpen = open !== undefined;
  if (end < 0) return { structureStart: header, structureEnd: header, secret, crcs, isOpen };
  return { structureStart: first, structureEnd: end, secret, crcs, isOpen };
}

/** The original xl_crc that the slot of a block holds: of the record of side 0, or of the one of side 1. */
function sealedCrc(
  original: Buffer,
  block: number,
  start: number,
  parts: readonly Part[],
): Buffer | undefined {
  const isFirst = block === 0;
  const isLast = block === original.length / BLOCK - 1;
  const part = parts.find(
    ({ record, from, to }) =>
      (isFirst && from > 0) || (isLast && from === 0 && to < record.places.length),
  );
  if (part === undefined || part.from > RECORD_CRC || part.to <= RECORD_CRC) return undefined;
  const at = (part.record.places[RECORD_CRC] ?? 0) - start;
  return original.subarray(at, at + 4);
}

function carriesOf(parts: readonly Part[]): Buffer[] {
  return parts.flatMap(({ record, secret, from, to }) => {
    const isLeading = from > 0;
    if (!isLeading && to === record.places.length) return [];
    const bounds: number[] = secret[from] === 1 ? [0] : [];
    for (let i = from + 1; i < to; i++) if (secret[i] !== secret[i - 1]) bounds.push(i - from);
    bounds.push(to - from);
    const before = isLeading && from <= RECORD_CRC ? from : 0;
    const slots: Buffer[] = [];
    for (let at = 0; at < bounds.length; at += 30) {
      const some = bounds.slice(at, at + 30);
      const head = [Buffer.of(6, before), numbers(2, some.length), numbers(4, isLeading ? 0 : 1)];
      slots.push(Buffer.concat([...head, numbers(4, ...some)], 128));
    }
    return slots;
  });
}

/** A page header of the vectors, all of 17. */
function headerBytes(segment: Buffer, block: number): number {
  const page = block * BLOCK;
  const isPage =
    segment.readUInt16LE(page) === 0xd116 && segment.readUInt32LE(page + 8) % BLOCK === 0;
  const isLong = (segment.readUInt16LE(page + 2) & 2) !== 0;
  if (!isPage || isLong !== (block === 0)) return 0;
  return isLong ? 40 : 24;
}

function numbers(size: 2 | 4, ...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(size * values.length);
  for (const [i, value] of values.entries()) bytes.writeUIntLE(value, size * i, size);
  return bytes;
}
