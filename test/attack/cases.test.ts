/**
 * Attacks on the paths between two states, each by the shortest way: journals that are put back, files that are
 * replaced while a run is unfinished, and a state file that tells nothing. What is drawn at random is in attack.test.ts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { joinPath } from "../../src/bytes/byte-path.ts";
import { IntegrityError } from "../../src/errors.ts";
import { PowerCut } from "../support/crash-disk.ts";
import { SimulatedTde } from "../support/simulated-tde.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { copyTree } from "../support/tree.ts";
import { PART, PLACES } from "./history.ts";
import { contentAt, imageOf, install } from "./image.ts";
import { JOURNAL, MANIFEST } from "./reading.ts";
import {
  A,
  assertHeld,
  copyDirectory,
  encryptedDisk,
  forgeConfiguration,
  forgeTable,
  middleOf,
  plainDisk,
  put,
  putJournal,
  spied,
  stateOf,
  TRIES,
} from "./stage.ts";
import {
  BLOCK_BYTES,
  contentOf,
  firstTree,
  IN_TABLESPACE,
  OUT_OF_PART,
  pages,
} from "./tiny-cluster.ts";

const TABLE = "base/5/1259";
/** The copy's tablespace lies elsewhere than the original's. */
const MOVED = { acceptMoved: true };

test("the journal of a first encryption, put back later, seals nothing", async () => {
  const disk = await plainDisk();
  const images = await spied(disk, "a", () => new SimulatedTde(disk).encrypt(A));
  for (const image of [images.at(-1), middleOf(images), images[0]]) {
    const attacked = disk.copy();
    put(attacked, MANIFEST, undefined);
    forgeTable(attacked, TABLE);
    forgeConfiguration(attacked);
    assert.ok(image !== undefined);
    putJournal(attacked, "a", image);
    await assertHeld(attacked, TRIES);
  }
});

test("the journal of another copy's decryption lets nothing pass as decrypted", async () => {
  const disk = await encryptedDisk();
  copyDirectory(disk, "a", "b");
  const images = await spied(disk, "b", () =>
    new SimulatedTde(disk).decrypt(PLACES.b.root, undefined, MOVED),
  );
  for (const image of [images.at(-1), middleOf(images)]) {
    const attacked = disk.copy();
    forgeTable(attacked, TABLE);
    forgeConfiguration(attacked);
    assert.ok(image !== undefined);
    putJournal(attacked, "a", image);
    await assertHeld(attacked, TRIES);
  }
});

for (const operation of ["rotation", "decryption", "sync"] as const) {
  test(`an older copy with the journal of its ${operation} is not finished: nothing falls behind what is remembered`, async () => {
    const disk = await encryptedDisk();
    const tde = new SimulatedTde(disk);
    const plain = firstTree();
    const content = pages("work", 1, 2);
    install(disk, PLACES.plain, new Map([...plain, [TABLE, content]]));
    // The decryption is of a copy, so that the original goes on.
    copyDirectory(disk, "a", "b");
    const images = await (operation === "rotation"
      ? spied(disk, "a", () => tde.rotate(A, undefined))
      : operation === "sync"
        ? spied(disk, "a", () => tde.sync(PLACES.plain.root, A))
        : spied(disk, "b", () => tde.decrypt(PLACES.b.root, undefined, MOVED)));
    await tde.rotate(A, undefined);
    await tde.rotate(A, undefined);
    // Before the manifest, and when all is done but for the removal of the journal.
    for (const image of [images[0], middleOf(images)]) {
      const attacked = disk.copy();
      assert.ok(image !== undefined);
      install(attacked, PLACES.a, image);
      await assertHeld(attacked, {
        ...TRIES,
        sync: (victim) => victim.sync(PLACES.plain.root, A),
      });
    }
  });
}

test("the journal of a finished --output, put back, empties nothing", async () => {
  for (const operation of ["encrypt", "decrypt"] as const) {
    const disk = operation === "encrypt" ? await plainDisk() : await encryptedDisk();
    const tde = new SimulatedTde(disk);
    const { root: output, tablespace } = PLACES.out;
    const into = { output, tablespaceMapping: new Map([[PLACES.a.tablespace, tablespace]]) };
    const images = await spied(disk, "out", () => tde[operation](A, into));
    for (const image of [images.at(-1), middleOf(images)]) {
      const attacked = disk.copy();
      assert.ok(image !== undefined);
      putJournal(attacked, "out", image);
      const tries = {
        recover: (victim: SimulatedTde) => victim.recover(output),
        "the same command": (victim: SimulatedTde) => victim[operation](A, into),
      };
      await assertHeld(attacked, tries, "out");
    }
  }
});

