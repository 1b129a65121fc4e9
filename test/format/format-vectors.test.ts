/** The test vectors and offset tables of the specification, recomputed from the document itself. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { exportKey, secretKey, sha256 } from "../../src/crypto/primitives.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { type CompressionMethod, decompressed } from "../../src/compression/stream.ts";
import { containerDigest, ContainerOpener } from "../../src/format/container-opener.ts";
import { ContainerSealer } from "../../src/format/container-sealer.ts";
import {
  CONTAINER_HEADER,
  containerSizeBytes,
  deriveContainerKey,
  parseContainerHeader,
} from "../../src/format/container.ts";
import { ManifestWriter, openManifest } from "../../src/format/manifest.ts";

const DOCS = new URL("../../../docs/", import.meta.url);

interface ContainerVector {
  readonly structure: "sealed container";
  readonly name: string;
  readonly dek: string;
  readonly keyId: number;
  readonly keyringId: string;
  readonly systemIdentifier: string;
  readonly context: string;
  readonly contextThenRepeated?: readonly [string, number];
  readonly fileSalt: string;
  readonly chunkSize: number;
  readonly contentSizeKnown: boolean;
  readonly content?: string;
  readonly contentRepeated?: readonly [string, number];
  readonly compression?: CompressionMethod;
  /** The content as the chunks hold it. */
  readonly compressed?: string;
  readonly sealedKey: string;
  readonly commitment: string;
  readonly container?: string;
  readonly containerBytes?: number;
  readonly containerSha256?: string;
  readonly digest: string;
}

interface ManifestVector {
  readonly structure: "manifest";
  readonly name: string;
  readonly dek: string;
  readonly lines: readonly string[];
  readonly root: string;
  readonly size: number;
  readonly sha256: string;
}

type Vector = ContainerVector | ManifestVector | { readonly structure: string };

const text = readdirSync(DOCS)
  .filter((name) => name.startsWith("FORMAT") && name.endsWith(".md"))
  .map((name) => readFileSync(new URL(name, DOCS), "utf8"))
  .join("\n");
const vectors = [...text.matchAll(/^```json\n(.*?)^```$/gms)].map(
  (match) => JSON.parse(match[1] ?? "") as Vector,
);
const containers = vectors.filter((v): v is ContainerVector => v.structure === "sealed container");
const manifests = vectors.filter((v): v is ManifestVector => v.structure === "manifest");

test("the specification has vectors of both structures", () => {
  assert.ok(containers.length >= 7);
  assert.ok(manifests.length >= 1);
});

for (const vector of containers) {
  test(`vector of a sealed container: ${vector.name}`, async () => {
    const [suffix, times] = vector.contextThenRepeated ?? ["", 0];
    const context = vector.context + suffix.repeat(times);
    const [byte, count] = vector.contentRepeated ?? ["", 0];
    const content = Buffer.from(vector.content ?? byte.repeat(count), "hex");
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const sealer = new ContainerSealer(dek, {
      keyId: vector.keyId,
      keyringId: vector.keyringId,
      systemIdentifier: BigInt(vector.systemIdentifier),
      context,
      contentSizeBytes: vector.contentSizeKnown ? content.length : undefined,
      compression: vector.compression,
      chunkSizeBytes: vector.chunkSize,
      fileSalt: Buffer.from(vector.fileSalt, "hex"),
    });
    const inChunks =
      vector.compressed === undefined ? content : Buffer.from(vector.compressed, "hex");
    const stored = [sealer.header, ...sealer.seal(inChunks), ...sealer.finish()];
    const bytes = Buffer.concat(stored);
    assert.equal(
      bytes.length,
      containerSizeBytes(inChunks.length, context.length, vector.chunkSize),
    );
    if (vector.container !== undefined) assert.equal(bytes.toString("hex"), vector.container);
    else {
      assert.equal(bytes.length, vector.containerBytes);
      assert.equal(sha256(bytes).toString("hex"), vector.containerSha256);
    }
    const derived = deriveContainerKey(dek, parseContainerHeader(bytes, "a vector"));
    assert.equal(exportKey(derived.key).toString("hex"), vector.sealedKey);
    assert.equal(derived.commitment.toString("hex"), vector.commitment);
    assert.equal(sealer.digest.toString("hex"), vector.digest);
    const readAt = (offset: number, length: number): Buffer =>
      bytes.subarray(offset, offset + length);
    const digest = containerDigest(readAt, bytes.length, "a vector");
    assert.equal(digest.toString("hex"), vector.digest);
    const keys = keysOf(vector.keyringId, vector.keyId, vector.dek);
    const decompresses = vector.compression !== undefined;
    const opener = new ContainerOpener({ keys, where: "a vector", context, decompresses });
    const opened = Buffer.concat([...opener.open(bytes), ...opener.finish()]);
    assert.deepEqual(opened, inChunks);
    if (vector.compression === undefined) return;
    const parts: Uint8Array[] = [];
    for await (const part of decompressed(vector.compression, [opened])) parts.push(part.slice());
    assert.deepEqual(Buffer.concat(parts), content);
  });
}

for (const vector of manifests) {
  test(`vector of a manifest: ${vector.name}`, () => {
    const bytes = Buffer.from(vector.lines.map((line) => `${line}\n`).join(""), "latin1");
    assert.equal(bytes.length, vector.size);
    assert.equal(sha256(bytes).toString("hex"), vector.sha256);
    const id = Number(vector.lines.find((line) => line.startsWith("key "))?.slice(4));
    const keyringId = vector.lines.find((line) => line.startsWith("keyring "))?.slice(8) ?? "";
    const manifest = openManifest(() => [bytes], keysOf(keyringId, id, vector.dek), "a vector");
    assert.equal(manifest.root.toString("hex"), vector.root);
    const parts: Buffer[] = [];
    const dek = secretKey(Buffer.from(vector.dek, "hex"));
    const writer = new ManifestWriter(manifest.header, dek, (part) => parts.push(part));
    for (const entry of manifest.entries()) writer.add(entry);
    writer.finish();
    assert.equal(Buffer.concat(parts).toString("latin1"), bytes.toString("latin1"));
  });
}

test("the specification's table of the container's header agrees with the code", () => {
  const section = /## Sealed container\n(.*?)### Keys and chunks/s.exec(text)?.[1] ?? "";
  const rows = [...section.matchAll(/^\| ([\d +n]+?) *\| (\w+) *\| (\w+) *\| (\w+) *\|/gm)];
  const offsets = Object.entries(CONTAINER_HEADER).map(([name, offset]) => `${name} ${offset}`);
  const documented = rows.map(([, offset, , , name]) => `${name} ${offset}`);
  assert.deepEqual(documented, [...offsets, "crc 112 + n"]);
  let end = 0;
  for (const [, offset, size] of rows.slice(0, -2)) {
    assert.equal(Number(offset), end, "no gap and no overlap");
    end += Number(size);
  }
  assert.equal(end, CONTAINER_HEADER.context);
});

function keysOf(keyringId: string, keyId: number, dek: string): DataKeys {
  const key = { state: "current", dek: secretKey(Buffer.from(dek, "hex")) } as const;
  return { keyringId, currentKeyId: keyId, keys: new Map([[keyId, key]]) };
}
