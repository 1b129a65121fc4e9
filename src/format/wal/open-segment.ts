/**
 * Checks a stored WAL segment against its sidecar and, when asked, decrypts it in place. Nothing is decrypted under a
 * key that a slot is not committed to, and no plaintext reaches the buffer before its tag holds.
 * docs/FORMAT.md, "WAL segments".
 */
import {
  equalInConstantTime,
  gcmDecrypt,
  gcmEncryptInPlace,
  KEY_BYTES,
  NONCE_BYTES,
  TAG_BYTES,
} from "../../crypto/primitives.ts";
import { pageChecksum } from "../../postgres/page-checksum.ts";
import { PAGE_HEADER } from "../../postgres/page.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import type { PageKey } from "../file-keys.ts";
import { sameIdentity } from "../identity.ts";
import type { FileKeys } from "../open-chunk.ts";
import type { Problem, ProblemKind } from "../problem.ts";
import {
  parseSidecarPage,
  sidecarMacHolds,
  slotsPerPage,
  type SidecarHead,
} from "../sidecar-page.ts";
import { readSlotFields, SLOT } from "../slot.ts";
import { carryOf, carryPagesFrom } from "./carry-of-sidecar.ts";
import { writeWholeRecordCrcs } from "./record-checksum.ts";
import { crcSealedIn, walSlotAt, zerosFromOf } from "./seal-segment.ts";
import type { MapMemory, SegmentMap } from "./segment-map.ts";
import { MapDefect, mapStoredSegment, type StoredMap } from "./stored-map.ts";
import { WalMessages } from "./wal-message.ts";
import { firstPageOf, toggleGuard } from "./wal-page.ts";
import {
  type Carry,
  hasSealedEnd,
  readWalSlotFields,
  SEALED_CRC_OFFSET,
  WAL_SIDECAR_PAGE_BYTES,
  WAL_SLOT_FLAG,
  walSlotDefect,
  type WalSlotFields,
} from "./wal-slot.ts";

export interface WalOpenContext {
  readonly head: SidecarHead;
  /** Without keys only the form is checked. */
  readonly keys: FileKeys | undefined;
  readonly maxEpoch: bigint;
  readonly path: string;
  readonly report: (problem: Problem) => void;
  /** What the map is kept in; without it that has memory of its own. */
  readonly memory?: MapMemory | undefined;
}

/**
 * How deep: the sidecar, with its MACs, and the guard; also what else needs no key; also the tag of every block; also back
 * to the original.
 */
export type WalDepth = "sidecar" | "macs" | "tags" | "decrypt";

export interface OpenedSegment {
  /** Blocks under each key id. */
  readonly blocksByKey: ReadonlyMap<number, number>;
  /** Blocks of the newest epoch that may be. */
  readonly newestBlocks: number;
  readonly macKeyIds: ReadonlySet<number>;
  /** As it was taken apart; undefined where that was not possible. */
  readonly map: SegmentMap | undefined;
}

/** What a block is opened with. */
interface BlockOpening {
  readonly fields: WalSlotFields;
  readonly pageKey: PageKey;
  readonly nonce: Buffer;
  readonly tag: Buffer;
}

const SLOTS_PER_PAGE = slotsPerPage(WAL_SIDECAR_PAGE_BYTES);

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

/**
 * Whether a plain segment is the original of the stored one that the sidecar belongs to: encrypted once more under the
 * nonces of the slots it gives their tags. What is encrypted so is thrown away.
 * @param plain - its bytes are changed.
 */
export function isOriginal(plain: Buffer, sidecar: Buffer, context: WalOpenContext): boolean {
  return new SegmentOpener(plain, sidecar, context).holdsOriginal();
}

class SegmentOpener {
  readonly #segment: Buffer;
  readonly #sidecar: Buffer;
  readonly #context: WalOpenContext;
  readonly #blockCount: number;
  readonly #blocksByKey = new Map<number, number>();
  readonly #macKeyIds = new Set<number>();
  readonly #keyProblems = new Set<string>();
  /** Where one message is decrypted before its tag is known to hold: a block's secrets and an xl_crc. */
  readonly #plaintext = Buffer.alloc(WAL_PAGE_BYTES + 4);
  #newestBlocks = 0;
  #problems = 0;

