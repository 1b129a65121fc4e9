import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { gcmEncrypt } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, KeyError, TdeError } from "../../src/errors.ts";
import {
  containerDigest,
  ContainerOpener,
  type OpeningOptions,
} from "../../src/format/container-opener.ts";
import { ContainerSealer } from "../../src/format/container-sealer.ts";
import {
  chunkNonce,
  CONTAINER_HEADER,
  type ContainerHeader,
  containerHeaderSizeBytes,
  containerSizeBytes,
  deriveContainerKey,
  fileContext,
  parseContainerHeader,
  serializeContainerHeader,
} from "../../src/format/container.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { KEYRING_ID, testDek, testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";

const CHUNK = 4096;
const CONTEXT = fileContext("pg_stat/pgstat.stat");
const WHERE = "pg_stat/pgstat.stat";
const SYSTEM = 7391234567890123456n;
const HEADER_BYTES = containerHeaderSizeBytes(CONTEXT.length);

interface Sealing {
  readonly parts?: readonly Buffer[];
  readonly sizeKnown?: boolean;
  readonly keyId?: number;
  readonly context?: string;
  readonly salt?: Buffer;
}

function seal(content: Buffer, sealing: Sealing = {}): { bytes: Buffer; digest: Buffer } {
  const { parts = [content], sizeKnown = true, keyId = 1, context = CONTEXT, salt } = sealing;
  const sealer = new ContainerSealer(testDek(keyId), {
    keyId,
    keyringId: KEYRING_ID,
    systemIdentifier: SYSTEM,
    context,
    contentSizeBytes: sizeKnown ? content.length : undefined,
    chunkSizeBytes: CHUNK,
    fileSalt: salt,
  });
  const stored = [sealer.header, ...parts.flatMap((part) => sealer.seal(part)), ...sealer.finish()];
  return { bytes: Buffer.concat(stored), digest: sealer.digest };
}

function open(bytes: Buffer, options: Partial<OpeningOptions> = {}, parts = [bytes]): Buffer {
  const opener = new ContainerOpener({ keys: testKeys(), where: WHERE, ...options });
  const content = parts.flatMap((part) => opener.open(part));
  return Buffer.concat([...content, ...opener.finish()]);
}

function digestOf(bytes: Buffer): Buffer {
  return containerDigest(
    (offset, length) => bytes.subarray(offset, offset + length),
    bytes.length,
    WHERE,
  );
}

/** Cuts at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort(
    (a, b) => a - b,
  );
  return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
}

function content(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
}

/** The header with some bytes changed and its CRC made anew. */
function withHeader(bytes: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(bytes);
  change(copy);
  const crcOffset = HEADER_BYTES - 4;
  copy.writeUInt32LE(crc32c(copy.subarray(0, crcOffset)), crcOffset);
  return copy;
}

test("content of any length, fed in parts of any length, comes back, with the size known or not", () => {
  const lengths = fc.oneof(
    fc.integer({ min: 0, max: 40 }),
    fc.constantFrom(CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1, 3 * CHUNK + 5),
    fc.integer({ min: 0, max: 5 * CHUNK }),
  );
  const places = fc.array(fc.nat({ max: 6 * CHUNK }), { maxLength: 6 });
  assertProperty(
    fc.property(lengths, fc.boolean(), places, places, (length, sizeKnown, into, outOf) => {
      const original = content(length);
      const { bytes, digest } = seal(original, { sizeKnown, parts: cut(original, into) });
      assert.equal(bytes.length, containerSizeBytes(length, CONTEXT.length, CHUNK));
      assert.deepEqual(digestOf(bytes), digest);
      const options = {
        keys: testKeys(),
        where: WHERE,
        context: CONTEXT,
        systemIdentifier: SYSTEM,
      };
      const opener = new ContainerOpener(options);
      const parts = cut(bytes, outOf).flatMap((part) => opener.open(part));
      assert.deepEqual(Buffer.concat([...parts, ...opener.finish()]), original);
      assert.deepEqual(opener.digest, digest);
      assert.equal(opener.header?.contentSizeBytes, sizeKnown ? length : undefined);
    }),
    60,
  );
});

test("bytes that come one by one are opened, too", () => {
  const original = content(CHUNK + 10);
  const { bytes } = seal(original);
  assert.deepEqual(open(bytes, {}, cut(bytes, [...bytes.keys()])), original);
});

