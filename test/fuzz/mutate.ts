/** Ways to damage bytes: what broken disks do, and what breaks parsers. */
import type { Random } from "./random.ts";

/** Numbers at which counts and lengths go wrong. */
const EDGES = [
  0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
];

/** Changes at least one place between `start` and the end of `bytes`, which is not empty. */
export function damage(bytes: Buffer, start: number, random: Random): void {
  const length = bytes.length - start;
  if (length <= 0) return;
  const at = start + random.below(length);
  switch (random.below(4)) {
    case 0:
      for (let i = random.below(4); i >= 0; i--)
        flipBit(bytes, start + random.below(length), random);
      break;
    case 1: {
      const size = Math.min(random.pick([1, 2, 4]), bytes.length - at);
      const edge = random.pick(EDGES);
      for (let i = 0; i < size; i++) bytes[at + i] = edge >>> (8 * i);
      break;
    }
    case 2:
      bytes.fill(
        random.pick([0, 0xff, random.below(256)]),
        at,
        Math.min(at + 1 + random.below(32), bytes.length),
      );
      break;
    default:
      bytes.copy(bytes, at, start + random.below(length), bytes.length);
  }
}

export function flipBit(bytes: Buffer, at: number, random: Random): void {
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
}
