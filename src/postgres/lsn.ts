/**
 * Log sequence numbers: positions in the write-ahead log, 64 bits wide. Source: access/xlogdefs.h.
 */

declare const brand: unique symbol;
export type Lsn = bigint & { readonly [brand]: "Lsn" };

/** No position: where PostgreSQL says InvalidXLogRecPtr. */
export const INVALID_LSN: Lsn = 0n as Lsn;

export function lsn(value: bigint): Lsn {
  return BigInt.asUintN(64, value) as Lsn;
}

/**
 * The LSN as PostgreSQL prints it.
 * @param lowDigits - digits that the second half has at least: MajorFacts.lsnLowDigits where the text must equal
 * that of one major's tools; the plain `%X/%X` otherwise.
 */
export function formatLsn(value: Lsn, lowDigits: 1 | 8 = 1): string {
  const high = (value >> 32n).toString(16);
  const low = (value & 0xffffffffn).toString(16).padStart(lowDigits, "0");
  return `${high}/${low}`.toUpperCase();
}

/** The LSN that such a text names, or undefined: one to eight hexadecimal digits on either side of the slash. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9a-fA-F]{1,8})\/([0-9a-fA-F]{1,8})$/.exec(text);
  return match === null
    ? undefined
    : lsn((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`));
}
