/**
 * The journal: what it says comes back, a torn last record counts as not written, and nothing else is ever taken for
 * a torn write. Steps that are due can be done again, whatever part of them is done.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import * as fc from "fast-check";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { hmacSha256, type KeyObject, secretKey } from "../../src/crypto/primitives.ts";
import { FormatError, IntegrityError, TdeError } from "../../src/errors.ts";
import {
  carryOut,
  type DueStep,
  type FilePatch,
  Journal,
  JOURNAL_HEADER_BYTES,
  JOURNAL_NAME,
  type JournalContent,
  type JournalHeader,
  readJournalHeader,
  removeJournal,
  removeUnbornJournal,
} from "../../src/storage/journal.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { assertProperty } from "../support/property.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const fs = new NodeFileSystem();
const KEY = secretKey(Buffer.alloc(32, 7));
const PLAN = '{"wal":"sealed"}';
const HEADER: JournalHeader = {
  runId: Buffer.alloc(16, 0xa1),
  directoryId: "00112233445566778899aabbccddeeff",
  keyringId: "7f3a000000000001",
  keyId: 3,
  operation: "encrypt",
  epoch: 6n,
};

function rename(from: string, to: string): DueStep {
  return { action: "rename", from: bytePath(from), to: bytePath(to) };
}

function remove(path: string): DueStep {
  return { action: "remove", path: bytePath(path) };
}

const FIRST = [
  rename("base/5/1_tdenew_tde", "base/5/1_tde"),
  rename("base/5/1_tdenew", "base/5/1"),
];
const SECOND = [rename("a_tdenew", "a"), remove("base/5/2_tde")];
const LAST = [rename("tde_tdenew.manifest", "tde.manifest")];

function pathOf(folder: string): string {
  return join(folder, JOURNAL_NAME);
}

/** A journal with these entries; the last one committed where asked for. */
function write(
  folder: string,
  entries: readonly (readonly DueStep[])[],
  last?: readonly DueStep[],
  header: JournalHeader = HEADER,
): Buffer {
  const journal = Journal.create(fs, bytePath(folder), KEY, header, PLAN);
  for (const steps of entries) journal.due(steps);
  if (last !== undefined) journal.commit(last);
  journal.close();
  return readFileSync(pathOf(folder));
}

function resume(folder: string, bytes?: Buffer, key: KeyObject = KEY): JournalContent {
  if (bytes !== undefined) writeFileSync(pathOf(folder), bytes);
  const { journal, content } = Journal.resume(fs, bytePath(folder), key);
  journal.close();
  return content;
}

/** Where each record begins, and the end of the file. */
function recordOffsets(bytes: Buffer): number[] {
  const offsets = [JOURNAL_HEADER_BYTES];
  for (let at = JOURNAL_HEADER_BYTES; at < bytes.length;) {
    at += 4 + bytes.readUInt32LE(at) + 16;
    offsets.push(at);
  }
  assert.equal(offsets.at(-1), bytes.length);
  return offsets;
}

test("what was entered last is what is due", (t) => {
  const folder = temporaryDirectory(t);
  const expected = (due: readonly DueStep[], committed = false): JournalContent => {
    return { header: HEADER, plan: PLAN, due, redo: [], entered: true, committed };
  };
  const untouched = { ...expected([]), entered: false };
  assert.deepEqual(resume(folder, write(folder, [])), untouched);
  assert.deepEqual(resume(folder, write(folder, [FIRST])), expected(FIRST));
  assert.deepEqual(resume(folder, write(folder, [FIRST, SECOND])), expected(SECOND));
  assert.deepEqual(resume(folder, write(folder, [FIRST], LAST)), expected(LAST, true));
  assert.deepEqual(resume(folder, write(folder, [FIRST], [])), expected([], true));
  assert.deepEqual(readJournalHeader(fs, bytePath(folder)), HEADER);
  assert.equal(statSync(pathOf(folder)).mode & 0o777, 0o600);
});

const PATCHES: readonly FilePatch[] = [
  { path: bytePath("base/5/1_tde"), sizeBytes: 16384, parts: [part(24, 3), part(8192, 8192)] },
  { path: bytePath("base/5/1"), sizeBytes: 2 ** 40, parts: [part(2 ** 40 - 5, 5)] },
  { path: bytePath("base/5/2"), sizeBytes: 0, parts: [] },
];

