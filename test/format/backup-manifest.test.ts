import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import * as fc from "fast-check";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sha256 } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, TdeError } from "../../src/errors.ts";
import {
  BackupChecksum,
  type BackupFileFacts,
  type ChecksumAlgorithm,
  serializeBackupFile,
} from "../../src/format/backup-manifest-file.ts";
import {
  type BackupManifest,
  mutualSizes,
  openBackupManifest,
} from "../../src/format/backup-manifest.ts";
import { assertProperty } from "../support/property.ts";

const WHERE = "backup_manifest";
const ROOT = new URL("../../../fixtures/backup-manifest/", import.meta.url);

function fixture(name: string): Buffer {
  return gunzipSync(readFileSync(new URL(`${name}.gz`, ROOT)));
}

function open(bytes: Buffer): BackupManifest {
  return openBackupManifest(() => [bytes], WHERE);
}

/** A small manifest with the checksum that its text demands. */
function manifestOf(lines: readonly string[]): Buffer {
  const body = lines.map((line) => `${line}\n`).join("");
  const sum = sha256(Buffer.from(body, "latin1")).toString("hex");
  return Buffer.from(`${body}"Manifest-Checksum": "${sum}"}\n`, "latin1");
}

const FILE_LINE =
  '{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-20 11:25:02 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "8a744722" }';
const SMALL = [
  '{ "PostgreSQL-Backup-Manifest-Version": 2,',
  '"System-Identifier": 7391234567890123456,',
  '"Files": [',
  `${FILE_LINE},`,
  '{ "Path": "log", "Size": 0, "Last-Modified": "2026-11-20 11:25:02 GMT" }',
  "],",
  '"WAL-Ranges": [',
  '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }',
  "],",
];

const FACTS: BackupFileFacts = {
  sizeBytes: 12,
  modifyTime: Date.UTC(2026, 10, 20, 11, 25, 3) / 1000 + 0.75,
  algorithm: "CRC32C",
  checksum: "00112233",
};

const REAL: readonly [string, 1 | 2, number, ChecksumAlgorithm][] = [
  ["pg15-crc32c", 1, 967, "CRC32C"],
  ["pg15-none", 1, 967, "NONE"],
  ["pg17-crc32c", 2, 966, "CRC32C"],
  ["pg17-incremental", 2, 966, "CRC32C"],
];

for (const [name, version, fileCount, algorithm] of REAL) {
  test(`a real manifest is read, and written again byte for byte when nothing changes: ${name}`, () => {
    const bytes = fixture(name);
    const manifest = open(bytes);
    assert.equal(manifest.version, version);
    assert.equal(manifest.systemIdentifier === undefined, version === 1);
    assert.equal(manifest.fileCount, fileCount);
    assert.equal(manifest.algorithm, algorithm);
    const version1 = [...manifest.files()].find((file) => file.path === "PG_VERSION");
    assert.equal(version1?.sizeBytes, 3);
    const again = [...manifest.rewrite({ changeOf: () => "keep", added: [] })];
    assert.deepEqual(Buffer.concat(again), bytes);
  });
}

test("changed, removed and added files appear in the new manifest, and nothing else changes", () => {
  const bytes = fixture("pg17-crc32c");
  const manifest = open(bytes);
  const files = [...manifest.files()];
  const last = files.at(-1)?.path;
  const added = [
    { ...FACTS, path: "base/1/1259_tde" as BytePath },
    { ...FACTS, path: "tde.manifest" as BytePath, algorithm: "NONE", checksum: undefined },
  ] as const;
  const rewritten = Buffer.concat([
    ...manifest.rewrite({
      changeOf: ({ path }) => (path === "PG_VERSION" ? FACTS : path === last ? "remove" : "keep"),
      added,
    }),
  ]);
  const factsOf = ({ sizeBytes, algorithm, checksum }: BackupFileFacts): object => ({
    sizeBytes,
    lastModified: "2026-11-20 11:25:03 GMT",
    algorithm,
    checksum,
  });
  const expected = [
    ...files
      .filter(({ path }) => path !== last)
      .map((file) => (file.path === "PG_VERSION" ? { ...file, ...factsOf(FACTS) } : file)),
    ...added.map((file) => ({ path: file.path, ...factsOf(file) })),
  ];
  assert.deepEqual([...open(rewritten).files()], expected);
  const before = bytes.toString("latin1").split("\n");
  const after = rewritten.toString("latin1").split("\n");
  const kept = new Set(after.map((line) => line.replace(/,$/, "")));
  const gone = before.map((line) => line.replace(/,$/, "")).filter((line) => !kept.has(line));
  assert.equal(gone.length, 3, "PG_VERSION, the removed file and the checksum");
});

