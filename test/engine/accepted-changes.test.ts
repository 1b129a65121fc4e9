/**
 * Configuration that an administrator edits while a directory is encrypted: refused until it is named, taken as it is
 * when it is, and never called verified. Nothing but configuration can be taken so.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { IntegrityError, UsageError } from "../../src/errors.ts";
import { copyOf, makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const small = new SmallEngine();
let plain = "";
let encrypted = "";

before(async () => {
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  await small.encrypt(encrypted);
});

/** One file edited, one added in a new folder, one removed; the same on any copy. */
const ACCEPTED: readonly BytePath[] = ["postgresql.conf", "conf.d/memory.conf", "pg_hba.conf"].map(
  bytePath,
);
const CHANGES = [
  { path: "conf.d/memory.conf", change: "added" },
  { path: "pg_hba.conf", change: "removed" },
  { path: "postgresql.conf", change: "changed" },
];

function editConfiguration(datadir: string): void {
  const time = new Date("2026-11-20T10:00:00Z");
  appendFileSync(join(datadir, "postgresql.conf"), "work_mem = '64MB'\n");
  mkdirSync(join(datadir, "conf.d"), { mode: 0o700 });
  writeFileSync(join(datadir, "conf.d/memory.conf"), "shared_buffers = '1GB'\n", { mode: 0o600 });
  unlinkSync(join(datadir, "pg_hba.conf"));
  for (const path of ["postgresql.conf", "conf.d/memory.conf"])
    utimesSync(join(datadir, path), time, time);
}

function edited(datadir: string): string {
  const copy = copyOf(datadir);
  editConfiguration(copy);
  return copy;
}

const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);

for (const [what, act, path] of [
  ["changed", (at) => appendFileSync(join(at, "postgresql.conf"), "#\n"), "postgresql.conf"],
  ["changed in place", (at) => replaceByte(join(at, "pg_hba.conf")), "pg_hba.conf"],
  ["added", (at) => writeFileSync(join(at, "new.conf"), "x"), "new.conf"],
  ["removed", (at) => unlinkSync(join(at, "pg_hba.conf")), "pg_hba.conf"],
] as readonly (readonly [string, (datadir: string) => void, string])[]) {
  test(`configuration that was ${what} is refused with the option that accepts it`, async () => {
    const datadir = copyOf(encrypted);
    act(datadir);
    const names = (error: unknown): boolean =>
      error instanceof IntegrityError &&
      error.hint?.includes(`give --accept-changed ${path}.`) === true;
    await assert.rejects(small.decrypt(datadir), names);
    // Something to seal, or nothing would be looked at.
    writeFileSync(join(datadir, "server.log"), "a line", { mode: 0o600 });
    await assert.rejects(small.encrypt(datadir), names);
    const { ok, problems } = await small.verify(datadir);
    assert.equal(ok, false);
    assert.ok(problems.some(({ message }) => message.includes(`--accept-changed ${path}`)));
  });
}

test("verify counts accepted configuration as accepted, not as verified", async () => {
  const datadir = edited(encrypted);
  const before = await small.verify(copyOf(encrypted));
  const report = await small.verify(datadir, { acceptChanged: ACCEPTED });
  assert.deepEqual(report.problems, []);
  assert.deepEqual(report.accepted.toSorted(byPath), CHANGES);
  assert.equal(report.files, before.files - 2);
});

test("verify accepts only what is named, and names the rest", async () => {
  const report = await small.verify(edited(encrypted), { acceptChanged: ACCEPTED.slice(0, 2) });
  assert.deepEqual(
    report.problems.map(({ kind, path }) => `${kind} ${path}`),
    ["missing pg_hba.conf"],
  );
});

test("decryption in place leaves accepted configuration as it is", async () => {
  const datadir = edited(encrypted);
  const report = await small.decrypt(datadir, { acceptChanged: ACCEPTED });
  assert.deepEqual(report.accepted.toSorted(byPath), CHANGES);
  assertSameTree(treeOf(datadir), treeOf(edited(plain)));
});

test("decryption into a new directory copies accepted configuration", async () => {
  const datadir = edited(encrypted);
  const output = join(dirname(datadir), "output");
  const report = await decryptInto(datadir, output, ACCEPTED);
  assert.deepEqual(report.accepted.toSorted(byPath), CHANGES);
  assertSameTree(treeOf(output), treeOf(edited(plain)));
});

