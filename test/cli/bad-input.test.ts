/**
 * What a user can get wrong, and what a disk can: each time a message that names the file and says what to do, the
 * exit code of its kind, no stack, no secret, and not one byte changed.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { serverUser } from "../../src/demo/server-user.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { temporaryPath } from "../support/cluster.ts";
import { edit, flipBit, sidecarOf } from "../support/forger.ts";
import { copyOf, makeSmallCluster, ORDINARY, WAL_FILE } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

// As a server has it: no one else reads what comes into a data directory.
process.umask(0o077);

/** Never to be seen in any output. */
const PASSPHRASE = "MARKER-passphrase-61c2";
const KEY_HEX = "5ec2e7".padEnd(64, "c0ffee");

let plain = "";
let encrypted = "";
/** Keyrings and secrets; every command runs there. */
let keys = "";
const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCluster();
  writeFileSync(join(keys, "kek.key"), KEY_HEX, { mode: 0o600 });
  writeFileSync(join(keys, "passphrase"), `${PASSPHRASE}\n`, { mode: 0o600 });
  writeFileSync(join(keys, "wrong"), `${PASSPHRASE}-but-wrong\n`, { mode: 0o600 });
  writeFileSync(join(keys, "wrong.key"), KEY_HEX.replace("5e", "5f"), { mode: 0o600 });
  done(tde("keyring", "create", ...KEYS));
  done(tde("keyring", "create", "--keyring", "other.keyring", "--key-file", "kek.key"));
  const byPassphrase = ["--keyring", "pass.keyring", "--passphrase-file", "passphrase"];
  done(tde("keyring", "create", ...byPassphrase));
  encrypted = copyOf(plain);
  done(tde("encrypt-datadir", "-D", encrypted, ...KEYS));
});

function tde(...args: readonly string[]): TdeResult {
  const result = runTde(args, { cwd: keys });
  const output = result.stdout + result.stderr;
  for (const secret of [PASSPHRASE, KEY_HEX, KEY_HEX.slice(0, 24)]) {
    assert.ok(!output.includes(secret), "a secret is in the output");
  }
  assert.doesNotMatch(output, /bug in tde|^ {4}at /m);
  return result;
}

function done(result: TdeResult): TdeResult {
  assert.equal(result.status, 0, result.stderr + result.stdout);
  return result;
}

interface Refusal {
  /** A part of the message, which names file or cause. */
  readonly says: RegExp;
  readonly exit: number;
}

/** The command is refused, with a hint or a report, and changes nothing below the directory. */
function assertRefused(datadir: string, refusal: Refusal, ...args: readonly string[]): void {
  const before = treeOf(dirname(datadir));
  const { status, stdout, stderr } = tde(...args);
  assert.match(stderr + stdout, refusal.says);
  assert.equal(status, refusal.exit, stderr + stdout);
  if (stdout === "")
    assert.match(
      stderr,
      /^(?:relations are not named, .*\n)?tde: error: (?:PostgreSQL|[^A-Z]).*[^.]\n(?:tde: hint: .*\n)?$/,
    );
  assertSameTree(treeOf(dirname(datadir)), before);
}

function changedCopy(of: string, change: (datadir: string) => void): string {
  const datadir = copyOf(of);
  change(datadir);
  return datadir;
}

function editControl(change: (bytes: Buffer) => void): (datadir: string) => void {
  return (datadir) =>
    edit(join(datadir, "global/pg_control"), (bytes) => {
      change(bytes);
      bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
    });
}

/** Offset in pg_control of 17. */
const DATA_CHECKSUM_VERSION = 252;

interface BadDirectory extends Refusal {
  readonly name: string;
  readonly change: (datadir: string) => void;
}