test("a manifest can lose all its files, and get some again", () => {
  const manifest = open(manifestOf(SMALL));
  const none = Buffer.concat([...manifest.rewrite({ changeOf: () => "remove", added: [] })]);
  assert.equal(open(none).fileCount, 0);
  assert.match(none.toString("latin1"), /"Files": \[\n\],\n/);
  const added = [{ ...FACTS, path: "a" as BytePath }];
  const one = [...open(none).rewrite({ changeOf: () => "keep", added })];
  assert.equal(open(Buffer.concat(one)).fileCount, 1);
});

test("checksums are those that PostgreSQL writes, whatever parts the bytes come in", () => {
  // PG_VERSION of 15: CRC32C, SHA256 and SHA384 as real servers wrote them, the others by FIPS 180-4.
  const expected: readonly [ChecksumAlgorithm, string | undefined][] = [
    ["NONE", undefined],
    ["CRC32C", "8a744722"],
    ["SHA224", "33d5f71bef0638fb2aa65a5d48851e6a3117148795b7f7b4dab02a82"],
    ["SHA256", "238903180cc104ec2c5d8b3f20c5bc61b389ec0a967df8cc208cdc7cd454174f"],
    [
      "SHA384",
      "11a0ed6cd0c92730513645e837b6a41617cebec8b8c5e0f52ae446a66beac2cf78e10b8345372b028928e3b08ea8fe80",
    ],
    [
      "SHA512",
      "a475fa35e5e301a8b099d1752287bce07bf1ec88c984c71a18f2055033ecc9467f3642cd2184d5517a487b89e9ee828d4c0d4bccb3ad19c5d08e862afb16c2a5",
    ],
  ];
  for (const [algorithm, checksum] of expected) {
    for (const parts of [["15\n"], ["1", "5", "\n"], ["", "15", "\n"]]) {
      const running = new BackupChecksum(algorithm);
      for (const part of parts) running.update(Buffer.from(part));
      assert.equal(running.finish(), checksum, algorithm);
    }
  }
});

test("any path goes through a manifest, in hex where it is not UTF-8", () => {
  const part = fc
    .uint8Array({ minLength: 1, maxLength: 6 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 ? 65 : byte))))
    .map((bytes) => bytes.toString("latin1"));
  const unicode = fc
    .string({ unit: "binary", minLength: 1, maxLength: 6 })
    .map((text) => Buffer.from(text.replace(/[/\0]/g, "_"), "utf8").toString("latin1"));
  const paths = fc
    .array(fc.oneof(part, unicode), { minLength: 1, maxLength: 3 })
    .filter((parts) => parts.every((name) => name !== "." && name !== ".."))
    .map((parts) => parts.join("/") as BytePath);
  assertProperty(
    fc.property(paths, (path) => {
      const line = serializeBackupFile(FACTS, { path });
      assert.ok(!line.includes("\n"));
      const [file] = [...open(manifestOf(SMALL.with(3, `${line},`))).files()];
      assert.equal(file?.path, path);
    }),
    300,
  );
});

test("a time that no calendar has is moved into one", () => {
  for (const modifyTime of [-1e18, -1, 0, 1e18]) {
    const line = serializeBackupFile({ ...FACTS, modifyTime }, { path: "a" as BytePath });
    assert.match(line, /"Last-Modified": "\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT"/);
  }
});

