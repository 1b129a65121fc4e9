/**
 * Parts one WAL block into its secrets, joined, and its structure, joined, and puts other secrets back. In
 * AssemblyScript, compiled to WebAssembly by `npm run build`; block-text.ts brings the memory and lays it out.
 */

/** Moves a few bytes: a call of memory.copy would take longer. The areas do not overlap. */
function move(from: usize, to: usize, length: u32): void {
  while (length >= 16) {
    v128.store(to, v128.load(from));
    from += 16;
    to += 16;
    length -= 16;
  }
  if (length & 8) {
    store<u64>(to, load<u64>(from));
    from += 8;
    to += 8;
  }
  if (length & 4) {
    store<u32>(to, load<u32>(from));
    from += 4;
    to += 4;
  }
  if (length & 2) {
    store<u16>(to, load<u16>(from));
    from += 2;
    to += 2;
  }
  if (length & 1) store<u8>(to, load<u8>(from));
}

const BLOCK_BYTES: i32 = 8192;

/**
 * Joins ranges that touch, and leaves out empty ones.
 * @param ranges - `count` of start and end, i32 each, rising, in offsets of the segment.
 * @param base - offset of the block. @returns how many there are now: in their place, in offsets of the block.
 */
export function joinRanges(ranges: usize, count: u32, base: i32): u32 {
  let joined = ranges;
  let last: i32 = 0;
  for (let end = ranges + (count << 3), at = ranges; at < end; at += 8) {
    // Whatever a damaged segment was taken for: nothing outside the block, and nothing twice.
    const from = max(load<i32>(at) - base, last);
    const to = min(load<i32>(at, 4) - base, BLOCK_BYTES);
    if (to <= from) continue;
    if (from == last && joined > ranges) {
      store<i32>(joined - 8, to, 4);
    } else {
      store<i32>(joined, from);
      store<i32>(joined, to, 4);
      joined += 8;
    }
    last = to;
  }
  return (<u32>(joined - ranges)) >> 3;
}

/**
 * Copies what is in the ranges into `text`, and what is between them into `structure`.
 * @param end - of the block's bytes that count. @returns the length of the text.
 */
export function part(
  block: usize,
  end: u32,
  ranges: usize,
  count: u32,
  text: usize,
  structure: usize,
): u32 {
  let done: u32 = 0;
  let at = text;
  for (const last = ranges + (count << 3); ranges < last; ranges += 8) {
    const from = load<u32>(ranges);
    const to = load<u32>(ranges, 4);
    move(block + done, structure, from - done);
    structure += from - done;
    move(block + from, at, to - from);
    at += to - from;
    done = to;
  }
  if (done < end) move(block + done, structure, end - done);
  return <u32>(at - text);
}

/** Puts a text in the place of what is in the ranges. */
export function scatter(text: usize, block: usize, ranges: usize, count: u32): void {
  for (const last = ranges + (count << 3); ranges < last; ranges += 8) {
    const from = load<u32>(ranges);
    const length = load<u32>(ranges, 4) - from;
    move(text, block + from, length);
    text += length;
  }
}

/** Keeps the words at these offsets of the block, i32 each, and zeroes them there. */
export function takeWords(block: usize, offsets: usize, count: u32, kept: usize): void {
  for (let i: u32 = 0; i < count << 2; i += 4) {
    const at = block + load<u32>(offsets + i);
    store<u32>(kept + i, load<u32>(at));
    store<u32>(at, 0);
  }
}

/** Undoes takeWords. */
export function putWords(block: usize, offsets: usize, count: u32, kept: usize): void {
  for (let i: u32 = 0; i < count << 2; i += 4) {
    store<u32>(block + load<u32>(offsets + i), load<u32>(kept + i));
  }
}
