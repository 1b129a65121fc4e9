import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sha256 } from "../../src/crypto/primitives.ts";
import { FormatError, TdeError } from "../../src/errors.ts";
import {
  formatTime,
  type KeyringFile,
  type KeyRecord,
  parseKeyringFile,
  type Recipient,
  serializeKeyringFile,
} from "../../src/keyring/keyring-file.ts";
import { assertProperty } from "../support/property.ts";

const NAME = 'keyring "k"';

const bytes = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((array) => Buffer.from(array));
const label = fc
  .string({ unit: "binary", maxLength: 60 })
  .filter((text) => Buffer.from(text).toString() === text);

const recipient: fc.Arbitrary<Omit<Recipient, "number">> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 14, max: 20 }), bytes(16), bytes(60), label)
    .map(([logN, salt, wrapped, label]) => ({
      typeName: "scrypt",
      parameters: new Map([
        ["logN", String(logN)],
        ["salt", salt.toString("base64")],
      ]),
      wrapped,
      label,
    })),
  fc.tuple(bytes(16), bytes(60), label).map(([salt, wrapped, label]) => ({
    typeName: "key-file",
    parameters: new Map([["salt", salt.toString("base64")]]),
    wrapped,
    label,
  })),
  fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 300 }), label).map(([wrapped, label]) => ({
    typeName: "command",
    parameters: new Map<string, string>(),
    wrapped: Buffer.from(wrapped),
    label,
  })),
);

const keyring: fc.Arbitrary<KeyringFile> = fc
  .record(
    {
      id: bytes(8),
      generation: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      recipients: fc.array(fc.tuple(fc.integer({ min: 1, max: 99 }), recipient), {
        minLength: 1,
        maxLength: 5,
      }),
      keys: fc.array(
        fc.record(
          {
            state: fc.constantFrom("readable" as const, "retired" as const, "destroyed" as const),
            created: fc.date({
              min: new Date("2020-01-01T00:00:00Z"),
              max: new Date("2100-01-01T00:00:00Z"),
              noInvalidDate: true,
            }),
            check: bytes(8),
            wrapped: bytes(60),
          },
          { noNullPrototype: true },
        ),
        { minLength: 1, maxLength: 5 },
      ),
      current: fc.nat(),
      mac: bytes(32),
    },
    { noNullPrototype: true },
  )
  .map(({ id, generation, recipients, keys, current, mac }) => {
    let number = 0;
    return {
      id: id.toString("hex"),
      generation,
      recipients: recipients.map(([step, one]) => ({ number: (number += step), ...one })),
      keys: keys.map((key, i): KeyRecord => {
        const state = i === current % keys.length ? "current" : key.state;
        const wrapped = state === "destroyed" ? undefined : key.wrapped;
        const created = formatTime(key.created);
        return { keyId: i + 1, state, created, check: key.check, wrapped };
      }),
      mac,
    };
  });

/** A keyring's text with a new sum, as anyone can make it. */
function withSum(lines: readonly string[]): Buffer {
  const text = lines.map((line) => `${line}\n`).join("");
  return Buffer.from(
    `${text}sum ${sha256(Buffer.from(text, "latin1")).toString("hex")}\n`,
    "latin1",
  );
}

const sample = withSum([
  "tde-keyring 1",
  "id 0123456789abcdef",
  "generation 7",
  `recipient 1 key-file salt=${Buffer.alloc(16, 1).toString("base64")} wrapped=${Buffer.alloc(60, 2).toString("base64")} label=caf%c3%a9`,
  `recipient 3 scrypt logN=17 salt=${Buffer.alloc(16, 1).toString("base64")} wrapped=${Buffer.alloc(60, 2).toString("base64")} label=`,
  "key 1 state=destroyed created=2026-01-02T03:04:05Z check=0011223344556677",
  `key 2 state=current created=2026-11-20T11:28:31Z check=8899aabbccddeeff wrapped=${Buffer.alloc(60, 3).toString("base64")}`,
  `mac ${"ab".repeat(32)}`,
]);
const sampleLines = sample.toString("latin1").split("\n").slice(0, -2);

test("what is written reads back the same, and what is read writes back the same", () => {
  assertProperty(
    fc.property(keyring, (file) => {
      const written = serializeKeyringFile(file);
      const read = parseKeyringFile(written, NAME);
      assert.deepEqual(read, file);
      assert.deepEqual(serializeKeyringFile(read), written);
    }),
  );
});

test("the sample keyring is valid", () => {
  const file = parseKeyringFile(sample, NAME);
  assert.equal(file.recipients[0]?.label, "café");
  assert.deepEqual(serializeKeyringFile(file), sample);
});

