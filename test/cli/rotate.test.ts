/**
 * `tde rotate` and what belongs to it, as processes: from a leaked key to its destruction, key limits, `keyring check`.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { keyIdsOnDisk, keysOf } from "../support/key-ids-on-disk.ts";
import { copyOf, LARGE, makeSmallCluster, ORDINARY } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const ENV = { TDE_KEYRING: "app.keyring", TDE_KEY_FILE: "kek.key" };
const plain = makeSmallCluster();

/** A folder with a keyring of two keys and `main`, a directory that is encrypted under the first. */
class Place {
  readonly folder: string;
  readonly datadir: string;

  constructor(folder: string) {
    this.folder = folder;
    this.datadir = join(folder, "main");
  }

  static make(): Place {
    const place = new Place(temporaryPath("rotate"));
    copyTree(plain, place.datadir);
    place.ok("keyring", "create", "--new-key-file");
    place.ok("encrypt-datadir", "-D", "main");
    copyFileSync(place.path("app.keyring"), place.path("old.keyring"));
    place.ok("keyring", "new-key");
    return place;
  }

  copy(): Place {
    return new Place(copyOf(this.folder));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  tde(...args: string[]): TdeResult {
    return runTde(args, { cwd: this.folder, env: ENV });
  }

  ok(...args: string[]): TdeResult {
    const result = this.tde(...args);
    assert.equal(result.status, 0, result.stderr);
    return result;
  }

  json(...args: string[]): Record<string, unknown> {
    return JSON.parse(this.ok(...args, "--format", "json").stdout) as Record<string, unknown>;
  }

  /** Nothing on disk may change. */
  refuses(status: number, message: RegExp, ...args: string[]): void {
    const before = treeOf(this.datadir);
    const result = this.tde(...args);
    assert.match(result.stderr, message);
    assert.match(result.stderr, /^tde: hint: /m);
    assert.equal(result.status, status, result.stderr);
    assertSameTree(treeOf(this.datadir), before);
  }
}

const original = Place.make();

test("a leaked key is replaced, proved to be gone and destroyed, and the data needs it no more", () => {
  const place = original.copy();
  place.refuses(
    5,
    /key 1 is used by directory .*"tde rotate --from-key 1/s,
    "keyring",
    "destroy-key",
    "1",
  );
  const planned = place.json("rotate", "--from-key", "1", "-D", "main", "-n");
  place.ok("rotate", "--relation", ORDINARY, "-D", "main");
  place.refuses(5, /key 1 is used by/, "keyring", "destroy-key", "1", "-D", "main");
  const rest = place.json("rotate", "--from-key", "1", "-D", "main");
  assert.equal(Number(planned["files"]) - Number(rest["files"]), 3);
  assert.deepEqual(keysOf(keyIdsOnDisk(place.datadir)), [2]);
  const { keys, ok } = place.json("verify", "-D", "main") as {
    keys: { keyId: number }[];
    ok: boolean;
  };
  assert.deepEqual([ok, keys.map(({ keyId }) => keyId)], [true, [2]]);
  const { stderr } = place.ok("keyring", "destroy-key", "1", "-D", "main");
  assert.match(
    stderr,
    /the 1 directory known to state file "app.keyring.state" and "main" were asked/,
  );
  place.ok("decrypt-datadir", "-D", "main");
  assertSameTree(treeOf(place.datadir), treeOf(plain));
});

test("wrong ways to ask for a rotation are refused, and change nothing", () => {
  const place = original.copy();
  const rotate = (...args: string[]): string[] => ["rotate", "-D", "main", ...args];
  place.refuses(2, /nothing is named to rotate/, ...rotate());
  place.refuses(2, /more than one thing/, ...rotate("--all", "--from-key", "1"));
  place.refuses(2, /no key 9/, ...rotate("--from-key", "9"));
  place.refuses(5, /key 2 is the current key/, ...rotate("--from-key", "2"));
  place.refuses(2, /there is no relation base\/1\/77/, ...rotate("--relation", "base/1/77"));
  place.refuses(5, /is not encrypted/, "rotate", "--all", "-D", copyOf(plain));
  // A process that lives; it need not be a server.
  writeFileSync(place.path("main/postmaster.pid"), `1\n${place.datadir}\n`);
  place.refuses(5, /server/, ...rotate("--all"));
  rmSync(place.path("main/postmaster.pid"));
  copyFileSync(place.path("app.keyring"), place.path("new.keyring"));
  copyFileSync(place.path("old.keyring"), place.path("app.keyring"));
  place.refuses(5, /older than its state file/, ...rotate("--all"));
  copyFileSync(place.path("new.keyring"), place.path("app.keyring"));
  place.refuses(2, /--auto-rotate needs a limit/, ...rotate("--all", "--auto-rotate"));
});

test("a damaged page is named, and what was rotated stays rotated", () => {
  const place = original.copy();
  const path = place.path(`main/${LARGE}`);
  const content = readFileSync(path);
  content.writeUInt8(content.readUInt8(8192 * 3 + 500) ^ 1, 8192 * 3 + 500);
  writeFileSync(path, content);
  const result = place.tde("rotate", "--all", "-D", "main", "-j", "2");
  assert.equal(result.status, 3);
  assert.match(result.stderr, /^tde: error: base\/1\/1255 block 3: /m);
  const verified = place.tde("verify", "-D", "main");
  assert.equal(verified.status, 3);
  assert.match(verified.stdout, /base\/1\/1255 block 3/);
});

test("the load of each key is counted, a limit warns, and with --auto-rotate a new key is made", () => {
  const place = original.copy();
  const loads = (name: string): unknown => place.json("keyring", "show")[name];
  const [before] = loads("protects") as { keyId: number; pages: number; bytes: number }[];
  assert.equal(before?.keyId, 1);
  assert.deepEqual(loads("written"), [before]);
  const run = place.ok("rotate", "--from-key", "1", "-D", "main", "--key-limit", "10");
  assert.match(run.stderr, /warning: \d+ pages .* were written under key 2, past the limit of 10/);
  assert.deepEqual(loads("protects"), [{ ...before, keyId: 2 }]);
  assert.deepEqual(loads("written"), [before, { ...before, keyId: 2 }]);
  assert.equal(loads("keyLimitPages"), 10);
  const { keyId } = place.json("rotate", "--all", "-D", "main", "--auto-rotate");
  assert.equal(keyId, 3);
  assert.deepEqual(keysOf(keyIdsOnDisk(place.datadir)), [3]);
  place.ok("decrypt-datadir", "-D", "main");
  assert.deepEqual(loads("protects"), []);
  const again = place.ok("encrypt-datadir", "-D", "main", "--key-limit", "0");
  assert.doesNotMatch(again.stderr, /limit/);
  assert.deepEqual(loads("keyLimitPages"), undefined);
});

test("keyring check tells who opens a keyring and who needs which keys, and fails when something is wrong", () => {
  const place = original.copy();
  place.ok(
    "keyring",
    "add-recipient",
    "--to-key-file",
    "safe.key",
    "--new-key-file",
    "--label",
    "safe",
  );
  const found = place.json("keyring", "check", "-D", "main") as {
    ok: boolean;
    recipients: { number: number; opens: boolean }[];
    directories: { found: string; keys: { keyId: number }[] }[];
  };
  assert.equal(found.ok, true);
  assert.deepEqual(
    found.recipients.map(({ opens }) => opens),
    [true, false],
  );
  assert.deepEqual(
    found.directories.map(({ keys }) => keys.map(({ keyId }) => keyId)),
    [[1]],
  );
  const check = (status: number, message: RegExp, ...args: string[]): void => {
    const result = place.tde("keyring", "check", ...args);
    assert.match(result.stdout + result.stderr, message);
    assert.equal(result.status, status, result.stderr);
  };
  check(4, /nothing that was given opens recipient 2 \(key-file, "safe"\)/, "--all-recipients");
  const both = ["--key-file", "kek.key", "--key-file", "safe.key"];
  check(0, /all is well/, "--all-recipients", ...both);
  writeFileSync(place.path("other.key"), Buffer.alloc(32, 5), { mode: 0o600 });
  check(4, /"other.key" opens no recipient/, ...both, "--key-file", "other.key");
  check(4, /is not encrypted/, "-D", copyOf(plain));
  const { status, stderr } = runTde(["keyring", "check", "--keyring", "app.keyring"], {
    cwd: place.folder,
  });
  assert.match(stderr, /no secret was given/);
  assert.equal(status, 4);
});

test("keyring check says of an old keyring not to back it up over a newer one", () => {
  const place = original.copy();
  const newest = place.json("keyring", "check") as { backUp: string[] };
  assert.match(newest.backUp[0] ?? "", /^keyring ".*", as it is now \(generation 2\)/);
  const named = ["--keyring", "old.keyring", "--state", "app.keyring.state"];
  const old = place.tde("keyring", "check", ...named);
  assert.match(old.stdout, /^ {2}NOT keyring ".*" over another copy: a newer one has been in use/m);
  assert.doesNotMatch(old.stdout, /as it is now/);
  assert.equal(old.status, 4);
});

test("a directory that is gone for good can be forgotten, one that is there cannot", () => {
  const place = original.copy();
  const [directory] = place.json("keyring", "check")["directories"] as {
    id: string;
    path: string;
  }[];
  const id = directory?.id ?? "";
  const forget = ["keyring", "forget-directory", id];
  // The state file names the place where it was encrypted.
  place.refuses(5, /is still at/, ...forget);
  renameSync(original.datadir, original.path("moved"));
  place.refuses(2, /32 hex digits/, "keyring", "forget-directory", "main");
  place.refuses(5, /key 1 is used by directory/, "keyring", "destroy-key", "1");
  place.ok(...forget);
  place.ok("keyring", "destroy-key", "1");
  renameSync(original.path("moved"), original.datadir);
});
