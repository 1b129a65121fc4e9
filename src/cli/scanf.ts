/**
 * Numbers as scanf and strtoul of C read them from the beginning of a text: blanks, a sign and whatever follows the
 * digits are no error, and what does not fit is cut. pg_waldump reads its options so.
 */

export interface Scanned {
  readonly value: number;
  /** What follows the number. */
  readonly rest: string;
}

/** `%u`, `%d` and `%X` read into 32 bits: as an unsigned number of 64 bits first, of which 32 are kept. */
export function scanUnsigned(text: string, base: 10 | 16, maxDigits = 64): Scanned | undefined {
  const pattern =
    base === 10
      ? /^[\t-\r ]*([+-]?)([0-9]+)/
      : /^[\t-\r ]*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)/;
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const [all, sign, digits = ""] = match;
  const kept = digits.slice(0, maxDigits);
  const whole = wholeNumber(base === 10 ? "" : "0x", kept);
  const most = 2n ** 64n - 1n;
  const value = whole > most ? most : sign === "-" ? -whole : whole;
  return {
    value: Number(BigInt.asUintN(32, value)),
    rest: text.slice(all.length - (digits.length - kept.length)),
  };
}

/** `%d`. */
export function scanSigned(text: string): number | undefined {
  const match = /^[\t-\r ]*([+-]?)([0-9]+)/.exec(text);
  if (match === null) return undefined;
  const digits = wholeNumber("", match[2] ?? "0");
  const whole = match[1] === "-" ? -digits : digits;
  const most = 2n ** 63n;
  const kept = whole >= most ? most - 1n : whole < -most ? -most : whole;
  return Number(BigInt.asIntN(32, kept));
}

/**
 * strtoul with base 0: decimal, 0x for hexadecimal, 0 for octal.
 * @returns the number and what follows it; the number is infinite where 64 bits do not hold it.
 */
export function strtoul(text: string): Scanned {
  const match = /^[\t-\r ]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)/.exec(text);
  if (match === null) return { value: 0, rest: text };
  const [all, sign, digits = "0"] = match;
  const [, prefix = "", significant = ""] = /^(0[xX]|0(?=[0-7]))?(.*)$/.exec(digits) ?? [];
  const whole = wholeNumber(prefix === "0" ? "0o" : prefix, significant);
  const value = sign === "-" ? BigInt.asUintN(64, -whole) : whole;
  return { value: whole >= 2n ** 64n ? Infinity : Number(value), rest: text.slice(all.length) };
}

/** More do not fit into 64 bits in any base. */
const MOST_DIGITS = 40;

/** No more digits than tell that it is too large: to make a number of a million of them takes long. */
function wholeNumber(prefix: string, digits: string): bigint {
  const significant = digits.replace(/^0+(?=.)/s, "").slice(0, MOST_DIGITS);
  return BigInt(`${prefix}${significant}`);
}