function part(position: number, length: number): FilePatch["parts"][number] {
  return { position, bytes: Buffer.alloc(length, position % 256) };
}

test("what was to be written in place last is what is written again", (t) => {
  const folder = temporaryDirectory(t);
  const root = bytePath(folder);
  const journal = Journal.create(fs, root, KEY, HEADER, PLAN);
  journal.due(FIRST);
  journal.redo(PATCHES);
  journal.close();
  const { due, redo } = resume(folder);
  assert.deepEqual([due, redo], [[], PATCHES]);
  const after = Journal.resume(fs, root, KEY).journal;
  after.due(SECOND);
  after.close();
  const last = resume(folder);
  assert.deepEqual([last.due, last.redo], [SECOND, []]);
});

test("a journal over 4 MiB is begun anew with what is to be written in place, too", (t) => {
  const folder = temporaryDirectory(t);
  const journal = Journal.create(fs, bytePath(folder), KEY, HEADER, PLAN);
  const large = [{ path: bytePath("base/5/1"), sizeBytes: 2 ** 23, parts: [part(0, 2 ** 23)] }];
  for (let i = 0; i < 3; i++) journal.redo(large);
  journal.redo(PATCHES);
  journal.close();
  assert.ok(statSync(pathOf(folder)).size < 2 ** 20);
  assert.deepEqual(resume(folder).redo, PATCHES);
});

test("a journal that a snapshot shares by a hard link is not written to", (t) => {
  const folder = temporaryDirectory(t);
  const bytes = write(folder, [FIRST]);
  linkSync(pathOf(folder), join(folder, "snapshot"));
  const { journal } = Journal.resume(fs, bytePath(folder), KEY);
  journal.due(SECOND);
  journal.close();
  assert.deepEqual(readFileSync(join(folder, "snapshot")), bytes);
  assert.deepEqual(resume(folder).due, SECOND);
});

test("a resumed journal goes on behind its last whole record", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND]);
  const torn = whole.subarray(0, whole.length - 1);
  writeFileSync(pathOf(folder), torn);
  const { journal, content } = Journal.resume(fs, bytePath(folder), KEY);
  assert.deepEqual(content.due, FIRST);
  journal.due(SECOND);
  journal.close();
  assert.deepEqual(readFileSync(pathOf(folder)), whole);
});

const segments = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 20 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"))
  .filter((name) => !name.includes("/") && name !== "." && name !== "..");
const paths = fc
  .array(segments, { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join("/") as BytePath);
const steps = fc.oneof(
  fc.tuple(paths, paths).map(([from, to]): DueStep => ({ action: "rename", from, to })),
  paths.map((path): DueStep => ({ action: "remove", path })),
);
const headers = fc.record(
  {
    runId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
    directoryId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(hex),
    keyringId: fc.uint8Array({ minLength: 8, maxLength: 8 }).map(hex),
    keyId: fc.integer({ min: 1, max: 0xffffffff }),
    operation: fc.constantFrom("encrypt", "decrypt", "encryptOutput", "decryptOutput", "rotate"),
    epoch: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  },
  { noNullPrototype: true },
);

test("any header, plan and entries come back", (t) => {
  const folder = temporaryDirectory(t);
  const entries = fc.array(fc.array(steps, { maxLength: 5 }), { maxLength: 4 });
  assertProperty(
    fc.property(headers, fc.json(), entries, fc.boolean(), (header, plan, due, committed) => {
      const journal = Journal.create(fs, bytePath(folder), KEY, header, plan);
      const last = due.at(-1) ?? [];
      for (const entry of committed ? due.slice(0, -1) : due) journal.due(entry);
      if (committed) journal.commit(last);
      journal.close();
      const entered = committed || due.length > 0;
      const content = { header, plan, due: last, redo: [], entered, committed };
      assert.deepEqual(resume(folder), content);
      assert.deepEqual(readJournalHeader(fs, bytePath(folder)), header);
    }),
    30,
  );
});

test("a journal cut anywhere says what its whole records say, or is refused where it has no plan", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND], LAST);
  const offsets = recordOffsets(whole);
  for (let length = 0; length < whole.length; length++) {
    const cut = whole.subarray(0, length);
    const records = offsets.filter((offset) => offset <= length).length - 1;
    if (records < 1) {
      assert.throws(() => resume(folder, cut), TdeError, `cut at ${length}`);
      continue;
    }
    const content = resume(folder, cut);
    assert.deepEqual(content.due, [[], FIRST, SECOND][records - 1], `cut at ${length}`);
    assert.equal(content.committed, false);
    assert.equal(statSync(pathOf(folder)).size, offsets[records], "the torn record is cut off");
  }
});