/** What no command works on. Offsets are those of PostgreSQL 17's pg_control. */
const BAD_DIRECTORIES: readonly BadDirectory[] = [
  {
    name: "a folder without PG_VERSION",
    change: (datadir) => unlinkSync(join(datadir, "PG_VERSION")),
    says: /is not a PostgreSQL data directory: PG_VERSION is missing/,
    exit: 5,
  },
  {
    name: "an empty folder",
    change: (datadir) => {
      rmSync(datadir, { recursive: true });
      mkdirSync(datadir);
    },
    says: /is not a PostgreSQL data directory/,
    exit: 5,
  },
  {
    name: "a path where nothing is",
    change: (datadir) => rmSync(datadir, { recursive: true }),
    says: /is not a directory/,
    exit: 5,
  },
  {
    name: "a base backup in tar format",
    change: (datadir) => {
      rmSync(datadir, { recursive: true });
      mkdirSync(datadir);
      writeFileSync(join(datadir, "base.tar.gz"), "");
    },
    says: /is a base backup in tar format/,
    exit: 5,
  },
  {
    name: "a cluster that pg_upgrade --link disabled",
    change: (datadir) =>
      renameSync(join(datadir, "global/pg_control"), join(datadir, "global/pg_control.old")),
    says: /was disabled, as pg_upgrade --link does/,
    exit: 5,
  },
  {
    name: "an unknown major",
    change: (datadir) => writeFileSync(join(datadir, "PG_VERSION"), "12\n"),
    says: /PG_VERSION/,
    exit: 6,
  },
  {
    name: "a PG_VERSION of garbage",
    change: (datadir) => writeFileSync(join(datadir, "PG_VERSION"), "\u001b[31mseventeen"),
    says: /PG_VERSION/,
    exit: 6,
  },
  {
    name: "an unknown version of pg_control",
    change: editControl((bytes) => void bytes.writeUInt32LE(1201, 8)),
    says: /pg_control" has the unknown pg_control version 1201/,
    exit: 6,
  },
  {
    name: "a big-endian pg_control",
    change: editControl((bytes) => void bytes.writeUInt32BE(1300, 8)),
    says: /pg_control" is big-endian/,
    exit: 6,
  },
  {
    name: "a pg_control of an alignment that is not its layout's",
    change: editControl((bytes) => void bytes.writeUInt32LE(4, 204)),
    says: /pg_control" has an impossible maximum alignment: 4/,
    exit: 6,
  },
  {
    name: "a damaged pg_control",
    change: (datadir) => flipBit(join(datadir, "global/pg_control"), 801),
    says: /pg_control" fails its CRC check/,
    exit: 6,
  },
  {
    name: "an empty pg_control",
    change: (datadir) => truncateSync(join(datadir, "global/pg_control"), 0),
    says: /pg_control" is cut short/,
    exit: 6,
  },
  {
    name: "a pg_control of another major",
    change: (datadir) => writeFileSync(join(datadir, "PG_VERSION"), "16\n"),
    says: /PG_VERSION says 16/,
    exit: 6,
  },
  {
    name: "a loop of links in pg_tblspc",
    change: (datadir) => symlinkSync("20001", join(datadir, "pg_tblspc/20001")),
    says: /pg_tblspc\/20001" is part of a loop/,
    exit: 5,
  },
  {
    name: "a tablespace's link that leads to nowhere",
    change: (datadir) => symlinkSync("/nowhere/at/all", join(datadir, "pg_tblspc/20001")),
    says: /pg_tblspc\/20001" leads to nowhere/,
    exit: 5,
  },
  {
    name: "a tablespace's link that leads back into the directory",
    change: (datadir) => symlinkSync("..", join(datadir, "pg_tblspc/20001")),
    says: /pg_tblspc\/20001" leads to .* overlaps the data directory/,
    exit: 5,
  },
  {
    name: "a pg_wal that leads to nowhere",
    change: (datadir) => {
      rmSync(join(datadir, "pg_wal"), { recursive: true });
      symlinkSync("/nowhere/at/all", join(datadir, "pg_wal"));
    },
    says: /pg_wal" leads to nowhere/,
    exit: 5,
  },
  {
    name: "a postmaster.pid without a process",
    change: (datadir) => writeFileSync(join(datadir, "postmaster.pid"), ""),
    says: /postmaster\.pid" names no server process/,
    exit: 5,
  },
];

for (const [i, { name, change, ...refusal }] of BAD_DIRECTORIES.entries()) {
  test(`refused, and nothing is changed: ${name}`, () => {
    const datadir = changedCopy(plain, change);
    assertRefused(datadir, refusal, "encrypt-datadir", "-D", datadir, ...KEYS);
    // What decryption makes of the file of a dead server is another matter.
    if (name.includes("postmaster")) return;
    // All commands open a directory in the same way: each of them gets its turn.
    const command = ["decrypt-datadir", "verify", "recover"][i % 3] ?? "";
    // An empty folder is what recovery leaves of an unfinished output.
    if (name === "an empty folder") assert.notEqual(command, "recover");
    assertRefused(datadir, refusal, command, "-D", datadir, ...KEYS);
  });
}

