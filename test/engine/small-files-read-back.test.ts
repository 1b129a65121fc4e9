/**
 * The files that the engine writes one by one, and what it writes in place: each is read back before anything goes for
 * it. One write to one of them is damaged, and success is reported.
 */
import assert from "node:assert/strict";
import { linkSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import { carryOutPatches } from "../../src/engine/run/redo.ts";
import { StorageError } from "../../src/errors.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import type { FileSystem } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import {
  BAD_WRITES_OF,
  BadWriteFileSystem,
  type BadWriteOf,
} from "../support/bad-write-file-system.ts";
import { temporaryPath } from "../support/cluster.ts";
import { copyOf, makeSmallCluster, SmallEngine, TestMemory } from "../support/small-cluster.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

/** An operation on a copy of a directory. */
interface Case {
  readonly what: string;
  /** How the path of the file ends that is written badly. */
  readonly written: string;
  /** As the error names it. */
  readonly name: string;
  readonly run: (small: SmallEngine, datadir: string) => Promise<unknown>;
}

const encrypt: Case["run"] = (small, datadir) => small.encrypt(datadir);
const decrypt: Case["run"] = (small, datadir) => small.decrypt(datadir, { restoreControl: true });

const ENCRYPTING: readonly Case[] = [
  {
    what: "the sealed original behind the guard",
    written: "/tde_tdenew.postgresql.auto.conf",
    name: "tde.postgresql.auto.conf",
    run: encrypt,
  },
  {
    what: "the guard",
    written: "/postgresql_tdenew.auto.conf",
    name: "postgresql.auto.conf",
    run: encrypt,
  },
  {
    what: "the manifest",
    written: "/tde_tdenew.manifest",
    name: "tde.manifest",
    run: encrypt,
  },
];

const DECRYPTING: readonly Case[] = [
  {
    what: "the original that takes the guard's place",
    written: "/postgresql_tdenew.auto.conf",
    name: "postgresql.auto.conf",
    run: decrypt,
  },
  {
    what: "pg_control",
    written: "/global/pg_control_tdenew",
    name: "global/pg_control",
    run: decrypt,
  },
];

function assertNotAsWritten(error: unknown, name: string): true {
  assert.ok(error instanceof StorageError, String(error));
  assert.match(error.message, /does not read as it was written/);
  assert.ok(error.message.includes(`"${name}"`), error.message);
  return true;
}

const memory = new TestMemory();

/** With what the runs before it remember. */
function engineOn(fs: FileSystem = new NodeFileSystem()): SmallEngine {
  return new SmallEngine({ fs, memory });
}

function badlyWriting(ending: string, how: BadWriteOf): BadWriteFileSystem {
  return new BadWriteFileSystem((path) => path.endsWith(ending), how);
}

