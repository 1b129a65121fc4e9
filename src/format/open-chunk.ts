/**
 * Checks the pages of one chunk against their slots and, when asked, decrypts them in place. Nothing is decrypted
 * under a key that the slot is not committed to, and no plaintext reaches the buffer before its tag holds.
 * docs/FORMAT.md, "Page message" and "A reader MUST reject".
 */
import assert from "node:assert/strict";
import { runsOf } from "../bytes/runs.ts";
import { equalInConstantTime, gcmDecrypt, type KeyObject } from "../crypto/primitives.ts";
import { formatLsn } from "../postgres/lsn.ts";
import { PAGE_HEADER, PAGE_HEADER_BYTES, readPageLsn } from "../postgres/page.ts";
import type { Chunk, MessageViews } from "./chunk.ts";
import type { PageKey } from "./file-keys.ts";
import { describeIdentity, sameIdentity } from "./identity.ts";
import { MESSAGE_START, PageAad, SEALED_PAGE_MARK, wrongOnPurpose } from "./page-message.ts";
import type { Problem, ProblemKind } from "./problem.ts";
import { parseSidecarPage, sidecarMacHolds, type SidecarHead } from "./sidecar-page.ts";
import {
  isUnusedSlot,
  readSlotFields,
  SLOT,
  slotDefect,
  SLOT_FLAG,
  SLOT_KIND,
  type SlotFields,
} from "./slot.ts";

/** Keys by id; a string says why there is none, once for each file and key. */
export interface FileKeys {
  pageKey(keyId: number): PageKey | string;
  macKey(keyId: number): KeyObject | string;
}

export interface OpenContext {
  readonly head: SidecarHead;
  /** Without keys only checksums and form are checked. */
  readonly keys: FileKeys | undefined;
  /** Whether to check the pages' tags, and not only the sidecar's MACs. */
  readonly pageTags: boolean;
  /** Slots of the whole file. */
  readonly slotCount: number;
  readonly maxEpoch: bigint;
  /** Of others than these only the slots are looked at; their bytes need not be in the buffer. Left out: all. */
  readonly pages?: PageChoice | undefined;
  readonly path: string;
  readonly report: (problem: Problem) => void;
}

/**
 * Which pages of a chunk are looked at. sample: those of a file's first chunk, and of every other chunk the first that is
 * not zero. sinceEpoch: those that were sealed since. index: the one at that place in the chunk.
 */
export type PageChoice =
  "all" | "none" | "sample" | { readonly sinceEpoch: bigint } | { readonly index: number };

/**
 * @param chunk - whose sidecar buffer is filled.
 * @param firstSlot - number, within the file, of its first slot.
 * @returns whether a page is looked at, by its place in the chunk.
 */
export function chosenPages(
  chunk: Chunk,
  choice: PageChoice,
  firstSlot: number,
  slotCount: number,
): (index: number) => boolean {
  const slotOf = (index: number): SlotFields => readSlotFields(chunk.sidecar, chunk.slotAt(index));
  if (choice === "all" || (choice === "sample" && firstSlot === 0)) return () => true;
  if (choice === "none") return () => false;
  if (choice === "sample") {
    let sampled = 0;
    while (sampled < slotCount && slotOf(sampled).kind !== SLOT_KIND.page) sampled++;
    return (index) => index === sampled;
  }
  if ("index" in choice) return (index) => index === choice.index;
  return (index) => slotOf(index).epoch >= choice.sinceEpoch;
}

/** How many pages that fail in one chunk are tried against each other's places. */
const MAX_SUSPECTS = 16;

export class ChunkOpener {
  private readonly chunk: Chunk;
  private readonly context: OpenContext;
  private readonly aad: PageAad;
  private readonly keyProblems: Set<number> = new Set();
  /** Whole pages, zero pages and tails under each key id. */
  readonly pagesByKey: Map<number, number> = new Map();
  readonly macKeyIds: Set<number> = new Set();
  /** Slots of epoch `maxEpoch`. */
  newestSlots: number = 0;
  wrongChecksums: number = 0;
  /** By their places in the chunk in hand, 1 for the slots whose tags held: what may be used where others are damaged. */
  readonly authentic: Uint8Array;
  /** In the chunk in hand. */
  private wholePages = 0;
  private isWanted: (index: number) => boolean = () => true;

  constructor(chunk: Chunk, context: OpenContext) {
    this.chunk = chunk;
    this.context = context;
    this.aad = new PageAad(context.head.identity);
    this.authentic = new Uint8Array(chunk.slotCapacity);
  }