  constructor(segment: Buffer, sidecar: Buffer, context: WalOpenContext) {
    this.#segment = segment;
    this.#sidecar = sidecar;
    this.#context = context;
    this.#blockCount = segment.length / WAL_PAGE_BYTES;
  }

  open(depth: WalDepth): OpenedSegment {
    const stored = depth === "sidecar" ? this.#look() : this.#map();
    const found = {
      blocksByKey: this.#blocksByKey,
      newestBlocks: this.#newestBlocks,
      macKeyIds: this.#macKeyIds,
    };
    if (stored === undefined) return { ...found, map: undefined };
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

  /** What is not secret is the same in both: so the plain segment is taken apart as the stored one would be. */
  holdsOriginal(): boolean {
    if (firstPageOf(this.#segment)?.isGuarded === true) return false;
    toggleGuard(this.#segment);
    const plain = this.#map();
    if (plain === undefined || this.#problems > 0) return false;
    // A record's CRC is in no message: it was right, or the record would not have been taken apart.
    if (plain.wrongCrcs.length > 0) return false;
    const { map } = plain;
    const messages = new WalMessages(map, this.#context.head.identity);
    const tag = Buffer.alloc(TAG_BYTES);
    for (let block = 0; block < this.#blockCount; block++) {
      const crcAt = crcSealedIn(map, block);
      const opening = this.#startBlock(messages, block, crcAt);
      if (opening === undefined) return false;
      if (crcAt !== undefined) messages.append(this.#segment.readUInt32LE(crcAt));
      gcmEncryptInPlace(opening.pageKey.key, opening.nonce, messages.aad, messages.text, tag);
      if (!equalInConstantTime(tag, opening.tag)) return false;
    }
    return true;
  }

  /** Without taking it apart. */
  #look(): undefined {
    this.#checkSidecar();
    this.#checkGuard();
  }

  /** Takes the segment apart; undefined where that is not possible. */
  #map(): StoredMap | undefined {
    const carry = this.#checkSidecar();
    if (carry === undefined) return undefined;
    this.#checkGuard();
    const slotOf = (block: number): WalSlotFields =>
      readWalSlotFields(this.#sidecar, walSlotAt(block));
    try {
      return mapStoredSegment(this.#segment, slotOf, carry);
    } catch (error) {
      if (!(error instanceof MapDefect)) throw error;
      this.#problem("tag", `the block was changed: ${error.message}`, error.block);
      return undefined;
    }
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
    const carryPages = this.#sidecar.subarray(carryPagesFrom(this.#blockCount));
    const carry = carryOf(carryPages, this.#blockCount);
    if (typeof carry === "string") return this.#defect(carry);
    return usable ? carry : undefined;
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

  /** A page that lacks it would pass for plain, and its sidecar for one that does not count. */
  #checkGuard(): void {
    const page = firstPageOf(this.#segment);
    const { systemIdentifier } = this.#context.head.identity;
    if (page === undefined) return;
    if (page.isGuarded && page.systemIdentifier === systemIdentifier) return;
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
    }
    if (!decrypt || this.#problems > 0) return;
    writeWholeRecordCrcs(map);
    for (const { at, crc } of crcs) this.#segment.writeUInt32LE(crc, at);
    toggleGuard(this.#segment);
  }

  /** @returns the secrets of a block, until the next call; undefined where something is wrong, which has been reported. */
  #openBlock(messages: WalMessages, block: number, crcAt: number | undefined): Buffer | undefined {
    const opening = this.#startBlock(messages, block, crcAt);
    if (opening === undefined) return undefined;
    const { fields, pageKey, nonce, tag } = opening;
    const slotAt = walSlotAt(block);
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
    const { aad, text: ciphertext } = messages;
    const output = this.#plaintext.subarray(0, ciphertext.length);
    const text = gcmDecrypt(pageKey.key, nonce, aad, ciphertext, tag, output);
    if (text === undefined) this.#problem("tag", "the block does not authenticate", block);
    return text;
  }

  /** Finds the message of a block, as the segment has it, and what is needed to open or close it. */
  #startBlock(
    messages: WalMessages,
    block: number,
    crcAt: number | undefined,
  ): BlockOpening | undefined {
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
    const nonce = this.#field(slotAt, SLOT.nonce, NONCE_BYTES);
    const tag = this.#field(slotAt, SLOT.tag, TAG_BYTES);
    return { fields, pageKey, nonce, tag };
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
