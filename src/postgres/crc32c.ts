/**
 * CRC-32C (Castagnoli), as PostgreSQL computes it over pg_control, WAL records and backup files.
 * PostgreSQL: src/include/port/pg_crc32c.h.
 */

const TABLE: Uint32Array = table();

/**
 * @param seed - the CRC of the bytes before these, to go on with a stream; 0 at its beginning.
 * @returns the CRC as an unsigned 32-bit number.
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

function table(): Uint32Array {
  const entries = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    entries[i] = crc;
  }
  return entries;
}
