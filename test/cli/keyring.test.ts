import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { sha256 } from "../../src/crypto/primitives.ts";
import { runTde, TDE_PROGRAM, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const OPEN = ["--keyring", "app.keyring", "--key-file", "kek.key"];
const SECRET = "marker-of-a-secret";

function tde(cwd: string, ...args: string[]): TdeResult {
  return runTde(args, { cwd });
}

function keyring(cwd: string, ...args: string[]): TdeResult {
  return tde(cwd, "keyring", ...args);
}

function created(t: TestContext): string {
  const folder = temporaryDirectory(t);
  const { status, stderr } = keyring(folder, "create", ...OPEN, "--new-key-file");
  assert.equal(status, 0, stderr);
  return folder;
}

function fails(run: TdeResult, status: number, message: RegExp): void {
  assert.match(run.stderr, message);
  assert.match(run.stderr, /^tde: error: [^A-Z\n]/m);
  assert.equal(run.status, status, run.stderr);
  assert.equal(run.stdout, "");
}

test("create writes both files for their owner alone, new-key rewrites no page and says so", (t) => {
  const folder = created(t);
  for (const name of ["app.keyring", "kek.key"]) {
    assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600);
  }
  const run = keyring(folder, "new-key", ...OPEN);
  assert.equal(run.status, 0);
  assert.equal(run.stdout, 'key 2 is now the current key of keyring "app.keyring"\n');
  assert.match(run.stderr, /No page was rewritten/);
  assert.match(run.stderr, /"tde rotate --from-key 1"/);
});

test("show needs no key; with one it verifies; as JSON it is one document", (t) => {
  const folder = created(t);
  const open = keyring(folder, "show", "--keyring", "app.keyring");
  assert.match(open.stdout, /not verified/);
  const verified = keyring(folder, "show", ...OPEN);
  assert.match(verified.stdout, /verified: opened by recipient 1/);
  const json = JSON.parse(keyring(folder, "show", ...OPEN, "--format", "json").stdout);
  assert.equal(json.verified, true);
  assert.deepEqual(
    json.keys.map((key: { id: number; state: string }) => [key.id, key.state]),
    [[1, "current"]],
  );
});

test("a wrong key, a damaged file and an altered file are three different errors", (t) => {
  const folder = created(t);
  const path = join(folder, "app.keyring");
  const good = readFileSync(path);
  writeFileSync(join(folder, "other.key"), Buffer.alloc(32, 5), { mode: 0o600 });
  const wrong = ["--keyring", "app.keyring", "--key-file", "other.key"];
  fails(keyring(folder, "new-key", ...wrong), 4, /wrong key: key file "other.key" does not open/);
  writeFileSync(path, good.toString().replace("generation 1", "generation 2"));
  fails(keyring(folder, "new-key", ...OPEN), 6, /is damaged: its checksum is wrong/);
  const text = good
    .toString()
    .replace("generation 1", "generation 2")
    .replace(/sum .*\n$/, "");
  writeFileSync(path, `${text}sum ${sha256(Buffer.from(text)).toString("hex")}\n`);
  fails(keyring(folder, "new-key", ...OPEN), 3, /was altered/);
});

test("files that others can read, that are missing or exist already are refused", (t) => {
  const folder = created(t);
  fails(keyring(folder, "create", ...OPEN), 5, /exists already/);
  fails(keyring(folder, "show", "--keyring", "none"), 4, /"none" does not exist/);
  chmodSync(join(folder, "kek.key"), 0o644);
  fails(
    keyring(folder, "new-key", ...OPEN),
    4,
    /can be read by others: its mode is 0644[^]*chmod 600 kek.key/,
  );
  const missing = ["--keyring", "new", "--key-file", "none"];
  fails(keyring(folder, "create", ...missing), 4, /--new-key-file/);
  assert.ok(!existsSync(join(folder, "new")));
});

test("a keyring that cannot be made leaves no key file behind", (t) => {
  const folder = temporaryDirectory(t);
  const args = ["--keyring", "missing/k", "--key-file", "kek.key", "--new-key-file"];
  fails(keyring(folder, "create", ...args), 7, /missing/);
  assert.ok(!existsSync(join(folder, "kek.key")));
});