  /**
   * Checks what the chunk's buffers hold.
   * @param firstSlot - number, within the file, of the chunk's first slot.
   * @param dataBytes - how much of the data buffer is filled.
   * @param decrypt - put the originals in the data buffer; the result is to be used only when nothing was reported, or page by
   *   page as `authentic` says.
   */
  open(firstSlot: number, dataBytes: number, decrypt: boolean): void {
    const { chunk, context } = this;
    const blockCount = Math.floor(dataBytes / chunk.blockSizeBytes);
    const slotCount = Math.ceil(dataBytes / chunk.blockSizeBytes);
    this.wholePages = blockCount;
    this.authentic.fill(0);
    this.isWanted = chosenPages(chunk, context.pages ?? "all", firstSlot, slotCount);
    this.checkSidecarPages(firstSlot, slotCount);

    for (const { start, end } of runsOf(blockCount, (i) => this.isWanted(i))) {
      chunk.findZeroPages(end - start, start);
      chunk.checksumData(end - start, context.head.identity.firstBlock + firstSlot, start);
    }
    const suspects: number[] = [];
    for (let i = 0; i < slotCount; i++) {
      const lengthBytes = i < blockCount ? chunk.blockSizeBytes : dataBytes % chunk.blockSizeBytes;
      if (!this.openSlot(i, firstSlot + i, lengthBytes, decrypt)) suspects.push(i);
    }
    if (suspects.length > 0) this.explain(suspects, firstSlot);
  }

  private checkSidecarPages(firstSlot: number, slotCount: number): void {
    const { chunk, context } = this;
    const pageCount = Math.ceil(slotCount / chunk.slotsPerPage);
    const firstPage = firstSlot / chunk.slotsPerPage;
    chunk.checksumSidecar(pageCount, context.head.identity.firstBlock + firstPage);
    for (let i = 0; i < pageCount; i++) {
      const defect = this.sidecarPageDefect(i, firstPage + i);
      if (defect !== undefined) {
        context.report({
          kind: "sidecar",
          path: context.path,
          message: `sidecar page ${firstPage + i}: ${defect}`,
        });
      }
      const usedSlots = Math.min(chunk.slotsPerPage, slotCount - i * chunk.slotsPerPage);
      for (let slot = usedSlots; slot < chunk.slotsPerPage; slot++) {
        if (!isUnusedSlot(chunk.sidecar, chunk.slotAt(i * chunk.slotsPerPage + slot))) {
          this.problem(
            "slot",
            firstSlot + i * chunk.slotsPerPage + slot,
            "a slot for a block that the file does not have",
          );
        }
      }
    }
  }

  private sidecarPageDefect(index: number, pageNumber: number): string | undefined {
    const { chunk, context } = this;
    const page = chunk.sidecarPage(index);
    if (page.readUInt16LE(PAGE_HEADER.checksum) !== chunk.checksums[index])
      return "its checksum is wrong";
    const head = parseSidecarPage(page);
    if (typeof head === "string") return head;
    if (!sameIdentity(head.identity, context.head.identity)) {
      return `it belongs to ${describeIdentity(head.identity)}`;
    }
    if (head.keyringId !== context.head.keyringId || !head.fileSalt.equals(context.head.fileSalt)) {
      return "keyring or salt differ from those of the file's first page";
    }
    if (head.pageNumber !== pageNumber) return `it is page ${head.pageNumber} of its file`;
    const lastPage = Math.ceil(context.slotCount / chunk.slotsPerPage) - 1;
    if (head.last !== (pageNumber === lastPage)) {
      return head.last
        ? "it is marked as the last page, but the file goes on"
        : "the last page is missing";
    }
    this.macKeyIds.add(head.macKeyId);
    if (context.keys === undefined) return undefined;
    const macKey = context.keys.macKey(head.macKeyId);
    if (typeof macKey === "string") {
      this.keyProblem(head.macKeyId, macKey);
      return undefined;
    }
    if (sidecarMacHolds(page, macKey)) return undefined;
    if (!this.isUnderOtherKey(index, head.macKeyId)) return "its MAC does not hold";
    this.keyProblem(
      head.macKeyId,
      `${context.path} is sealed under another key ${head.macKeyId} than this keyring's`,
    );
    return undefined;
  }

