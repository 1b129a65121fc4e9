/** What decoders of the LZ77 family share: the copy of what has just been written. */

/** Up to here a loop is faster than a call. */
export const SHORT_COPY_BYTES = 32;

/**
 * Appends what stands `distance` bytes back; where the match reaches into itself, its beginning repeats.
 * @param output - filled up to `at`, which is `distance` or more; has room for `length` more bytes.
 */
export function copyMatch(output: Buffer, at: number, distance: number, length: number): void {
  if (length <= SHORT_COPY_BYTES) {
    for (let i = at; i < at + length; i++) output[i] = output[i - distance] ?? 0;
    return;
  }
  // Content of a period has its doubles as periods, too: each round copies twice as much, without overlap.
  for (let done = 0, period = distance; done < length; period *= 2) {
    const from = at + done - period;
    const count = Math.min(period, length - done);
    output.copyWithin(at + done, from, from + count);
    done += count;
  }
}