test("a header's value and bytes agree in both directions", () => {
  const headers = fc.record(
    {
      keyId: fc.integer({ min: 1, max: 0xffffffff }),
      keyringId: fc.uint8Array({ minLength: 8, maxLength: 8 }).map(hexOf),
      chunkSizeBytes: fc.constantFrom(4096, 65536, 2 ** 20),
      systemIdentifier: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      compression: fc.constantFrom(
        "none" as const,
        "gzip" as const,
        "zstd" as const,
        "lz4" as const,
      ),
      contentSizeBytes: fc.option(fc.integer({ min: 0, max: 2 ** 42 }), { nil: undefined }),
      context: fc
        .uint8Array({ maxLength: 4160 })
        .map((bytes) => Buffer.from(bytes).toString("latin1")),
      fileSalt: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
      commitment: fc
        .uint8Array({ minLength: 32, maxLength: 32 })
        .map((bytes) => Buffer.from(bytes)),
    },
    { noNullPrototype: true },
  );
  assertProperty(
    fc.property(headers, (header: ContainerHeader) => {
      const bytes = serializeContainerHeader(header);
      assert.deepEqual(parseContainerHeader(bytes, WHERE), header);
      assert.deepEqual(serializeContainerHeader(parseContainerHeader(bytes, WHERE)), bytes);
    }),
    100,
  );
});

test("a path of the greatest length has room in a context", () => {
  const context = fileContext("a".repeat(4095));
  const original = content(100);
  const { bytes } = seal(original, { context });
  assert.deepEqual(open(bytes, { context }), original);
});

