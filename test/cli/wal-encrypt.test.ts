/**
 * `tde wal encrypt` and `tde wal decrypt` as processes: what bad input gets, with its exit code and nothing changed,
 * and what kill -9 leaves.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { serverUser } from "../../src/demo/server-user.ts";
import { temporaryPath } from "../support/cluster.ts";
import { randomFrom } from "../support/crash-nodes.ts";
import { KEYS, startTde } from "../support/running-tde.ts";
import { makeSmallDatadir } from "../support/small-datadir.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";
import { crossing } from "../support/wal-folders.ts";
import { SEGMENT } from "../support/written-wal.ts";

type Files = ReadonlyMap<string, Buffer>;

class Site {
  readonly folder: string;
  readonly names: readonly string[];
  readonly #segments: readonly Buffer[];

  /** Three segments with a record across each end, and a keyring beside them. */
  constructor(folder: string) {
    this.folder = folder;
    const writer = crossing();
    this.#segments = writer.segments;
    this.names = writer.segments.map((_, i) => writer.name(i));
    mkdirSync(join(folder, "wal"));
    this.putBack();
    assert.equal(this.tde("keyring", "create", "--new-key-file", ...KEYS).status, 0);
  }

  tde(...args: readonly string[]): TdeResult {
    return runTde(args, { cwd: this.folder });
  }

  wal(command: "encrypt" | "decrypt", ...paths: readonly string[]): TdeResult {
    return this.tde("wal", command, ...(paths.length === 0 ? ["wal"] : paths), ...KEYS);
  }

  path(index: number, suffix = ""): string {
    return join(this.folder, "wal", `${this.names[index] ?? ""}${suffix}`);
  }

  /** Plain and alone, whatever was done to them. */
  putBack(): void {
    this.put(new Map(this.#segments.map((bytes, i) => [this.names[i] ?? "", bytes])));
  }

  assertPlain(): void {
    assert.deepEqual(readdirSync(join(this.folder, "wal")).sort(), this.names);
    for (const [i, bytes] of this.#segments.entries())
      assert.ok(readFileSync(this.path(i)).equals(bytes), this.names[i]);
  }

  /** Encrypts the segments. @returns what is then in the folder. */
  stored(): Files {
    this.putBack();
    assert.equal(this.wal("encrypt").status, 0);
    const folder = join(this.folder, "wal");
    return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  }

  put(files: Files): void {
    rmSync(join(this.folder, "wal"), { recursive: true });
    mkdirSync(join(this.folder, "wal"));
    for (const [name, bytes] of files) writeFileSync(join(this.folder, "wal", name), bytes);
  }

  /** That a command ends so, says so, and leaves every file as it is. */
  assertRefuses(args: readonly string[], code: number, words: RegExp): void {
    const before = treeOf(join(this.folder, "wal"));
    const { status, stdout, stderr } = this.tde("wal", ...args);
    assert.match(stderr, /^tde: error: \S.*\n(tde: hint: \S.*\n)?$/);
    assert.match(stderr, words);
    assert.deepEqual([status, stdout], [code, ""], stderr);
    assertSameTree(treeOf(join(this.folder, "wal")), before);
  }
}

type Spoil = (site: Site, otherRun: Files) => void;

function patch(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(path, bytes);
}

const REFUSED_PLAIN: readonly (readonly [string, Spoil, number, RegExp])[] = [
  ["a segment that is cut", (s) => truncateSync(s.path(1), SEGMENT - 1), 6, /1048575 bytes of/],
  ["a segment that is too long", (s) => appendFileSync(s.path(1), "x"), 6, /1048577 bytes of/],
  ["an empty segment", (s) => truncateSync(s.path(1), 0), 6, /0 bytes of 1048576/],
  [
    "a segment of another cluster",
    (s) => patch(s.path(1), (bytes) => bytes.writeBigUInt64LE(7n, 24)),
    3,
    /another cluster/,
  ],
  [
    "a segment of another timeline",
    (s) => patch(s.path(1), (bytes) => bytes.writeUInt32LE(2, 4)),
    3,
    /timeline 2, not of 1/,
  ],
  [
    "a segment of another size",
    (s) => patch(s.path(1), (bytes) => bytes.writeUInt32LE(2 ** 21, 32)),
    6,
    /segments of 2097152 bytes/,
  ],
  [
    "segments of zeros alone",
    (s) => s.names.forEach((_, i) => writeFileSync(s.path(i), Buffer.alloc(SEGMENT))),
    6,
    /no segment in "wal" says of which cluster/,
  ],
  ["no segment", (s) => s.names.forEach((_, i) => rmSync(s.path(i))), 2, /no WAL segment/],
];

test("what is no run of whole segments of one cluster is refused, and nothing is changed", (t) => {
  const site = new Site(temporaryDirectory(t));
  for (const [what, spoil, code, words] of REFUSED_PLAIN) {
    site.putBack();
    spoil(site, new Map());
    t.diagnostic(what);
    site.assertRefuses(["encrypt", "wal", ...KEYS], code, words);
  }
});

/** Of an encrypted folder. */
const REFUSED_STORED: readonly (readonly [string, Spoil, number, RegExp])[] = [
  ["without its sidecar", (s) => rmSync(s.path(1, "_tde")), 5, /its sidecar is missing/],
  [
    "with a cut sidecar",
    (s) => truncateSync(s.path(1, "_tde"), 8192),
    3,
    /the last page is missing|slots for 128/,
  ],
  ["with an empty sidecar", (s) => truncateSync(s.path(1, "_tde"), 0), 5, /missing or damaged/],
  [
    "with the sidecar of another run",
    (s, other) => writeFileSync(s.path(1, "_tde"), other.get(`${s.names[1]}_tde`) ?? ""),
    3,
    /block 0: /,
  ],
  [
    "of another run",
    (s, other) => writeFileSync(s.path(1), other.get(s.names[1] ?? "") ?? ""),
    3,
    /block 0: /,
  ],
  [
    "under the name of another one",
    (s) => {
      renameSync(s.path(1), s.path(1).replace(/.$/, "F"));
      renameSync(s.path(1, "_tde"), s.path(1, "_tde").replace(/._tde$/, "F_tde"));
    },
    3,
    /it is segment 6 of timeline 1, not 15 of 1/,
  ],
  [
    "with one changed bit",
    (s) => patch(s.path(1), (bytes) => bytes.writeUInt8((bytes[9000] ?? 0) ^ 4, 9000)),
    3,
    /block 1: /,
  ],
];

test("a stored segment that is not as it was written is refused by decrypt, and nothing is changed", (t) => {
  const site = new Site(temporaryDirectory(t));
  const [stored, otherRun] = [site.stored(), site.stored()];
  for (const [what, spoil, code, words] of REFUSED_STORED) {
    site.put(stored);
    spoil(site, otherRun);
    t.diagnostic(what);
    // By itself, since the segments before it are in order.
    const name = readdirSync(join(site.folder, "wal")).find((path) => /(06|0F)$/.test(path)) ?? "";
    site.assertRefuses(["decrypt", `wal/${name}`, ...KEYS], code, words);
  }
});

test("another keyring neither decrypts segments nor adds to them", (t) => {
  const site = new Site(temporaryDirectory(t));
  assert.equal(site.wal("encrypt", `wal/${site.names[1]}`).status, 0);
  const other = ["--keyring", "other.keyring", ...KEYS.slice(2)];
  assert.equal(site.tde("keyring", "create", ...other).status, 0);
  for (const command of ["encrypt", "decrypt"]) {
    site.assertRefuses([command, "wal", ...other], 4, /needs keyring [0-9a-f]{16}, yours is/);
  }
});

test("a gap in the run is named, and what is there comes back", (t) => {
  const site = new Site(temporaryDirectory(t));
  const second = readFileSync(site.path(1));
  rmSync(site.path(1));
  const { status, stdout, stderr } = site.wal("encrypt");
  assert.deepEqual([status, stdout], [0, "encrypted 2 segments (2.0 MB)\n"]);
  assert.match(stderr, new RegExp(`the segment before ${site.names[2]} is not there`));
  assert.equal(site.wal("decrypt").status, 0);
  writeFileSync(site.path(1), second);
  site.assertPlain();
});

test("a folder that this user may not write to is refused, and nothing is changed", async () => {
  const user = serverUser();
  const folder = temporaryPath("read-only");
  chmodSync(folder, 0o755);
  const wal = join(new Site(folder).folder, "wal");
  if (user !== undefined) {
    for (const name of ["app.keyring", "app.keyring.state", "kek.key"])
      chownSync(join(folder, name), user.uid, user.gid);
  }
  chmodSync(wal, 0o555);
  const before = treeOf(wal);
  const ended = await startTde(["wal", "encrypt", "wal", ...KEYS], folder, undefined, user);
  assert.equal(ended.status, 7, ended.stderr);
  assert.match(ended.stderr, /^tde: error: .*permission denied/);
  assertSameTree(treeOf(wal), before);
  chmodSync(wal, 0o755);
});

test("the WAL of an encrypted data directory is no folder of its own", (t) => {
  const folder = temporaryDirectory(t);
  makeSmallDatadir(join(folder, "data"));
  const site = new Site(folder);
  for (const [i, name] of site.names.entries())
    renameSync(site.path(i), join(folder, "data", "pg_wal", name));
  writeFileSync(join(folder, "data", "tde.manifest"), "");
  const { status, stderr } = site.wal("encrypt", "data/pg_wal");
  assert.equal(status, 5);
  assert.match(stderr, /"data\/pg_wal" belongs to an encrypted data directory/);
});

const seed = Number(process.env["TDE_TEST_SEED"] ?? Date.now() % 2 ** 31);
const kills = Number(process.env["TDE_TEST_RUNS"] ?? 3);

test("rotate --wal seals every segment of a folder anew, and what tools print of them stays", (t) => {
  const site = new Site(temporaryDirectory(t));
  site.stored();
  const printed = (): string =>
    runTde(["waldump", site.path(0), site.names[2] ?? ""], { cwd: site.folder }).stdout;
  const before = printed();
  const rotate = (...options: string[]): string => {
    const { status, stdout, stderr } = site.tde("rotate", "--wal", "wal", ...options, ...KEYS);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  assert.match(rotate(), /^nothing to do/);
  assert.equal(site.tde("keyring", "new-key", ...KEYS).status, 0);
  assert.match(rotate("--dry-run"), /^would rotate: 3 files, 3\.0 MB, to key 2\nkey 1: 3 files/);
  assert.match(rotate(), /^rotated: 3 files, 3\.0 MB, are under key 2 now\nkey 2: 3 files/);
  assert.equal(printed(), before);
  const verified = site.tde("wal", "verify", "wal", ...KEYS);
  assert.match(verified.stdout, /^key 2: 3 files/m, verified.stderr);
  assert.match(rotate("--from-key", "1"), /^nothing to do/);
  assert.equal(site.wal("decrypt").status, 0);
  site.assertPlain();
});

test("rotate --wal leaves a folder as it is where a segment does not open, or another kind is in it", (t) => {
  const site = new Site(temporaryDirectory(t));
  site.stored();
  assert.equal(site.tde("keyring", "new-key", ...KEYS).status, 0);
  const sealed = join(site.folder, "sealed");
  mkdirSync(sealed);
  const plain = join(site.folder, site.names[0] ?? "");
  writeFileSync(plain, crossing().segments[0] ?? "");
  const target = join(sealed, site.names[0] ?? "");
  assert.equal(site.tde("wal", "archive", plain, target, ...KEYS).status, 0);
  const other = join(site.folder, "wal", "000000010000000000000030");
  renameSync(target, other);
  const refused = (code: number, words: RegExp): void => {
    const before = treeOf(join(site.folder, "wal"));
    const { status, stderr } = site.tde("rotate", "--wal", "wal", ...KEYS);
    assert.equal(status, code, stderr);
    assert.match(stderr, words);
    assertSameTree(treeOf(join(site.folder, "wal")), before);
  };
  refused(5, /in readable mode, and "000000010000000000000030", which is sealed whole/);
  rmSync(other);
  patch(site.path(2), (bytes) => bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100));
  refused(3, /does not authenticate/);
});

test("kill -9 at any moment leaves what the same command brings to its end", async (t: TestContext) => {
  const random = randomFrom(seed);
  const site = new Site(temporaryDirectory(t));
  const { durationMs } = await startTde(["wal", "encrypt", "wal", ...KEYS], site.folder);
  const stored = site.stored();
  const outcomes = { killed: 0, done: 0 };
  for (const command of ["encrypt", "decrypt"] as const) {
    for (let i = 0; i < kills; i++) {
      if (command === "encrypt") site.putBack();
      else site.put(stored);
      const stop = { signal: "SIGKILL", afterMs: durationMs * (0.5 + 0.6 * random()) } as const;
      const { signal } = await startTde(["wal", command, "wal", ...KEYS], site.folder, stop);
      outcomes[signal === null ? "done" : "killed"]++;
      const again = site.wal(command);
      assert.equal(again.status, 0, `seed ${seed}: ${again.stderr}`);
      const left = readdirSync(join(site.folder, "wal"));
      assert.equal(left.length, command === "encrypt" ? 6 : 3, `seed ${seed}: ${left.join()}`);
      if (command === "encrypt") assert.equal(site.wal("decrypt").status, 0);
      site.assertPlain();
    }
  }
  t.diagnostic(`seed ${seed}: ${JSON.stringify(outcomes)}`);
});