test("a key file that an interrupted create left alone is told of, and can be taken up", (t) => {
  const folder = created(t);
  rmSync(join(folder, "app.keyring"));
  const create = ["create", ...OPEN];
  fails(
    keyring(folder, ...create, "--new-key-file"),
    5,
    /key file "kek.key" exists already, and holds a key\n.*hint: .*without --new-key-file/,
  );
  assert.equal(keyring(folder, ...create).status, 0);
  assert.match(keyring(folder, "show", ...OPEN).stdout, /verified: opened by recipient 1/);
});

test("half a key file that an interrupted create left is told of, and a new one is made in its place", (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, "kek.key"), Buffer.alloc(20, 7), { mode: 0o600 });
  const create = ["create", ...OPEN, "--new-key-file"];
  fails(
    keyring(folder, ...create),
    5,
    /exists already, and cannot be used: .* has 20 bytes and is not a key\n.*hint: .*remove it/,
  );
  rmSync(join(folder, "kek.key"));
  assert.equal(keyring(folder, ...create).status, 0);
});

test("recipients come and go, and what is printed keeps rewrap and rotate apart", (t) => {
  const folder = created(t);
  const more = ["--to-key-file", "safe.key", "--new-key-file", "--label", "safe"];
  assert.equal(keyring(folder, "add-recipient", ...OPEN, ...more).status, 0);
  const list = keyring(folder, "list-recipients", "--keyring", "app.keyring");
  assert.match(list.stdout, /2 +key-file +safe/);
  fails(
    keyring(folder, "remove-recipient", "1", ...OPEN),
    4,
    /missing of: recipient 2 \(key-file, "safe"\)/,
  );
  assert.equal(keyring(folder, "remove-recipient", "2", ...OPEN).status, 0);
  const rewrap = keyring(
    folder,
    "rewrap",
    "1",
    ...OPEN,
    "--to-key-file",
    "n.key",
    "--new-key-file",
  );
  assert.match(rewrap.stderr, /Data stays as it is/);
  fails(keyring(folder, "show", ...OPEN), 4, /wrong key/);
});

test("destroy-key tells what remains to be done; a dry run changes nothing", (t) => {
  const folder = created(t);
  fails(keyring(folder, "destroy-key", "1", ...OPEN), 5, /current key/);
  keyring(folder, "new-key", ...OPEN);
  const before = readFileSync(join(folder, "app.keyring"));
  assert.equal(keyring(folder, "destroy-key", "1", ...OPEN, "-n").status, 0);
  assert.deepEqual(readFileSync(join(folder, "app.keyring")), before);
  const run = keyring(folder, "destroy-key", "1", ...OPEN);
  assert.equal(run.status, 0);
  assert.match(run.stderr, /tde keyring rewrap 1[^]*destroy the old secrets/);
});

test("a dry run of destroy-key needs what the real one needs", (t) => {
  const folder = created(t);
  keyring(folder, "new-key", ...OPEN);
  const other = ["--to-key-file", "safe.key", "--new-key-file"];
  assert.equal(keyring(folder, "add-recipient", ...OPEN, ...other).status, 0);
  const destroy = ["destroy-key", "1", ...OPEN];
  for (const dry of [["-n"], []])
    fails(
      keyring(folder, ...destroy, ...dry),
      4,
      /the secret of every recipient that stays is needed/,
    );
  const all = [...destroy, "--key-file", "safe.key"];
  for (const dry of [["-n"], []]) assert.equal(keyring(folder, ...all, ...dry).status, 0);
});