test("a record torn in any way but for its beginning counts as not written", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND]);
  const start = recordOffsets(whole).at(-2) ?? 0;
  for (let zeros = start; zeros < whole.length; zeros++) {
    // The file has its length, but not all of its content; from the front, and from the back.
    const back = Buffer.from(whole).fill(0, zeros);
    if (!back.equals(whole)) assert.deepEqual(resume(folder, back).due, FIRST);
    const front = Buffer.from(whole).fill(0, start, zeros + 1);
    assert.deepEqual(resume(folder, front).due, FIRST);
  }
});

test("every flipped bit is an error or makes the last record torn", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND]);
  const lastAt = recordOffsets(whole).at(-2) ?? 0;
  for (let bit = 0; bit < 8 * whole.length; bit++) {
    const at = bit >> 3;
    const flipped = Buffer.from(whole);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
    let content: JournalContent;
    try {
      content = resume(folder, flipped);
    } catch (error) {
      assert.ok(error instanceof IntegrityError || error instanceof FormatError, `byte ${at}`);
      continue;
    }
    assert.ok(at >= lastAt, `byte ${at} was taken for a torn write`);
    assert.deepEqual(content, {
      header: HEADER,
      plan: PLAN,
      due: FIRST,
      redo: [],
      entered: true,
      committed: false,
    });
  }
});

test("records left out, doubled or moved are an error", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND], LAST);
  const offsets = recordOffsets(whole);
  const header = whole.subarray(0, JOURNAL_HEADER_BYTES);
  const record = (i: number): Buffer => whole.subarray(offsets[i] ?? 0, offsets[i + 1]);
  for (const order of [
    [0, 2, 3],
    [0, 2, 1, 3],
    [0, 1, 1, 2, 3],
    [1, 2, 3],
    [3, 0, 1, 2, 3],
  ]) {
    const bytes = Buffer.concat([header, ...order.map(record)]);
    assert.throws(() => resume(folder, bytes), IntegrityError, order.join(" "));
  }
});

test("the newest record without the one before it counts as torn", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST, SECOND], LAST);
  const offsets = recordOffsets(whole);
  const bytes = Buffer.concat([whole.subarray(0, offsets[2]), whole.subarray(offsets[3] ?? 0)]);
  const content = resume(folder, bytes);
  assert.deepEqual(content, {
    header: HEADER,
    plan: PLAN,
    due: FIRST,
    redo: [],
    entered: true,
    committed: false,
  });
});

test("another key does not open a journal", (t) => {
  const folder = temporaryDirectory(t);
  const bytes = write(folder, [FIRST]);
  const other = secretKey(Buffer.alloc(32, 8));
  assert.throws(() => resume(folder, bytes, other), IntegrityError);
});

/** A journal with one record of any type and body, and MACs that hold. */
function forged(type: number, body: Buffer, withPlan = true): Buffer {
  const parts: Buffer[] = [];
  const header = Buffer.alloc(64);
  header.write("TDEJ", 0, "latin1");
  header.writeUInt16LE(2, 4);
  header.fill(1, 8, 48);
  header.writeUInt32LE(3, 48);
  header.writeUInt32LE(1, 52);
  let mac = hmacSha256(KEY, header).subarray(0, 16);
  parts.push(header, mac);
  const add = (kind: number, content: Buffer): void => {
    const record = Buffer.concat([Buffer.alloc(4), Buffer.of(kind), content]);
    record.writeUInt32LE(1 + content.length);
    mac = hmacSha256(KEY, mac, record).subarray(0, 16);
    parts.push(record, mac);
  };
  if (withPlan) add(1, Buffer.from(PLAN));
  add(type, body);
  return Buffer.concat(parts);
}

function u(length: number, value: number): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt8(value, 0);
  return bytes;
}

