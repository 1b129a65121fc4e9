/**
 * Checks a stored WAL segment against its sidecar and, when asked, decrypts it in place. Nothing is decrypted under a
 * key that a slot is not committed to, and no plaintext reaches the buffer before its tag holds.
 * docs/FORMAT.md, "WAL segments".
 */
import {
  equalInConstantTime,
  gcmDecrypt,
  KEY_BYTES,
  NONCE_BYTES,
  release,
  TAG_BYTES,
} from "../../crypto/primitives.ts";
import { pageChecksum } from "../../postgres/page-checksum.ts";
import { PAGE_HEADER } from "../../postgres/page.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { type FileIdentity, sameIdentity } from "../identity.ts";
import type { FileKeys } from "../open-chunk.ts";
import type { Problem, ProblemKind } from "../problem.ts";
import {
  parseSidecarPage,
  sidecarMacHolds,
  slotsPerPage,
  type SidecarHead,
} from "../sidecar-page.ts";
import { isUnusedSlot, readSlotFields, SLOT, SLOT_BYTES } from "../slot.ts";
import { writeWholeRecordCrcs } from "./record-checksum.ts";
import { crcSealedIn, walSlotAt, zerosFromOf } from "./seal-segment.ts";
import type { SegmentMap } from "./segment-map.ts";
import { MapDefect, mapStoredSegment, type StoredMap } from "./stored-map.ts";
import { WalMessages } from "./wal-message.ts";
import { complementSystemIdentifier, storedSystemIdentifier } from "./wal-page.ts";
import {
  type Carry,
  hasSealedEnd,
  parseCarrySlots,
  readWalSlotFields,
  SEALED_CRC_OFFSET,
  WAL_SIDECAR_PAGE_BYTES,
  WAL_SLOT_FLAG,
  walSlotDefect,
} from "./wal-slot.ts";

export interface WalOpenContext {
  readonly head: SidecarHead;
  /** Without keys only the form is checked. */
  readonly keys: FileKeys | undefined;
  readonly maxEpoch: bigint;
  readonly path: string;
  readonly report: (problem: Problem) => void;
}

/** How deep: the sidecar's MACs and what needs no key; also the tag of every block; also back to the original. */
export type WalDepth = "macs" | "tags" | "decrypt";

export interface OpenedSegment {
  /** Blocks under each key id. */
  readonly blocksByKey: ReadonlyMap<number, number>;
  /** Blocks of the newest epoch that may be. */
  readonly newestBlocks: number;
  readonly macKeyIds: ReadonlySet<number>;
  /** As it was taken apart; undefined where that was not possible. */
  readonly map: SegmentMap | undefined;
}

const SLOTS_PER_PAGE = slotsPerPage(WAL_SIDECAR_PAGE_BYTES);

/** A system identifier as the guard stores it. */
export function guardedIdentifier({
  systemIdentifier,
}: Pick<FileIdentity, "systemIdentifier">): bigint {
  return BigInt.asUintN(64, ~systemIdentifier);
}

/**
 * @param segment - as stored; decrypted it holds the original afterwards, if nothing was reported.
 * @param sidecar - all of it.
 */
export function openSegment(
  segment: Buffer,
  sidecar: Buffer,
  context: WalOpenContext,
  depth: WalDepth,
): OpenedSegment {
  return new SegmentOpener(segment, sidecar, context).open(depth);
}

class SegmentOpener {
  readonly #segment: Buffer;
  readonly #sidecar: Buffer;
  readonly #context: WalOpenContext;
  readonly #blockCount: number;
  readonly #blocksByKey = new Map<number, number>();
  readonly #macKeyIds = new Set<number>();
  readonly #keyProblems = new Set<string>();
  #newestBlocks = 0;
  #problems = 0;

  constructor(segment: Buffer, sidecar: Buffer, context: WalOpenContext) {
    this.#segment = segment;
    this.#sidecar = sidecar;
    this.#context = context;
    this.#blockCount = segment.length / WAL_PAGE_BYTES;
  }

