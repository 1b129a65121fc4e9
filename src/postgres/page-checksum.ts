/**
 * PostgreSQL's page checksum in plain TypeScript: 32 interleaved FNV-1a sums, folded. It is the oracle for the
 * WebAssembly version, which does the bulk of the work. Source: storage/checksum_impl.h.
 */
import { PAGE_HEADER } from "./page.ts";

const SUMS = 32;
const ROW_BYTES = 4 * SUMS;
const FNV_PRIME = 16777619;

/** checksumBaseOffsets of checksum_impl.h: where each sum begins. */
// prettier-ignore
export const CHECKSUM_BASE_OFFSETS: Readonly<Uint32Array> = Uint32Array.of(
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c,
  0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb,
  0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4,
  0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
);

/**
 * The checksum of one page.
 * @param page - 1 to 32 kB, a multiple of 128 bytes; its pd_checksum field counts as zero and is not changed.
 * @param blockNumber - within the fork, counted over all its segments.
 * @returns 1 to 65535; 0 is no checksum.
 */
export function pageChecksum(page: Buffer, blockNumber: number): number {
  const sums = Uint32Array.from(CHECKSUM_BASE_OFFSETS);
  for (let row = 0; row < page.length; row += ROW_BYTES) {
    for (let i = 0; i < SUMS; i++) {
      const offset = row + 4 * i;
      let value = page.readUInt32LE(offset);
      if (offset === PAGE_HEADER.checksum) value &= 0xffff0000; // pd_flags, the upper half, counts
      sums[i] = mix(sums[i] ?? 0, value);
    }
  }
  let result = 0;
  for (const sum of sums) result ^= mix(mix(sum, 0), 0);
  return (((result ^ blockNumber) >>> 0) % 65535) + 1;
}

function mix(sum: number, value: number): number {
  const mixed = sum ^ value;
  return Math.imul(mixed, FNV_PRIME) ^ (mixed >>> 17);
}
