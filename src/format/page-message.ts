/**
 * The AES-256-GCM message of one page: which bytes are its AAD, which its plaintext.
 * docs/FORMAT.md, "Page message".
 */
import { type FileIdentity, IDENTITY_BYTES, serializeIdentity } from "./identity.ts";
import { copyWords } from "../bytes/copy-words.ts";
import { PAGE_HEADER, PAGE_HEADER_BYTES } from "../postgres/page.ts";
import { SLOT_AAD_BYTES } from "./slot.ts";

/** Set in pd_flags of every sealed page; PostgreSQL never sets it and refuses a page that has it. */
export const SEALED_PAGE_MARK = 0x8000;

/**
 * Where the encrypted part begins in a page's buffer once the original pd_checksum has been put right before the
 * body: 2 bytes of pd_checksum, then the page from byte 24 on, in one run. The bytes that this overwrites
 * (pd_prune_xid's last two) are in the AAD buffer by then, and go back afterwards.
 */
export const MESSAGE_START: number = PAGE_HEADER_BYTES - 2;

const LABEL = Buffer.from("tde/v1/page");
const BLOCK = LABEL.length + IDENTITY_BYTES;
const SLOT_PART = BLOCK + 4;
const HEADER_PART = SLOT_PART + SLOT_AAD_BYTES;

/**
 * Builds the AAD of one page after another in one buffer:
 * "tde/v1/page" || identity || u32(block number) || slot[0..32) || header with pd_checksum zeroed.
 */
export class PageAad {
  private readonly bytes: Buffer = Buffer.alloc(HEADER_PART + PAGE_HEADER_BYTES);
  private readonly withoutHeader: Buffer = this.bytes.subarray(0, HEADER_PART);
  private readonly firstBlock: number;

  constructor(identity: FileIdentity) {
    LABEL.copy(this.bytes, 0);
    serializeIdentity(identity).copy(this.bytes, LABEL.length);
    this.firstBlock = identity.firstBlock;
  }

  /** @param block - the page's number within its file. @returns the AAD; valid until the next call. */
  forPage(block: number, slots: Buffer, slotAt: number, pages: Buffer, pageAt: number): Buffer {
    this.putSlot(block, slots, slotAt);
    copyWords(pages, pageAt, this.bytes, HEADER_PART, PAGE_HEADER_BYTES);
    this.bytes[HEADER_PART + PAGE_HEADER.checksum] = 0;
    this.bytes[HEADER_PART + PAGE_HEADER.checksum + 1] = 0;
    return this.bytes;
  }

  /** For a zero page: the header is 24 zero bytes. */
  forZeroPage(block: number, slots: Buffer, slotAt: number): Buffer {
    this.putSlot(block, slots, slotAt);
    this.bytes.fill(0, HEADER_PART);
    return this.bytes;
  }

  /** For the odd tail of a file: no header. */
  forTail(block: number, slots: Buffer, slotAt: number): Buffer {
    this.putSlot(block, slots, slotAt);
    return this.withoutHeader;
  }

  /** Puts back the two header bytes that the message's pd_checksum stood on. */
  restoreHeaderEnd(pages: Buffer, pageAt: number): void {
    pages.writeUInt16LE(
      this.bytes.readUInt16LE(HEADER_PART + MESSAGE_START),
      pageAt + MESSAGE_START,
    );
  }

  private putSlot(block: number, slots: Buffer, slotAt: number): void {
    this.bytes.writeUInt32LE(this.firstBlock + block, BLOCK);
    copyWords(slots, slotAt, this.bytes, SLOT_PART, SLOT_AAD_BYTES);
  }
}

/** The pd_checksum that a page with a wrong original checksum is stored with: wrong, and never 0. */
export function wrongOnPurpose(validChecksum: number): number {
  const flipped = validChecksum ^ 1;
  return flipped === 0 ? 2 : flipped;
}

/** Whether a sealed page can have this pd_checksum, where `validChecksum` is the one of its bytes. */
export function isStoredChecksum(pdChecksum: number, validChecksum: number): boolean {
  return pdChecksum === validChecksum || pdChecksum === wrongOnPurpose(validChecksum);
}
