import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, TdeError } from "../../src/errors.ts";
import {
  type ManifestClass,
  type ManifestEntry,
  parseEntry,
  serializeEntry,
} from "../../src/format/manifest-entry.ts";
import type { ManifestHeader } from "../../src/format/manifest-header.ts";
import { joinByPath } from "../../src/format/manifest-order.ts";
import { assertSafePath, escapePath, unescapePath } from "../../src/format/manifest-path.ts";
import {
  type Manifest,
  ManifestWriter,
  openManifest,
  openManifestWithoutKey,
  readManifestHeader,
} from "../../src/format/manifest.ts";
import { WHOLE_CLUSTER } from "../../src/format/scope.ts";
import { KEYRING_ID, testDek, testKeys } from "../support/keys.ts";
import { assertProperty } from "../support/property.ts";

const WHERE = "tde.manifest";
const HEADER: ManifestHeader = {
  directoryId: "00112233445566778899aabbccddeeff",
  keyringId: KEYRING_ID,
  systemIdentifier: 7391234567890123456n,
  keyId: 1,
  epoch: 6n,
  scope: WHOLE_CLUSTER,
  wal: "sealed",
  control: Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff)),
};
const DIGEST = "ab".repeat(32);

function entry(path: string, fileClass: ManifestClass, rest: Partial<ManifestEntry> = {}) {
  const sealed = fileClass === "P" || fileClass === "W" || fileClass === "S";
  return {
    path: path as BytePath,
    class: fileClass,
    expendable: false,
    added: false,
    sizeBytes: sealed ? 8192 : 0,
    keys: sealed ? [{ keyId: 1, count: 1 }] : [],
    digest: fileClass === "D" ? undefined : DIGEST,
    ...rest,
  } satisfies ManifestEntry;
}

/** One entry of each kind. */
const ENTRIES: readonly ManifestEntry[] = [
  entry("PG_VERSION", "R", { sizeBytes: 3 }),
  entry("base", "D"),
  entry("base/5", "D"),
  entry("base/5/1259", "P", {
    sizeBytes: 16384,
    keys: [
      { keyId: 1, count: 0 },
      { keyId: 3, count: 2 },
    ],
  }),
  entry("base/5/1260", "P", { sizeBytes: 0, keys: [], digest: undefined }),
  entry("log", "L"),
  entry("odd \t%\n\xff", "S", { expendable: true }),
  entry("pg_tblspc", "D"),
  entry("pg_tblspc/16400", "L", { digest: undefined }),
  entry("pg_tblspc/16400/PG_15_202209061", "D"),
  entry("pg_wal", "L", { digest: undefined }),
  entry("pg_wal/000000010000000000000001", "W", { sizeBytes: 16777216 }),
  entry("postgresql.auto.conf", "R", { added: true }),
  entry("tde.postgresql.auto.conf", "S", { added: true, expendable: true }),
];

function write(entries: Iterable<ManifestEntry>, header = HEADER, dekFill = 1): Buffer {
  const parts: Buffer[] = [];
  const writer = new ManifestWriter(header, testDek(dekFill), (part) => parts.push(part));
  for (const item of entries) writer.add(item);
  const { sizeBytes } = writer.finish();
  const bytes = Buffer.concat(parts);
  assert.equal(bytes.length, sizeBytes);
  return bytes;
}

function open(bytes: Buffer, keys = testKeys()): Manifest {
  return openManifest(() => [bytes], keys, WHERE);
}

/** The text with one part replaced, and its root and MAC made anew by someone who has the key. */
function forge(bytes: Buffer, from: string | RegExp, to: string): Buffer {
  const text = bytes.toString("latin1");
  const body = text.slice(0, text.lastIndexOf("root ")).replace(from, to);
  assert.notEqual(body, text.slice(0, text.lastIndexOf("root ")), "nothing was replaced");
  const root = sha256(Buffer.from(body, "latin1")).toString("hex");
  return Buffer.from(`${body}root ${root}\nmac ${"00".repeat(32)}\n`, "latin1");
}

test("a manifest of every kind of entry is read as it was written", () => {
  const bytes = write(ENTRIES);
  const manifest = open(bytes);
  assert.deepEqual(manifest.header, HEADER);
  assert.deepEqual([...manifest.entries()], ENTRIES);
  assert.equal(manifest.entryCount, ENTRIES.length);
  assert.equal(manifest.sizeBytes, bytes.length);
  assert.equal(manifest.keyState, "current");
  assert.deepEqual([...openManifestWithoutKey(() => [bytes], WHERE).entries()], ENTRIES);
  assert.equal(openManifestWithoutKey(() => [bytes], WHERE).keyState, undefined);
  assert.deepEqual(
    readManifestHeader(() => [bytes.subarray(0, 1200)], WHERE),
    HEADER,
  );
});

