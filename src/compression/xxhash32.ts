/**
 * xxHash, 32 bits, seed 0: the checksum in LZ4 frames. Source: doc/xxhash_spec.md of the xxHash project.
 */

const PRIME_1 = 0x9e3779b1;
const PRIME_2 = 0x85ebca77;
const PRIME_3 = 0xc2b2ae3d;
const PRIME_4 = 0x27d4eb2f;
const PRIME_5 = 0x165667b1;
const STRIPE_BYTES = 16;

/** The hash of these bytes. */
export function xxHash32(bytes: Buffer): number {
  return new XxHash32().update(bytes).digest();
}

/** The hash of what comes in parts. */
export class XxHash32 {
  #length = 0;
  /** Less than a stripe. */
  #rest: Buffer = Buffer.alloc(0);
  #a = (PRIME_1 + PRIME_2) | 0;
  #b = PRIME_2 | 0;
  #c = 0;
  #d = -PRIME_1 | 0;

  update(part: Buffer): this {
    this.#length += part.length;
    const bytes = this.#rest.length === 0 ? part : Buffer.concat([this.#rest, part]);
    let at = 0;
    for (; at <= bytes.length - STRIPE_BYTES; at += STRIPE_BYTES) {
      this.#a = round(this.#a, bytes.readInt32LE(at));
      this.#b = round(this.#b, bytes.readInt32LE(at + 4));
      this.#c = round(this.#c, bytes.readInt32LE(at + 8));
      this.#d = round(this.#d, bytes.readInt32LE(at + 12));
    }
    this.#rest = Buffer.from(bytes.subarray(at));
    return this;
  }

  digest(): number {
    const rest = this.#rest;
    let hash =
      this.#length < STRIPE_BYTES
        ? PRIME_5
        : rotate(this.#a, 1) + rotate(this.#b, 7) + rotate(this.#c, 12) + rotate(this.#d, 18);
    hash = (hash + this.#length) | 0;
    let at = 0;
    for (; at <= rest.length - 4; at += 4) {
      hash = Math.imul(rotate((hash + Math.imul(rest.readInt32LE(at), PRIME_3)) | 0, 17), PRIME_4);
    }
    for (; at < rest.length; at++) {
      hash = Math.imul(rotate((hash + Math.imul(rest.readUInt8(at), PRIME_5)) | 0, 11), PRIME_1);
    }
    hash = Math.imul(hash ^ (hash >>> 15), PRIME_2);
    hash = Math.imul(hash ^ (hash >>> 13), PRIME_3);
    return (hash ^ (hash >>> 16)) >>> 0;
  }
}

function round(accumulator: number, lane: number): number {
  return Math.imul(rotate((accumulator + Math.imul(lane, PRIME_2)) | 0, 13), PRIME_1);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