  /**
   * Whether it is the key that differs, and not the page: then no slot under that key id is committed to ours. One
   * slot alone could have been altered.
   */
  private isUnderOtherKey(sidecarPage: number, keyId: number): boolean {
    const { chunk } = this;
    const pageKey = this.context.keys?.pageKey(keyId);
    if (pageKey === undefined || typeof pageKey === "string") return false;
    let others = 0;
    const first = sidecarPage * chunk.slotsPerPage;
    for (let index = first; index < first + chunk.slotsPerPage; index++) {
      const { kind, keyId: slotKeyId } = readSlotFields(chunk.sidecar, chunk.slotAt(index));
      if (kind === SLOT_KIND.unused || slotKeyId !== keyId) continue;
      if (equalInConstantTime(this.viewOf(index).commitment, pageKey.commitment)) return false;
      others++;
    }
    return others > 1;
  }

  /** @returns false when the tag does not hold. */
  private openSlot(index: number, block: number, lengthBytes: number, decrypt: boolean): boolean {
    const { chunk, context } = this;
    const slotAt = chunk.slotAt(index);
    if (isUnusedSlot(chunk.sidecar, slotAt)) {
      this.problem("slot", block, "the slot of this block is empty");
      return true;
    }
    const defect = slotDefect(chunk.sidecar, slotAt, chunk.blockSizeBytes, context.maxEpoch);
    if (defect !== undefined) {
      this.problem("slot", block, defect);
      return true;
    }
    const fields = readSlotFields(chunk.sidecar, slotAt);
    const isTail = lengthBytes < chunk.blockSizeBytes;
    if (fields.lengthBytes !== lengthBytes || isTail !== (fields.kind === SLOT_KIND.tail)) {
      this.problem("size", block, `${lengthBytes} bytes where the slot says ${fields.lengthBytes}`);
      return true;
    }
    this.pagesByKey.set(fields.keyId, (this.pagesByKey.get(fields.keyId) ?? 0) + 1);
    if ((fields.flags & SLOT_FLAG.wrongChecksum) !== 0) this.wrongChecksums++;
    if (fields.epoch === context.maxEpoch) this.newestSlots++;
    if (!this.isWanted(index)) return true;
    if (!isTail) this.checkStoredForm(index, block, fields.kind, fields.flags);
    if (context.keys === undefined || !context.pageTags) return true;

    const pageKey = context.keys.pageKey(fields.keyId);
    if (typeof pageKey === "string") {
      this.keyProblem(fields.keyId, pageKey);
      return true;
    }
    if (!equalInConstantTime(this.viewOf(index).commitment, pageKey.commitment)) {
      this.problem(
        "key",
        block,
        `the slot is not committed to key ${fields.keyId} of this keyring: another key of that id, or a slot of another file`,
      );
      return true;
    }
    const plaintext = this.decryptMessage(
      pageKey.key,
      index,
      block,
      index,
      fields.kind,
      lengthBytes,
    );
    if (plaintext === undefined) return false;
    this.authentic[index] = 1;
    if (decrypt) this.putBack(plaintext, index, fields.kind, fields.flags);
    return true;
  }

  /** The checks that need no key: stored checksum, mark, zeros. */
  private checkStoredForm(index: number, block: number, kind: number, flags: number): void {
    const { chunk } = this;
    const zero = chunk.zero[index] === 1;
    if (kind === SLOT_KIND.zeroPage) {
      if (!zero) this.problem("mark", block, "the page is not zero, as its slot says");
      return;
    }
    const pageAt = index * chunk.blockSizeBytes;
    if ((chunk.data.readUInt16LE(pageAt + PAGE_HEADER.flags) & SEALED_PAGE_MARK) === 0) {
      this.problem(
        "mark",
        block,
        zero ? "the page was zeroed" : "the page lacks the mark of sealed pages",
      );
    }
    const valid = chunk.checksums[index] ?? 0;
    const wrong = (flags & SLOT_FLAG.wrongChecksum) !== 0;
    const expected = wrong ? wrongOnPurpose(valid) : valid;
    const stored = chunk.data.readUInt16LE(pageAt + PAGE_HEADER.checksum);
    if (stored !== expected) {
      this.problem(
        "checksum",
        block,
        `checksum ${hex(stored)} where ${hex(expected)} was computed`,
      );
    }
  }

