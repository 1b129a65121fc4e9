/**
 * What takes space on the disk before does so after an encryption and a decryption: a server fills WAL segments with zeros, and
 * extends relations by them, so that it finds a full disk before it needs the space. What had holes keeps them.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { testKeys } from "../support/keys.ts";
import { copyOf, makeSmallCluster, SmallEngine, WAL_FILE } from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { decrypt, encrypt } from "../support/wal-folders.ts";
import { SEGMENT } from "../support/written-wal.ts";

/** All zero, and each page takes space. */
const FILLED = ["pg_wal/000000010000000000000052", "base/1/90010"];
const WITH_HOLES = ["pg_wal/000000010000000000000053", "base/1/90011"];

let datadir = "";
beforeEach(() => {
  datadir = copyOf(makeSmallCluster());
  addSegments(datadir);
  for (const path of FILLED) {
    writeFileSync(join(datadir, path), Buffer.alloc(SEGMENT), { mode: 0o600 });
  }
  for (const path of WITH_HOLES) {
    writeFileSync(join(datadir, path), "", { mode: 0o600 });
    truncateSync(join(datadir, path), SEGMENT);
  }
});

function allocatedOf(folder: string, path: string): number {
  return statSync(join(folder, path)).blocks * 512;
}

/** Of whole files, by path: those that are zero and others. */
function allocated(folder: string): Map<string, number> {
  const walFiles = readdirSync(join(folder, "pg_wal")).filter((name) =>
    /^[0-9A-F]{24}$/.test(name),
  );
  const paths = [...walFiles.map((name) => `pg_wal/${name}`), ...FILLED, ...WITH_HOLES].sort();
  return new Map(paths.map((path) => [path, allocatedOf(folder, path)]));
}

for (const wal of ["readable", "skip"] as const) {
  test(`in place, with --wal ${wal}, files take what they took, encrypted, re-keyed and decrypted`, async () => {
    const before = allocated(datadir);
    for (const path of FILLED) assert.ok((before.get(path) ?? 0) >= SEGMENT, path);
    for (const path of WITH_HOLES) assert.equal(before.get(path), 0, path);
    await new SmallEngine().encrypt(datadir, { wal });
    assert.deepEqual(allocated(datadir), before);
    const second = new SmallEngine({ keys: testKeys(2) });
    await second.rotate(datadir);
    assert.deepEqual(allocated(datadir), before);
    await second.decrypt(datadir);
    assert.deepEqual(allocated(datadir), before);
  });
}

test("wal encrypt and wal decrypt leave segments as they were, too", async () => {
  rmSync(join(datadir, WAL_FILE));
  const before = allocated(datadir);
  const content = readFileSync(join(datadir, FILLED[0] ?? ""));
  await encrypt(join(datadir, "pg_wal"));
  assert.deepEqual(allocated(datadir), before);
  await decrypt(join(datadir, "pg_wal"));
  assert.deepEqual(allocated(datadir), before);
  assert.ok(readFileSync(join(datadir, FILLED[0] ?? "")).equals(content));
});
