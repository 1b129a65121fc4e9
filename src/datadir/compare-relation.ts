/**
 * Holds the plain pages of a sealed relation file against those of another plain file. A page is unchanged only if
 * every byte of it is: equal LSNs prove nothing, since hint bits change without a new one.
 */
import type { Chunk } from "../format/chunk.ts";
import { readExactly } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";

/** Which slots of a range differ: one bit for each, the first slot's the lowest of the first byte. */
export interface ChangedSlots {
  readonly firstSlot: number;
  readonly bits: Uint8Array;
  readonly count: number;
}

export function isSlotChanged({ firstSlot, bits }: ChangedSlots, slot: number): boolean {
  const index = slot - firstSlot;
  return (((bits[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
}

/** @param parts - by rising slots. */
export function joinChanged(parts: readonly ChangedSlots[]): ChangedSlots | undefined {
  const [first] = parts;
  const last = parts.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const { firstSlot } = first;
  const slots = last.firstSlot - firstSlot + 8 * last.bits.length;
  const bits = new Uint8Array(Math.ceil(slots / 8));
  let count = 0;
  for (const part of parts) {
    count += part.count;
    for (let i = 0; i < 8 * part.bits.length; i++) {
      const slot = part.firstSlot + i;
      if (!isSlotChanged(part, slot)) continue;
      const index = slot - firstSlot;
      bits[index >> 3] = (bits[index >> 3] ?? 0) | (1 << (index & 7));
    }
  }
  return { firstSlot, bits, count };
}

export class PageComparison {
  private readonly chunk: Chunk;
  private readonly other: OpenFile;
  private readonly otherBytes: number;
  private readonly buffer: Buffer;
  private readonly firstSlot: number;
  private readonly bits: Uint8Array;
  private count = 0;

  /**
   * @param chunk - whose data buffer will hold the plain pages of the sealed file.
   * @param otherBytes - size of the other file, which may be longer or shorter.
   * @param slots - of the sealed file, that will be compared.
   * @param buffer - as large as the chunk's data.
   */
  constructor(
    chunk: Chunk,
    other: OpenFile,
    otherBytes: number,
    slots: { readonly firstSlot: number; readonly slotCount: number },
    buffer: Buffer,
  ) {
    this.chunk = chunk;
    this.other = other;
    this.otherBytes = otherBytes;
    this.buffer = buffer;
    this.firstSlot = slots.firstSlot;
    this.bits = new Uint8Array(Math.ceil(slots.slotCount / 8));
  }

  /** Compares one chunk. @param position - in both files, of the chunk's first byte. */
  take(dataBytes: number, position: number): void {
    const { chunk, buffer, otherBytes } = this;
    const { blockSizeBytes, data } = chunk;
    const length = Math.min(dataBytes, Math.max(0, otherBytes - position));
    readExactly(this.other, buffer, 0, length, position);
    if (length === dataBytes && data.compare(buffer, 0, length, 0, length) === 0) {
      // A page of the sealed file that ends here may go on in the other one.
      const isCut = dataBytes % blockSizeBytes !== 0 && otherBytes > position + dataBytes;
      if (!isCut) return;
    }
    for (let at = 0; at < length; at += blockSizeBytes) {
      const end = Math.min(at + blockSizeBytes, dataBytes);
      const otherEnd = Math.min(at + blockSizeBytes, otherBytes - position);
      const same = end === otherEnd && data.compare(buffer, at, end, at, end) === 0;
      if (!same) this.mark((position + at) / blockSizeBytes);
    }
  }

  /** Undefined when no slot that both files have differs. Slots that only one has are not in it. */
  get changed(): ChangedSlots | undefined {
    const { firstSlot, bits, count } = this;
    return count === 0 ? undefined : { firstSlot, bits, count };
  }

  private mark(slot: number): void {
    const index = slot - this.firstSlot;
    this.bits[index >> 3] = (this.bits[index >> 3] ?? 0) | (1 << (index & 7));
    this.count++;
  }
}
