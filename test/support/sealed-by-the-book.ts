/**
 * Relation files sealed as docs/FORMAT.md says, written from that page and from nothing in src/format: the second
 * opinion that the product's own sealing is held against. Nonces, keys and epochs are the caller's, and a sidecar can
 * be put together from any slots, with MACs and checksums made anew, as a forger could who has the keys.
 */
import {
  exportKey,
  gcmEncrypt,
  hkdf,
  hmacSha256,
  type KeyObject,
  secretKey,
} from "../../src/crypto/primitives.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";

export interface BookIdentity {
  readonly systemIdentifier: string;
  readonly tablespace: number;
  readonly database: number;
  readonly relfilenumber: string;
  readonly fork: "main" | "fsm" | "vm" | "init" | "wal";
  readonly segment: number;
  readonly firstBlock: number;
  readonly backend: number;
}

export interface BookFile {
  readonly blockSize: number;
  readonly dataChecksums: boolean;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly identity: BookIdentity;
  /** 16 bytes. */
  readonly fileSalt: Buffer;
  readonly macKeyId: number;
  readonly deks: ReadonlyMap<number, KeyObject>;
}

export interface BookPage {
  /** A whole page or, as the last, a tail. */
  readonly original: Buffer;
  readonly keyId: number;
  readonly epoch: bigint;
  /** 12 bytes. */
  readonly nonce: Buffer;
}

export interface BookSlot {
  readonly aad: Buffer;
  /** 128 bytes. */
  readonly slot: Buffer;
  /** What stands in the file. */
  readonly stored: Buffer;
}

export interface BookKeys {
  readonly pageKey: Buffer;
  readonly commitment: Buffer;
  readonly sidecarMacKey: Buffer;
}

export function identityBytes(identity: BookIdentity): Buffer {
  const { tablespace, database, segment, firstBlock, backend } = identity;
  const fork = { main: 0, fsm: 1, vm: 2, init: 3, wal: 16 }[identity.fork];
  return Buffer.concat([
    u64(BigInt(identity.systemIdentifier)),
    u32(tablespace),
    u32(database),
    u64(BigInt(identity.relfilenumber)),
    Buffer.of(fork),
    u32(segment),
    u32(firstBlock),
    u32(backend),
  ]);
}

export function bookKeys(file: BookFile, keyId: number): BookKeys {
  const dek = file.deks.get(keyId);
  if (dek === undefined) throw new Error(`no key ${keyId}`);
  const identity = identityBytes(file.identity);
  const info = [Buffer.from("tde/v1/page"), Buffer.of(1), u32(keyId), identity];
  const page = hkdf(dek, file.fileSalt, Buffer.concat(info), 64);
  const macInfo = Buffer.concat([Buffer.from("tde/v1/sidecar-mac"), identity]);
  return {
    pageKey: page.subarray(0, 32),
    commitment: page.subarray(32),
    sidecarMacKey: hkdf(dek, file.fileSalt, macInfo, 32),
  };
}

/** Seals the file's blocks one after the other. */
export function sealBlocks(file: BookFile, pages: readonly BookPage[]): BookSlot[] {
  const keys = new Map([...file.deks.keys()].map((keyId) => [keyId, bookKeys(file, keyId)]));
  return pages.map((page, i) => {
    const ofPage = keys.get(page.keyId);
    if (ofPage === undefined) throw new Error(`no key ${page.keyId}`);
    return sealBlock(file, page, file.identity.firstBlock + i, ofPage);
  });
}

