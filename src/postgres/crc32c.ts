/**
 * CRC-32C (Castagnoli), as PostgreSQL computes it over WAL records, pg_control and relation maps. Eight tables of
 * 256 entries take eight bytes a step ("slicing by 8"). Source: RFC 3720 appendix B.4; port/pg_crc32c.h.
 */

const POLYNOMIAL = 0x82f63b78; // bits in reflected order
const TABLES = makeTables();

/**
 * The CRC-32C of bytes from `start` up to but not including `end`.
 * @param previous - the CRC of what comes before them; so crc32c(b, 0, n, crc32c(a)) is the CRC of a || b.
 */
export function crc32c(
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
  previous = 0,
): number {
  // Indexes are in range by construction; `?? 0` only tells the compiler so.
  const t = TABLES;
  let crc = ~previous;
  let i = start;
  for (const last = end - 8; i <= last; i += 8) {
    const low = crc ^ load32(bytes, i);
    const high = load32(bytes, i + 4);
    crc =
      (t[0x700 | (low & 0xff)] ?? 0) ^
      (t[0x600 | ((low >>> 8) & 0xff)] ?? 0) ^
      (t[0x500 | ((low >>> 16) & 0xff)] ?? 0) ^
      (t[0x400 | (low >>> 24)] ?? 0) ^
      (t[0x300 | (high & 0xff)] ?? 0) ^
      (t[0x200 | ((high >>> 8) & 0xff)] ?? 0) ^
      (t[0x100 | ((high >>> 16) & 0xff)] ?? 0) ^
      (t[high >>> 24] ?? 0);
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ (t[(crc ^ (bytes[i] ?? 0)) & 0xff] ?? 0);
  return ~crc >>> 0;
}

function load32(bytes: Uint8Array, i: number): number {
  return (
    (bytes[i] ?? 0) |
    ((bytes[i + 1] ?? 0) << 8) |
    ((bytes[i + 2] ?? 0) << 16) |
    ((bytes[i + 3] ?? 0) << 24)
  );
}

/** Table k, at 256 k, holds the CRC of each byte followed by k zero bytes. */
function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256] ?? 0;
    tables[i] = (before >>> 8) ^ (tables[before & 0xff] ?? 0);
  }
  return tables;
}
