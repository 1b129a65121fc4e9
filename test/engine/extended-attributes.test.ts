/**
 * ACLs and other extended attributes of files that are written anew: they are kept, encrypted and plain; where that is not
 * possible nobody gets more than he had, and the files are named.
 */
import assert from "node:assert/strict";
import { chmodSync, closeSync, openSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import type { EngineContext } from "../../src/engine/context.ts";
import { encryptDatadir } from "../../src/engine/encrypt-datadir.ts";
import { TellingRunner } from "../../src/engine/not-kept.ts";
import { ACCESS_ACL } from "../../src/storage/file-system.ts";
import { attributesAt } from "../../src/storage/file-io.ts";
import { findLibc, type Libc } from "../../src/storage/libc.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { KEYS } from "../support/running-tde.ts";
import {
  LARGE,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { runTde } from "../support/tde.ts";

const AUTO_CONF = "postgresql.auto.conf";
const DEFAULT_ACL = "system.posix_acl_default";
const NOTE = "user.note";

/** linux/posix_acl.h: tags, and rights as in a mode. */
const [USER_OBJ, USER, GROUP_OBJ, MASK, OTHER] = [1, 2, 4, 16, 32] as const;
/** Lets one user read, and not the group: the mode says 0640. */
const ACL = aclOf([USER_OBJ, 6], [USER, 4, 12345], [GROUP_OBJ, 0], [MASK, 4], [OTHER, 0]);

function aclOf(
  ...entries: readonly (readonly [tag: number, rights: number, id?: number])[]
): Buffer {
  const acl = Buffer.alloc(4 + 8 * entries.length);
  acl.writeUInt32LE(2);
  for (const [i, [tag, rights, id = 0xffffffff]] of entries.entries()) {
    acl.writeUInt16LE(tag, 4 + 8 * i);
    acl.writeUInt16LE(rights, 6 + 8 * i);
    acl.writeUInt32LE(id, 8 + 8 * i);
  }
  return acl;
}

const libc = findLibc() ?? assert.fail("koffi is a dependency, if an optional one");

function set(path: string, name: string, value: Buffer): void {
  const descriptor = openSync(path, "r");
  assert.ok(libc.setAttribute(descriptor, name, value), `${name} of ${path}`);
  closeSync(descriptor);
}

function attributesOf(path: string): Map<string, string> {
  const { extended } = attributesAt(new NodeFileSystem(), bytePath(path)) ?? assert.fail(path);
  assert.ok(extended !== undefined && extended !== "unknown");
  return new Map(extended.map(({ name, value }) => [name, value.toString("hex")]));
}

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

let datadir = "";
let paths: string[] = [];
beforeEach(() => {
  datadir = makeSmallCluster();
  const segments = addSegments(datadir).paths;
  paths = [ORDINARY, LARGE, WAL_FILE, AUTO_CONF, ...segments.slice(0, 1)];
  for (const path of paths) {
    set(join(datadir, path), ACCESS_ACL, ACL);
    set(join(datadir, path), NOTE, Buffer.from(path));
    assert.equal(modeOf(join(datadir, path)), 0o640);
  }
});

test("files keep their attributes in place, encrypted and decrypted, and the group gets no right", async () => {
  chmodSync(datadir, 0o750);
  const small = new SmallEngine();
  for (const work of ["encrypt", "decrypt", "encrypt", "decrypt"] as const) {
    if (work === "encrypt") await small.encrypt(datadir, { wal: "readable" });
    else await small.decrypt(datadir);
    for (const path of paths) {
      const found = attributesOf(join(datadir, path));
      assert.equal(found.get(ACCESS_ACL), ACL.toString("hex"), `${work} ${path}`);
      assert.equal(found.get(NOTE), Buffer.from(path).toString("hex"), `${work} ${path}`);
      assert.equal(modeOf(join(datadir, path)), 0o640);
    }
    assert.ok(!attributesOf(join(datadir, "base/1/1247")).has(ACCESS_ACL));
  }
});

test("a file without an ACL gets none from its folder", async () => {
  chmodSync(datadir, 0o750);
  const other = join(datadir, "base/1/1247");
  set(dirname(other), DEFAULT_ACL, ACL);
  const small = new SmallEngine();
  await small.encrypt(datadir);
  assert.ok(!attributesOf(other).has(ACCESS_ACL));
  await small.decrypt(datadir);
  assert.ok(!attributesOf(other).has(ACCESS_ACL));
  assert.equal(modeOf(other), 0o600);
});

test("where the data directory lets nobody in, an ACL is kept without effect, and the files are named", () => {
  chmodSync(datadir, 0o700);
  const folder = join(datadir, "..");
  const tde = (...args: string[]): string => {
    const { status, stderr } = runTde([...args, ...KEYS], { cwd: folder });
    assert.equal(status, 0, stderr);
    return stderr;
  };
  tde("keyring", "create", "--new-key-file");
  assert.doesNotMatch(tde("encrypt-datadir", "data"), /not kept/);
  assert.match(
    tde("decrypt-datadir", "data"),
    /not kept of 4 files: ".*data\/base\/1\/1255": what its ACL allows to others; /,
  );
  for (const path of paths) {
    assert.equal(modeOf(join(datadir, path)), 0o600);
    const acl = Buffer.from(attributesOf(join(datadir, path)).get(ACCESS_ACL) ?? "", "hex");
    assert.equal(acl.length, ACL.length, path);
  }
});

/** What an unhappy system does, and whether files that have a note, but no ACL, keep the group's right to read. */
const UNHAPPY: readonly (readonly [what: string, libc: Libc | undefined, keepsGroup: boolean])[] = [
  ["has no koffi", undefined, false],
  ["lists no attributes", { ...libc, listAttributes: () => undefined }, false],
  ["gives none of them", { ...libc, getAttribute: () => undefined }, false],
  ["sets none of them", { ...libc, setAttribute: () => false }, true],
];

for (const [what, unhappy, keepsGroup] of UNHAPPY) {
  test(`on a system that ${what} the group does not get what an ACL kept from it`, async () => {
    chmodSync(datadir, 0o750);
    const other = join(datadir, "base/1/1247");
    chmodSync(other, 0o640);
    set(other, NOTE, Buffer.from("a note"));
    const small = new SmallEngine();
    await small.encrypt(datadir, { wal: "readable" });
    const fs = new NodeFileSystem(() => unhappy);
    await new SmallEngine({ fs, memory: small.keyContext.memory }).decrypt(datadir);
    for (const path of paths) {
      assert.ok(!attributesOf(join(datadir, path)).has(ACCESS_ACL), path);
      assert.equal(modeOf(join(datadir, path)), 0o600, path);
    }
    assert.equal(modeOf(other), keepsGroup ? 0o640 : 0o600);
  });
}

test("what is encrypted without koffi and decrypted with it gives the group nothing either", async () => {
  chmodSync(datadir, 0o750);
  const small = new SmallEngine({ fs: new NodeFileSystem(() => undefined) });
  await small.encrypt(datadir, { wal: "readable" });
  await new SmallEngine({ memory: small.keyContext.memory }).decrypt(datadir);
  for (const path of paths) assert.equal(modeOf(join(datadir, path)), 0o600, path);
});

test("without koffi files that lose their group's rights are named, once for a run", async () => {
  chmodSync(datadir, 0o750);
  const fs = new NodeFileSystem(() => undefined);
  const notices: string[] = [];
  const small = new SmallEngine({ fs });
  const { engine, keyContext } = small;
  const startRunner: EngineContext["startRunner"] = (...args) =>
    new TellingRunner(engine.startRunner(...args), (message) => notices.push(message));
  await encryptDatadir({ ...engine, startRunner }, keyContext, small.encryptOptions(datadir));
  assert.equal(notices.length, 1);
  assert.match(notices[0] ?? "", /^not kept of 4 files: ".*": what its group's bits allow; /);
});