/** What speaks against encryption only. */
const NOT_TO_ENCRYPT: readonly BadDirectory[] = [
  {
    name: "a server that was not shut down",
    change: editControl((bytes) => void bytes.writeUInt32LE(6, 16)),
    says: /was not shut down: its control file says "in production"[^]*--assume-stopped/,
    exit: 5,
  },
  {
    name: "sealed pages without a sidecar",
    change: (datadir) => {
      copyFileSync(join(encrypted, ORDINARY), join(datadir, ORDINARY));
    },
    says: /base\/1\/1259" is sealed already, but its sidecar is missing/,
    exit: 5,
  },
  {
    name: "a sidecar without its file",
    change: (datadir) =>
      copyFileSync(sidecarOf(join(encrypted, ORDINARY)), join(datadir, "base/1/88888_tde")),
    says: /88888_tde" has no file "88888"/,
    exit: 5,
  },
  {
    name: "sidecars without a manifest",
    change: (datadir) => {
      copyFileSync(join(encrypted, ORDINARY), join(datadir, ORDINARY));
      copyFileSync(sidecarOf(join(encrypted, ORDINARY)), sidecarOf(join(datadir, ORDINARY)));
    },
    says: /1 sealed files, but no manifest/,
    exit: 3,
  },
  {
    name: "a file with a name for our own work",
    change: (datadir) => writeFileSync(join(datadir, "base/1/1259_tdenew"), "mine"),
    says: /base\/1\/1259_tdenew" has a name that tde uses/,
    exit: 5,
  },
  {
    name: "a file with the manifest's name",
    change: (datadir) => writeFileSync(join(datadir, "tde.manifest"), "mine\n"),
    says: /tde\.manifest is not a manifest/,
    exit: 6,
  },
  {
    name: "a folder with the manifest's name",
    change: (datadir) => mkdirSync(join(datadir, "tde.manifest")),
    says: /tde\.manifest/,
    exit: 7,
  },
  {
    name: "a file with the journal's name",
    change: (datadir) => writeFileSync(join(datadir, "tde.journal"), "mine"),
    says: /tde\.journal" is no journal/,
    exit: 6,
  },
  {
    name: "a pipe with the journal's name",
    change: (datadir) => execFileSync("mkfifo", [join(datadir, "tde.journal")]),
    says: /tde\.journal": it is a socket, pipe or device/,
    exit: 7,
  },
  {
    name: "a file with the lock's name",
    change: (datadir) => writeFileSync(join(datadir, "tde.lock"), "mine\n"),
    says: /tde\.lock"/,
    exit: 5,
  },
  {
    name: "a file whose name is too long to have another one beside it",
    change: (datadir) => writeFileSync(join(datadir, "x".repeat(255)), "long"),
    says: /x{255}": its name is too long/,
    exit: 5,
  },
  {
    name: "a link where a relation is",
    change: (datadir) => {
      renameSync(join(datadir, ORDINARY), join(datadir, "elsewhere"));
      symlinkSync("../../elsewhere", join(datadir, ORDINARY));
    },
    says: /base\/1\/1259": a symbolic link where relations are/,
    exit: 5,
  },
];

for (const { name, change, ...refusal } of NOT_TO_ENCRYPT) {
  test(`not encrypted, and nothing is changed: ${name}`, () => {
    const datadir = changedCopy(plain, change);
    assertRefused(datadir, refusal, "encrypt-datadir", "-D", datadir, ...KEYS);
    const output = join(temporaryPath("output"), "data");
    const into = ["--output", output];
    // The lock and the work of a run in place are no concern of a run into another directory.
    if (/name/.test(name)) return;
    assertRefused(datadir, refusal, "encrypt-datadir", "-D", datadir, ...into, ...KEYS);
    assert.deepEqual(readdirSync(dirname(output)), []);
  });
}

interface BadKeys extends Refusal {
  readonly name: string;
  readonly args: readonly string[];
  readonly change?: (folder: string) => void;
}