test("a manifest may come in parts of any length and have no entries", () => {
  for (const entries of [ENTRIES, []]) {
    const bytes = write(entries);
    for (const size of [1, 7, 100]) {
      const source = function* (): Generator<Buffer> {
        // One buffer for all parts, as a reader of files would do.
        const buffer = Buffer.alloc(size);
        for (let i = 0; i < bytes.length; i += size) {
          yield buffer.subarray(0, bytes.copy(buffer, 0, i, i + size));
        }
      };
      assert.deepEqual([...openManifest(source, testKeys(), WHERE).entries()], entries);
    }
  }
});

test("every flipped bit of a manifest is found", () => {
  const bytes = write(ENTRIES);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8((flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => open(flipped), TdeError, `bit ${bit}`);
  }
});

test("every truncation of a manifest, and every extension, is found", () => {
  const bytes = write(ENTRIES);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => open(bytes.subarray(0, length)), FormatError, `${length} bytes`);
  }
  for (const more of ["\n", " ", "\0", "mac", bytes.toString("latin1")]) {
    const longer = Buffer.concat([bytes, Buffer.from(more, "latin1")]);
    assert.throws(() => open(longer), FormatError);
  }
});

test("a root made anew without the key does not hold", () => {
  const forged = forge(write(ENTRIES), "\t16384\t", "\t24576\t");
  assert.throws(() => open(forged), {
    name: "IntegrityError",
    message: "tde.manifest was altered: its MAC under key 1 does not hold",
  });
  assert.equal(openManifestWithoutKey(() => [forged], WHERE).entryCount, ENTRIES.length);
});

test("an altered manifest is told from a wrong key", () => {
  const bytes = write(ENTRIES);
  const altered = Buffer.from(bytes.toString("latin1").replace("\t16384\t", "\t16385\t"), "latin1");
  assert.throws(() => open(altered), { name: "IntegrityError", message: /its root does not hold/ });
  const other = testKeys(1, { keyringId: "12ab000000000000" });
  assert.throws(() => open(bytes, other), {
    name: "KeyError",
    message: /needs key 1 of keyring 7f3a/,
  });
  assert.throws(() => open(bytes, testKeys(1, {}, { 1: "destroyed" })), { name: "KeyError" });
  assert.throws(() => open(bytes, testKeys(1, { fill: 5 })), IntegrityError);
});

test("the state of the key that made the MAC is told", () => {
  const bytes = write(ENTRIES);
  assert.equal(open(bytes, testKeys(2)).keyState, "readable");
  assert.equal(open(bytes, testKeys(2, {}, { 1: "retired" })).keyState, "retired");
});

test("the MAC is bound to the directory", () => {
  const bytes = write(ENTRIES);
  const elsewhere = write(ENTRIES, { ...HEADER, directoryId: "ff".repeat(16) });
  const mac = elsewhere.subarray(elsewhere.lastIndexOf("mac "));
  assert.throws(() => open(Buffer.concat([bytes.subarray(0, -mac.length), mac])), IntegrityError);
});

test("a manifest that changes between the passes is found at the end of the second", () => {
  const versions = [write(ENTRIES), write(ENTRIES.slice(0, -1))];
  let pass = 0;
  const manifest = openManifest(() => [versions[pass++] ?? Buffer.alloc(0)], testKeys(), WHERE);
  assert.throws(() => [...manifest.entries()], {
    name: "IntegrityError",
    message: /changed while it was read/,
  });
});

