import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { assertProperty } from "../support/property.ts";

/** RFC 3720, appendix B.4, and the check value of the catalogue of CRCs. */
const VECTORS: readonly (readonly [string, Buffer, number])[] = [
  ["nothing", Buffer.alloc(0), 0],
  ["123456789", Buffer.from("123456789"), 0xe3069283],
  ["32 zero bytes", Buffer.alloc(32), 0x8a9136aa],
  ["32 bytes of ones", Buffer.alloc(32, 0xff), 0x62a8ab43],
  ["32 bytes counting up", Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
  ["32 bytes counting down", Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
];

for (const [name, bytes, expected] of VECTORS) {
  test(`CRC-32C of ${name}`, () => assert.equal(crc32c(bytes), expected));
}

test("CRC-32C of any part equals the one computed bit by bit", () => {
  assertProperty(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(20),
      fc.nat(20),
      (bytes, before, after) => {
        const end = Math.max(0, bytes.length - after);
        const start = Math.min(before, end);
        assert.equal(crc32c(bytes, start, end), bitwise(bytes.subarray(start, end)));
      },
    ),
  );
});

test("CRC-32C of two parts goes on where the first ended", () => {
  assertProperty(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      assert.equal(crc32c(b, 0, b.length, crc32c(a)), crc32c(Buffer.concat([a, b])));
    }),
  );
});

function bitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