/** What the state file may be when somebody destroys a key; a refusal leaves the keyring as it is. */
const UNCERTAIN: Readonly<Record<string, readonly [RegExp, (folder: string) => void]>> = {
  "is missing": [/there is no state file/, (folder) => rmSync(join(folder, "app.keyring.state"))],
  "is damaged": [
    /is not used/,
    (folder) => {
      const path = join(folder, "app.keyring.state");
      const bytes = readFileSync(path);
      bytes.writeUInt8(bytes.readUInt8(40) ^ 1, 40);
      writeFileSync(path, bytes);
    },
  ],
  "is older than the keyring": [
    /is older than/,
    (folder) => copyFileSync(join(folder, "before.state"), join(folder, "app.keyring.state")),
  ],
  "was begun when the keyring had been in use": [
    /was begun on/,
    (folder) => {
      rmSync(join(folder, "app.keyring.state"));
      keyring(folder, "rewrap", "1", ...OPEN, "--to-key-file", "kek.key");
    },
  ],
};
for (const [what, [says, spoil]] of Object.entries(UNCERTAIN)) {
  test(`destroy-key refuses where the state file ${what}, and asks what is named where the user does without`, (t) => {
    const folder = created(t);
    copyFileSync(join(folder, "app.keyring.state"), join(folder, "before.state"));
    keyring(folder, "new-key", ...OPEN);
    spoil(folder);
    const before = readFileSync(join(folder, "app.keyring"));
    fails(keyring(folder, "destroy-key", "1", ...OPEN), 5, says);
    fails(keyring(folder, "destroy-key", "1", ...OPEN, "-n"), 5, /--without-state/);
    assert.deepEqual(readFileSync(join(folder, "app.keyring")), before);
    const run = keyring(folder, "destroy-key", "1", ...OPEN, "--without-state");
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stderr, says);
  });
}

test("a key that an archive of WAL uses is not destroyed where the archive is named, whatever the state file knows", (t) => {
  const folder = created(t);
  mkdirSync(join(folder, "archive"));
  writeFileSync(join(folder, "00000002.history"), "1\t0/5000000\tno recovery target specified\n");
  const history = "00000002.history";
  const archived = runTde(["wal", "archive", history, `archive/${history}`, ...OPEN], {
    cwd: folder,
  });
  assert.equal(archived.status, 0, archived.stderr);
  keyring(folder, "new-key", ...OPEN);
  rmSync(join(folder, "app.keyring.state"));
  const named = ["destroy-key", "1", ...OPEN, "-D", "archive", "--without-state"];
  fails(keyring(folder, ...named), 5, /key 1 is used by \d+ files? of "archive"/);
  const rotated = runTde(["rotate", "--wal", "archive", ...OPEN], { cwd: folder });
  assert.equal(rotated.status, 0, rotated.stderr);
  assert.equal(keyring(folder, ...named).status, 0);
});

test("an old keyring brought back from a backup gets no new key", (t) => {
  const folder = created(t);
  const old = readFileSync(join(folder, "app.keyring"));
  keyring(folder, "new-key", ...OPEN);
  writeFileSync(join(folder, "app.keyring"), old);
  fails(keyring(folder, "new-key", ...OPEN), 5, /older than its state file/);
});

test("the environment names keyring and secrets, options come before it", (t) => {
  const folder = created(t);
  const env = { TDE_KEYRING: "app.keyring", TDE_KEY_FILE: "kek.key" };
  assert.match(runTde(["keyring", "show"], { cwd: folder, env }).stdout, /verified: opened/);
  const other = { ...env, TDE_KEY_FILE: "none" };
  assert.equal(
    runTde(["keyring", "show", "--key-file", "kek.key"], { cwd: folder, env: other }).status,
    0,
  );
});