const BAD_KEYS: readonly BadKeys[] = [
  {
    name: "a keyring that is missing",
    args: ["--keyring", "none.keyring", "--key-file", "kek.key"],
    says: /none\.keyring" does not exist/,
    exit: 4,
  },
  {
    name: "a keyring that others can read",
    args: KEYS,
    change: (folder) => chmodSync(join(folder, "app.keyring"), 0o640),
    says: /app\.keyring" can be read by others/,
    exit: 4,
  },
  {
    name: "a key file that others can read",
    args: KEYS,
    change: (folder) => chmodSync(join(folder, "kek.key"), 0o604),
    says: /kek\.key" can be read by others/,
    exit: 4,
  },
  {
    name: "a damaged keyring",
    args: KEYS,
    change: (folder) => flipBit(join(folder, "app.keyring"), 1000),
    says: /app\.keyring/,
    exit: 6,
  },
  {
    name: "an empty keyring",
    args: KEYS,
    change: (folder) => truncateSync(join(folder, "app.keyring"), 0),
    says: /app\.keyring/,
    exit: 6,
  },
  {
    name: "a keyring that is a folder",
    args: ["--keyring", ".", "--key-file", "kek.key"],
    says: /is not a regular file/,
    exit: 4,
  },
  {
    name: "a key file that is missing",
    args: ["--keyring", "app.keyring", "--key-file", "none.key"],
    says: /none\.key" does not exist/,
    exit: 4,
  },
  {
    name: "a wrong key file",
    args: ["--keyring", "app.keyring", "--key-file", "wrong.key"],
    says: /app\.keyring/,
    exit: 4,
  },
  {
    name: "a key file of garbage",
    args: ["--keyring", "app.keyring", "--key-file", "passphrase"],
    says: /key file "passphrase"/,
    exit: 4,
  },
  {
    name: "a wrong passphrase",
    args: ["--keyring", "pass.keyring", "--passphrase-file", "wrong"],
    says: /pass\.keyring/,
    exit: 4,
  },
  {
    name: "a passphrase for a keyring that has none",
    args: ["--keyring", "app.keyring", "--passphrase-file", "passphrase"],
    says: /app\.keyring|passphrase/,
    exit: 4,
  },
  {
    name: "no secret at all, and no terminal to ask at",
    args: ["--keyring", "pass.keyring"],
    says: /./,
    exit: 4,
  },
  {
    name: "no keyring at all",
    args: [],
    says: /no keyring is named/,
    exit: 2,
  },
  {
    name: "a secret on the command line",
    args: [...KEYS, "--passphrase=whatever"],
    says: /./,
    exit: 2,
  },
];

for (const [i, { name, args, change, ...refusal }] of BAD_KEYS.entries()) {
  const command = ["encrypt-datadir", "verify", "decrypt-datadir"][i % 3] ?? "";
  test(`refused, and nothing is changed: ${command} with ${name}`, () => {
    const folder = copyOf(keys);
    change?.(folder);
    const cwd = keys;
    keys = folder;
    try {
      const of = command === "encrypt-datadir" ? plain : encrypted;
      assertRefused(of, refusal, command, "-D", of, ...args);
    } finally {
      keys = cwd;
    }
  });
}

test("another keyring does not open a directory, and its ids are named", () => {
  const args = ["-D", encrypted, "--keyring", "other.keyring", "--key-file", "kek.key"];
  const refusal = { says: /needs key 1 of keyring [0-9a-f]{16}, yours is keyring/, exit: 4 };
  assertRefused(encrypted, refusal, "verify", ...args);
  assertRefused(encrypted, refusal, "decrypt-datadir", ...args);
});

test("a directory that is not encrypted is neither verified nor decrypted", () => {
  const refusal = { says: /is not encrypted/, exit: 5 };
  assertRefused(plain, refusal, "verify", "-D", plain, ...KEYS);
  assertRefused(plain, refusal, "decrypt-datadir", "-D", plain, ...KEYS);
});

const BAD_ENCRYPTED: readonly BadDirectory[] = [
  {
    name: "a sidecar that is missing",
    change: (datadir) => unlinkSync(sidecarOf(join(datadir, ORDINARY))),
    says: /base\/1\/1259: the sidecar is missing/,
    exit: 3,
  },
  {
    name: "a sidecar that is cut",
    change: (datadir) => truncateSync(sidecarOf(join(datadir, ORDINARY)), 100),
    says: /base\/1\/1259: .*sidecar/,
    exit: 3,
  },
  {
    name: "a pipe in the place of a sidecar",
    change: (datadir) => {
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
      execFileSync("mkfifo", [sidecarOf(join(datadir, ORDINARY))]);
    },
    says: /base\/1\/1259: the sidecar is no regular file/,
    exit: 3,
  },
  {
    name: "a manifest that is missing",
    change: (datadir) => unlinkSync(join(datadir, "tde.manifest")),
    says: /tde\.manifest"? ?(is missing|: the manifest is missing)/,
    exit: 3,
  },
  {
    name: "a sealed file that is missing",
    change: (datadir) => unlinkSync(join(datadir, WAL_FILE)),
    says: /pg_wal\/0{7}10{15}1: the file is missing/,
    exit: 3,
  },
];

for (const { name, change, ...refusal } of BAD_ENCRYPTED) {
  test(`found and not decrypted: ${name}`, () => {
    const datadir = changedCopy(encrypted, change);
    const says = new RegExp(`(?:${refusal.says.source})`);
    assertRefused(datadir, { ...refusal, says }, "verify", "-D", datadir, ...KEYS);
    assertRefused(datadir, { ...refusal, says }, "decrypt-datadir", "-D", datadir, ...KEYS);
  });
}

