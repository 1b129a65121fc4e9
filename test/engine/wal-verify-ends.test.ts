/**
 * `tde wal verify` where WAL ends, and on folders of segments in readable mode: the last segment of a timeline may end
 * midway, as servers and receivers leave it; whatever else is missing, damaged or from another life is named.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import {
  type VerifiedArchive,
  verifyArchive,
} from "../../src/engine/wal-archive/verify-archive.ts";
import { IntegrityError } from "../../src/errors.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { crossing, decrypt, encrypt, writeFolder } from "../support/wal-folders.ts";
import { filler, message, PAGE, SEGMENT, WalWriter } from "../support/written-wal.ts";

const fs = new NodeFileSystem();

async function verify(folder: string, allowPlain = false): Promise<VerifiedArchive> {
  const context = { fs, keys: testKeys(2), signal: undefined };
  return await verifyArchive(context, { archive: bytePath(folder), allowPlain });
}

function found({ problems }: VerifiedArchive): string[] {
  return problems.map(({ kind, name }) => `${kind} ${name}`);
}

/** Plain, encrypted in place, verified. */
async function verifyStored(t: TestContext, writer: WalWriter): Promise<VerifiedArchive> {
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  return await verify(folder);
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

test("the last segment may end midway: behind it zeros, an older life of the file, or a record that was cut off", async (t) => {
  const zeros = crossing();
  const { problems, records, timelines } = await verifyStored(t, zeros);
  assert.deepEqual(problems, []);
  assert.ok(records > 500);
  const end = 5 * SEGMENT + zeros.position;
  assert.equal(timelines[0]?.recordsTo, `0/${end.toString(16).toUpperCase()}`);

  const recycled = crossing();
  const older = new WalWriter(17, { firstSegment: 3 });
  older.fillTo(0);
  recycled.leave(
    recycled.position,
    older.segments[0]?.subarray(PAGE - 500, SEGMENT) ?? assert.fail(),
  );
  assert.deepEqual(found(await verifyStored(t, recycled)), []);

  // A receiver has got the first two pages of it.
  const cut = crossing();
  const at = cut.position;
  cut.append(message("long", Buffer.alloc(30_000, "text")));
  const page = at - (at % PAGE);
  cut.segments[2]?.fill(0, (page % SEGMENT) + 2 * PAGE);
  assert.deepEqual(found(await verifyStored(t, cut)), []);
});

test("an archived segment that a partial one follows, or none, may end at its very end or by a switch", async (t) => {
  const folder = writeFolder(t, crossing());
  const last = crossing().name(2);
  renameSync(join(folder, last), join(folder, `${last}.partial`));
  await encrypt(folder);
  assert.deepEqual(found(await verify(folder)), []);
  // Between the first and the partial one nothing may be missing.
  const second = crossing().name(1);
  rmSync(join(folder, second));
  assert.deepEqual(found(await verify(folder)), [`gap ${second}`, `gap ${second}`]);
  rmSync(join(folder, `${second}_tde`));
  assert.deepEqual(found(await verify(folder)), [`gap ${second}`]);
  // Of a receiver that has not come further.
  for (const suffix of ["", "_tde"]) rmSync(join(folder, crossing().name(0) + suffix));
  const [only, ...others] = (await verify(folder)).timelines;
  assert.deepEqual([only?.first, only?.segments, others], [`${last}.partial`, 0, []]);
  assert.match(only?.recordsTo ?? "", /^0\/7/);
});

test("what only looks like the end of WAL is named: damage before encryption, in the last segment, too", async (t) => {
  const cases: readonly [string, (bytes: Buffer, at: number) => void, RegExp][] = [
    ["content", (bytes, at) => void bytes.writeUInt8(7, at + 40), /a record is damaged/],
    ["length", (bytes, at) => void bytes.writeUInt32LE(0, at), /a record behind it says/],
    ["link", (bytes, at) => void bytes.writeUInt32LE(9, at + 8), /a record behind it says/],
    ["page", (bytes, at) => void bytes.fill(0, at, at - (at % PAGE) + PAGE), /pages behind it/],
  ];
  for (const [name, damage, message_] of cases) {
    const writer = new WalWriter(17);
    const offsets = Array.from({ length: 20 }, () => writer.append(filler(1000)));
    damage(writer.segments[0] ?? assert.fail(), offsets[name === "page" ? 3 : 17] ?? 0);
    const { problems } = await verifyStored(t, writer);
    assert.deepEqual(
      problems.map(({ kind }) => kind),
      ["chain"],
      name,
    );
    assert.match(problems[0]?.message ?? "", message_, name);
  }
});

test("a damaged first record is named, also where nothing is before it and one page is written", async (t) => {
  const writer = new WalWriter(17);
  const at = writer.append(filler(500));
  writer.append(filler(500));
  writer.segments[0]?.writeUInt32LE(0, at);
  const { problems } = await verifyStored(t, writer);
  assert.deepEqual(
    problems.map(({ kind }) => kind),
    ["chain"],
  );
});

test("a segment that ends midway is named where another one of its timeline follows", async (t) => {
  const writer = crossing();
  const bytes = writer.segments[1] ?? assert.fail();
  bytes.fill(0, 50 * PAGE);
  const report = await verifyStored(t, writer);
  assert.deepEqual(found(report), [`chain ${writer.name(1)}`]);
});

test("plain histories are no problem beside segments in readable mode, and plain segments are one", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  const backup = `${writer.name(0)}.00000028.backup`;
  await encrypt(folder);
  writeFileSync(join(folder, "00000001.history"), "");
  writeFileSync(join(folder, backup), "START WAL LOCATION: 0/500028\n");
  const report = await verify(folder);
  assert.deepEqual([found(report), report.files.plain], [[], 2]);
  const plain = writer.name(2);
  writeFileSync(join(folder, plain), writer.segments[2] ?? assert.fail());
  rmSync(join(folder, `${plain}_tde`));
  assert.deepEqual(found(await verify(folder)), [`plain ${plain}`]);
});