test("every truncation and every flipped bit is a FormatError", () => {
  for (let length = 0; length < sample.length; length++) {
    assert.throws(() => parseKeyringFile(sample.subarray(0, length), NAME), FormatError);
  }
  for (let bit = 0; bit < sample.length * 8; bit++) {
    const damaged = Buffer.from(sample);
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => parseKeyringFile(damaged, NAME), FormatError, `bit ${bit}`);
  }
});

test("with the sum made anew, a flipped bit gives a FormatError or a canonical keyring", () => {
  const text = Buffer.from(sampleLines.map((line) => `${line}\n`).join(""), "latin1");
  for (let bit = 0; bit < text.length * 8; bit++) {
    const changed = Buffer.from(text);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    const whole = Buffer.concat([changed, Buffer.from(`sum ${sha256(changed).toString("hex")}\n`)]);
    try {
      assert.deepEqual(serializeKeyringFile(parseKeyringFile(whole, NAME)), whole);
    } catch (error) {
      assert.ok(error instanceof TdeError, `bit ${bit}: ${String(error)}`);
    }
  }
});

const rejected: readonly (readonly [string, (line: string) => string | readonly string[]])[] = [
  ["an unknown version", (line) => line.replace("tde-keyring 1", "tde-keyring 2")],
  ["another magic", (line) => line.replace("tde-keyring", "tde-keyrin")],
  ["an id in capitals", (line) => line.replace("id 0123456789abcdef", "id 0123456789ABCDEF")],
  ["generation 0", (line) => line.replace("generation 7", "generation 0")],
  ["a leading zero", (line) => line.replace("generation 7", "generation 07")],
  ["a generation over 2^53", (line) => line.replace("generation 7", "generation 9007199254740992")],
  ["an unknown recipient", (line) => line.replace("1 key-file", "1 vault")],
  ["recipients out of order", (line) => line.replace("recipient 1", "recipient 4")],
  ["a recipient number twice", (line) => line.replace("recipient 1", "recipient 3")],
  ["logN below 14", (line) => line.replace("logN=17", "logN=13")],
  ["logN above 20", (line) => line.replace("logN=17", "logN=21")],
  ["a salt of the wrong length", (line) => line.replace("salt=AQEB", "salt=")],
  ["base64 without padding", (line) => line.replace("== wrapped", " wrapped")],
  ["base64 with stray bits", (line) => line.replace("AQ== wrapped", "AR== wrapped")],
  ["a label escaped in capitals", (line) => line.replace("%c3%a9", "%C3%A9")],
  ["a label escaped without need", (line) => line.replace("caf", "ca%66")],
  ["a label that is not UTF-8", (line) => line.replace("%c3%a9", "%c3")],
  ["a field out of order", (line) => line.replace(/(salt=\S+) (wrapped=\S+)/, "$2 $1")],
  ["two blanks", (line) => line.replace("key 2 ", "key 2  ")],
  ["a carriage return", (line) => line.replace("generation 7", "generation 7\r")],
  ["a gap in the key ids", (line) => line.replace("key 2", "key 3")],
  ["no current key", (line) => line.replace("state=current", "state=readable")],
  [
    "two current keys",
    (line) => (line.startsWith("key 2") ? [line, line.replace("key 2", "key 3")] : line),
  ],
  ["an unknown state", (line) => line.replace("state=current", "state=active")],
  ["a destroyed key that is there", (line) => line.replace("state=current", "state=destroyed")],
  ["a day that does not exist", (line) => line.replace("2026-11-20", "2026-02-30")],
  ["a short check", (line) => line.replace("8899aabbccddeeff", "8899aabbccddee")],
  ["a second mac", (line) => (line.startsWith("mac") ? [line, line] : line)],
  ["no mac", (line) => (line.startsWith("mac") ? [] : line)],
  ["an empty line", (line) => (line.startsWith("mac") ? ["", line] : line)],
];

for (const [what, change] of rejected) {
  test(`${what} is rejected`, () => {
    const changed = sampleLines.flatMap(change);
    assert.notDeepEqual(changed, sampleLines);
    assert.throws(() => parseKeyringFile(withSum(changed), NAME), FormatError);
  });
}

test("33 recipients and a file over one megabyte are rejected", () => {
  const recipient = sampleLines[3] ?? "";
  const many = Array.from({ length: 33 }, (_, i) =>
    recipient.replace("recipient 1", `recipient ${i + 1}`),
  );
  const lines = [...sampleLines.slice(0, 3), ...many, ...sampleLines.slice(5)];
  assert.throws(() => parseKeyringFile(withSum(lines), NAME), /33 recipients/);
  assert.throws(() => parseKeyringFile(Buffer.alloc(2 ** 20 + 1), NAME), /too large/);
});