for (const how of BAD_WRITES_OF) {
  for (const { what, written, name, run } of ENCRYPTING) {
    test(`an encryption does not go on from what is not what was written (${how}): ${what}`, async () => {
      const datadir = makeSmallCluster();
      const before = treeOf(datadir);
      const fs = badlyWriting(written, how);
      await assert.rejects(run(engineOn(fs), datadir), (e) => assertNotAsWritten(e, name));
      const small = engineOn();
      await small.encrypt(datadir);
      assert.deepEqual((await small.verify(datadir)).problems, []);
      await small.decrypt(datadir);
      assertSameTree(treeOf(datadir), before);
    });
  }

  for (const { what, written, name, run } of DECRYPTING) {
    test(`a decryption does not go on from what is not what was written (${how}): ${what}`, async () => {
      const datadir = makeSmallCluster();
      const before = treeOf(datadir);
      await engineOn().encrypt(datadir);
      // Its time of change: what pg_checksums writes, too.
      const control = join(datadir, "global/pg_control");
      const bytes = readFileSync(control).fill(1, 24, 28);
      bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
      const { atime, mtime } = statSync(control);
      writeFileSync(control, bytes);
      utimesSync(control, atime, mtime);
      const fs = badlyWriting(written, how);
      await assert.rejects(run(engineOn(fs), datadir), (e) => assertNotAsWritten(e, name));
      await decrypt(engineOn(), datadir);
      assertSameTree(treeOf(datadir), before);
    });
  }

  test(`a new directory is not ended with small files that are not what was written (${how})`, async () => {
    const source = makeSmallCluster();
    const sealed = join(temporaryPath("sealed"), "data");
    const into = (output: string, fs?: BadWriteFileSystem): Promise<unknown> => {
      const small = engineOn(fs);
      const { engine, keyContext } = small;
      const where = { output: bytePath(output), tablespaceMapping: new Map<BytePath, BytePath>() };
      return output === sealed
        ? encryptIntoOutput(engine, keyContext, small.encryptOptions(source), where)
        : decryptIntoOutput(engine, keyContext, small.decryptOptions(sealed), where);
    };
    for (const { written, name } of ENCRYPTING) {
      const fs = badlyWriting(written, how);
      await assert.rejects(into(sealed, fs), (e) => assertNotAsWritten(e, name));
    }
    await into(sealed);
    const plain = join(temporaryPath("plain"), "data");
    for (const [written, name] of [
      [`${plain}/global/pg_control`, "global/pg_control"],
      ["/postgresql_tdenew.auto.conf", "postgresql.auto.conf"],
    ] as const) {
      const fs = badlyWriting(written, how);
      await assert.rejects(into(plain, fs), (e) => assertNotAsWritten(e, name));
    }
    await into(plain);
    assertSameTree(treeOf(plain), treeOf(source));
  });

  test(`a sync does not go on from a guard or an original that is not what was written (${how})`, async () => {
    const source = makeSmallCluster();
    const copy = copyOf(source);
    await engineOn().encrypt(copy);
    writeFileSync(join(source, "postgresql.auto.conf"), "work_mem = '8MB'\n");
    for (const { written, name } of ENCRYPTING) {
      const fs = badlyWriting(written, how);
      await assert.rejects(engineOn(fs).sync(source, copy), (e) => assertNotAsWritten(e, name));
    }
    const small = engineOn();
    await small.sync(source, copy);
    assert.deepEqual((await small.verify(copy)).problems, []);
    await small.decrypt(copy);
    assertSameTree(treeOf(copy), treeOf(source));
  });

  test(`what is written in place is read back while the journal keeps it (${how})`, (t) => {
    const folder = temporaryDirectory(t);
    const path = join(folder, "file");
    const parts = [
      { position: 3, bytes: Buffer.from("abc") },
      { position: 20, bytes: Buffer.from("xyz") },
    ];
    const patches = [{ path: "file" as BytePath, sizeBytes: 23, parts }];
    const right = "...abc..............xyz";
    for (const at of [1, 2]) {
      writeFileSync(path, ".".repeat(30));
      const fs = new BadWriteFileSystem((name) => name === path, how, at);
      const carryOut = (): void => carryOutPatches(fs, bytePath(folder), patches);
      // What is written behind the end is cut off again; what is written behind the first part is not looked at here.
      if (how !== "ahead") assert.throws(carryOut, (e) => assertNotAsWritten(e, "file"));
      carryOut();
      const expected = how === "ahead" && at === 1 ? /^\.\.\.abc(abc)?\.+xyz$/ : right;
      assert.match(readFileSync(path, "latin1"), new RegExp(expected));
      assert.equal(readFileSync(path).length, 23);
    }
  });

  test(`a file that a snapshot shares is not replaced by a copy that is not what was written (${how})`, (t) => {
    const folder = temporaryDirectory(t);
    const [path, snapshot] = [join(folder, "file"), join(folder, "snapshot")];
    writeFileSync(path, ".".repeat(30));
    linkSync(path, snapshot);
    const patch = { position: 3, bytes: Buffer.from("abc") };
    const patches = [{ path: "file" as BytePath, sizeBytes: 30, parts: [patch] }];
    const fs = badlyWriting("/file_tdenew", how);
    const carryOut = (): void => carryOutPatches(fs, bytePath(folder), patches);
    assert.throws(carryOut, (e) => assertNotAsWritten(e, "file"));
    assert.equal(readFileSync(path, "latin1"), ".".repeat(30));
    carryOut();
    assert.equal(readFileSync(path, "latin1"), `...abc${".".repeat(24)}`);
    assert.equal(readFileSync(snapshot, "latin1"), ".".repeat(30));
    assert.deepEqual(readdirSync(folder).toSorted(), ["file", "snapshot"]);
  });
}