  open(depth: WalDepth): OpenedSegment {
    const carry = this.#checkSidecar();
    const found = {
      blocksByKey: this.#blocksByKey,
      newestBlocks: this.#newestBlocks,
      macKeyIds: this.#macKeyIds,
    };
    if (carry === undefined) return { ...found, map: undefined };
    this.#checkGuard();
    let stored: StoredMap;
    try {
      stored = mapStoredSegment(
        this.#segment,
        (block) => readWalSlotFields(this.#sidecar, walSlotAt(block)),
        carry,
      );
    } catch (error) {
      if (!(error instanceof MapDefect)) throw error;
      this.#problem("tag", `the block was changed: ${error.message}`, error.block);
      return { ...found, map: undefined };
    }
    const { map, wrongCrcs } = stored;
    if (this.#context.keys !== undefined && depth !== "macs")
      this.#openBlocks(map, depth === "decrypt" && wrongCrcs.length === 0);
    // Where a tag fails, that says more.
    if (this.#problems === 0) {
      for (const block of wrongCrcs) {
        this.#problem("checksum", "a record's CRC is not that of its bytes", block);
      }
    }
    return { ...found, map };
  }

  /** @returns the carry; undefined where the slots cannot be used. */
  #checkSidecar(): Carry | undefined {
    const { length } = this.#sidecar;
    const pages = length / WAL_SIDECAR_PAGE_BYTES;
    if (length === 0 || !Number.isInteger(pages)) {
      return this.#defect(`a sidecar of ${length} bytes`);
    }
    let usable = true;
    for (let page = 0; page < pages; page++) {
      const defect = this.#pageDefect(page, pages);
      if (defect !== undefined) this.#problem("sidecar", `sidecar page ${page}: ${defect}`);
    }
    const slotCount = pages * SLOTS_PER_PAGE;
    if (slotCount < this.#blockCount) {
      return this.#defect(`${slotCount} slots for ${this.#blockCount} blocks`);
    }
    for (let block = 0; block < this.#blockCount; block++) {
      const at = walSlotAt(block);
      const defect = walSlotDefect(this.#sidecar, at, this.#context.maxEpoch);
      if (defect !== undefined) {
        this.#problem("slot", defect, block);
        usable = false;
        continue;
      }
      const { keyId, epoch } = readSlotFields(this.#sidecar, at);
      if (epoch === this.#context.maxEpoch) this.#newestBlocks++;
      this.#blocksByKey.set(keyId, (this.#blocksByKey.get(keyId) ?? 0) + 1);
    }
    const carry = this.#carry(slotCount);
    if (typeof carry === "string") return this.#defect(carry);
    return usable ? carry : undefined;
  }

  #carry(slotCount: number): Carry | string {
    const slots: Buffer[] = [];
    let i = this.#blockCount;
    for (; i < slotCount && !isUnusedSlot(this.#sidecar, walSlotAt(i)); i++) {
      slots.push(this.#sidecar.subarray(walSlotAt(i), walSlotAt(i) + SLOT_BYTES));
    }
    if (Math.ceil(i / SLOTS_PER_PAGE) * SLOTS_PER_PAGE !== slotCount) return "a page without slots";
    for (; i < slotCount; i++) {
      if (!isUnusedSlot(this.#sidecar, walSlotAt(i))) return "a slot behind an unused one";
    }
    return parseCarrySlots(slots);
  }

  #pageDefect(number: number, pages: number): string | undefined {
    const { head, keys, path } = this.#context;
    const start = number * WAL_SIDECAR_PAGE_BYTES;
    const page = this.#sidecar.subarray(start, start + WAL_SIDECAR_PAGE_BYTES);
    if (page.readUInt16LE(PAGE_HEADER.checksum) !== pageChecksum(page, number)) {
      return "its checksum is wrong";
    }
    const own = parseSidecarPage(page);
    if (typeof own === "string") return own;
    if (!sameIdentity(own.identity, head.identity)) return "it belongs to another segment";
    if (own.keyringId !== head.keyringId || !own.fileSalt.equals(head.fileSalt)) {
      return "keyring or salt differ from those of the first page";
    }
    if (own.pageNumber !== number) return `it is page ${own.pageNumber} of its file`;
    if (own.last !== (number === pages - 1)) {
      return own.last
        ? "it is marked as the last page, but the file goes on"
        : "the last page is missing";
    }
    this.#macKeyIds.add(own.macKeyId);
    const macKey = keys?.macKey(own.macKeyId);
    if (macKey === undefined) return undefined;
    if (typeof macKey === "string") {
      this.#keyProblem(macKey);
      return undefined;
    }
    if (sidecarMacHolds(page, macKey)) return undefined;
    if (!this.#isUnderOtherKey(number, own.macKeyId)) return "its MAC does not hold";
    this.#keyProblem(`${path} is sealed under another key ${own.macKeyId} than this keyring's`);
    return undefined;
  }

  /** Whether it is the key that differs, and not the page: then no slot under that key id is committed to ours. */
  #isUnderOtherKey(page: number, keyId: number): boolean {
    const pageKey = this.#context.keys?.pageKey(keyId);
    if (pageKey === undefined || typeof pageKey === "string") return false;
    let others = 0;
    for (let slot = page * SLOTS_PER_PAGE; slot < (page + 1) * SLOTS_PER_PAGE; slot++) {
      const at = walSlotAt(slot);
      const fields = readSlotFields(this.#sidecar, at);
      if (slot >= this.#blockCount || fields.keyId !== keyId) continue;
      if (equalInConstantTime(this.#field(at, SLOT.commitment, KEY_BYTES), pageKey.commitment)) {
        return false;
      }
      others++;
    }
    return others > 1;
  }

  /** The guard is in no message, and a stored CRC in none either: both follow from what is. */
  #checkGuard(): void {
    const stored = storedSystemIdentifier(this.#segment);
    if (stored === undefined || stored === guardedIdentifier(this.#context.head.identity)) return;
    this.#problem("mark", "the first page lacks the guard", 0);
  }

  #openBlocks(map: SegmentMap, decrypt: boolean): void {
    const messages = new WalMessages(map, this.#context.head.identity);
    const crcs: { readonly at: number; readonly crc: number }[] = [];
    for (let block = 0; block < this.#blockCount; block++) {
      const crcAt = crcSealedIn(map, block);
      const text = this.#openBlock(messages, block, crcAt);
      if (text === undefined) continue;
      if (decrypt) {
        messages.scatter(text);
        if (crcAt !== undefined) crcs.push({ at: crcAt, crc: text.readUInt32LE(text.length - 4) });
      }
      release(text);
    }
    if (!decrypt || this.#problems > 0) return;
    writeWholeRecordCrcs(map);
    for (const { at, crc } of crcs) this.#segment.writeUInt32LE(crc, at);
    complementSystemIdentifier(this.#segment);
  }

  /** @returns the secrets of a block; undefined where something is wrong, which has been reported. */
  #openBlock(messages: WalMessages, block: number, crcAt: number | undefined): Buffer | undefined {
    const slotAt = walSlotAt(block);
    const fields = readWalSlotFields(this.#sidecar, slotAt);
    messages.start(block, this.#sidecar, slotAt, fields.zerosFrom);
    if (zerosFromOf(this.#segment, block) > fields.zerosFrom) {
      this.#problem("mark", "bytes are not zero that its slot says are", block);
      return undefined;
    }
    if ((crcAt !== undefined) !== ((fields.flags & WAL_SLOT_FLAG.sealedCrc) !== 0)) {
      this.#problem(
        "slot",
        "its slot contradicts the records that cross the segment's ends",
        block,
      );
      return undefined;
    }
    const { keyId } = readSlotFields(this.#sidecar, slotAt);
    const pageKey = this.#context.keys?.pageKey(keyId);
    if (pageKey === undefined) return undefined;
    if (typeof pageKey === "string") return this.#keyProblem(pageKey);
    if (!equalInConstantTime(this.#field(slotAt, SLOT.commitment, KEY_BYTES), pageKey.commitment)) {
      return this.#keyProblem(
        `${this.#context.path} block ${block}: the slot is not committed to key ${keyId} of this keyring: another key of that id, or a slot of another file`,
      );
    }
    if (hasSealedEnd(fields)) {
      const end = block * WAL_PAGE_BYTES + fields.structureEnd;
      if (this.#segment.readUInt32LE(end) !== 0) {
        this.#problem("mark", "the four bytes behind its last record are not zero", block);
        return undefined;
      }
      const sealed = this.#field(slotAt, SLOT.sealedBytes, 4);
      sealed.copy(messages.text, messages.positionOf(end));
    }
    if (crcAt !== undefined) {
      messages.append(this.#sidecar.readUInt32LE(slotAt + SEALED_CRC_OFFSET));
    }
    const nonce = this.#field(slotAt, SLOT.nonce, NONCE_BYTES);
    const tag = this.#field(slotAt, SLOT.tag, TAG_BYTES);
    const text = gcmDecrypt(pageKey.key, nonce, messages.aad, messages.text, tag);
    if (text === undefined) this.#problem("tag", "the block does not authenticate", block);
    return text;
  }

  #field(slotAt: number, offset: number, length: number): Buffer {
    return this.#sidecar.subarray(slotAt + offset, slotAt + offset + length);
  }

  #defect(message: string): undefined {
    this.#problem("sidecar", message);
  }

  #keyProblem(message: string): undefined {
    this.#problems++;
    if (this.#keyProblems.has(message)) return;
    this.#keyProblems.add(message);
    this.#context.report({ kind: "key", path: this.#context.path, message });
  }

  #problem(kind: ProblemKind, message: string, block?: number): void {
    this.#problems++;
    this.#context.report({ kind, path: this.#context.path, block, message });
  }
}
