import assert from "node:assert/strict";
import { test } from "node:test";
import { hkdf, secretKey } from "../../src/crypto/primitives.ts";

test("HKDF gives the value of RFC 5869, test case 1", () => {
  const output = hkdf(
    secretKey(Buffer.alloc(22, 0x0b)),
    Buffer.from("000102030405060708090a0b0c", "hex"),
    Buffer.from("f0f1f2f3f4f5f6f7f8f9", "hex"),
    42,
  );
  assert.equal(
    output.toString("hex"),
    "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
  );
});

test("HKDF takes an info longer than node:crypto's own limit", () => {
  // By another implementation of RFC 5869: key 0b x 22, salt 000102, info 5a x n, 64 bytes of output.
  const expected: Record<number, string> = {
    1024: "e8be1bd915e8951072105dbb974a546b33314e2b608f81ce9152a50ca7551a23d886165e172bb8a2b9a609cd0ed1f80889de24968fe9ebb4e2ae8789d2b3d107",
    1025: "b4aa1f591593c3b3ced66f3aaf50da1d12da781890559f5403c659aaec6534b7818dc84e872618962489fb65938e75bd84b925261dcf142fadff7b9df7e45d81",
    4237: "ed5bdbca3eab6c2f47727b2b80bfb86992b173bbd5a1a5b22cfdfedc156e3cf9804424f93757b94b2efeac1fe46b61768d13d1368108264ec571086162b31660",
  };
  for (const [length, hex] of Object.entries(expected)) {
    const output = hkdf(
      secretKey(Buffer.alloc(22, 0x0b)),
      Buffer.from("000102", "hex"),
      Buffer.alloc(Number(length), 0x5a),
      64,
    );
    assert.equal(output.toString("hex"), hex, `info of ${length} bytes`);
  }
});
