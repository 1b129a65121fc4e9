/** What decoders of the LZ77 family share: the copy of what has just been written. */

/**
 * Appends what stands `distance` bytes back; where the match reaches into itself, its beginning repeats.
 * @param output - filled up to `at`, which is `distance` or more; has room for `length` more bytes.
 */
export function copyMatch(output: Buffer, at: number, distance: number, length: number): void {
  // Content of a period has its doubles as periods, too: each round copies twice as much, without overlap.
  for (let done = 0, period = distance; done < length; period *= 2) {
    const from = at + done - period;
    const count = Math.min(period, length - done);
    output.copyWithin(at + done, from, from + count);
    done += count;
  }
}