test("a copy of a running server is encrypted with --assume-stopped, and comes back as it was", () => {
  const datadir = changedCopy(
    plain,
    editControl((bytes) => void bytes.writeUInt32LE(6, 16)),
  );
  const before = treeOf(datadir);
  done(tde("encrypt-datadir", "--assume-stopped", "-D", datadir, ...KEYS));
  done(tde("verify", "-D", datadir, ...KEYS));
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assertSameTree(treeOf(datadir), before);
});

test("a base backup needs no --assume-stopped", () => {
  const datadir = changedCopy(plain, (path) => {
    editControl((bytes) => void bytes.writeUInt32LE(6, 16))(path);
    writeFileSync(join(path, "backup_label"), "START WAL LOCATION: 0/2000028\n");
  });
  roundTrip(datadir);
});

interface OddButGood {
  readonly name: string;
  readonly change: (datadir: string) => void;
}

const ODD_BUT_GOOD: readonly OddButGood[] = [
  {
    name: "no postgresql.auto.conf",
    change: (datadir) => unlinkSync(join(datadir, "postgresql.auto.conf")),
  },
  {
    name: "a postgresql.auto.conf that is a link to /dev/null",
    change: (datadir) => {
      unlinkSync(join(datadir, "postgresql.auto.conf"));
      symlinkSync("/dev/null", join(datadir, "postgresql.auto.conf"));
    },
  },
  {
    name: "a read-only postgresql.auto.conf",
    change: (datadir) => chmodSync(join(datadir, "postgresql.auto.conf"), 0o400),
  },
  {
    name: "files of odd lengths",
    change: (datadir) => {
      for (const [i, size] of [1, 8191, 8193, 63 * 8192 + 1].entries()) {
        writeFileSync(join(datadir, `base/1/${91_000 + i}`), Buffer.alloc(size, 7), {
          mode: 0o600,
        });
      }
    },
  },
  {
    name: "names with newlines, quotes, escapes and bytes that are not UTF-8",
    change: (datadir) => {
      for (const name of ["a\nb", `quote'"$(x)`, "\u001b[2J", "100%09", " "]) {
        writeFileSync(join(datadir, name), name);
      }
      const raw = Buffer.concat([
        Buffer.from(`${datadir}/pg_replslot/`),
        Buffer.from([0xff, 0xfe]),
      ]);
      writeFileSync(raw, "raw");
      writeFileSync(join(datadir, "x".repeat(240)), "long");
    },
  },
  {
    name: "unknown files and folders",
    change: (datadir) => {
      mkdirSync(join(datadir, "base/1/folder"));
      writeFileSync(join(datadir, "base/1/folder/1259"), "no relation");
      writeFileSync(join(datadir, "base/1/0123"), "no relation either");
      writeFileSync(join(datadir, "base/1/1259.0"), "nor this");
      mkdirSync(join(datadir, "empty folder"));
    },
  },
  {
    name: "a server log behind a link",
    change: (datadir) => symlinkSync("/etc/hostname", join(datadir, "log")),
  },
  {
    name: "files that nobody may write",
    change: (datadir) => {
      chmodSync(join(datadir, ORDINARY), 0o400);
      chmodSync(join(datadir, WAL_FILE), 0o400);
    },
  },
];

for (const { name, change } of ODD_BUT_GOOD) {
  test(`encrypted and back to the last byte: ${name}`, () => roundTrip(changedCopy(plain, change)));
  test(`by way of other directories to the last byte: ${name}`, () =>
    roundTripByOutput(changedCopy(plain, change)));
}

function roundTripByOutput(datadir: string): void {
  const before = treeOf(datadir);
  const folder = dirname(datadir);
  const [sealed, opened] = [join(folder, "sealed"), join(folder, "opened")];
  done(tde("encrypt-datadir", "-D", datadir, "--output", sealed, ...KEYS));
  assertSameTree(treeOf(datadir), before, { directoryTimes: true });
  done(tde("decrypt-datadir", "-D", sealed, "--output", opened, ...KEYS));
  assertSameTree(treeOf(opened), before);
}

function roundTrip(datadir: string): void {
  const before = treeOf(datadir);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  done(tde("verify", "-D", datadir, ...KEYS));
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assertSameTree(treeOf(datadir), before);
}

