/**
 * Copies a few whole 32-bit words from one buffer to another; for so few a call of Buffer.copy would take longer.
 * @param lengthBytes - a multiple of four.
 */
export function copyWords(
  from: Buffer,
  fromAt: number,
  to: Buffer,
  toAt: number,
  lengthBytes: number,
): void {
  for (let i = 0; i < lengthBytes; i += 4) to.writeInt32LE(from.readInt32LE(fromAt + i), toAt + i);
}