test("a manifest that was changed does not agree with its checksum", () => {
  const text = fixture("pg15-crc32c").toString("latin1");
  const changed = Buffer.from(text.replace('"Size": 8192', '"Size": 8193'), "latin1");
  assert.throws(() => open(changed), IntegrityError);
});

test("every truncation and every flipped bit of a manifest is found", () => {
  const bytes = manifestOf(SMALL);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => open(bytes.subarray(0, length)), FormatError);
  }
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8((flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => open(flipped), TdeError, `bit ${bit}`);
  }
});

test("another layout, or a value that PostgreSQL would not write, is refused", () => {
  const whole = SMALL.join("\n");
  const cases: [string | RegExp, string][] = [
    ['Version": 2', 'Version": 3'],
    ['Version": 2', 'Version": 1'],
    ["7391234567890123456", "x"],
    ['"Files": [', '"Files":['],
    [" },\n{", " }\n{"],
    [' }\n],\n"WAL', ' },\n],\n"WAL'],
    ['"Size": 3', '"Size": 03'],
    ['"Size": 3', '"Size": -3'],
    ['"Size": 3', '"Size": 9999999999999999'],
    ['"Path": "PG_VERSION"', '"Path": "../PG_VERSION"'],
    ['"Path": "PG_VERSION"', '"Path": "/etc/passwd"'],
    ['"Path": "PG_VERSION"', '"Path": "a\\u0000b"'],
    ['"Path": "PG_VERSION"', '"Path": "\\ud800"'],
    ['"Path": "PG_VERSION"', '"Path": "\xff"'],
    ['"Path": "PG_VERSION"', '"Path": ""'],
    ['"Path": "PG_VERSION"', '"Encoded-Path": "abc"'],
    ['"Path": "PG_VERSION"', '"Encoded-Path": "AB"'],
    ['"8a744722"', '"8a7447"'],
    ['"8a744722"', '"8A744722"'],
    ["CRC32C", "CRC32"],
    ["CRC32C", "SHA256"],
    ['"0/2000028"', '"0"'],
    ['"Timeline": 1,', '"Timeline": 1, '],
    ['"WAL-Ranges": [', '"WAL-Ranges": {'],
    [/$/, "\n{"],
  ];
  for (const [from, to] of cases) {
    const text = whole.replace(from, () => to);
    assert.notEqual(text, whole, String(from));
    assert.throws(() => open(manifestOf(text.split("\n"))), FormatError, `${String(from)} ${to}`);
  }
  assert.equal(open(manifestOf(whole.split("\n"))).fileCount, 2);
  assert.throws(() => open(Buffer.concat([manifestOf(SMALL), Buffer.from("x\n")])), FormatError);
});

test("a manifest is rewritten part by part", () => {
  const lines = [
    ...SMALL.slice(0, 3),
    ...Array.from({ length: 50_000 }, (_, i) => `${FILE_LINE.replace("PG_VERSION", `base/${i}`)},`),
    ...SMALL.slice(4),
  ];
  const bytes = manifestOf(lines);
  let given = 0;
  const source = function* (): Generator<Buffer> {
    for (given = 0; given < bytes.length; given += 65536)
      yield bytes.subarray(given, given + 65536);
  };
  const manifest = openBackupManifest(source, WHERE);
  assert.equal(manifest.fileCount, 50_001);
  let taken = 0;
  for (const part of manifest.rewrite({ changeOf: () => "keep", added: [] })) {
    assert.deepEqual(part, bytes.subarray(taken, taken + part.length));
    taken += part.length;
    assert.ok(given - taken < 4 * 65536, "read ahead");
  }
  assert.equal(taken, bytes.length);
});

test("two manifests that list each other by size find sizes that fit", () => {
  const sizes = [1, 8, 9, 10, 98, 99, 100, 997, 998, 999, 1000, 9_999_992, 9_999_993, 99_999_999];
  for (const a of sizes) {
    for (const b of sizes) {
      const { manifestBytes, backupManifestBytes } = mutualSizes(a, b);
      assert.equal(manifestBytes, a + String(backupManifestBytes).length);
      assert.equal(backupManifestBytes, b + String(manifestBytes).length);
    }
  }
});