test("text that is not in canonical form is refused although its root holds", () => {
  const bytes = write(ENTRIES);
  const cases: [string | RegExp, string][] = [
    ["tde-manifest 1", "tde-manifest 2"],
    ["tde-manifest 1", "tde-manifest 01"],
    ["directory 00", "directory  00"],
    ["directory 0011", "directory 11"],
    ["keyring 7f3a", "keyring 7F3A"],
    ["key 1\n", "key 01\n"],
    ["key 1\n", "key 0\n"],
    ["key 1\n", "key 4294967296\n"],
    ["key 1\n", "key 1\r\n"],
    ["epoch 6", "epoch 0"],
    ["epoch 6", "epoch +6"],
    ["epoch 6", "epoch 18446744073709551616"],
    ["system 7", "system 07"],
    ["scope all", "scope ALL"],
    ["scope all", "scope table:5"],
    ["scope all", "scope database:5,database:5"],
    ["scope all", "scope tablespace:5,database:5"],
    ["scope all", "scope all,database:5"],
    ["scope all", "scope all except "],
    ["scope all", "scope all except all"],
    ["scope all", "scope all except database:7,database:5"],
    ["scope all", "scope except database:5"],
    ["scope all", "scope database:05"],
    ["scope all", "scope relation:5/16384"],
    ["wal sealed", "wal open"],
    [/control .*/, `control ${Buffer.alloc(511).toString("base64")}`],
    [/(control .*)=\n/, "$1\n"],
    [/(control .{682}).=/, "$1/="],
    ["wal sealed\n", ""],
    ["file\tbase\t", "file base\t"],
    ["file\tbase\t", "file\tbase/\t"],
    ["file\tbase\t", "file\t/base\t"],
    ["file\tbase\t", "file\t./base\t"],
    ["file\tbase\t", "file\tPG_VERSION\t"],
    ["file\tbase\t", "file\tAAA\t"],
    ["file\tbase\t", "file\t%62ase\t"],
    ["file\tbase\t", "file\tbase%2\t"],
    ["%ff", "%FF"],
    ["%ff", "\xff"],
    ["%25", "%"],
    ["\tD\t-", "\tX\t-"],
    ["\tS\tx\t", "\tS\tX\t"],
    ["\tS\txn\t", "\tS\tnx\t"],
    ["\tS\txn\t", "\tS\t\t"],
    ["\tR\tn\t", "\tR\tnn\t"],
    ["\t16384\t", "\t016384\t"],
    ["\t16384\t", "\t-1\t"],
    ["\t16384\t", "\t9007199254740992\t"],
    ["\t1:0,3:2\t", "\t3:2,1:0\t"],
    ["\t1:0,3:2\t", "\t1:0,1:2\t"],
    ["\t1:0,3:2\t", "\t1:00,3:2\t"],
    ["\t1:0,3:2\t", "\t0:0,3:2\t"],
    ["\t1:0,3:2\t", "\t1:0,,3:2\t"],
    ["\t1:0,3:2\t", "\t1:0,4294967296:2\t"],
    ["\t1:0,3:2\t", "\t-\t"],
    ["base/5/1260\tP\t-\t0\t-\t-", `base/5/1260\tP\t-\t0\t-\t${DIGEST}`],
    ["pg_wal\tL\t-\t0\t-\t-", `pg_wal\tL\t-\t0\t-\t${DIGEST.toUpperCase()}`],
    [`log\tL\t-\t0\t-\t${DIGEST}`, "log\tL\t-\t0\t-\t-"],
    [`log\tL\t-\t0\t-\t`, "log\tL\t-\t7\t-\t"],
    [`\t${DIGEST}\n`, `\t${DIGEST.toUpperCase()}\n`],
    [`\t${DIGEST}\n`, `\t${DIGEST}ab\n`],
    [`\t${DIGEST}\n`, `\t${DIGEST} \n`],
    ["file\tbase/5\tD\t-\t0\t-\t-\n", ""],
    ["count 14", "count 15"],
    ["count 14", "count 014"],
    ["count 14\n", "count 14\ncount 14\n"],
    ["count 14\n", ""],
    ["\nfile\tbase\t", "\n\nfile\tbase\t"],
  ];
  for (const [from, to] of cases) {
    const forged = forge(bytes, from, to);
    assert.throws(() => open(forged), FormatError, `${String(from)} -> ${to}`);
  }
});

test("a line without end is refused before it fills the memory", () => {
  const source = function* (): Generator<Buffer> {
    yield write([]).subarray(0, 1000);
    for (;;) yield Buffer.alloc(10000, "a");
  };
  assert.throws(() => openManifest(source, testKeys(), WHERE), FormatError);
});

