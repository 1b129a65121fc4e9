/**
 * Tells whether the plain pages of one chunk are those that its slots were made for: each is encrypted once more in
 * memory under the nonce of its slot and must give the tag that is there. What is encrypted so is thrown away, so no
 * nonce is ever used for two messages that anybody sees. docs/FORMAT.md, "Page message".
 */
import assert from "node:assert/strict";
import { equalInConstantTime, gcmTag, type KeyObject } from "../crypto/primitives.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import type { Chunk, MessageViews } from "./chunk.ts";
import { ChunkOpener, type FileKeys, type OpenContext } from "./open-chunk.ts";
import { MESSAGE_START, PageAad, SEALED_PAGE_MARK } from "./page-message.ts";
import { readSlotFields, SLOT_FLAG, SLOT_KIND, type SlotFields } from "./slot.ts";

export interface PlainCheckContext extends Pick<
  OpenContext,
  "head" | "slotCount" | "maxEpoch" | "path" | "report"
> {
  readonly keys: FileKeys;
}

export class PlainChunkChecker {
  private readonly chunk: Chunk;
  private readonly context: PlainCheckContext;
  private readonly aad: PageAad;
  /** Of the sidecar pages and the form of their slots; the stored pages are not at hand. */
  private readonly slots: ChunkOpener;
  private areSlotsSound = true;

  constructor(chunk: Chunk, context: PlainCheckContext) {
    this.chunk = chunk;
    this.context = context;
    this.aad = new PageAad(context.head.identity);
    this.slots = new ChunkOpener(chunk, {
      ...context,
      pageTags: false,
      pages: "none",
      report: (problem) => {
        this.areSlotsSound = false;
        context.report(problem);
      },
    });
  }

  get pagesByKey(): ReadonlyMap<number, number> {
    return this.slots.pagesByKey;
  }

  get macKeyIds(): ReadonlySet<number> {
    return this.slots.macKeyIds;
  }

  get newestSlots(): number {
    return this.slots.newestSlots;
  }

  get wrongChecksums(): number {
    return this.slots.wrongChecksums;
  }

  /**
   * Checks the plain pages in the chunk's data buffer, which is afterwards as it was, against the sidecar pages in the
   * other one. Slots that are not sound themselves prove no page: then they alone are reported.
   * @param firstSlot - number, within the file, of the chunk's first slot.
   * @param dataBytes - how much of the data buffer is filled.
   */
  check(firstSlot: number, dataBytes: number): void {
    const { chunk } = this;
    this.areSlotsSound = true;
    this.slots.open(firstSlot, dataBytes, false);
    if (!this.areSlotsSound) return;
    chunk.findZeroPages(Math.floor(dataBytes / chunk.blockSizeBytes));
    const slotCount = Math.ceil(dataBytes / chunk.blockSizeBytes);
    for (let i = 0; i < slotCount; i++) this.checkSlot(i, firstSlot + i);
  }

  private checkSlot(index: number, block: number): void {
    const { chunk, context } = this;
    const fields = readSlotFields(chunk.sidecar, chunk.slotAt(index));
    const view = chunk.views[index];
    assert(view !== undefined, "a chunk has a view of each of its blocks");
    const pageKey = context.keys.pageKey(fields.keyId);
    if (typeof pageKey === "string") {
      context.report({ kind: "key", path: context.path, message: pageKey });
    } else if (!equalInConstantTime(view.commitment, pageKey.commitment)) {
      this.problem("key", block, `the slot is not committed to key ${fields.keyId}`);
    } else if (!this.givesTag(pageKey.key, index, block, fields, view)) {
      this.problem("tag", block, "the page is not the one that was encrypted");
    }
  }

  private givesTag(
    key: KeyObject,
    index: number,
    block: number,
    { kind, flags, lengthBytes }: SlotFields,
    { nonce, tag, text }: MessageViews,
  ): boolean {
    const { chunk, aad } = this;
    const { data, sidecar, blockSizeBytes } = chunk;
    const slotAt = chunk.slotAt(index);
    const pageAt = index * blockSizeBytes;
    if (kind === SLOT_KIND.zeroPage) {
      return (
        chunk.zero[index] === 1 &&
        this.tagIs(tag, key, nonce, aad.forZeroPage(block, sidecar, slotAt), NOTHING)
      );
    }
    if (kind === SLOT_KIND.tail) {
      const tail = data.subarray(pageAt, pageAt + lengthBytes);
      return this.tagIs(tag, key, nonce, aad.forTail(block, sidecar, slotAt), tail);
    }
    const flagsAt = pageAt + PAGE_HEADER.flags;
    const pdFlags = data.readUInt16LE(flagsAt);
    // In what was encrypted the mark is set in any case, so that no tag tells whether the original had it.
    const wasMarked = (flags & SLOT_FLAG.originalMark) !== 0;
    if (((pdFlags & SEALED_PAGE_MARK) !== 0) !== wasMarked) return false;
    data.writeUInt16LE(pdFlags | SEALED_PAGE_MARK, flagsAt);
    const pageAad = aad.forPage(block, sidecar, slotAt, data, pageAt);
    data.writeUInt16LE(data.readUInt16LE(pageAt + PAGE_HEADER.checksum), pageAt + MESSAGE_START);
    const same = this.tagIs(tag, key, nonce, pageAad, text);
    aad.restoreHeaderEnd(data, pageAt);
    data.writeUInt16LE(pdFlags, flagsAt);
    return same;
  }

  private tagIs(
    expected: Buffer,
    key: KeyObject,
    nonce: Buffer,
    aad: Buffer,
    plaintext: Buffer,
  ): boolean {
    const scratch = this.chunk.plaintext.subarray(0, plaintext.length);
    return equalInConstantTime(gcmTag(key, nonce, aad, plaintext, scratch), expected);
  }

  private problem(kind: "key" | "tag", block: number, message: string): void {
    const { path, head, report } = this.context;
    report({ kind, path, block: head.identity.firstBlock + block, message });
  }
}

const NOTHING = Buffer.alloc(0);
