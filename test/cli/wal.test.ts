/**
 * `tde wal` and `tde waldump` on sealed WAL as processes: exit codes as a server reads them, nothing asked, no secret
 * anywhere, and the words of pg_waldump.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { runTde, runTdeBytes, TDE_PROGRAM, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { unpackSmallSet } from "../support/waldump-cases.ts";

const SEGMENT = "00000001000000030000000A";
const NAMES = ["000000010000000300000009", SEGMENT, "00000001000000030000000B"];

class Site {
  readonly folder: string;
  readonly plain: string;
  readonly archive: string;
  readonly env: Record<string, string>;

  constructor(t: TestContext) {
    this.folder = temporaryDirectory(t);
    unpackSmallSet(15, this.folder);
    this.plain = join(this.folder, "tl2");
    this.archive = join(this.folder, "archive");
    mkdirSync(this.archive);
    this.env = {
      TDE_KEYRING: join(this.folder, "app.keyring"),
      TDE_KEY_FILE: join(this.folder, "kek.key"),
    };
    assert.equal(this.tde("keyring", "create", "--new-key-file").status, 0);
  }

  tde(...args: string[]): TdeResult {
    return runTde(args, { cwd: this.folder, env: this.env });
  }

  store(...names: string[]): void {
    for (const name of names) {
      const { status, stderr, stdout } = this.tde(
        "wal",
        "archive",
        `tl2/${name}`,
        `archive/${name}`,
      );
      assert.deepEqual([status, stdout, stderr], [0, "", ""]);
    }
  }
}

test("archive says nothing and ends with 0; restore gives the same bytes", (t) => {
  const site = new Site(t);
  site.store(SEGMENT, SEGMENT);
  assert.equal(site.tde("wal", "restore", `archive/${SEGMENT}`, "RECOVERYXLOG").status, 0);
  assert.deepEqual(
    readFileSync(join(site.folder, "RECOVERYXLOG")),
    readFileSync(join(site.plain, SEGMENT)),
  );
});

test("a restore ends with 1 where the file is missing, and with 200 and more for anything else", (t) => {
  const site = new Site(t);
  site.store(SEGMENT);
  const restore = (...args: string[]): number | null => site.tde("wal", "restore", ...args).status;
  assert.equal(restore("archive/00000002.history", "x"), 1);
  assert.equal(restore("archive/00000002.history"), 202, "usage");
  assert.equal(restore("archive/00000002.history", "x", "--unknown"), 202, "usage");
  assert.equal(restore("unmounted/00000002.history", "x"), 205, "no archive");
  copyFileSync(join(site.archive, SEGMENT), join(site.archive, NAMES[0] ?? ""));
  assert.equal(restore(`archive/${NAMES[0]}`, "x"), 203, "renamed");
  assert.equal(restore(`archive/${SEGMENT}`, "nowhere/x"), 207, "no place for it");
  writeFileSync(
    join(site.archive, SEGMENT),
    readFileSync(join(site.archive, SEGMENT)).subarray(0, 60),
  );
  assert.equal(restore(`archive/${SEGMENT}`, "x"), 206, "cut");
  rmSync(site.env["TDE_KEY_FILE"] ?? "");
  assert.equal(restore(`archive/${SEGMENT}`, "x"), 204, "no key");
  assert.equal(existsSync(join(site.folder, "x")), false);
});

test("a restore that a bug ends, and one by a program that is not whole, end with 255", (t) => {
  const site = new Site(t);
  // As soon as the command is on its way.
  const bug = `process.on("newListener", (name) => {
    if (name === "uncaughtException") setImmediate(() => { throw new Error("of a test"); });
  });`;
  const args = ["wal", "restore", "archive/00000002.history", "x"];
  const env = {
    ...site.env,
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(bug)}`,
  };
  const ended = runTde(args, { cwd: site.folder, env });
  assert.equal(ended.status, 255, ended.stderr);
  assert.match(ended.stderr, /of a test/);

  mkdirSync(join(site.folder, "bin"));
  const launcher = join(site.folder, "bin", "tde.mjs");
  copyFileSync(TDE_PROGRAM, launcher);
  const cut = spawnSync(process.execPath, [launcher, ...args], { encoding: "utf8" });
  assert.equal(cut.status, 255);
  assert.match(
    cut.stderr,
    /^tde: error: the program is not whole: .*\ntde: hint: .*"npm run build"/,
  );
});

test("without a key nothing is archived, nobody is asked, and the failure is an ordinary one", (t) => {
  const site = new Site(t);
  const passphrase = join(site.folder, "passphrase");
  writeFileSync(passphrase, "correct horse\n");
  chmodSync(passphrase, 0o600);
  const keyring = join(site.folder, "other.keyring");
  runTde(["keyring", "create", "--keyring", keyring, "--passphrase-file", passphrase]);
  const args = ["wal", "archive", `tl2/${SEGMENT}`, `archive/${SEGMENT}`];
  const failures = [
    runTde(args, { cwd: site.folder }),
    runTde([...args, "--keyring", keyring], { cwd: site.folder }),
    runTde([...args, "--keyring", keyring], {
      cwd: site.folder,
      env: { TDE_KEY_FILE: site.env["TDE_KEY_FILE"] ?? "" },
    }),
  ];
  assert.deepEqual(
    failures.map(({ status }) => status),
    [2, 4, 4],
  );
  assert.equal(existsSync(join(site.archive, SEGMENT)), false);
  const unknown = runTde([...args, "--passphrase"], { cwd: site.folder, env: site.env });
  assert.match(unknown.stderr, /unknown option '--passphrase'/);
});

test("waldump prints of sealed, plain and mixed segments what it prints of the plain ones", (t) => {
  const site = new Site(t);
  site.store(...NAMES.slice(0, 2));
  copyFileSync(join(site.plain, NAMES[2] ?? ""), join(site.archive, NAMES[2] ?? ""));
  const dump = (path: string, ...args: string[]): unknown =>
    runTdeBytes(["waldump", "-p", path, ...args], { cwd: site.folder, env: site.env });
  for (const options of [[], ["-b"], ["--stats=record"]]) {
    const range = [NAMES[0] ?? "", NAMES[2] ?? "", ...options];
    assert.deepEqual(dump("archive", ...range), dump("tl2", ...range), options.join(" "));
  }
  // Found by a position alone, in an archive where every file is sealed.
  const at = ["--start", "3/A00028", "-n", "5"];
  rmSync(join(site.archive, NAMES[2] ?? ""));
  assert.deepEqual(dump("archive", ...at), dump("tl2", ...at));
});

test("waldump tells a missing keyring, a wrong key and damage apart", (t) => {
  const site = new Site(t);
  site.store(SEGMENT);
  const path = `archive/${SEGMENT}`;
  const without = runTde(["waldump", path], { cwd: site.folder });
  assert.deepEqual(without, {
    status: 1,
    stdout: "",
    stderr: `tde waldump: error: "${path}" is encrypted, and no keyring is named\ntde waldump: hint: Give --keyring or set TDE_KEYRING.\n`,
  });
  const other = join(site.folder, "other.keyring");
  const otherKey = join(site.folder, "other.key");
  runTde(["keyring", "create", "--keyring", other, "--key-file", otherKey, "--new-key-file"]);
  const wrong = runTde(["waldump", `--keyring=${other}`, "--key-file", otherKey, path], {
    cwd: site.folder,
  });
  assert.match(wrong.stderr, /needs key 1 of keyring [0-9a-f]{16}, yours is keyring/);
  const bytes = readFileSync(join(site.archive, SEGMENT));
  bytes[10_000] = (bytes[10_000] ?? 0) ^ 1;
  writeFileSync(join(site.archive, SEGMENT), bytes);
  assert.match(site.tde("waldump", path).stderr, /authentication of .* failed/);
  // On plain WAL a keyring that does not open is of no consequence.
  const plain = runTde(["waldump", "-n", "1", `tl2/${SEGMENT}`], {
    cwd: site.folder,
    env: { TDE_KEYRING: "/nowhere" },
  });
  assert.equal(plain.status, 0);
});

test("a key that an archive needs is not destroyed before the archive is re-keyed", (t) => {
  const site = new Site(t);
  site.store(SEGMENT);
  assert.equal(site.tde("keyring", "new-key").status, 0);
  const refused = site.tde("keyring", "destroy-key", "1");
  assert.equal(refused.status, 5);
  assert.match(
    refused.stderr,
    /key 1 is used by directory [0-9a-f]{32}, last seen at ".*archive"\n.*"tde rotate --from-key 1 --wal /,
  );
  const rotated = site.tde("rotate", "--wal", "archive", "--format", "json");
  assert.equal((JSON.parse(rotated.stdout) as { files: number }).files, 1);
  assert.equal(site.tde("keyring", "destroy-key", "1").status, 0);
  assert.equal(site.tde("wal", "restore", `archive/${SEGMENT}`, "x").status, 0);
});

test("keyring check tells an archive that is there from one that is not found, and what is there is not forgotten", (t) => {
  const site = new Site(t);
  site.store(SEGMENT);
  const check = (...args: string[]): { found: string; why?: string; id: string }[] => {
    const { stdout } = site.tde("keyring", "check", "--format", "json", ...args);
    return (JSON.parse(stdout) as { directories: { found: string; id: string }[] }).directories;
  };
  const [there] = check();
  const id = there?.id ?? "";
  assert.deepEqual([there?.found, check("-D", "archive")[0]?.found], ["there", "there"]);
  const forget = (): TdeResult => site.tde("keyring", "forget-directory", id);
  const refuses = (message: RegExp): void => {
    const { status, stderr } = forget();
    assert.match(stderr, message);
    assert.equal(status, 5);
  };
  refuses(/archive .* is still at/);
  // Without its identity, what lies there may be it all the same.
  renameSync(join(site.archive, "tde.archive/identity"), join(site.folder, "identity"));
  assert.equal(check()[0]?.found, "unreadable");
  refuses(
    /nobody can say whether archive .* is still at .*files of WAL are there, but no identity/,
  );
  renameSync(site.archive, join(site.folder, "elsewhere"));
  assert.equal(check()[0]?.found, "not-found");
  assert.match(
    site.tde("keyring", "check").stdout,
    /not found there now: moved, not mounted, or gone/,
  );
  assert.equal(forget().status, 0);
});

test("verify prints what it found, as text and as JSON, and its exit code", (t) => {
  const site = new Site(t);
  site.store(...NAMES.slice(0, 2));
  const whole = site.tde("wal", "verify", "archive");
  assert.equal(whole.status, 0);
  assert.match(
    whole.stdout,
    /^timeline 1: 000000010000000300000009 to 00000001000000030000000A, 2 segments, records to 3\/B00000\n/,
  );
  assert.match(
    whole.stdout,
    /\nverified: every tag of 2\.0 MB of WAL of cluster \d+, \d+ records\n$/,
  );
  writeFileSync(join(site.archive, "00000002.history"), "1\t3/B00000\n");
  const mixed = site.tde("wal", "verify", "archive", "--format", "json");
  assert.equal(mixed.status, 3);
  const { ok, files, problems } = JSON.parse(mixed.stdout) as {
    ok: boolean;
    files: { plain: number };
    problems: unknown[];
  };
  assert.deepEqual([ok, files.plain], [false, 1]);
  assert.deepEqual(problems, [
    { kind: "plain", name: "00000002.history", message: "it is not encrypted" },
  ]);
  const allowed = site.tde("wal", "verify", "archive", "--allow-plain");
  assert.match(allowed.stdout, /NOT of 1 plain files\n$/);
});
