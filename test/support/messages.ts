/**
 * The encrypted messages of relation files, WAL segments and containers, by the key and the nonce that each was made
 * with, read by offsets alone. Under one key no nonce may ever stand before two different messages: whoever has both
 * learns what their plaintexts differ in, and forges from then on.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "../../src/crypto/primitives.ts";
import { CONTAINER_HEADER, CONTAINER_MAGIC } from "../../src/format/container.ts";
import { slotOffset, slotsPerPage } from "../../src/format/sidecar-page.ts";
import { SLOT, SLOT_KIND } from "../../src/format/slot.ts";

export interface Message {
  /** For the failure: which block of which file. */
  readonly where: string;
  /** The key by its commitment, which no two keys share; then the nonce. */
  readonly keyAndNonce: string;
  /** What tells it from other messages of this key and nonce: its tag, or of a container everything. */
  readonly tag: string;
}

/** Of one sidecar, whose pages may belong to a relation or to WAL. @param where - the file, for messages. */
export function messagesIn(where: string, sidecar: Buffer, blockSizeBytes: number): Message[] {
  const messages: Message[] = [];
  const perPage = slotsPerPage(blockSizeBytes);
  for (let page = 0; page * blockSizeBytes < sidecar.length; page++) {
    const pageAt = page * blockSizeBytes;
    for (let slot = 0; slot < perPage; slot++) {
      const at = pageAt + slotOffset(slot);
      const kind = sidecar.readUInt8(at + SLOT.kind);
      if (kind === SLOT_KIND.unused || kind === SLOT_KIND.walCarry) continue;
      const block = page * perPage + slot;
      const key = sidecar.toString("hex", at + SLOT.commitment, at + SLOT.commitment + KEY_BYTES);
      const nonce = sidecar.toString("hex", at + SLOT.nonce, at + SLOT.nonce + NONCE_BYTES);
      const tag = sidecar.toString("hex", at + SLOT.tag, at + SLOT.tag + TAG_BYTES);
      messages.push({
        where: `${where} block ${block}`,
        keyAndNonce: `${key} ${nonce}`,
        tag,
      });
    }
  }
  return messages;
}

/** Of all that is sealed in a directory. Sidecar pages have 8 kB, as those of WAL always do. */
export function messagesOf(datadir: string): Message[] {
  const names = readdirSync(datadir, { recursive: true, encoding: "utf8" });
  return names.sort().flatMap((name) => {
    const path = join(datadir, name);
    if (!lstatSync(path).isFile()) return [];
    const bytes = readFileSync(path);
    if (CONTAINER_MAGIC.equals(bytes.subarray(0, 4))) return [containerMessage(name, bytes)];
    const sidecar = sidecarPath(path);
    return existsSync(sidecar) ? messagesIn(name, readFileSync(sidecar), 8192) : [];
  });
}

/** Chunks are numbered under a key of the file's own: two files of one key repeat all of their nonces. */
function containerMessage(where: string, bytes: Buffer): Message {
  const { commitment } = CONTAINER_HEADER;
  return {
    where,
    keyAndNonce: bytes.toString("hex", commitment, commitment + KEY_BYTES),
    tag: createHash("sha256").update(bytes).digest("hex"),
  };
}

function sidecarPath(path: string): string {
  const segment = /\.\d+$/.exec(path)?.[0] ?? "";
  return `${path.slice(0, path.length - segment.length)}_tde${segment}`;
}

/** Fails where one nonce stands before two messages under one key; the same message may be there many times. */
export function assertNoNonceTwice(messages: readonly Message[]): void {
  const seen = new Map<string, Message>();
  const twice: string[] = [];
  for (const message of messages) {
    const other = seen.get(message.keyAndNonce);
    if (other !== undefined && other.tag !== message.tag)
      twice.push(`${other.where} and ${message.where}`);
    seen.set(message.keyAndNonce, message);
  }
  assert.deepEqual(twice.slice(0, 10), [], `${twice.length} messages share key and nonce`);
}
