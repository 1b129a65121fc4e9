/**
 * What someone who has the keys can do to an encrypted directory: make checksums, MACs and the manifest anew around
 * something that was moved, so that only the tags of the pages themselves can still tell. And the edits themselves.
 */
import {
  closeSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import { manifestSource } from "../../src/engine/open-manifest.ts";
import { deriveSidecarMacKey } from "../../src/format/file-keys.ts";
import type { FileIdentity } from "../../src/format/identity.ts";
import type { ManifestEntry } from "../../src/format/manifest-entry.ts";
import { ManifestWriter, openManifest } from "../../src/format/manifest.ts";
import {
  finishSidecarPage,
  parseSidecarPage,
  type SidecarPageHead,
  slotOffset,
  slotsPerPage,
} from "../../src/format/sidecar-page.ts";
import { SLOT_BYTES } from "../../src/format/slot.ts";
import { dekFor, type DataKeys } from "../../src/keyring/data-keys.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { BLOCK_SIZE } from "./small-cluster.ts";

/** Flips one bit of a file, in place. */
export function flipBit(path: string, bit: number): void {
  const file = openSync(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, bit >> 3);
    writeSync(file, Buffer.from([(byte[0] ?? 0) ^ (1 << (bit & 7))]), 0, 1, bit >> 3);
  } finally {
    closeSync(file);
  }
}

/** Changes a whole file in place; its size may change. */
export function edit(path: string, change: (bytes: Buffer) => Buffer | void): void {
  const bytes = readFileSync(path);
  writeFileSync(path, change(bytes) ?? bytes);
}

export function swapFiles(a: string, b: string): void {
  const [first, second] = [readFileSync(a), readFileSync(b)];
  writeFileSync(a, second);
  writeFileSync(b, first);
}

/** Where a relation file's sidecar is. */
export function sidecarOf(path: string): string {
  return sidecarName(bytePath(path));
}

export function swapPages(path: string, a: number, b: number): void {
  edit(path, (bytes) => swapRanges(bytes, a * BLOCK_SIZE, b * BLOCK_SIZE, BLOCK_SIZE));
}

export function swapSlots(path: string, a: number, b: number): void {
  edit(sidecarOf(path), (bytes) => swapRanges(bytes, slotAt(a), slotAt(b), SLOT_BYTES));
}

/** The offset of a block's slot in the sidecar. */
export function slotAt(block: number): number {
  const perPage = slotsPerPage(BLOCK_SIZE);
  return Math.floor(block / perPage) * BLOCK_SIZE + slotOffset(block % perPage);
}

function swapRanges(bytes: Buffer, a: number, b: number, length: number): void {
  const kept = Buffer.from(bytes.subarray(a, a + length));
  bytes.copy(bytes, a, b, b + length);
  kept.copy(bytes, b);
}

/** Makes the stored checksum of every page of a relation file valid, but of zero pages. */
export function remakeChecksums(path: string, firstBlock = 0): void {
  edit(path, (bytes) => {
    for (let at = 0; at + BLOCK_SIZE <= bytes.length; at += BLOCK_SIZE) {
      const page = bytes.subarray(at, at + BLOCK_SIZE);
      if (page.every((byte) => byte === 0)) continue;
      page.writeUInt16LE(pageChecksum(page, firstBlock + at / BLOCK_SIZE), 8);
    }
  });
}

/** What each page of a sidecar is to say; the rest stays. */
export type HeadChange = (head: SidecarPageHead) => Partial<SidecarPageHead>;

/** Makes header, MAC and checksum of every sidecar page anew. */
export function remakeSidecar(path: string, keys: DataKeys, change: HeadChange = () => ({})): void {
  edit(sidecarOf(path), (bytes) => {
    for (let at = 0; at < bytes.length; at += BLOCK_SIZE) {
      const page = bytes.subarray(at, at + BLOCK_SIZE);
      const parsed = parseSidecarPage(page);
      if (typeof parsed === "string") throw new Error(parsed);
      const head = { ...parsed, ...change(parsed) };
      const dek = dekFor(keys, head.keyringId, head.macKeyId, path);
      finishSidecarPage(page, head, deriveSidecarMacKey(dek, head.fileSalt, head.identity));
      page.writeUInt16LE(pageChecksum(page, head.identity.firstBlock + at / BLOCK_SIZE), 8);
    }
  });
}

export function headOf(path: string): SidecarPageHead {
  const head = parseSidecarPage(readFileSync(sidecarOf(path)).subarray(0, BLOCK_SIZE));
  if (typeof head === "string") throw new Error(head);
  return head;
}

export function identityOfFile(path: string): FileIdentity {
  return headOf(path).identity;
}

/**
 * Makes sizes and digests of relation files in the manifest anew, and its root and MAC.
 * @param change - what else an entry is to say; given the entry as it was.
 */
export function remakeManifest(
  datadir: string,
  keys: DataKeys,
  change: (entry: ManifestEntry) => ManifestEntry = (entry) => entry,
): void {
  const source = manifestSource(new NodeFileSystem(), bytePath(datadir));
  const manifest = openManifest(source, keys, "tde.manifest");
  const { header } = manifest;
  const parts: Buffer[] = [];
  const dek = dekFor(keys, header.keyringId, header.keyId, "tde.manifest");
  const writer = new ManifestWriter(header, dek, (part) => parts.push(part));
  for (const known of manifest.entries()) {
    const entry = change(known);
    if (entry !== known) writer.add(entry);
    else if (entry.class !== "P" || entry.digest === undefined) writer.add(entry);
    else {
      const path = join(datadir, entry.path);
      const digest = sha256(readFileSync(sidecarOf(path))).toString("hex");
      writer.add({ ...entry, sizeBytes: statSync(path).size, digest });
    }
  }
  writer.finish();
  writeFileSync(join(datadir, "tde.manifest"), Buffer.concat(parts));
}