test("a data directory with spaces, quotes, a newline and bytes that are not UTF-8 in its path", () => {
  const folder = temporaryPath("odd");
  const name = Buffer.concat([Buffer.from(`${folder}/a 'b' "c" $d\n`), Buffer.from([0xe4, 0xff])]);
  execFileSync("cp", ["-a", plain, `${folder}/data`]);
  renameSync(`${folder}/data`, name);
  const before = treeOf(name);
  // A shell passes the bytes on; Node's own spawn could not.
  const run = (command: string): void => {
    const script = `cd '${keys}' && exec '${process.execPath}' '${launcher()}' ${command} -D "$(printf '%s/a '"'b'"' "c" $d\\n\\344\\377' '${folder}')" ${KEYS.join(" ")}`;
    const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
  };
  run("encrypt-datadir");
  assert.ok(readdirSync(name).includes("tde.manifest"));
  run("verify");
  run("decrypt-datadir");
  assertSameTree(treeOf(name), before);
});

test("a name in a message can neither break its line nor move the cursor", () => {
  const datadir = changedCopy(plain, () => {});
  const moved = join(dirname(datadir), "new\nline\u001b[2J");
  renameSync(datadir, moved);
  unlinkSync(join(moved, "PG_VERSION"));
  const { stderr } = tde("verify", "-D", moved, ...KEYS);
  assert.match(stderr, /new\\x0aline\\x1b\[2J/);
});

test("a file with several hard links is replaced, and its other names keep their content", () => {
  const datadir = copyOf(plain);
  const snapshot = join(dirname(datadir), "snapshot");
  linkSync(join(datadir, ORDINARY), snapshot);
  const before = readFileSync(snapshot);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  assert.deepEqual(readFileSync(snapshot), before);
  linkSync(join(datadir, ORDINARY), `${snapshot}-sealed`);
  const sealed = readFileSync(`${snapshot}-sealed`);
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assert.deepEqual(readFileSync(`${snapshot}-sealed`), sealed);
  assert.deepEqual(readFileSync(join(datadir, ORDINARY)), before);
});

test("a sparse relation stays sparse, sealed and opened", () => {
  const datadir = copyOf(plain);
  const path = join(datadir, "base/1/92000");
  writeFileSync(path, readFileSync(join(plain, ORDINARY)).subarray(0, 8192), { mode: 0o600 });
  truncateSync(path, 4000 * 8192);
  const before = treeOf(datadir);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  assert.ok(statSync(path).blocks * 512 < 2 ** 20, "sealed");
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assert.ok(statSync(path).blocks * 512 < 2 ** 20, "opened");
  assertSameTree(treeOf(datadir), before);
});

test("pages with a wrong checksum are reported when sealed, and when verified", () => {
  const datadir = copyOf(plain);
  const report = done(tde("encrypt-datadir", "-D", datadir, ...KEYS, "--format", "json"));
  assert.equal((JSON.parse(report.stdout) as { wrongChecksums: number }).wrongChecksums, 2);
  const verified = done(tde("verify", "-D", datadir, ...KEYS, "--format", "json"));
  assert.equal((JSON.parse(verified.stdout) as { wrongChecksums: number }).wrongChecksums, 2);
  const text = done(tde("encrypt-datadir", "-D", copyOf(plain), ...KEYS)).stdout;
  assert.match(text, /2 pages whose checksum was wrong before/);
});

test("--wal=skip leaves pg_wal as it is and says so; a later run seals it", () => {
  const datadir = copyOf(plain);
  const { stdout } = done(tde("encrypt-datadir", "--wal=skip", "-D", datadir, ...KEYS));
  assert.match(stdout, /NOT encrypted:\n.*--wal=skip.*pg_wal/);
  assert.deepEqual(readFileSync(join(datadir, WAL_FILE)), readFileSync(join(plain, WAL_FILE)));
  assert.match(done(tde("verify", "-D", datadir, ...KEYS)).stdout, /pg_wal is plaintext/);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  assert.doesNotMatch(done(tde("verify", "-D", datadir, ...KEYS)).stdout, /plaintext/);
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("a password in a configuration file is named by line, and sealed with --seal-config", () => {
  const datadir = changedCopy(plain, (path) =>
    appendFileSync(join(path, "postgresql.conf"), "primary_conninfo = 'password=MARKER-conf'\n"),
  );
  const before = treeOf(datadir);
  const { stdout } = done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  assert.match(stdout, /may hold a password: primary_conninfo in postgresql\.conf line 2/);
  assert.doesNotMatch(stdout, /MARKER-conf/);
  done(tde("encrypt-datadir", "--seal-config", "-D", datadir, ...KEYS));
  assert.ok(!readFileSync(join(datadir, "postgresql.conf")).includes("MARKER-conf"));
  done(tde("verify", "-D", datadir, ...KEYS));
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assertSameTree(treeOf(datadir), before);
});

test("what a restore tool added is left out of the decrypted directory, or kept on request", () => {
  const added = (path: string): void => {
    appendFileSync(join(path, "postgresql.auto.conf"), "restore_command = 'cp /a/%f %p'\n");
    writeFileSync(join(path, "recovery.signal"), "");
  };
  const dropped = changedCopy(encrypted, added);
  assert.match(done(tde("verify", "-D", dropped, ...KEYS)).stdout, /added.*restore_command/);
  const report = done(tde("decrypt-datadir", "-D", dropped, ...KEYS));
  assert.match(
    report.stdout,
    /left out, added after encryption: restore_command, recovery\.signal/,
  );
  // The changed file's time stays.
  assertSameTree(treeOf(dropped), treeOf(plain), {
    except: (path) => path === "./postgresql.auto.conf",
  });
  const autoConf = "postgresql.auto.conf";
  assert.deepEqual(readFileSync(join(dropped, autoConf)), readFileSync(join(plain, autoConf)));

  const kept = changedCopy(encrypted, added);
  done(tde("decrypt-datadir", "--keep-recovery-settings", "-D", kept, ...KEYS));
  const original = readFileSync(join(plain, "postgresql.auto.conf"), "utf8");
  const line = "restore_command = 'cp /a/%f %p'\n";
  assert.equal(readFileSync(join(kept, "postgresql.auto.conf"), "utf8"), original + line);
  assert.ok(lstatSync(join(kept, "recovery.signal")).isFile());
});

test("a pg_control that pg_checksums changed is put back; any other change needs --restore-control", () => {
  const isControl = (path: string): boolean => path === "./global/pg_control";
  const disabled = changedCopy(
    encrypted,
    editControl((bytes) => void bytes.writeUInt32LE(0, DATA_CHECKSUM_VERSION)),
  );
  assert.equal(tde("verify", "-D", disabled, ...KEYS).status, 3);
  const { stderr } = done(tde("decrypt-datadir", "-D", disabled, ...KEYS));
  assert.match(stderr, /pg_checksums/);
  // The changed file's time stays.
  assertSameTree(treeOf(disabled), treeOf(plain), { except: isControl });
  const control = (datadir: string): Buffer => readFileSync(join(datadir, "global/pg_control"));
  assert.deepEqual(control(disabled), control(plain));

  const changed = changedCopy(
    encrypted,
    editControl((bytes) => void bytes.writeUInt32LE(bytes.readUInt32LE(48) + 1, 48)),
  );
  const refusal = { says: /pg_control in .* was changed/, exit: 5 };
  assertRefused(changed, refusal, "decrypt-datadir", "-D", changed, ...KEYS);
  done(tde("decrypt-datadir", "--restore-control", "-D", changed, ...KEYS));
  assertSameTree(treeOf(changed), treeOf(plain), { except: isControl });
  assert.deepEqual(control(changed), control(plain));
});

test("an older copy of the whole directory is known by the state file, and by --expect-root", () => {
  const datadir = copyOf(plain);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  const older = copyOf(datadir);
  writeFileSync(join(datadir, "base/1/95000"), readFileSync(join(plain, ORDINARY)));
  const { stdout } = done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  const root = /root ([0-9a-f]{64})/.exec(stdout)?.[1] ?? "";
  const refusal = { says: /of epoch 1, older than epoch 2/, exit: 3 };
  for (const command of ["verify", "decrypt-datadir"]) {
    assertRefused(older, refusal, command, "-D", older, ...KEYS);
  }
  done(tde("verify", "--accept-older", "-D", older, ...KEYS));
  // Without memory of it only a root that is kept elsewhere tells.
  const forgetful = ["--state", join(temporaryPath("state"), "state"), ...KEYS];
  done(tde("verify", "-D", older, ...forgetful));
  const expected = ["--expect-root", root, "-D", older, ...forgetful];
  assertRefused(older, { says: /rollback: tde\.manifest/, exit: 3 }, "verify", ...expected);
  done(tde("verify", "--expect-root", root, "-D", datadir, ...KEYS));
  done(tde("decrypt-datadir", "--accept-older", "-D", older, ...KEYS));
  assertSameTree(treeOf(older), treeOf(plain));
});

test("files that this user may not read are named", (t) => {
  const user = serverUser();
  if (user === undefined) return t.skip("needs root, to be someone else for a while");
  const folder = copyOf(keys);
  const datadir = copyOf(plain);
  const sealed = copyOf(encrypted);
  // Where all of them lie.
  for (const path of [folder, datadir, sealed]) chmodSync(dirname(dirname(path)), 0o755);
  for (const path of [dirname(folder), dirname(datadir), dirname(sealed)]) {
    execFileSync("chown", ["-R", `${user.uid}:${user.gid}`, path]);
  }
  for (const path of [datadir, sealed]) {
    chownSync(join(path, ORDINARY), 0, 0);
    chmodSync(join(path, ORDINARY), 0o600);
  }
  const withoutKeys = (...args: string[]): TdeResult => {
    const run = spawnSync(process.execPath, [launcher(), ...args], {
      ...user,
      cwd: folder,
      encoding: "utf8",
    });
    return { status: run.status, stdout: run.stdout, stderr: run.stderr };
  };
  const as = (...args: string[]): TdeResult => withoutKeys(...args, ...KEYS);
  const before = [treeOf(datadir), treeOf(sealed)] as const;
  for (const [command, path, exit] of [
    ["encrypt-datadir", datadir, 7],
    ["decrypt-datadir", sealed, 7],
    ["verify", sealed, 7],
  ] as const) {
    const { status, stdout, stderr } = as(command, "-D", path);
    assert.match(stdout + stderr, /base\/1\/1259.*permission denied/i);
    assert.equal(status, exit, stdout + stderr);
  }
  assertSameTree(treeOf(datadir), before[0]);
  assertSameTree(treeOf(sealed), before[1]);

  // Of what nobody may read info tells nothing.
  for (const hide of [join(sealed, "tde.manifest"), sealed]) {
    const copy = copyOf(sealed);
    const hidden = join(copy, hide.slice(sealed.length));
    execFileSync("chown", ["-R", `${user.uid}:${user.gid}`, dirname(copy)]);
    chownSync(hidden, 0, 0);
    chmodSync(hidden, hidden.endsWith("manifest") ? 0o600 : 0o700);
    const { status, stdout, stderr } = withoutKeys("info", copy);
    assert.deepEqual([status, stdout], [7, ""], stderr);
    assert.match(stderr, /permission denied/);
  }

  // Damage outweighs what could not be read; a manifest that cannot be read is none.
  chownSync(join(sealed, "tde.manifest"), 0, 0);
  const blind = as("verify", "-D", sealed);
  assert.match(blind.stdout, /^unreadable: tde\.manifest: .*permission denied/);
  assert.equal(blind.status, 7, blind.stdout);
  truncateSync(join(sealed, "base/1/1255"), 8192);
  assert.equal(as("verify", "-D", sealed).status, 3);
});

test("no space left stops cleanly, and the same command goes on when there is some", (t) => {
  const disk = join(temporaryPath("disk"), "full");
  mkdirSync(disk);
  // Enough for the files and a little; a batch of new files does not fit beside the old ones.
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2600k", "tmpfs", disk]);
  if (mounted.status !== 0) return t.skip("may not mount a small file system");
  try {
    const datadir = join(disk, "data");
    execFileSync("cp", ["-a", plain, datadir]);
    const before = treeOf(datadir);
    const { status, stderr } = tde("encrypt-datadir", "-D", datadir, ...KEYS);
    assert.equal(status, 7, stderr);
    assert.match(stderr, /space/);
    execFileSync("mount", ["-o", "remount,size=20m", disk]);
    done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
    done(tde("verify", "-D", datadir, ...KEYS));
    done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
    assertSameTree(treeOf(datadir), before);
  } finally {
    execFileSync("umount", [disk]);
  }
});

test("a limit on the size of files stops cleanly, too", () => {
  const datadir = copyOf(plain);
  const before = treeOf(datadir);
  const script = `ulimit -f 500; cd '${keys}' && exec '${process.execPath}' '${launcher()}' encrypt-datadir -D '${datadir}' ${KEYS.join(" ")}`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  assert.equal(status, 7, stderr);
  assert.match(stderr, /tde: error: could not (write|set the size of) .*/);
  done(tde("encrypt-datadir", "-D", datadir, ...KEYS));
  done(tde("decrypt-datadir", "-D", datadir, ...KEYS));
  assertSameTree(treeOf(datadir), before);
});

test("an output that exists, overlaps the source or has no parent is refused", () => {
  const taken = temporaryPath("taken");
  writeFileSync(join(taken, "mine"), "");
  for (const [output, says] of [
    [taken, /exists and is not an empty directory/],
    [join(plain, "below"), /overlaps the source/],
    [dirname(plain), /overlaps the source|not an empty directory/],
    [join(taken, "no/parent"), /is not a directory/],
  ] as const) {
    const args = ["-D", plain, "--output", output, ...KEYS];
    assertRefused(plain, { says, exit: 5 }, "encrypt-datadir", ...args);
  }
  assert.deepEqual(readdirSync(taken), ["mine"]);
});

function launcher(): string {
  const url = new URL(
    import.meta.url.endsWith(".js") ? "../../../bin/tde.js" : "../../bin/tde.js",
    import.meta.url,
  );
  return url.pathname;
}