function removal(path: string): Buffer {
  const bytes = Buffer.from(path, "latin1");
  const length = Buffer.alloc(2);
  length.writeUInt16LE(bytes.length);
  return Buffer.concat([Buffer.of(2), length, bytes]);
}

test("a path that leads out of the directory is refused, though the MAC holds", (t) => {
  const folder = temporaryDirectory(t);
  assert.deepEqual(resume(folder, forged(2, removal("base/5/1"))).due, [remove("base/5/1")]);
  for (const path of [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "base/../../x",
    "base/..",
    ".",
    "./x",
    "base//x",
    "base/",
    "base/\0x",
  ]) {
    const redo = Buffer.concat([removal(path).subarray(1), Buffer.alloc(12)]);
    assert.throws(() => resume(folder, forged(4, redo)), FormatError, path);
    for (const type of [2, 3]) {
      assert.throws(() => resume(folder, forged(type, removal(path))), FormatError, path);
      const target = Buffer.concat([
        Buffer.of(1),
        removal("a").subarray(1),
        removal(path).subarray(1),
      ]);
      assert.throws(() => resume(folder, forged(type, target)), FormatError, `rename to ${path}`);
    }
  }
});

test("unknown types and actions, a second plan and cut entries are refused, though the MAC holds", (t) => {
  const folder = temporaryDirectory(t);
  for (const bytes of [
    forged(0, Buffer.alloc(0)),
    forged(5, Buffer.alloc(0)),
    forged(255, removal("a")),
    forged(1, Buffer.from(PLAN)),
    forged(2, removal("a"), false),
    forged(3, Buffer.alloc(0), false),
    forged(2, Buffer.of(0)),
    forged(2, Buffer.of(3, 1, 0, 0x61)),
    forged(2, removal("abc").subarray(0, -1)),
    forged(2, Buffer.of(2)),
    forged(2, Buffer.of(2, 1)),
    forged(2, Buffer.of(2, 255, 255, 0x61)),
    forged(2, Buffer.concat([Buffer.of(1), removal("a").subarray(1)])),
    forged(4, removal("a").subarray(1)),
    forged(4, Buffer.concat([removal("a").subarray(1), Buffer.alloc(8), Buffer.of(1, 0, 0, 0)])),
    forged(4, Buffer.concat([removal("a").subarray(1), Buffer.alloc(8), Buffer.alloc(4, 255)])),
    forged(4, Buffer.concat([removal("a").subarray(1), Buffer.alloc(8, 255), Buffer.alloc(4)])),
    // One byte, of a file that has none.
    forged(
      4,
      Buffer.concat([removal("a").subarray(1), u(8, 0), u(4, 1), u(8, 0), u(4, 1), u(1, 7)]),
    ),
    forged(
      4,
      Buffer.concat([removal("a").subarray(1), u(8, 9), u(4, 1), u(8, 0), u(4, 2), u(1, 7)]),
    ),
  ]) {
    assert.throws(() => resume(folder, bytes), FormatError);
  }
});

test("headers of another magic, version, operation or with reserved bytes are refused without a key", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST]);
  for (const [at, value] of [
    [0, 0x55],
    [4, 1],
    [4, 3],
    [4, 0],
    [6, 1],
    [52, 0],
    [52, 200],
    [55, 1],
  ] as const) {
    const bytes = Buffer.from(whole);
    bytes[at] = value;
    writeFileSync(pathOf(folder), bytes);
    assert.throws(() => readJournalHeader(fs, bytePath(folder)), FormatError, `byte ${at}`);
    assert.throws(() => resume(folder), FormatError, `byte ${at}`);
  }
});

test("any bytes are refused or read, and never anything else", (t) => {
  const folder = temporaryDirectory(t);
  const whole = write(folder, [FIRST]);
  assertProperty(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(whole.length), (bytes, keep) => {
      const mixed = Buffer.concat([whole.subarray(0, keep), bytes]);
      try {
        resume(folder, mixed);
      } catch (error) {
        assert.ok(error instanceof TdeError);
      }
    }),
    200,
  );
});

test("a file of gigabytes in the journal's place is refused before it is read", (t) => {
  const folder = temporaryDirectory(t);
  write(folder, [FIRST]);
  const file = fs.openForWriting(bytePath(pathOf(folder)));
  file.truncate(2 ** 33);
  file.close();
  assert.throws(() => resume(folder), FormatError);
});

