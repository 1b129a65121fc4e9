/**
 * Seals the pages of one chunk in place and makes their sidecar pages. Each page gets a fresh random nonce and a
 * tag over everything that identifies it; the stored checksum is then computed over what is stored, so that stock
 * tools accept it. docs/FORMAT.md, "Page message".
 */
import assert from "node:assert/strict";
import { copyWords } from "../bytes/copy-words.ts";
import { runsOf } from "../bytes/runs.ts";
import {
  fillRandom,
  gcmEncryptInPlace,
  KEY_BYTES,
  type KeyObject,
  NONCE_BYTES,
} from "../crypto/primitives.ts";
import { StateError } from "../errors.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import type { Chunk, MessageViews } from "./chunk.ts";
import type { PageKey } from "./file-keys.ts";
import {
  MESSAGE_START,
  PageAad,
  isStoredChecksum,
  SEALED_PAGE_MARK,
  wrongOnPurpose,
} from "./page-message.ts";
import { finishSidecarPage, type SidecarHead } from "./sidecar-page.ts";
import { SLOT, SLOT_BYTES, SLOT_FLAG, SLOT_KIND, writeSlotFields } from "./slot.ts";

export interface SealContext {
  readonly head: SidecarHead;
  readonly keyId: number;
  readonly pageKey: PageKey;
  readonly macKey: KeyObject;
  readonly epoch: bigint;
  /** Whether the cluster has data checksums: without them no original checksum is right or wrong. */
  readonly dataChecksums: boolean;
  /** For messages. */
  readonly describe: () => string;
}

export interface SealCounts {
  pages: number;
  zeroPages: number;
  wrongChecksums: number;
}

export class ChunkSealer {
  private readonly chunk: Chunk;
  private readonly context: SealContext;
  private readonly aad: PageAad;
  private readonly nonces: Buffer;
  readonly counts: SealCounts = { pages: 0, zeroPages: 0, wrongChecksums: 0 };

  constructor(chunk: Chunk, context: SealContext) {
    this.chunk = chunk;
    this.context = context;
    this.aad = new PageAad(context.head.identity);
    this.nonces = Buffer.alloc(chunk.slotCapacity * NONCE_BYTES);
  }

  /**
   * Seals what the chunk's data buffer holds.
   * @param firstSlot - number, within the file, of the chunk's first block; a multiple of the slots per page.
   * @param dataBytes - how much of the data buffer is filled.
   * @param last - whether the file ends here.
   * @returns the number of sidecar pages made.
   * @throws {StateError} when a page is sealed already.
   */
  seal(firstSlot: number, dataBytes: number, last: boolean): number {
    const { chunk } = this;
    const slotCount = Math.ceil(dataBytes / chunk.blockSizeBytes);
    const sidecarPages = Math.ceil(slotCount / chunk.slotsPerPage);
    this.sealAnew(firstSlot, dataBytes, last, ALL, ALL);
    return sidecarPages;
  }

  /**
   * Seals some pages of a chunk whose sidecar pages the sidecar buffer holds, and makes some of those anew. The other
   * pages keep their slots, and their bytes need not be in the data buffer. Slots behind the end become unused.
   * @param isChanged - whether a page, by its place in the chunk, is to be sealed: the data buffer holds its original.
   * @param isAnew - whether a sidecar page is to be made anew: each that has a slot of these must be.
   */
  sealAnew(
    firstSlot: number,
    dataBytes: number,
    last: boolean,
    isChanged: (index: number) => boolean,
    isAnew: (index: number) => boolean,
  ): void {
    const { chunk, context } = this;
    const { blockSizeBytes } = chunk;
    const blockCount = Math.floor(dataBytes / blockSizeBytes);
    const tailBytes = dataBytes % blockSizeBytes;
    const slotCount = blockCount + (tailBytes > 0 ? 1 : 0);
    const sidecarPages = Math.ceil(slotCount / chunk.slotsPerPage);
    const firstBlock = context.head.identity.firstBlock + firstSlot;

    for (let i = 0; i < sidecarPages * chunk.slotsPerPage; i++) {
      const slotAt = chunk.slotAt(i);
      if (i >= slotCount || isChanged(i)) chunk.sidecar.fill(0, slotAt, slotAt + SLOT_BYTES);
    }
    fillRandom(this.nonces.subarray(0, slotCount * NONCE_BYTES));
    for (const { start, end } of runsOf(blockCount, isChanged)) {
      chunk.findZeroPages(end - start, start);
      chunk.checksumData(end - start, firstBlock, start);
      for (let i = start; i < end; i++) {
        if (chunk.zero[i] === 1) this.sealZeroPage(i, firstSlot + i);
        else this.sealPage(i, firstSlot + i);
      }
      chunk.checksumData(end - start, firstBlock, start);
      for (let i = start; i < end; i++) this.storeChecksum(i);
    }
    if (tailBytes > 0 && isChanged(blockCount))
      this.sealTail(blockCount, firstSlot + blockCount, tailBytes);

    this.finishSidecar(firstSlot, sidecarPages, last, isAnew);
    for (let i = 0; i < slotCount; i++) if (isChanged(i)) this.counts.pages++;
  }