test("the writer takes entries in order of raw bytes only, each below a directory", () => {
  const writer = (): ManifestWriter => new ManifestWriter(HEADER, testDek(1), () => {});
  const add = (...paths: [string, ManifestClass][]): void => {
    const one = writer();
    for (const [path, kind] of paths) one.add(entry(path, kind));
  };
  add(["a", "D"], ["a-b", "D"], ["a-b/c", "R"], ["a/b", "D"], ["a/b/c", "R"], ["a0", "R"]);
  assert.throws(() => add(["b", "R"], ["a", "R"]), assert.AssertionError);
  assert.throws(() => add(["a", "R"], ["a", "R"]), assert.AssertionError);
  assert.throws(() => add(["a", "R"], ["a/b", "R"]), assert.AssertionError);
  assert.throws(() => add(["a", "L"], ["a/b", "R"]), assert.AssertionError);
  assert.throws(() => add(["a", "D"], ["a/b/c", "R"]), assert.AssertionError);
  assert.throws(() => add(["A", "D"], ["Z", "R"], ["A/b", "R"]), assert.AssertionError);
});

test("value and text of an entry agree in both directions", () => {
  const part = fc
    .uint8Array({ minLength: 1, maxLength: 8 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 ? 65 : byte))))
    .map((bytes) => bytes.toString("latin1"))
    .filter((text) => text !== "." && text !== "..");
  const paths = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
  const keys = fc
    .uniqueArray(fc.integer({ min: 1, max: 0xffffffff }), { minLength: 1, maxLength: 4 })
    .map((ids) => ids.sort((a, b) => a - b).map((keyId) => ({ keyId, count: keyId % 7 })));
  const sizes = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  assertProperty(
    fc.property(paths, keys, sizes, fc.boolean(), fc.boolean(), (path, use, size, x, n) => {
      for (const value of [
        entry(path, "P", { keys: use, sizeBytes: size, expendable: x, added: n }),
        entry(path, "O", { sizeBytes: size, expendable: x, added: n }),
        entry(path, "D", { expendable: x, added: n }),
      ]) {
        const line = serializeEntry(value);
        assert.deepEqual(parseEntry(line.slice(0, -1), WHERE), value);
        assert.equal(serializeEntry(parseEntry(line.slice(0, -1), WHERE)), line);
      }
    }),
    200,
  );
});

test("only relative paths that stay inside are safe", () => {
  for (const path of ["a", "a/b", "...", "a/..b", " ", "a".repeat(4095)]) {
    assertSafePath(path as BytePath, WHERE);
    assert.equal(unescapePath(escapePath(path as BytePath), WHERE), path);
  }
  const unsafe = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a\0b"];
  for (const path of [...unsafe, "a".repeat(4096)]) {
    assert.throws(() => assertSafePath(path as BytePath, WHERE), FormatError, path);
    assert.throws(() => unescapePath(escapePath(path as BytePath), WHERE), FormatError, path);
  }
});

test("the join pairs what is named with what is there", () => {
  const found = ["PG_VERSION", "base", "base/5/1259", "extra", "zzz"].map((path) => ({
    path: path as BytePath,
  }));
  const joined = [...joinByPath(ENTRIES.slice(0, 4), found)].map(
    (pair) => `${pair.path} ${pair.entry ? "named" : "-"} ${pair.found ? "found" : "-"}`,
  );
  assert.deepEqual(joined, [
    "PG_VERSION named found",
    "base named found",
    "base/5 named -",
    "base/5/1259 named found",
    "extra - found",
    "zzz - found",
  ]);
  assert.throws(() => [...joinByPath([], found.toReversed())], assert.AssertionError);
});

test("a manifest of many entries streams without being held", () => {
  const count = 100_000;
  const many = function* (): Generator<ManifestEntry> {
    yield entry("base", "D");
    for (let i = 0; i < count; i++) yield entry(`base/${String(i).padStart(8, "0")}`, "P");
  };
  // Written anew at each pass, part by part, as it is asked for.
  let parts = 0;
  const source = function* (): Generator<Buffer> {
    const ready: Buffer[] = [];
    const writer = new ManifestWriter(HEADER, testDek(1), (part) => ready.push(part));
    for (const item of many()) {
      writer.add(item);
      for (const part of ready.splice(0)) {
        assert.ok(part.length < 2 * 65536);
        parts++;
        yield part;
      }
    }
    writer.finish();
    yield* ready;
  };
  const manifest = openManifest(source, testKeys(), WHERE);
  assert.equal(manifest.entryCount, count + 1);
  assert.ok(parts > 100);
  parts = 0;
  let seen = 0;
  for (const item of manifest.entries()) {
    if (seen === 100) assert.equal(parts, 1, "the reader must not read ahead");
    if (seen === count) assert.equal(item.path, "base/00099999");
    seen++;
  }
  assert.equal(seen, count + 1);
});