test("many lengths that could be records do not keep a reader busy", (t) => {
  const folder = temporaryDirectory(t);
  const start = write(folder, [FIRST]);
  const more = Buffer.alloc(2 ** 24);
  // Each of these says that it is a record which reaches to the end of the file.
  for (let at = 8; at + 40 < more.length; at += 8) more.writeUInt32LE(more.length - 20 - at, at);
  assert.throws(() => resume(folder, Buffer.concat([start, more])), IntegrityError);
});

test("where there is no journal there is no header", (t) => {
  assert.equal(readJournalHeader(fs, bytePath(temporaryDirectory(t))), undefined);
});

test("a journal over 4 MiB is begun anew with the next entry, which alone counts", (t) => {
  const folder = temporaryDirectory(t);
  const root = bytePath(folder);
  const journal = Journal.create(fs, root, KEY, HEADER, PLAN);
  const long = "x".repeat(200);
  const batch = Array.from({ length: 5000 }, (_, i) => rename(`${long}${i}_tdenew`, `${long}${i}`));
  const sizes: number[] = [];
  for (let i = 0; i < 4; i++) {
    journal.due(batch);
    sizes.push(statSync(pathOf(folder)).size);
  }
  assert.ok((sizes[1] ?? 0) > 2 ** 22);
  assert.ok((sizes[2] ?? 0) < (sizes[1] ?? 0), "the third entry began a new journal");
  journal.due(FIRST);
  journal.commit(LAST);
  journal.close();
  assert.deepEqual(readdirSync(folder), [JOURNAL_NAME]);
  assert.deepEqual(resume(folder), {
    header: HEADER,
    plan: PLAN,
    due: LAST,
    redo: [],
    entered: true,
    committed: true,
  });
  removeJournal(fs, root);
  assert.deepEqual(readdirSync(folder), []);
});

test("a journal that never came to be is removed, and is no journal", (t) => {
  const folder = temporaryDirectory(t);
  const root = bytePath(folder);
  writeFileSync(join(folder, "tde_tdenew.journal"), "half");
  assert.equal(readJournalHeader(fs, root), undefined);
  removeUnbornJournal(fs, root);
  removeUnbornJournal(fs, root);
  assert.deepEqual(readdirSync(folder), []);
  writeFileSync(join(folder, "tde_tdenew.journal"), "half");
  write(folder, [FIRST]);
  assert.deepEqual(readdirSync(folder), [JOURNAL_NAME]);
});

/** base/5 with files a, b and c to be replaced or removed. */
function workplace(t: TestContext): string {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, "base/5"), { recursive: true });
  for (const name of ["a", "b", "b_tde"])
    writeFileSync(join(folder, "base/5", name), `old ${name}`);
  for (const name of ["a_tdenew", "a_tdenew_tde", "b_tdenew"])
    writeFileSync(join(folder, "base/5", name), `new ${name}`);
  return folder;
}

const WORK = [
  rename("base/5/a_tdenew_tde", "base/5/a_tde"),
  rename("base/5/a_tdenew", "base/5/a"),
  rename("base/5/b_tdenew", "base/5/b"),
  remove("base/5/b_tde"),
];

test("due steps can be done again, whatever part of them is done", (t) => {
  for (let done = 0; done <= WORK.length; done++) {
    for (let again = 0; again < 2; again++) {
      const folder = workplace(t);
      const root = bytePath(folder);
      carryOut(fs, root, WORK.slice(0, done));
      for (let i = 0; i <= again; i++) carryOut(fs, root, WORK);
      const found = readdirSync(join(folder, "base/5")).toSorted((a, b) => a.localeCompare(b));
      assert.deepEqual(found, ["a", "a_tde", "b"]);
      const read = (name: string): string => readFileSync(join(folder, "base/5", name), "utf8");
      assert.deepEqual(found.map(read), ["new a_tdenew", "new a_tdenew_tde", "new b_tdenew"]);
    }
  }
});

test("a removal takes a link away and leaves what it leads to", (t) => {
  const folder = workplace(t);
  symlinkSync("a", join(folder, "base/5/link"));
  carryOut(fs, bytePath(folder), [remove("base/5/link")]);
  assert.ok(!existsSync(join(folder, "base/5/link")));
  assert.ok(existsSync(join(folder, "base/5/a")));
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