  private finishSidecar(
    firstSlot: number,
    sidecarPages: number,
    last: boolean,
    isAnew: (index: number) => boolean,
  ): void {
    const { chunk, context } = this;
    const { blockSizeBytes } = chunk;
    const firstSidecarPage = firstSlot / chunk.slotsPerPage;
    for (let i = 0; i < sidecarPages; i++) {
      if (!isAnew(i)) continue;
      const head = {
        ...context.head,
        pageNumber: firstSidecarPage + i,
        last: last && i === sidecarPages - 1,
        macKeyId: context.keyId,
      };
      finishSidecarPage(chunk.sidecarPage(i), head, context.macKey);
    }
    chunk.checksumSidecar(sidecarPages, context.head.identity.firstBlock + firstSidecarPage);
    for (let i = 0; i < sidecarPages; i++) {
      if (!isAnew(i)) continue;
      chunk.sidecar.writeUInt16LE(
        chunk.checksums[i] ?? 0,
        i * blockSizeBytes + PAGE_HEADER.checksum,
      );
    }
  }

  private sealPage(index: number, block: number): void {
    const { chunk } = this;
    const { data, sidecar } = chunk;
    const pageAt = index * chunk.blockSizeBytes;
    const slotAt = chunk.slotAt(index);
    const original = data.readUInt16LE(pageAt + PAGE_HEADER.checksum);
    const pdFlags = data.readUInt16LE(pageAt + PAGE_HEADER.flags);
    const checksum = chunk.checksums[index] ?? 0;
    const valid = original === checksum;
    const marked = (pdFlags & SEALED_PAGE_MARK) !== 0;
    if (marked && isStoredChecksum(original, checksum)) this.refuseSealedPage(block);

    let flags = 0;
    if (this.context.dataChecksums && !valid) {
      flags |= SLOT_FLAG.wrongChecksum;
      this.counts.wrongChecksums++;
    }
    if (marked) flags |= SLOT_FLAG.originalMark;
    const view = this.startSlot(index, SLOT_KIND.page, flags, chunk.blockSizeBytes);

    data.writeUInt16LE(pdFlags | SEALED_PAGE_MARK, pageAt + PAGE_HEADER.flags);
    const aad = this.aad.forPage(block, sidecar, slotAt, data, pageAt);
    data.writeUInt16LE(original, pageAt + MESSAGE_START);
    const { key } = this.context.pageKey;
    gcmEncryptInPlace(key, view.nonce, aad, view.text, view.tag);
    sidecar.writeUInt16LE(data.readUInt16LE(pageAt + MESSAGE_START), slotAt + SLOT.sealedBytes);
    this.aad.restoreHeaderEnd(data, pageAt);
  }

  /** A zero page stays zero on disk, where tools take it for a new one and files stay sparse. */
  private sealZeroPage(index: number, block: number): void {
    const { chunk } = this;
    const slotAt = chunk.slotAt(index);
    const view = this.startSlot(index, SLOT_KIND.zeroPage, 0, chunk.blockSizeBytes);
    const aad = this.aad.forZeroPage(block, chunk.sidecar, slotAt);
    gcmEncryptInPlace(this.context.pageKey.key, view.nonce, aad, NOTHING, view.tag);
    this.counts.zeroPages++;
  }

  private sealTail(index: number, block: number, tailBytes: number): void {
    const { chunk } = this;
    const slotAt = chunk.slotAt(index);
    const tailAt = index * chunk.blockSizeBytes;
    const view = this.startSlot(index, SLOT_KIND.tail, 0, tailBytes);
    const aad = this.aad.forTail(block, chunk.sidecar, slotAt);
    const tail = chunk.data.subarray(tailAt, tailAt + tailBytes);
    gcmEncryptInPlace(this.context.pageKey.key, view.nonce, aad, tail, view.tag);
  }

  /** Fills in a slot but for its tag. */
  private startSlot(index: number, kind: number, flags: number, lengthBytes: number): MessageViews {
    const { chunk, nonces } = this;
    const { sidecar } = chunk;
    const slotAt = chunk.slotAt(index);
    const { keyId, epoch, pageKey } = this.context;
    writeSlotFields(sidecar, slotAt, { kind, flags, keyId, epoch, lengthBytes });
    copyWords(nonces, index * NONCE_BYTES, sidecar, slotAt + SLOT.nonce, NONCE_BYTES);
    copyWords(pageKey.commitment, 0, sidecar, slotAt + SLOT.commitment, KEY_BYTES);
    const view = chunk.views[index];
    assert(view !== undefined, "a chunk has a view of each of its blocks");
    return view;
  }

  private storeChecksum(index: number): void {
    const { chunk } = this;
    if (chunk.zero[index] === 1) return;
    const valid = chunk.checksums[index] ?? 0;
    const flags = chunk.sidecar.readUInt16LE(chunk.slotAt(index) + SLOT.flags);
    const wrong = (flags & SLOT_FLAG.wrongChecksum) !== 0;
    const stored = wrong ? wrongOnPurpose(valid) : valid;
    chunk.data.writeUInt16LE(stored, index * chunk.blockSizeBytes + PAGE_HEADER.checksum);
  }

  /**
   * A mark with a checksum as sealing stores it is a sealed page; garbage with that bit has another. Sealing it again
   * would bury the ciphertext of a file whose sidecar may still be found in a backup.
   */
  private refuseSealedPage(block: number): never {
    throw new StateError(
      `${this.context.describe()} block ${this.context.head.identity.firstBlock + block} is sealed already, but its file has no sidecar`,
      {
        hint: "Restore the file together with its sidecar (_tde) from a backup; nothing is ever encrypted twice.",
      },
    );
  }
}

const ALL = (): boolean => true;
const NOTHING = Buffer.alloc(0);