test("encrypting again takes accepted configuration into the manifest", async () => {
  const datadir = edited(encrypted);
  // The other tests go on with the epoch that it leaves behind.
  const other = new SmallEngine();
  const report = await other.encrypt(datadir, { acceptChanged: ACCEPTED });
  assert.equal(report.outcome, "encrypted");
  assert.deepEqual([...(report.accepted ?? [])].sort(byPath), CHANGES);
  const verified = await other.verify(datadir);
  assert.deepEqual([verified.problems, verified.accepted], [[], []]);
  const again = await other.encrypt(datadir, { acceptChanged: ACCEPTED.slice(0, 1) });
  assert.equal(again.outcome, "already-encrypted");
});

test("a file that is named and was not changed is verified like any other", async () => {
  const report = await small.verify(copyOf(encrypted), { acceptChanged: ACCEPTED.slice(0, 1) });
  assert.deepEqual([report.ok, report.accepted], [true, []]);
});

for (const path of [
  "global/pg_control",
  "global/pg_filenode.map",
  "pg_xact/0000",
  "base/1/1259",
  "PG_VERSION",
  "postgresql.auto.conf",
  "backup_label",
  "pg_wal/archive.conf",
  "./postgresql.conf",
  "/postgresql.conf",
  "../postgresql.conf",
]) {
  test(`${path} is nothing that could be accepted`, async () => {
    const acceptChanged = [bytePath(path)];
    const datadir = copyOf(encrypted);
    await assert.rejects(small.verify(datadir, { acceptChanged }), UsageError);
    await assert.rejects(small.encrypt(datadir, { acceptChanged }), UsageError);
    await assert.rejects(small.decrypt(datadir, { acceptChanged }), UsageError);
    await assert.rejects(
      decryptInto(datadir, join(dirname(datadir), "output"), acceptChanged),
      UsageError,
    );
  });
}

test("a path that neither the directory nor the manifest has is a slip", async () => {
  const acceptChanged = [bytePath("postgres.conf")];
  await assert.rejects(small.verify(copyOf(encrypted), { acceptChanged }), UsageError);
  await assert.rejects(small.decrypt(copyOf(encrypted), { acceptChanged }), UsageError);
});

test("a directory that is not encrypted has no change to accept", async () => {
  const datadir = copyOf(plain);
  await assert.rejects(small.encrypt(datadir, { acceptChanged: ACCEPTED }), UsageError);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("a link in the place of configuration is never accepted", async () => {
  const datadir = copyOf(encrypted);
  rmSync(join(datadir, "pg_hba.conf"));
  symlinkSync("/etc/hostname", join(datadir, "pg_hba.conf"));
  const acceptChanged = [bytePath("pg_hba.conf")];
  await assert.rejects(small.decrypt(datadir, { acceptChanged }), IntegrityError);
  assert.equal((await small.verify(datadir, { acceptChanged })).ok, false);
});

test("plain configuration in the place of a sealed one is never accepted", async () => {
  const datadir = copyOf(plain);
  appendFileSync(join(datadir, "postgresql.conf"), "ssl_passphrase_command = 'echo secret'\n");
  const content = readFileSync(join(datadir, "postgresql.conf"));
  await small.encrypt(datadir, { sealConfig: true });
  writeFileSync(join(datadir, "postgresql.conf"), content);
  const acceptChanged = [bytePath("postgresql.conf")];
  await assert.rejects(small.decrypt(datadir, { acceptChanged }), IntegrityError);
  assert.equal((await small.verify(datadir, { acceptChanged })).ok, false);
});

test("what is added, stays readable and is no configuration is not taken in by encrypting again", async () => {
  const datadir = edited(encrypted);
  writeFileSync(join(datadir, "pg_xact/0001"), "committed", { mode: 0o600 });
  await assert.rejects(
    small.encrypt(datadir, { acceptChanged: ACCEPTED }),
    (error) => error instanceof IntegrityError && error.message.startsWith("pg_xact/0001"),
  );
});

function replaceByte(path: string): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0);
  writeFileSync(path, bytes);
}

function decryptInto(
  datadir: string,
  output: string,
  acceptChanged: readonly BytePath[],
): ReturnType<typeof decryptIntoOutput> {
  const options = small.decryptOptions(datadir, { acceptChanged });
  return decryptIntoOutput(small.engine, small.keyContext, options, {
    output: bytePath(output),
    tablespaceMapping: new Map(),
  });
}

test("what lies behind the data in pg_control means nothing, and comes back as zeros", async () => {
  const datadir = copyOf(plain);
  const control = join(datadir, "global/pg_control");
  const zeros = readFileSync(control);
  const marked = Buffer.from(zeros);
  marked[5000] = 1;
  writeFileSync(control, marked);
  await small.encrypt(datadir);
  await small.decrypt(datadir);
  assert.deepEqual(readFileSync(control), zeros);
});
