/** What pg_xact and pg_multixact say, in real clusters and where files are missing. */
import assert from "node:assert/strict";
import { rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TransactionFiles } from "../../src/catalog/transaction-files.ts";
import {
  memberGroupPosition,
  multixactPosition,
  xactPosition,
  xidPrecedes,
} from "../../src/postgres/transaction-status.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { datadirAt, sharedFixture } from "../support/fixture-catalog.ts";
import { truthTable } from "../support/fixture-truth.ts";
import { makeSmallCluster } from "../support/small-cluster.ts";
import { setClusterState } from "../support/small-datadir.ts";

/** Both have a prepared transaction; 19 has the longer multixact offsets. */
for (const major of [17, 19] as const) {
  test(`a prepared transaction of PostgreSQL ${major} is in progress, and those of visible rows have committed`, () => {
    const states = statesOf(sharedFixture(major));
    for (const { transaction } of truthTable(major, "prepared_xacts.csv")) {
      assert.equal(states.statusOf(Number(transaction)), "in-progress");
    }
    const xmins = new Set(truthTable(major, "syscols.csv").map(({ xmin }) => Number(xmin)));
    for (const xmin of xmins) if (xmin >= 3) assert.equal(states.statusOf(xmin), "committed");
    assert.ok(xmins.size > 20);
  });

  test(`rows of PostgreSQL ${major} that several transactions locked tell whether one of them updated them`, () => {
    const states = statesOf(sharedFixture(major));
    const IS_MULTI = 0x1000;
    const LOCK_ONLY = 0x80;
    const seen = { locked: 0, updated: 0 };
    for (const item of truthTable(major, "heap_items.csv")) {
      const infomask = Number(item["t_infomask"]);
      if ((infomask & IS_MULTI) === 0) continue;
      const updater = states.updaterOf(Number(item["t_xmax"]));
      const isLocked = (infomask & LOCK_ONLY) !== 0;
      assert.equal(updater === undefined, isLocked);
      seen[isLocked ? "locked" : "updated"]++;
    }
    assert.ok(seen.locked > 0 && seen.updated > 0, JSON.stringify(seen));
  });
}

test("a state that pg_xact must have and has not is an error; one after the last checkpoint is none", () => {
  const datadir = makeSmallCluster();
  const nextXid = datadirAt(datadir).control.checkpoint.nextXid;
  truncateSync(join(datadir, "pg_xact/0000"), 0);
  assert.throws(() => statesOf(datadir).statusOf(nextXid - 1), {
    code: "format",
    message: `the state of transaction ${nextXid - 1} is not known: "pg_xact/0000" has no offset ${Math.floor((nextXid - 1) / 4)}`,
  });
  assert.equal(statesOf(datadir).statusOf(nextXid), "in-progress");
  rmSync(join(datadir, "pg_xact/0000"));
  assert.throws(() => statesOf(datadir).statusOf(5), { code: "format" });
});

test("nothing is newer than the last checkpoint of a clean stop; after another stop it can be", () => {
  const datadir = makeSmallCluster();
  const { nextXid } = datadirAt(datadir).control.checkpoint;
  assert.deepEqual(
    [nextXid - 1, nextXid, nextXid + 1].map((xid) => statesOf(datadir).isInFuture(xid)),
    [false, true, true],
  );
  setClusterState(datadir, "in production");
  assert.equal(statesOf(datadir).isInFuture(nextXid), false);
});

test("xids go round: the one before 3 is the newest of all", () => {
  assert.ok(xidPrecedes(2 ** 32 - 1, 3));
  assert.ok(!xidPrecedes(3, 2 ** 32 - 1));
  assert.ok(xidPrecedes(3, 2 ** 31));
  assert.deepEqual(xactPosition(2 ** 32 - 1, 8192), { path: "pg_xact/0FFF", offsetBytes: 262143 });
});

test("multixacts and their members are in files of 32 pages, whose names are longer in 19", () => {
  assert.deepEqual(multixactPosition(65536, 18, 8192), {
    path: "pg_multixact/offsets/0001",
    offsetBytes: 0,
  });
  assert.deepEqual(multixactPosition(32769, 19, 8192), {
    path: "pg_multixact/offsets/0001",
    offsetBytes: 8,
  });
  // 409 groups of 4 members in a page of 8 kB, and 12 bytes that are not used.
  assert.deepEqual(memberGroupPosition(1636, 18, 8192), {
    path: "pg_multixact/members/0000",
    offsetBytes: 8192,
  });
  assert.deepEqual(memberGroupPosition(32 * 1636 + 5, 19, 8192), {
    path: "pg_multixact/members/000000000000001",
    offsetBytes: 20,
  });
});

function statesOf(datadir: string): TransactionFiles {
  return new TransactionFiles(new NodeFileSystem(), datadirAt(datadir));
}