for (const sizeKnown of [true, false]) {
  const known = sizeKnown ? "with its size" : "without its size";

  test(`every flipped bit of a container ${known} is found`, () => {
    const { bytes } = seal(content(50), { sizeKnown });
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8((flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
      const kind = bit >> 3 < HEADER_BYTES ? FormatError : IntegrityError;
      assert.throws(() => open(flipped), kind, `bit ${bit}`);
    }
  });

  test(`every truncation of a container ${known} is found`, () => {
    const { bytes, digest } = seal(content(2 * CHUNK), { sizeKnown });
    for (let length = 0; length < bytes.length; length += length < 400 ? 1 : 13) {
      const kind = length < HEADER_BYTES ? FormatError : IntegrityError;
      const short = bytes.subarray(0, length);
      assert.throws(() => open(short), kind, `${length} bytes`);
      assert.ok(valueOrTdeError(() => digestOf(short))?.equals(digest) !== true);
    }
  });

  test(`a container ${known} from which the last chunk was cut is called cut short`, () => {
    const { bytes } = seal(content(2 * CHUNK + 100), { sizeKnown });
    const short = bytes.subarray(0, HEADER_BYTES + 2 * (CHUNK + 16));
    assert.throws(() => open(short), { name: "IntegrityError", message: /is cut short/ });
  });

  test(`bytes after the end of a container ${known} are refused`, () => {
    for (const length of [0, 50, CHUNK, CHUNK + 1]) {
      const { bytes } = seal(content(length), { sizeKnown });
      for (const more of [1, 15, 16, 17, CHUNK, 2 * CHUNK]) {
        const longer = Buffer.concat([bytes, Buffer.alloc(more)]);
        assert.throws(() => open(longer), IntegrityError, `${more} bytes after ${length}`);
        assert.throws(() => open(longer, {}, cut(longer, [bytes.length])), IntegrityError);
      }
    }
  });

  test(`chunks of a container ${known} can be neither swapped, dropped nor repeated`, () => {
    const { bytes } = seal(content(3 * CHUNK + 7), { sizeKnown });
    const header = bytes.subarray(0, HEADER_BYTES);
    const size = CHUNK + 16;
    const chunks = [0, 1, 2, 3].map((i) =>
      bytes.subarray(HEADER_BYTES + i * size, HEADER_BYTES + (i + 1) * size),
    );
    for (const order of [
      [1, 0, 2, 3],
      [0, 2, 1, 3],
      [0, 1, 3],
      [1, 2, 3],
      [0, 1, 1, 2, 3],
      [0, 0, 2, 3],
      [3],
    ]) {
      const moved = Buffer.concat([header, ...order.map((i) => chunks[i] ?? Buffer.alloc(0))]);
      assert.throws(() => open(moved), IntegrityError, `chunks ${order.join(" ")}`);
    }
    const extended = Buffer.concat([bytes.subarray(0, -(7 + 16)), ...chunks.slice(2)]);
    assert.throws(() => open(extended), IntegrityError);
  });
}

test("a message names file, chunk, offset and key", () => {
  const { bytes } = seal(content(3 * CHUNK));
  bytes.writeUInt8((bytes[HEADER_BYTES + CHUNK + 16] ?? 0) ^ 1, HEADER_BYTES + CHUNK + 16);
  assert.throws(() => open(bytes), {
    name: "IntegrityError",
    message: `authentication of ${WHERE} failed: chunk 1 at offset ${HEADER_BYTES + CHUNK + 16}, key 1`,
  });
});

test("no plaintext of a chunk comes out before its tag holds", () => {
  const { bytes } = seal(content(3 * CHUNK));
  bytes.writeUInt8((bytes[HEADER_BYTES + CHUNK + 16] ?? 0) ^ 1, HEADER_BYTES + CHUNK + 16);
  const opener = new ContainerOpener({ keys: testKeys(), where: WHERE });
  const secondChunk = HEADER_BYTES + 2 * (CHUNK + 16);
  assert.equal(Buffer.concat(opener.open(bytes.subarray(0, secondChunk))).length, CHUNK);
  assert.throws(() => opener.open(bytes.subarray(secondChunk)), IntegrityError);
});

test("a chunk of another container under the same key is refused", () => {
  const one = seal(content(2 * CHUNK)).bytes;
  const other = seal(content(2 * CHUNK)).bytes;
  const mixed = Buffer.concat([
    one.subarray(0, HEADER_BYTES + CHUNK + 16),
    other.subarray(HEADER_BYTES + CHUNK + 16),
  ]);
  assert.throws(() => open(mixed), IntegrityError);
  const header = Buffer.concat([one.subarray(0, HEADER_BYTES), other.subarray(HEADER_BYTES)]);
  assert.throws(() => open(header), IntegrityError);
});

test("a header field that was changed with its CRC made anew makes the key another one", () => {
  const { bytes } = seal(content(50));
  const changes: ((copy: Buffer) => void)[] = [
    (copy) => copy.writeUInt32LE(8192, CONTAINER_HEADER.chunkSize),
    (copy) => copy.writeBigUInt64LE(1n, CONTAINER_HEADER.systemIdentifier),
    (copy) => copy.writeBigUInt64LE(49n, CONTAINER_HEADER.contentSize),
    (copy) => copy.writeUInt8(1, CONTAINER_HEADER.fileSalt),
    (copy) => copy.write("other", CONTAINER_HEADER.context + 8, "latin1"),
  ];
  for (const change of changes) {
    assert.throws(() => open(withHeader(bytes, change)), {
      name: "KeyError",
      message: `key 1 of keyring ${KEYRING_ID} is not the key that ${WHERE} was sealed with`,
    });
  }
});

test("fields that this version does not know are refused by name", () => {
  const { bytes } = seal(content(50));
  const cases: [(copy: Buffer) => void, RegExp][] = [
    [(copy) => copy.writeUInt16LE(2, CONTAINER_HEADER.version), /version 2, not 1/],
    [(copy) => copy.writeUInt8(2, CONTAINER_HEADER.suite), /cipher suite 2/],
    [(copy) => copy.writeUInt8(1, CONTAINER_HEADER.compression), /compressed with gzip/],
    [(copy) => copy.writeUInt8(2, CONTAINER_HEADER.compression), /compressed with zstd/],
    [(copy) => copy.writeUInt8(3, CONTAINER_HEADER.compression), /compressed with lz4/],
    [(copy) => copy.writeUInt8(4, CONTAINER_HEADER.compression), /unknown way \(4\)/],
    [(copy) => copy.writeUInt32LE(0, CONTAINER_HEADER.keyId), /key id 0/],
    [(copy) => copy.writeUInt32LE(5000, CONTAINER_HEADER.chunkSize), /chunks of 5000 bytes/],
    [(copy) => copy.writeUInt32LE(2048, CONTAINER_HEADER.chunkSize), /chunks of 2048 bytes/],
    [(copy) => copy.writeUInt32LE(0, CONTAINER_HEADER.chunkSize), /chunks of 0 bytes/],
    [(copy) => copy.writeUInt32LE(2 ** 21, CONTAINER_HEADER.chunkSize), /chunks of 2097152 bytes/],
    [(copy) => copy.writeUInt8(1, CONTAINER_HEADER.reserved), /reserved bytes/],
    [(copy) => copy.writeUInt8(1, CONTAINER_HEADER.fileSalt - 1), /reserved bytes/],
    [(copy) => copy.writeBigUInt64LE(2n ** 63n, CONTAINER_HEADER.contentSize), /a content of/],
    [(copy) => copy.writeBigUInt64LE(2n ** 53n, CONTAINER_HEADER.contentSize), /a content of/],
    [(copy) => copy.writeBigUInt64LE(2n ** 43n + 1n, CONTAINER_HEADER.contentSize), /a content of/],
  ];
  for (const [change, message] of cases) {
    assert.throws(() => open(withHeader(bytes, change)), { name: "FormatError", message });
  }
});

test("what is no container, and a context of more than 4160 bytes, are refused before anything is read further", () => {
  const { bytes } = seal(content(50));
  const start = (change: (copy: Buffer) => void): Buffer => {
    const copy = Buffer.from(bytes.subarray(0, CONTAINER_HEADER.context));
    change(copy);
    return copy;
  };
  for (const [change, message] of [
    [(copy: Buffer) => copy.write("TDES", "latin1"), /does not begin with "TDEC"/],
    [(copy: Buffer) => copy.writeUInt16LE(0, CONTAINER_HEADER.version), /version 0, not 1/],
    [(copy: Buffer) => copy.writeUInt16LE(4161, CONTAINER_HEADER.contextLength), /context of 4161/],
  ] as const) {
    const opener = new ContainerOpener({ keys: testKeys(), where: WHERE });
    assert.throws(() => opener.open(start(change)), { name: "FormatError", message });
  }
});

test("a header that is damaged is called so before its fields are named, and before any key is asked for", () => {
  const { bytes } = seal(content(50));
  for (const at of [CONTAINER_HEADER.suite, CONTAINER_HEADER.keyId, CONTAINER_HEADER.commitment]) {
    const copy = Buffer.from(bytes);
    copy.writeUInt8((copy[at] ?? 0) ^ 0x40, at);
    assert.throws(() => open(copy, { keys: testKeys(1, { keyringId: "12ab000000000000" }) }), {
      name: "FormatError",
      message: /a checksum that does not hold/,
    });
  }
});

/** A container of these chunks, the last one as the last, whatever the header says: all tags hold. */
function ofChunks(chunks: readonly Buffer[], contentSizeBytes: number | undefined): Buffer {
  const header: ContainerHeader = {
    keyId: 1,
    keyringId: KEYRING_ID,
    chunkSizeBytes: CHUNK,
    systemIdentifier: SYSTEM,
    compression: "none",
    contentSizeBytes,
    context: CONTEXT,
    fileSalt: Buffer.alloc(16, 5),
    commitment: Buffer.alloc(32),
  };
  const { key, commitment } = deriveContainerKey(testDek(1), header);
  const stored = chunks.flatMap((chunk, i) => {
    const nonce = Buffer.alloc(12);
    nonce.writeUInt8(i, 10);
    nonce.writeUInt8(i === chunks.length - 1 ? 1 : 0, 11);
    const { ciphertext, tag } = gcmEncrypt(key, nonce, Buffer.alloc(0), chunk);
    return [ciphertext, tag];
  });
  return Buffer.concat([serializeContainerHeader({ ...header, commitment }), ...stored]);
}

test("a last chunk of 0 bytes is refused unless it is the only one, although its tag holds", () => {
  const empty = Buffer.alloc(0);
  assert.deepEqual(open(ofChunks([empty], undefined)), empty);
  assert.deepEqual(open(ofChunks([content(CHUNK)], undefined)), content(CHUNK));
  for (const size of [undefined, CHUNK]) {
    const bytes = ofChunks([content(CHUNK), empty], size);
    assert.throws(() => open(bytes), IntegrityError);
    assert.throws(() => open(bytes, {}, cut(bytes, [bytes.length - 16])), IntegrityError);
    assert.throws(() => digestOf(bytes), IntegrityError);
  }
});

test("more or less content than the header says is refused, although all tags hold", () => {
  for (const [size, said] of [
    [50, 49],
    [50, 51],
    [50, 0],
    [0, 1],
    [CHUNK + 50, CHUNK],
    [CHUNK, CHUNK + 50],
    [2 * CHUNK, CHUNK],
  ] as const) {
    const whole = content(size);
    const chunks = [whole.subarray(0, CHUNK), ...(size > CHUNK ? [whole.subarray(CHUNK)] : [])];
    assert.deepEqual(open(ofChunks(chunks, size)), whole);
    const bytes = ofChunks(chunks, said);
    assert.throws(() => open(bytes), IntegrityError, `${size}, said to be ${said}`);
    assert.throws(() => digestOf(bytes), IntegrityError);
  }
});

test("a keyring that is another one, lacks the key or has another key says which", () => {
  const { bytes } = seal(content(50), { keyId: 2 });
  assert.throws(() => open(bytes, { keys: testKeys(1) }), {
    name: "KeyError",
    message: `${WHERE} needs key 2 of keyring ${KEYRING_ID}, yours holds key 1`,
  });
  const keys = testKeys(2, { keyringId: "12ab000000000000" });
  assert.throws(() => open(bytes, { keys }), {
    name: "KeyError",
    message: /yours is keyring 12ab/,
  });
  const forked = testKeys(2, { fill: 9 });
  assert.throws(() => open(bytes, { keys: forked }), {
    name: "KeyError",
    message: /is not the key/,
  });
  assert.throws(() => open(bytes, { keys: testKeys(2, {}, { 2: "destroyed" }) }), KeyError);
});

test("a container out of its place or from another cluster is refused", () => {
  const { bytes } = seal(content(50));
  assert.throws(() => open(bytes, { context: fileContext("pg_stat/other") }), {
    name: "IntegrityError",
    message: /it is "datadir:pg_stat\/pgstat.stat", not "datadir:pg_stat\/other"/,
  });
  assert.throws(() => open(bytes, { systemIdentifier: 1n }), {
    name: "IntegrityError",
    message: /from another cluster/,
  });
});

test("every chunk that a container may have has a nonce of its own, and no other chunk has one", () => {
  const most = 2 ** 31;
  const indexes = [0, 1, 255, 256, 65_535, 2 ** 24, 2 ** 30, most - 1];
  const nonces = indexes.flatMap((index) => [chunkNonce(index, false), chunkNonce(index, true)]);
  assert.equal(new Set(nonces.map(hexOf)).size, nonces.length);
  assert.ok(nonces.every(({ length }) => length === 12));
  assert.equal(hexOf(chunkNonce(most - 1, true)), "000000000000007fffffff01");
  for (const index of [most, most + 1, 2 ** 40]) {
    for (const last of [false, true])
      assert.throws(() => chunkNonce(index, last), FormatError, `chunk ${index}`);
  }
});

test("a header names at most as much content as there are chunks for", () => {
  const { bytes } = seal(content(10));
  const header = { ...parseContainerHeader(bytes, WHERE), chunkSizeBytes: CHUNK };
  const most = 2 ** 31 * CHUNK;
  for (const [contentSizeBytes, fits] of [
    [most, true],
    [most + 1, false],
    [2 ** 53, false],
  ] as const) {
    const make = (): Buffer => serializeContainerHeader({ ...header, contentSizeBytes });
    if (fits) assert.equal(parseContainerHeader(make(), WHERE).contentSizeBytes, contentSizeBytes);
    else assert.throws(make, FormatError);
    const altered = withHeader(bytes, (copy) =>
      copy.writeBigUInt64LE(BigInt(contentSizeBytes), CONTAINER_HEADER.contentSize),
    );
    if (!fits) assert.throws(() => parseContainerHeader(altered, WHERE), FormatError);
  }
});

test("bytes at random give a TdeError, never another one", () => {
  assertProperty(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (random, magic) => {
      const bytes = Buffer.from(random);
      if (magic) Buffer.from("TDEC\x01\x00\x01\x00", "latin1").copy(bytes);
      assert.throws(() => open(bytes), TdeError);
      assert.throws(() => digestOf(bytes), TdeError);
    }),
    300,
  );
});

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function valueOrTdeError<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    assert.ok(error instanceof TdeError);
    return undefined;
  }
}