test("what a decryption that was stopped half way has made plain is not taken unseen", async () => {
  const disk = await encryptedDisk();
  const path = joinPath(A, IN_TABLESPACE);
  const whole = contentAt(disk, path) ?? Buffer.alloc(0);
  const flipped = Buffer.from(whole);
  flipped[BLOCK_BYTES / 2] = (whole[BLOCK_BYTES / 2] ?? 0) ^ 1;
  put(disk, IN_TABLESPACE, flipped);
  await assert.rejects(
    new SimulatedTde(disk).decrypt(A, undefined, { preflight: false }),
    IntegrityError,
  );
  assert.ok(contentAt(disk, joinPath(A, JOURNAL)) !== undefined);
  assert.deepEqual(contentAt(disk, joinPath(A, TABLE)), contentOf(firstTree(), TABLE));
  put(disk, IN_TABLESPACE, whole);

  // Untouched, it goes on.
  const untouched = disk.copy();
  await new SimulatedTde(untouched).decrypt(A);
  assert.deepEqual(imageOf(untouched, A), firstTree());

  const forgeries: Readonly<Record<string, () => void>> = {
    "a table": () => put(disk, TABLE, pages("forged", 0, 2)),
    "configuration and transaction states": () => forgeConfiguration(disk),
    "a file that was sealed whole": () =>
      put(
        disk,
        "pg_stat/pgstat.stat",
        Buffer.alloc(contentOf(firstTree(), "pg_stat/pgstat.stat").length, 1),
      ),
  };
  for (const [what, forge] of Object.entries(forgeries)) {
    const kept = imageOf(disk, A);
    forge();
    for (const command of ["decrypt", "recover"] as const) {
      const victim = disk.copy();
      await assert.rejects(
        new SimulatedTde(victim)[command](A),
        IntegrityError,
        `${command} takes ${what}`,
      );
    }
    install(disk, PLACES.a, kept);
  }
});

test("what the manifest names is not replaced while a widening of scope is unfinished", async () => {
  const before = await plainDisk();
  await new SimulatedTde(before).encrypt(A, undefined, PART);
  const rehearsal = before.copy();
  await new SimulatedTde(rehearsal).encrypt(A);
  const forgeries = [OUT_OF_PART, "pg_hba.conf", "pg_xact/0000", TABLE] as const;
  for (const path of forgeries) {
    // Early enough that the plain file is still to be sealed.
    const disk = before.copy({ crashAt: Math.floor(rehearsal.steps / 4) });
    await assert.rejects(new SimulatedTde(disk).encrypt(A), PowerCut);
    const left = disk.reboot({ survivors: "everything" });
    assert.ok(contentAt(left, joinPath(A, JOURNAL)) !== undefined);
    if (path === OUT_OF_PART) {
      assert.deepEqual(contentAt(left, joinPath(A, path)), contentOf(firstTree(), path));
    }
    if (path === TABLE || path === OUT_OF_PART) forgeTable(left, path);
    else forgeConfiguration(left);
    for (const command of ["recover", "encrypt"] as const) {
      const victim = left.copy();
      await assert.rejects(
        new SimulatedTde(victim)[command](A),
        IntegrityError,
        `${command} takes ${path}`,
      );
      const { directories } = await stateOf(victim);
      assert.deepEqual(
        [...directories.values()].map(({ epoch }) => epoch),
        [1n],
      );
    }
  }
});

const OPEN = ["--keyring", "app.keyring", "--key-file", "kek.key"] as const;
const DAMAGES: Readonly<Record<string, (state: string) => void>> = {
  damaged: (state) => {
    const bytes = readFileSync(state);
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(state, bytes);
  },
  missing: (state) => rmSync(state),
};

for (const [how, damage] of Object.entries(DAMAGES)) {
  test(`with a ${how} state file no key is destroyed that a directory needs`, (t) => {
    const folder = temporaryDirectory(t);
    const tde = (...args: string[]): TdeResult => runTde([...args, ...OPEN], { cwd: folder });
    const ok = (...args: string[]): void => {
      const { status, stderr } = tde(...args);
      assert.equal(status, 0, stderr);
    };
    copyTree(makeSmallCluster(), join(folder, "main"));
    ok("keyring", "create", "--new-key-file");
    ok("encrypt-datadir", "-D", "main");
    ok("keyring", "new-key");
    damage(join(folder, "app.keyring.state"));
    const keyring = readFileSync(join(folder, "app.keyring"));
    const refused = tde("keyring", "destroy-key", "1");
    assert.equal(refused.status, 5, refused.stdout + refused.stderr);
    assert.deepEqual(readFileSync(join(folder, "app.keyring")), keyring);
    const verified = tde("verify", "-D", "main");
    assert.equal(verified.status, how === "damaged" ? 3 : 0, verified.stdout + verified.stderr);
  });
}