test("no secret appears in any output, whatever goes wrong", (t) => {
  const folder = temporaryDirectory(t);
  const secretFile = join(folder, "p");
  writeFileSync(secretFile, `${SECRET}\n`, { mode: 0o600 });
  const keyFile = Buffer.alloc(32);
  keyFile.write(SECRET);
  writeFileSync(join(folder, "kek.key"), keyFile, { mode: 0o600 });
  const runs = [
    keyring(folder, "create", "--keyring", "app.keyring", "--key-file", "kek.key"),
    keyring(folder, "add-recipient", ...OPEN, "--to-passphrase-file", "p"),
    keyring(folder, "show", ...OPEN, "-v"),
    keyring(folder, "show", "--keyring", "app.keyring", "--key-file", "p"),
    keyring(folder, "show", "--keyring", "p", "--key-file", "kek.key"),
    keyring(folder, "show", "--keyring", "app.keyring", "--passphrase-file", "kek.key"),
    keyring(folder, "show", "--keyring", "app.keyring", "--unwrap-command", `cat p`),
    keyring(folder, "show", "--keyring", "app.keyring", "--passphrase-fd", "0"),
    runTde(["keyring", "show", "--keyring", "app.keyring", "--passphrase-fd", "0"], {
      cwd: folder,
      input: `${SECRET}x`,
    }),
    keyring(
      folder,
      "create",
      "--keyring",
      "k2",
      "--wrap-command",
      "cat p",
      "--unwrap-command",
      "cat p; exit 1",
    ),
  ];
  assert.deepEqual(
    runs.map(({ status }) => status),
    [0, 0, 0, 4, 6, 4, 4, 4, 4, 4],
  );
  for (const { stdout, stderr } of runs) {
    for (const form of [
      SECRET,
      keyFile.toString("hex"),
      Buffer.from(SECRET).toString("base64").slice(0, -2),
    ]) {
      assert.ok(!`${stdout}${stderr}`.includes(form), stderr);
    }
  }
});

test("a passphrase opens by file and by descriptor", (t) => {
  const folder = temporaryDirectory(t);
  writeFileSync(join(folder, "p"), `${SECRET}\n`, { mode: 0o600 });
  const name = ["--keyring", "k"];
  assert.equal(keyring(folder, "create", ...name, "--passphrase-file", "p").status, 0);
  const args = ["keyring", "show", ...name, "--passphrase-fd", "0"];
  assert.equal(runTde(args, { cwd: folder, input: SECRET }).status, 0);
  chmodSync(join(folder, "p"), 0o640);
  fails(keyring(folder, "show", ...name, "--passphrase-file", "p"), 4, /read by others/);
});

test("usage errors exit with 2 and print nothing on standard output", (t) => {
  const folder = temporaryDirectory(t);
  const wrong = [
    ["--nix"],
    ["nix"],
    ["keyring", "nix"],
    ["keyring", "create"],
    ["keyring", "show", "--format", "xml"],
    ["keyring", "create", "--keyring", "k"],
    ["keyring", "rewrap", "x", ...OPEN],
  ];
  for (const args of wrong) fails(tde(folder, ...args), 2, /tde: hint: /);
  assert.equal(tde(folder).status, 2);
});

test("help and version go to standard output with exit code 0", (t) => {
  const folder = temporaryDirectory(t);
  for (const args of [["--version"], ["-V"], ["--help"], ["-?"], ["keyring", "create", "-?"]]) {
    const { status, stdout, stderr } = tde(folder, ...args);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.ok(stdout.length > 0);
  }
});

test("a path that is not UTF-8 works as an argument and from the environment", (t) => {
  const folder = temporaryDirectory(t);
  // A shell makes the bytes: Node passes only UTF-8 to a child.
  const script = `name=$(printf 'k\\351'); "$1" "$2" keyring create --keyring "$name" --key-file "$name.key" --new-key-file &&
    TDE_KEYRING="$name" "$1" "$2" keyring show --key-file "$name.key" && cat "$name" > copy`;
  const { status, stdout, stderr } = spawnSync(
    "/bin/sh",
    ["-c", script, "sh", process.execPath, TDE_PROGRAM],
    { cwd: folder, encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /created keyring "k\\xe9"[^]*verified/);
  assert.ok(existsSync(join(folder, "copy")));
});

test("a closed pipe ends quietly", (t) => {
  const folder = created(t);
  const script = `("$1" "$2" keyring show --keyring app.keyring; echo "status $?" >&2) | true`;
  const { stderr } = spawnSync("/bin/sh", ["-c", script, "sh", process.execPath, TDE_PROGRAM], {
    cwd: folder,
    encoding: "utf8",
  });
  assert.equal(stderr, "status 0\n");
});
