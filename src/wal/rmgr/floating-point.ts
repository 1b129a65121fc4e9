/**
 * Doubles as PostgreSQL's own printf writes them (port/snprintf.c, fmtfloat).
 */
import type { TextBuffer } from "../text-buffer.ts";

/** Significant digits of %g, and digits behind the point of %f, where the format names none. */
const PRECISION = 6;
/** As many digits as JavaScript gives: enough to see that a value lies exactly between two roundings. */
const EXACT = 100;

/** As `%g`. */
export function writeGeneral(out: TextBuffer, value: number): void {
  out.text(notFinite(value) ?? sign(value) + general(Math.abs(value)));
}

/** As `%f`. */
export function writeFixed(out: TextBuffer, value: number): void {
  out.text(notFinite(value) ?? sign(value) + fixed(Math.abs(value)));
}

function notFinite(value: number): string | undefined {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? undefined : `${sign(value)}Infinity`;
}

function sign(value: number): string {
  return value < 0 || Object.is(value, -0) ? "-" : "";
}

function general(value: number): string {
  const [rounded = "", exponentText] = value.toExponential(PRECISION - 1).split("e");
  const [exact = ""] = value.toExponential(EXACT).split("e");
  const mantissa = halfToEven(rounded, exact);
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= PRECISION) {
    const digits = String(Math.abs(exponent)).padStart(2, "0");
    return `${withoutTrailingZeros(mantissa)}e${exponent < 0 ? "-" : "+"}${digits}`;
  }
  const digits = mantissa.replace(".", "");
  return withoutTrailingZeros(
    exponent < 0
      ? `0.${"0".repeat(-exponent - 1)}${digits}`
      : `${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`,
  );
}

function fixed(value: number): string {
  // toFixed changes to exponents there; such a number is whole.
  if (value >= 1e21) return `${BigInt(value)}.${"0".repeat(PRECISION)}`;
  return halfToEven(value.toFixed(PRECISION), value.toFixed(EXACT));
}

/** C rounds a value that lies exactly between two to the even one, JavaScript to the larger one. */
function halfToEven(rounded: string, exact: string): string {
  const last = Number(rounded.at(-1));
  const between = /^50*$/.test(exact.slice(rounded.length));
  return between && last % 2 === 1 ? `${rounded.slice(0, -1)}${last - 1}` : rounded;
}

/** @param text - with a point. */
function withoutTrailingZeros(text: string): string {
  return text.replace(/\.?0*$/, "");
}