function sealBlock(file: BookFile, page: BookPage, block: number, keys: BookKeys): BookSlot {
  const { original, nonce } = page;
  const tail = original.length < file.blockSize;
  const kind = tail ? 3 : original.every((byte) => byte === 0) ? 2 : 1;
  const pdFlags = kind === 1 ? original.readUInt16LE(10) : 0;
  const wrong =
    kind === 1 && file.dataChecksums && original.readUInt16LE(8) !== pageChecksum(original, block);
  const flags = (wrong ? 1 : 0) | ((pdFlags & 0x8000) !== 0 ? 2 : 0);
  const fields = Buffer.concat([
    Buffer.of(kind, 1),
    u16(flags),
    u32(page.keyId),
    u64(page.epoch),
    u32(original.length),
    Buffer.alloc(12),
  ]);
  const beforeHeader = [
    Buffer.from("tde/v1/page"),
    identityBytes(file.identity),
    u32(block),
    fields,
  ];
  const key = secretKey(keys.pageKey);
  const slotOf = (tag: Buffer, sealed: Buffer): Buffer =>
    Buffer.concat(
      [fields, nonce, Buffer.alloc(12), tag, keys.commitment, sealed, Buffer.alloc(24)],
      128,
    );
  const NONE = Buffer.alloc(0);
  if (kind === 3) {
    const aad = Buffer.concat(beforeHeader);
    const { ciphertext, tag } = gcmEncrypt(key, nonce, aad, original);
    return { aad, slot: slotOf(tag, NONE), stored: ciphertext };
  }
  if (kind === 2) {
    const aad = Buffer.concat([...beforeHeader, Buffer.alloc(24)]);
    const { tag } = gcmEncrypt(key, nonce, aad, NONE);
    return { aad, slot: slotOf(tag, NONE), stored: Buffer.from(original) };
  }
  const header = Buffer.concat([
    original.subarray(0, 8),
    u16(0),
    u16(pdFlags | 0x8000),
    original.subarray(12, 24),
  ]);
  const aad = Buffer.concat([...beforeHeader, header]);
  const plaintext = Buffer.concat([original.subarray(8, 10), original.subarray(24)]);
  const { ciphertext, tag } = gcmEncrypt(key, nonce, aad, plaintext);
  const stored = Buffer.concat([header, ciphertext.subarray(2)]);
  const valid = pageChecksum(stored, block);
  const flipped = (valid ^ 1) === 0 ? 2 : valid ^ 1;
  stored.writeUInt16LE(wrong ? flipped : valid, 8);
  return { aad, slot: slotOf(tag, ciphertext.subarray(0, 2)), stored };
}

/** What a forger could write in place of what belongs there. */
export interface SidecarChange {
  /** Numbers of the pages that carry LAST; otherwise the last one. */
  readonly lastOn?: readonly number[];
  /** Called with the page's number and bytes before its MAC is made. */
  readonly edit?: (pageNumber: number, page: Buffer) => void;
}

/** All sidecar pages around these slots. */
export function assembleSidecar(
  file: BookFile,
  slots: readonly Buffer[],
  change: SidecarChange = {},
): Buffer {
  const { blockSize, identity } = file;
  const slotsPerPage = blockSize / 128 - 1;
  const pageCount = Math.ceil(slots.length / slotsPerPage);
  const lastOn = change.lastOn ?? [pageCount - 1];
  const macKey = secretKey(bookKeys(file, file.macKeyId).sidecarMacKey);
  const id = identityBytes(identity);
  const pages: Buffer[] = [];
  for (let number = 0; number < pageCount; number++) {
    const special = blockSize - 104;
    const page = Buffer.concat(
      [
        Buffer.alloc(12),
        u16(special),
        u16(special),
        u16(special),
        u16(blockSize + 4),
        u32(0),
        ...slots.slice(number * slotsPerPage, (number + 1) * slotsPerPage),
      ],
      blockSize,
    );
    Buffer.concat([
      Buffer.from("TDES"),
      u16(1),
      id.subarray(24, 25),
      Buffer.of(lastOn.includes(number) ? 1 : 0),
      id.subarray(0, 24),
      id.subarray(25, 33),
      u32(number),
      id.subarray(33),
      Buffer.from(file.keyringId, "hex"),
      u32(file.macKeyId),
      u32(0),
      file.fileSalt,
    ]).copy(page, special);
    change.edit?.(number, page);
    const end = blockSize - 16;
    hmacSha256(macKey, page.subarray(0, 8), page.subarray(10, end)).copy(page, end, 0, 16);
    page.writeUInt16LE(pageChecksum(page, identity.firstBlock + number), 8);
    pages.push(page);
  }
  return Buffer.concat(pages);
}

/** A stored page with its checksum made anew for the block where it stands. */
export function withChecksum(page: Buffer, block: number): Buffer {
  const copy = Buffer.from(page);
  copy.writeUInt16LE(pageChecksum(copy, block), 8);
  return copy;
}

/** A key of 32 bytes as hex. */
export function hexOfKey(key: KeyObject): string {
  return exportKey(key).toString("hex");
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}
