/**
 * Byte strings inside the lines of a text format: every byte outside 21 to 7e, and "%" itself, is written as
 * `%xx` with lower-case hex. So a value holds no blank and no line end, and has exactly one spelling.
 */
import { FormatError } from "../errors.ts";

/** @param bytes - one byte in each character, as in a BytePath. */
export function escapeBytes(bytes: string): string {
  return bytes.replace(
    /[^\x21-\x7e]|%/g,
    (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** @throws {FormatError} when the text is not what `escapeBytes` writes. */
export function unescapeBytes(text: string): string {
  const bytes = text.replace(/%([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  if (escapeBytes(bytes) !== text) throw new FormatError("text is not escaped as it should be");
  return bytes;
}
