/**
 * Opens what tde sealed as docs/FORMAT.md says, written from that page and from nothing in src/format: the second
 * opinion on what a stored file holds. It asks only whether the tags hold, and knows neither manifests nor journals.
 */
import {
  gcmDecrypt,
  hkdf,
  hmacSha256,
  type KeyObject,
  secretKey,
} from "../../src/crypto/primitives.ts";
import { type BookIdentity, identityBytes } from "./sealed-by-the-book.ts";

export interface BookOpening {
  readonly blockSize: number;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly deks: ReadonlyMap<number, KeyObject>;
}

const SLOT_BYTES = 128;
const SPECIAL_BYTES = 104;
const TAG_BYTES = 16;

/** @returns the original of a relation file; undefined where anything does not hold. */
export function openRelationByTheBook(
  book: BookOpening,
  identity: BookIdentity,
  stored: Buffer,
  sidecar: Buffer,
): Buffer | undefined {
  const { blockSize } = book;
  const slotsPerPage = blockSize / SLOT_BYTES - 1;
  const slots = Math.ceil(stored.length / blockSize);
  if (slots === 0 || sidecar.length !== Math.ceil(slots / slotsPerPage) * blockSize)
    return undefined;
  const special = blockSize - SPECIAL_BYTES;
  const fileSalt = sidecar.subarray(special + 64, special + 80);
  const id = identityBytes(identity);
  if (!sidecarPagesHold(book, id, fileSalt, sidecar)) return undefined;
  const original = Buffer.alloc(stored.length);
  for (let block = 0; block < slots; block++) {
    const slotAt =
      Math.floor(block / slotsPerPage) * blockSize + 24 + (block % slotsPerPage) * SLOT_BYTES;
    const slot = sidecar.subarray(slotAt, slotAt + SLOT_BYTES);
    const at = block * blockSize;
    const page = stored.subarray(at, Math.min(at + blockSize, stored.length));
    const opened = openPage(book, id, identity.firstBlock + block, fileSalt, slot, page);
    if (opened === undefined) return undefined;
    opened.copy(original, at);
  }
  return original;
}

function sidecarPagesHold(
  { blockSize, keyringId, deks }: BookOpening,
  id: Buffer,
  fileSalt: Buffer,
  sidecar: Buffer,
): boolean {
  for (let at = 0; at < sidecar.length; at += blockSize) {
    const page = sidecar.subarray(at, at + blockSize);
    const special = page.subarray(blockSize - SPECIAL_BYTES);
    const isLast = at + blockSize === sidecar.length;
    const dek = deks.get(special.readUInt32LE(56));
    const isOurs =
      special.toString("latin1", 0, 4) === "TDES" &&
      special.readUInt8(7) === (isLast ? 1 : 0) &&
      special.readUInt32LE(40) === at / blockSize &&
      special.toString("hex", 48, 56) === keyringId &&
      special.subarray(64, 80).equals(fileSalt);
    if (!isOurs || dek === undefined) return false;
    const info = Buffer.concat([Buffer.from("tde/v1/sidecar-mac"), id]);
    const key = secretKey(hkdf(dek, fileSalt, info, 32));
    const mac = hmacSha256(key, page.subarray(0, 8), page.subarray(10, blockSize - TAG_BYTES));
    if (!mac.subarray(0, TAG_BYTES).equals(special.subarray(88, 104))) return false;
  }
  return true;
}

function openPage(
  { blockSize, deks }: BookOpening,
  id: Buffer,
  block: number,
  fileSalt: Buffer,
  slot: Buffer,
  page: Buffer,
): Buffer | undefined {
  const kind = slot.readUInt8(0);
  const keyId = slot.readUInt32LE(4);
  const dek = deks.get(keyId);
  if (dek === undefined || slot.readUInt32LE(16) !== page.length) return undefined;
  const info = [Buffer.from("tde/v1/page"), Buffer.of(1), u32(keyId), id];
  const derived = hkdf(dek, fileSalt, Buffer.concat(info), 64);
  if (!derived.subarray(32).equals(slot.subarray(72, 104))) return undefined;
  const key = secretKey(derived.subarray(0, 32));
  const aad = [Buffer.from("tde/v1/page"), id, u32(block), slot.subarray(0, 32)];
  const open = (header: Buffer, ciphertext: Buffer): Buffer | undefined =>
    gcmDecrypt(
      key,
      slot.subarray(32, 44),
      Buffer.concat([...aad, header]),
      ciphertext,
      slot.subarray(56, 72),
    );
  if (kind === 3) return open(Buffer.alloc(0), page);
  if (page.length !== blockSize) return undefined;
  if (kind === 2) {
    const isZero = page.every((byte) => byte === 0);
    return isZero && open(Buffer.alloc(24), Buffer.alloc(0)) !== undefined ? page : undefined;
  }
  if (kind !== 1) return undefined;
  const header = Buffer.concat([page.subarray(0, 8), Buffer.alloc(2), page.subarray(10, 24)]);
  const text = open(header, Buffer.concat([slot.subarray(104, 106), page.subarray(24)]));
  if (text === undefined) return undefined;
  const original = Buffer.concat([header, text.subarray(2)]);
  text.copy(original, 8, 0, 2);
  const hadMark = (slot.readUInt16LE(2) & 2) !== 0;
  original.writeUInt16LE((header.readUInt16LE(10) & 0x7fff) | (hadMark ? 0x8000 : 0), 10);
  return original;
}

/** @returns the content of a container and the context that it names; undefined where it is none, or does not hold. */
export function openContainerByTheBook(
  { keyringId, deks }: BookOpening,
  bytes: Buffer,
): { readonly context: string; readonly content: Buffer } | undefined {
  if (bytes.length < 116 || bytes.toString("latin1", 0, 4) !== "TDEC") return undefined;
  const dek = deks.get(bytes.readUInt32LE(8));
  const headerEnd = 112 + bytes.readUInt16LE(40);
  if (dek === undefined || bytes.toString("hex", 16, 24) !== keyringId) return undefined;
  if (bytes.readUInt8(7) !== 0 || bytes.length < headerEnd + 4) return undefined;
  const context = bytes.subarray(112, headerEnd);
  const info = Buffer.concat([Buffer.from("tde/v1/sealed"), bytes.subarray(0, 64), context]);
  const derived = hkdf(dek, bytes.subarray(64, 80), info, 64);
  if (!derived.subarray(32).equals(bytes.subarray(80, 112))) return undefined;
  const key = secretKey(derived.subarray(0, 32));
  const chunkBytes = bytes.readUInt32LE(12) + TAG_BYTES;
  const parts: Buffer[] = [];
  let at = headerEnd + 4;
  for (let index = 0; ; index++, at += chunkBytes) {
    const isLast = at + chunkBytes >= bytes.length;
    const end = isLast ? bytes.length : at + chunkBytes;
    if (end - at < TAG_BYTES) return undefined;
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32BE(index, 7);
    nonce.writeUInt8(isLast ? 1 : 0, 11);
    const ciphertext = bytes.subarray(at, end - TAG_BYTES);
    const tag = bytes.subarray(end - TAG_BYTES, end);
    const part = gcmDecrypt(key, nonce, Buffer.alloc(0), ciphertext, tag);
    if (part === undefined) return undefined;
    parts.push(part);
    if (isLast) break;
  }
  const content = Buffer.concat(parts);
  const isWhole = content.length === Number(bytes.readBigUInt64LE(32));
  return isWhole ? { context: context.toString("latin1"), content } : undefined;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