test("ciphertext without its sidecar is named, also where plain files are allowed, and a sidecar without its segment", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  const names = writer.segments.map((_, i) => writer.name(i));
  for (const name of names) rmSync(join(folder, `${name}_tde`));
  const lost = await verify(folder, true);
  assert.deepEqual(
    found(lost),
    names.map((name) => `tag ${name}`),
  );
  assert.match(lost.problems[0]?.message ?? "", /encrypted in readable mode/);

  const other = writeFolder(t, writer);
  await encrypt(other);
  rmSync(join(other, writer.name(2)));
  assert.deepEqual(found(await verify(other)), [`gap ${writer.name(2)}`]);
});

test("segments that a server keeps for later are counted, and between others they are a gap", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  const first = writer.name(0);
  copyFileSync(join(folder, first), join(folder, "000000010000000000000008"));
  writeFileSync(join(folder, "000000010000000000000009"), Buffer.alloc(SEGMENT));
  await encrypt(folder);
  const { problems, files, timelines } = await verify(folder);
  assert.deepEqual([problems, files.spare, timelines[0]?.last], [[], 2, writer.name(2)]);

  const between = writeFolder(t, writer);
  writeFileSync(join(between, writer.name(1)), Buffer.alloc(SEGMENT));
  await encrypt(between);
  assert.deepEqual(found(await verify(between)), [`gap ${writer.name(1)}`]);
});

test("a segment and its sidecar from another life of the cluster are named, although all tags hold", async (t) => {
  const folder = writeFolder(t, crossing());
  await encrypt(folder);
  const other = new WalWriter(17);
  other.append(message("other", Buffer.from("life")));
  other.fillTo(0);
  other.fillTo(0);
  const otherFolder = writeFolder(t, other);
  await encrypt(otherFolder);
  const name = other.name(1);
  for (const suffix of ["", "_tde"]) {
    copyFileSync(join(otherFolder, name + suffix), join(folder, name + suffix));
  }
  assert.deepEqual(found(await verify(folder)).slice(0, 1), [`chain ${name}`]);
});

test("a timeline that does not go on where it left the one before is named", async (t) => {
  const older = crossing();
  const newer = new WalWriter(17, { firstSegment: older.firstSegment + 1, timeline: 2 });
  newer.append(filler(100));
  const folder = writeFolder(t, older);
  writeFileSync(join(folder, newer.name(0)), newer.segments[0] ?? assert.fail());
  await encrypt(folder);
  writeFileSync(join(folder, "00000002.history"), "1\t0/600100\tno recovery target specified\n");
  const { problems } = await verify(folder);
  assert.deepEqual(
    problems.map(({ kind, name }) => `${kind} ${name}`),
    [`chain ${newer.name(0)}`],
  );
  assert.match(problems[0]?.message ?? "", /^it does not follow 000000010000000000000005: /);
});

test("the stored CRC of a record that crosses into the next segment is checked where both were encrypted together", async (t) => {
  // The header of the second crossing record is wholly in the first of its segments.
  const writer = new WalWriter(17);
  writer.fillTo(400);
  const at = writer.append(message("prefix", Buffer.alloc(3000, "text of a message ")));
  const [first, second] = [writer.name(0), writer.name(1)];
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  assert.deepEqual(found(await verify(folder)), []);
  const crcAt = at + 20;
  flip(join(folder, first), crcAt);
  const { problems } = await verify(folder);
  assert.deepEqual(
    problems.map(({ kind, name }) => `${kind} ${name}`),
    [`tag ${first}`],
  );
  assert.match(problems[0]?.message ?? "", /incorrect resource manager data checksum/);
  await assert.rejects(decrypt(folder), (error) => {
    assert.ok(error instanceof IntegrityError);
    assert.match(error.hint ?? "", /one by one, the last one first/);
    return true;
  });
  // The original is sealed in the sidecar: nothing is lost.
  for (const name of [second, first]) await decrypt(folder, testKeys(2), [name]);
  for (const [i, name] of [first, second].entries()) {
    assert.ok(readFileSync(join(folder, name)).equals(writer.segments[i] ?? assert.fail()), name);
  }
});

test("a CRC that counts a segment which was encrypted anew since says nothing, and is no problem", async (t) => {
  const writer = crossing();
  const folder = writeFolder(t, writer);
  await encrypt(folder);
  await decrypt(folder, testKeys(2), [writer.name(1)]);
  await encrypt(folder);
  assert.deepEqual(found(await verify(folder)), []);
});
