/**
 * What tde compresses, the programs that everybody has decompress; and it comes back through tde's own decoders, also where
 * it does not shrink.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { compressed, COMPRESSION_METHODS, decompressed } from "../../src/compression/stream.ts";
import { compressesZstd } from "../../src/compression/zstd.ts";
import { randomFrom } from "../support/crash-nodes.ts";

const random = randomFrom(7);
const noise = Buffer.from(
  Uint8Array.from({ length: 2 ** 20 + 77 }, () => Math.floor(random() * 256)),
);
const text = Buffer.from("a row of the table of customers. ".repeat(50_000));
/** With the ends that LZ4 treats on their own: nothing, less than a match, a run, noise in several blocks. */
const CONTENTS: readonly Buffer[] = [
  Buffer.alloc(0),
  Buffer.from("abc"),
  Buffer.alloc(13),
  Buffer.alloc(100_000),
  text,
  noise,
  Buffer.concat([noise.subarray(0, 5000), text, noise]),
];

async function through(
  method: (typeof COMPRESSION_METHODS)[number],
  content: Buffer,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  const halves = [content.subarray(0, content.length / 3), content.subarray(content.length / 3)];
  for await (const part of compressed(method, halves)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

for (const method of COMPRESSION_METHODS) {
  const skip = method === "zstd" && !compressesZstd() ? "this Node.js does not compress it" : false;
  test(`${method} comes back whole`, { skip }, async () => {
    for (const content of CONTENTS) {
      const packed = await through(method, content);
      assert.ok(packed.length < content.length + content.length / 200 + 64);
      const parts: Buffer[] = [];
      for await (const part of decompressed(method, [packed])) parts.push(Buffer.from(part));
      assert.ok(Buffer.concat(parts).equals(content));
    }
  });
}

test("gzip is what zlib reads, and lz4 what the lz4 program reads", async (t) => {
  for (const content of CONTENTS) {
    assert.ok(gunzipSync(await through("gzip", content)).equals(content));
    const { stdout, error } = spawnSync("lz4", ["-d", "-c", "-q"], {
      input: await through("lz4", content),
      maxBuffer: 2 ** 24,
    });
    if (error !== undefined) return t.skip("needs the lz4 program");
    assert.ok(stdout.equals(content));
  }
});
