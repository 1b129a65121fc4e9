/** Names in the encodings of databases. What servers store in them is in test/live/names.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodingName, nameDecoder } from "../../src/postgres/encoding.ts";

/** pg_enc's numbers, bytes, and the text that iconv(1) makes of them. */
const NAMES: readonly (readonly [encoding: number, name: string, hex: string, text: string])[] = [
  [6, "UTF8", "d096616263", "Жabc"],
  [8, "LATIN1", "47f6df658085", "Göße\u0080\u0085"],
  [9, "LATIN2", "a3f364bc", "Łódź"],
  [16, "LATIN9", "a4bc", "€Œ"],
  [22, "KOI8R", "fac1cbc1dad9", "Заказы"],
  [23, "WIN1251", "c7e0eae0e7fb", "Заказы"],
  [24, "WIN1252", "80e99f", "€éŸ"],
  [25, "ISO_8859_5", "b7d0dad0d7eb", "Заказы"],
  [1, "EUC_JP", "c6fccbdc", "日本"],
  [3, "EUC_KR", "c7d1b1db", "한글"],
];

for (const [encoding, name, hex, text] of NAMES) {
  test(`names of a database in ${name} are read in that encoding`, () => {
    assert.equal(encodingName(encoding), name);
    assert.equal(nameDecoder(encoding)(Buffer.from(hex, "hex")), text);
  });
}

test("bytes that are no text in their encoding are shown as bytes", () => {
  for (const encoding of [0, 4, 6, 7, 99]) {
    assert.equal(nameDecoder(encoding)(Buffer.from("caf\xe9", "latin1")), "caf\\xe9");
  }
  // Without an encoding UTF-8 is what they will be.
  assert.equal(nameDecoder(0)(Buffer.from("café")), "café");
});

test("a name that begins like a byte order mark keeps it", () => {
  assert.equal(nameDecoder(6)(Buffer.from("\ufeffa")), "\ufeffa");
});
