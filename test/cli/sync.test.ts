/**
 * `tde sync` as a user gives it: what it says when it has done its work, and what it refuses: each time a message that
 * names the cause, a hint, the exit code of its kind, and not one byte changed on either side.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { temporaryPath } from "../support/cluster.ts";
import { edit, flipBit } from "../support/forger.ts";
import { copyOf, makeSmallCluster, ORDINARY } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];
/** Keyrings; every command runs there. */
let keys = "";
let plain = "";
let encrypted = "";

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCluster();
  encrypted = copyOf(plain);
  done(tde("keyring", "create", ...KEYS, "--new-key-file"));
  const other = ["--keyring", "other.keyring", "--key-file", "kek.key"];
  done(tde("keyring", "create", ...other));
  done(tde("encrypt-datadir", "-D", encrypted, ...KEYS));
  copyFileSync(join(keys, "app.keyring.state"), join(keys, "encrypted.state"));
});

function tde(...args: readonly string[]): TdeResult {
  const result = runTde(args, { cwd: keys });
  assert.doesNotMatch(result.stdout + result.stderr, /bug in tde|^ {4}at /m);
  return result;
}

function done(result: TdeResult): TdeResult {
  assert.equal(result.status, 0, result.stderr + result.stdout);
  return result;
}

interface Pair {
  source: string;
  copy: string;
}

/** Both below one folder, so that one look shows whether anything has changed. */
function makePair(): Pair {
  const folder = temporaryPath("pair");
  // All copies are of one directory: what is remembered of one must not meet the next.
  copyFileSync(join(keys, "encrypted.state"), join(keys, "app.keyring.state"));
  const pair = { source: join(folder, "source"), copy: join(folder, "copy") };
  copyTree(plain, pair.source);
  copyTree(encrypted, pair.copy);
  return pair;
}

/** Offsets in pg_control of 17. */
const CONTROL = { system: 0, state: 16, time: 24, checkpoint: 32, timeline: 48, blockSize: 216 };

