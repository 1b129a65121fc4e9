/** Base64 with padding (RFC 4648, section 4), one spelling only: what `Buffer` reads leniently is rejected. */

/** The bytes, or undefined when the text is not exactly what encoding them would give. */
export function parseBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : undefined;
}
