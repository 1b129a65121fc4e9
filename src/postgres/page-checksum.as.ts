/**
 * PostgreSQL's page checksum, and sums over any bytes, in AssemblyScript, compiled to WebAssembly with SIMD by `npm run build`. The 32 sums of
 * storage/checksum_impl.h are eight vectors of four, so a row of 128 bytes is eight multiplications. It has no
 * memory of its own: page-checksum-wasm.ts brings it and lays it out.
 */

/** Checksums of `count` pages from address `pages` on, as u16 from address `results` on. */
export function checksums(
  pages: usize,
  count: u32,
  blockSize: u32,
  firstBlock: u32,
  results: usize,
): void {
  for (let page: u32 = 0; page < count; page++) {
    const sum = pageSum(pages, blockSize) ^ (firstBlock + page);
    store<u16>(results, <u16>(sum % 65535) + 1);
    pages += blockSize;
    results += 2;
  }
}

/** For each of `count` pages a byte from address `results` on: 1 when every byte of the page is zero, else 0. */
export function zeroPages(pages: usize, count: u32, blockSize: u32, results: usize): void {
  for (let page: u32 = 0; page < count; page++) {
    store<u8>(results, isZero(pages, blockSize) ? 1 : 0);
    pages += blockSize;
    results++;
  }
}

/**
 * 32 sums of 32 bits over `bytes` (a multiple of 128) from address `start` on, as 128 bytes from address `results` on: each
 * is of every 32nd word. Every step is reversible, so that words which differ at one place never give the same sum.
 */
export function sums(start: usize, bytes: u32, results: usize): void {
  let s0 = i32x4(1, 2, 3, 4);
  let s1 = i32x4(5, 6, 7, 8);
  let s2 = i32x4(9, 10, 11, 12);
  let s3 = i32x4(13, 14, 15, 16);
  let s4 = i32x4(17, 18, 19, 20);
  let s5 = i32x4(21, 22, 23, 24);
  let s6 = i32x4(25, 26, 27, 28);
  let s7 = i32x4(29, 30, 31, 32);
  for (const end = start + bytes; start < end; start += 128) {
    s0 = step(s0, v128.load(start));
    s1 = step(s1, v128.load(start, 16));
    s2 = step(s2, v128.load(start, 32));
    s3 = step(s3, v128.load(start, 48));
    s4 = step(s4, v128.load(start, 64));
    s5 = step(s5, v128.load(start, 80));
    s6 = step(s6, v128.load(start, 96));
    s7 = step(s7, v128.load(start, 112));
  }
  v128.store(results, s0);
  v128.store(results, s1, 16);
  v128.store(results, s2, 32);
  v128.store(results, s3, 48);
  v128.store(results, s4, 64);
  v128.store(results, s5, 80);
  v128.store(results, s6, 96);
  v128.store(results, s7, 112);
}

/** A product with an odd number, then a shift that is added without a carry: both can be undone. */
function step(sum: v128, value: v128): v128 {
  const product = i32x4.mul(v128.xor(sum, value), i32x4.splat(16777619));
  return v128.xor(product, i32x4.shr_u(product, 15));
}

function pageSum(page: usize, blockSize: u32): u32 {
  // checksumBaseOffsets; the plain version, which the tests compare with, holds the same numbers.
  let s0 = i32x4(0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a);
  let s1 = i32x4(0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c);
  let s2 = i32x4(0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa);
  let s3 = i32x4(0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb);
  let s4 = i32x4(0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de);
  let s5 = i32x4(0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4);
  let s6 = i32x4(0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e);
  let s7 = i32x4(0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756);

  // pd_checksum, the low half of the third word, counts as zero; only the first row has it.
  let first = v128.and(v128.load(page), i32x4(-1, -1, 0xffff0000, -1));
  for (const end = page + blockSize; page < end; page += 128) {
    s0 = mix(s0, first);
    s1 = mix(s1, v128.load(page, 16));
    s2 = mix(s2, v128.load(page, 32));
    s3 = mix(s3, v128.load(page, 48));
    s4 = mix(s4, v128.load(page, 64));
    s5 = mix(s5, v128.load(page, 80));
    s6 = mix(s6, v128.load(page, 96));
    s7 = mix(s7, v128.load(page, 112));
    first = v128.load(page, 128); // of the next row; after the last row it is read and not used
  }
  const zero = i32x4.splat(0);
  s0 = v128.xor(finish(s0, zero), finish(s1, zero));
  s2 = v128.xor(finish(s2, zero), finish(s3, zero));
  s4 = v128.xor(finish(s4, zero), finish(s5, zero));
  s6 = v128.xor(finish(s6, zero), finish(s7, zero));
  const all = v128.xor(v128.xor(s0, s2), v128.xor(s4, s6));
  return (
    i32x4.extract_lane(all, 0) ^
    i32x4.extract_lane(all, 1) ^
    i32x4.extract_lane(all, 2) ^
    i32x4.extract_lane(all, 3)
  );
}

function mix(sum: v128, value: v128): v128 {
  const mixed = v128.xor(sum, value);
  return v128.xor(i32x4.mul(mixed, i32x4.splat(16777619)), i32x4.shr_u(mixed, 17));
}

function finish(sum: v128, zero: v128): v128 {
  return mix(mix(sum, zero), zero);
}

function isZero(page: usize, blockSize: u32): bool {
  for (const end = page + blockSize; page < end; page += 64) {
    const low = v128.or(v128.load(page), v128.load(page, 16));
    const high = v128.or(v128.load(page, 32), v128.load(page, 48));
    if (v128.any_true(v128.or(low, high))) return false;
  }
  return true;
}