function editControl(datadir: string, change: (bytes: Buffer) => void): void {
  edit(join(datadir, "global/pg_control"), (bytes) => {
    change(bytes);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
}

interface Refusal {
  readonly name: string;
  readonly prepare: (pair: Pair) => void | Partial<Pair>;
  readonly says: RegExp;
  readonly exit: number;
  readonly args?: readonly string[];
}

const REFUSALS: readonly Refusal[] = [
  {
    name: "a source that is running",
    prepare: ({ source }) =>
      writeFileSync(join(source, "postmaster.pid"), `1\n${source}\n1700000000\n5432\n`),
    says: /a server is running on ".*source" \(pid 1\)/,
    exit: 5,
  },
  {
    name: "a source that was not shut down",
    prepare: ({ source }) => editControl(source, (bytes) => bytes.writeUInt32LE(6, CONTROL.state)),
    says: /"in production"/,
    exit: 5,
  },
  {
    name: "another cluster",
    prepare: ({ source }) =>
      editControl(source, (bytes) => bytes.writeBigUInt64LE(7n, CONTROL.system)),
    says: /is of another cluster than its copy: its system identifier is 7, the copy's \d+/,
    exit: 5,
  },
  {
    name: "another major",
    prepare: ({ source }) => {
      rmSync(source, { recursive: true });
      copyTree(makeSmallCluster(16), source);
    },
    says: /is of another cluster than its copy/,
    exit: 5,
  },
  {
    name: "another block size",
    prepare: ({ source }) =>
      editControl(source, (bytes) => bytes.writeUInt32LE(4096, CONTROL.blockSize)),
    says: /its block size is 4096, the copy's 8192/,
    exit: 5,
  },
  {
    name: "a source whose checkpoint is older",
    prepare: ({ source }) =>
      editControl(source, (bytes) =>
        bytes.writeBigUInt64LE(bytes.readBigUInt64LE(CONTROL.checkpoint) - 8n, CONTROL.checkpoint),
      ),
    says: /older than its encrypted copy: its latest checkpoint is [0-9A-F]+\/[0-9A-F]+, the copy's/,
    exit: 5,
  },
  {
    name: "a source of an older timeline",
    prepare: ({ source }) =>
      editControl(source, (bytes) => {
        bytes.writeUInt32LE(bytes.readUInt32LE(CONTROL.timeline) - 1, CONTROL.timeline);
        bytes.writeBigUInt64LE(2n ** 60n, CONTROL.checkpoint);
      }),
    says: /its timeline is 0, the copy's 1/,
    exit: 5,
  },
  {
    name: "a source with the same checkpoint, but an older pg_control",
    prepare: ({ source }) =>
      editControl(source, (bytes) =>
        bytes.writeBigInt64LE(bytes.readBigInt64LE(CONTROL.time) - 1n, CONTROL.time),
      ),
    says: /its time of pg_control is 20\d\d-/,
    exit: 5,
  },
  {
    name: "the copy as its own source",
    prepare: ({ copy }) => ({ source: copy }),
    says: /share a place/,
    exit: 5,
  },
  {
    name: "the copy through a link",
    prepare: ({ source, copy }) => {
      symlinkSync(copy, `${source}.link`);
      return { source: `${source}.link` };
    },
    says: /share a place/,
    exit: 5,
  },
  {
    name: "a copy whose pg_wal leads into the source",
    prepare: ({ source, copy }) => {
      rmSync(join(copy, "pg_wal"), { recursive: true });
      symlinkSync(join(source, "pg_wal"), join(copy, "pg_wal"));
    },
    says: /share a place: ".*source/,
    exit: 5,
  },
  {
    name: "source and copy the wrong way round",
    prepare: ({ source, copy }) => ({ source: copy, copy: source }),
    says: /the source ".*copy" is encrypted/,
    exit: 5,
  },
  {
    name: "an encrypted source that lost its manifest",
    prepare: ({ source }) => {
      rmSync(source, { recursive: true });
      copyTree(encrypted, source);
      rmSync(join(source, "tde.manifest"));
    },
    says: /is encrypted, or partly so/,
    exit: 5,
  },
  {
    name: "a plain copy",
    prepare: ({ copy }) => {
      rmSync(copy, { recursive: true });
      copyTree(plain, copy);
    },
    says: /is not encrypted\ntde: hint: Make an encrypted copy first/,
    exit: 5,
  },
  {
    name: "a copy that does not exist",
    prepare: ({ copy }) => rmSync(copy, { recursive: true }),
    says: /is not a directory/,
    exit: 5,
  },
  {
    name: "a copy with a journal whose run the state file does not know",
    prepare: ({ copy }) => {
      const bytes = Buffer.alloc(80);
      bytes.write("TDEJ", 0, "latin1");
      bytes.writeUInt16LE(2, 4);
      bytes.writeUInt32LE(2, 52);
      writeFileSync(join(copy, "tde.journal"), bytes);
    },
    says: /is of no run that is open: the state file knows no such run/,
    exit: 3,
  },
  {
    name: "a copy with an unfinished run of tde 0.1.0",
    prepare: ({ copy }) => {
      const bytes = Buffer.alloc(80);
      bytes.write("TDEJ", 0, "latin1");
      bytes.writeUInt16LE(1, 4);
      writeFileSync(join(copy, "tde.journal"), bytes);
    },
    says: /tde 0\.1\.0 began .*\ntde: hint: Finish that run with tde 0\.1\.0/,
    exit: 6,
  },
  {
    name: "a source with an unfinished run",
    prepare: ({ source, copy }) => {
      writeFileSync(join(source, "tde.journal"), readFileSync(join(copy, "tde.manifest")));
    },
    says: /"tde.journal" is no journal/,
    exit: 6,
  },
  {
    name: "a copy with a flipped bit",
    prepare: ({ copy }) => flipBit(join(copy, ORDINARY), 8 * 9000),
    says: /base\/1\/1259.*\ntde: hint: Nothing was changed/,
    exit: 3,
  },
  {
    name: "a copy that a restore tool prepared",
    prepare: ({ copy }) =>
      edit(join(copy, "postgresql.auto.conf"), (bytes) =>
        Buffer.concat([bytes, Buffer.from("restore_command = 'true'\n")]),
      ),
    says: /settings were added beside the guard/,
    exit: 5,
  },
  {
    name: "another keyring",
    prepare: () => {},
    args: ["--keyring", "other.keyring", "--key-file", "kek.key"],
    says: /keyring/,
    exit: 4,
  },
  {
    name: "a source with a name that tde uses for its own work",
    prepare: ({ source }) => writeFileSync(join(source, "base/1/1259_tdenew"), ""),
    says: /has a name that tde uses for its own work/,
    exit: 5,
  },
  {
    name: "a mapping of what is no tablespace",
    prepare: () => {},
    args: [...KEYS, "--tablespace-mapping", "/a=/b"],
    says: /"\/a" in --tablespace-mapping is no tablespace/,
    exit: 2,
  },
];

for (const { name, prepare, says, exit, args } of REFUSALS) {
  test(`sync refuses ${name}, and changes nothing`, () => {
    const pair = makePair();
    const { source, copy } = { ...pair, ...prepare(pair) };
    const folder = join(pair.copy, "..");
    const before = treeOf(folder);
    const { status, stdout, stderr } = tde("sync", source, copy, ...(args ?? KEYS));
    assert.match(stderr, says);
    assert.match(
      stderr,
      /^(?:relations are not named, .*\n)?tde: error: (?:PostgreSQL|[^A-Z]).*[^.]\n(?:tde: hint: .*\n)?$/,
    );
    assert.deepEqual([status, stdout], [exit, ""]);
    assertSameTree(treeOf(folder), before);
  });
}

test("sync says what it compared and wrote, and --format json says it in numbers", () => {
  const { source, copy } = makePair();
  edit(join(source, ORDINARY), (bytes) => void bytes.fill(1, 8192 + 4000, 8192 + 4010));
  const wouldWrite = done(tde("sync", source, copy, ...KEYS, "--dry-run"));
  assert.match(wouldWrite.stdout, /^\d+ pages .*\nwould write: 1 pages \(\d\.\d %\)/);
  const { stdout } = done(tde("sync", source, copy, ...KEYS, "--format", "json"));
  const report = JSON.parse(stdout) as Record<string, unknown>;
  assert.deepEqual([report["outcome"], report["changedPages"], report["epoch"]], ["synced", 1, 2]);
  assert.match(String(report["root"]), /^[0-9a-f]{64}$/);
  assert.match(done(tde("sync", source, copy, ...KEYS)).stdout, /^up to date: \d+ pages/);
  done(tde("verify", "-D", copy, ...KEYS));
});

test("a source of a crashed server is taken with --assume-stopped", () => {
  const { source, copy } = makePair();
  editControl(source, (bytes) => bytes.writeUInt32LE(6, CONTROL.state));
  const { stdout } = done(tde("sync", source, copy, ...KEYS, "--assume-stopped"));
  assert.match(stdout, /^synced: 0 pages .* 1 written whole/m);
});

test("what a backup tool leaves out comes back with a sync", () => {
  const { source, copy } = makePair();
  mkdirSync(join(source, "pg_stat_tmp"), { mode: 0o700 });
  writeFileSync(join(source, "pg_stat_tmp/global.stat"), "numbers");
  done(tde("sync", source, copy, ...KEYS));
  renameSync(join(copy, "pg_stat_tmp/global.stat"), join(keys, "left-out"));
  assert.match(done(tde("sync", source, copy, ...KEYS)).stdout, /1 written whole \(1 new\)/);
  done(tde("verify", "-D", copy, ...KEYS));
});
