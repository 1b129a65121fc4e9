/**
 * Where a reader of WAL has its bytes from. Whoever drives it opens files; here nothing does.
 */

export interface SegmentBytes {
  /**
   * As pread within the segment: returns how many bytes it read, 0 at the end of what there is. Asked again for the
   * same place it may give more: a server may be writing.
   */
  read(buffer: Uint8Array, offset: number, length: number, position: number): number;
  /** Only the structure of its records is WAL; the rest is ciphertext. */
  readonly isEncrypted?: boolean;
}

export interface SegmentSource {
  /**
   * The segment whose first byte has this LSN.
   * @returns undefined where it has to be fetched first: the reader then says so and is asked again later.
   */
  segment(high: number, low: number): SegmentBytes | undefined;
}