  /**
   * @param index - the page's place in the chunk.
   * @param block - the block number that goes into the AAD.
   * @param slotIndex - the slot's place in the chunk; differs from `index` only when a swap is looked for.
   * @returns the plaintext, which is there until the next call; undefined when the tag does not hold.
   */
  private decryptMessage(
    key: KeyObject,
    index: number,
    block: number,
    slotIndex: number,
    kind: number,
    lengthBytes: number,
  ): Buffer | undefined {
    const { data, sidecar, plaintext, blockSizeBytes } = this.chunk;
    const slotAt = this.chunk.slotAt(slotIndex);
    const pageAt = index * blockSizeBytes;
    const { nonce, tag } = this.viewOf(slotIndex);
    if (kind === SLOT_KIND.zeroPage) {
      return gcmDecrypt(key, nonce, this.aad.forZeroPage(block, sidecar, slotAt), NOTHING, tag);
    }
    if (kind === SLOT_KIND.tail) {
      const ciphertext = data.subarray(pageAt, pageAt + lengthBytes);
      const aad = this.aad.forTail(block, sidecar, slotAt);
      return gcmDecrypt(key, nonce, aad, ciphertext, tag, plaintext.subarray(0, lengthBytes));
    }
    const aad = this.aad.forPage(block, sidecar, slotAt, data, pageAt);
    data.writeUInt16LE(sidecar.readUInt16LE(slotAt + SLOT.sealedBytes), pageAt + MESSAGE_START);
    const { text } = this.viewOf(index);
    const opened = gcmDecrypt(key, nonce, aad, text, tag, this.chunk.pagePlaintext);
    this.aad.restoreHeaderEnd(data, pageAt);
    return opened;
  }

  private viewOf(index: number): MessageViews {
    const view = this.chunk.views[index];
    assert(view !== undefined, "a chunk has a view of each of its blocks");
    return view;
  }

  private putBack(plaintext: Buffer, index: number, kind: number, flags: number): void {
    const { data, blockSizeBytes } = this.chunk;
    const pageAt = index * blockSizeBytes;
    if (kind === SLOT_KIND.tail) {
      plaintext.copy(data, pageAt);
    } else if (kind === SLOT_KIND.page) {
      data.writeUInt16LE(plaintext.readUInt16LE(0), pageAt + PAGE_HEADER.checksum);
      plaintext.copy(data, pageAt + PAGE_HEADER_BYTES, 2);
      if ((flags & SLOT_FLAG.originalMark) === 0) {
        const pdFlags = data.readUInt16LE(pageAt + PAGE_HEADER.flags);
        data.writeUInt16LE(pdFlags & ~SEALED_PAGE_MARK, pageAt + PAGE_HEADER.flags);
      }
    }
  }

  /** Reports pages whose tags fail, and says so where one holds at another's place: pages or slots were swapped. */
  private explain(suspects: readonly number[], firstSlot: number): void {
    const tried = suspects.slice(0, MAX_SUSPECTS);
    for (const index of suspects) {
      const from = tried.includes(index) ? this.whereItHolds(index, tried, firstSlot) : undefined;
      if (from === undefined) {
        this.problem("tag", firstSlot + index, "the page does not authenticate");
      } else {
        this.problem("swapped", firstSlot + index, `the page ${from}`);
      }
    }
  }

  private whereItHolds(
    index: number,
    suspects: readonly number[],
    firstSlot: number,
  ): string | undefined {
    for (const other of suspects) {
      if (other === index) continue;
      const block = this.context.head.identity.firstBlock + firstSlot + other;
      if (this.holds(index, firstSlot + other, index)) return `is block ${block}, with its slot`;
      if (this.holds(index, firstSlot + other, other)) return `is block ${block}`;
      if (this.holds(index, firstSlot + index, other)) return `has the slot of block ${block}`;
    }
    return undefined;
  }

  private holds(index: number, block: number, slotIndex: number): boolean {
    const slotAt = this.chunk.slotAt(slotIndex);
    const { kind, keyId } = readSlotFields(this.chunk.sidecar, slotAt);
    const pageKey = this.context.keys?.pageKey(keyId);
    if (kind !== SLOT_KIND.page || pageKey === undefined || typeof pageKey === "string")
      return false;
    const lengthBytes = this.chunk.blockSizeBytes;
    return (
      this.decryptMessage(pageKey.key, index, block, slotIndex, kind, lengthBytes) !== undefined
    );
  }

  private keyProblem(keyId: number, message: string): void {
    if (this.keyProblems.has(keyId)) return;
    this.keyProblems.add(keyId);
    this.context.report({ kind: "key", path: this.context.path, message });
  }

  private problem(kind: ProblemKind, block: number, message: string): void {
    const { context, chunk } = this;
    // A tail has no header, and a slot too many no page.
    const index = block % chunk.slotCapacity;
    const lsn =
      index < this.wholePages
        ? formatLsn(readPageLsn(chunk.data, index * chunk.blockSizeBytes))
        : undefined;
    context.report({
      kind,
      path: context.path,
      block: context.head.identity.firstBlock + block,
      lsn,
      message,
    });
  }
}

function hex(checksum: number): string {
  return checksum.toString(16).toUpperCase();
}

const NOTHING = Buffer.alloc(0);
