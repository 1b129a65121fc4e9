/** The directories of the wider run, and how each shows that it came back. */
import assert from "node:assert/strict";
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { initializeCluster, PostgresServer } from "../../src/demo/postgres-server.ts";
import { giveTree } from "../../src/demo/server-user.ts";
import { serverHome, tableChecksums } from "../support/cluster.ts";
import { BLOCK_SIZE, makeSmallCluster, ORDINARY } from "../support/small-cluster.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

export interface OddDirectory {
  readonly name: string;
  readonly make: (datadir: string) => Promise<Made>;
}

interface Made {
  readonly assertSealed?: () => void;
  readonly assertSame: () => void | Promise<void>;
}

const MAJOR = 17;
const GIB = 2 ** 30;

export const ODD_DIRECTORIES: readonly OddDirectory[] = [
  { name: "200,000 relation files, two fifths of them empty", make: makeManyFiles },
  { name: "sparse relation of 32 GB in 32 segments", make: makeSparse },
  { name: "relation of 1.1 GB in two segments", make: makeTwoSegments },
  ...[1, 64, 1024].map((sizeMb) => ({
    name: `WAL segments of ${sizeMb} MB`,
    make: (datadir: string) => makeWithWal(datadir, sizeMb),
  })),
];

async function makeManyFiles(datadir: string): Promise<Made> {
  copyTree(makeSmallCluster(MAJOR), datadir);
  const page = readFileSync(join(datadir, ORDINARY)).subarray(0, BLOCK_SIZE);
  for (let database = 60001; database <= 60004; database++) {
    const folder = join(datadir, "base", String(database));
    mkdirSync(folder);
    for (let i = 0; i < 50_000; i++) {
      page.writeUInt32LE(i, BLOCK_SIZE - 4);
      const content = i % 5 < 2 ? "" : page;
      writeFileSync(join(folder, String(20_000 + i)), content, { mode: 0o600 });
    }
  }
  const before = treeOf(datadir);
  return { assertSame: () => assertSameTree(treeOf(datadir), before) };
}

/** One page in each segment is written; all others are holes. */
async function makeSparse(datadir: string): Promise<Made> {
  copyTree(makeSmallCluster(MAJOR), datadir);
  const page = readFileSync(join(datadir, ORDINARY)).subarray(0, BLOCK_SIZE);
  const position = 77 * BLOCK_SIZE;
  const segments = Array.from({ length: 32 }, (_, i) =>
    join(datadir, `base/1/70000${i === 0 ? "" : `.${i}`}`),
  );
  for (const path of segments) {
    const file = openSync(path, "w", 0o600);
    ftruncateSync(file, GIB);
    writeSync(file, page, 0, BLOCK_SIZE, position);
    closeSync(file);
  }
  const assertSparse = (): void => {
    for (const path of segments) {
      assert.ok(statSync(path).blocks * 512 < 2 ** 20, `${path} is not sparse any more`);
      assert.equal(statSync(path).size, GIB);
    }
  };
  assertSparse();
  return {
    assertSealed: assertSparse,
    assertSame: () => {
      assertSparse();
      for (const path of segments) {
        const file = openSync(path, "r");
        const found = Buffer.alloc(BLOCK_SIZE);
        readSync(file, found, 0, BLOCK_SIZE, position);
        closeSync(file);
        assert.deepEqual(found, page);
      }
    },
  };
}

function makeTwoSegments(datadir: string): Promise<Made> {
  return makeReal(datadir, {}, [
    "CREATE TABLE large (i int, filler text)",
    "ALTER TABLE large ALTER filler SET STORAGE PLAIN",
    "INSERT INTO large SELECT i, repeat('x', 8000) FROM generate_series(1, 145000) AS i",
  ]);
}

function makeWithWal(datadir: string, walSegmentSizeMb: number): Promise<Made> {
  return makeReal(datadir, { walSegmentSizeMb }, [
    "CREATE TABLE small AS SELECT i, repeat('w', 1000) FROM generate_series(1, 20000) AS i",
  ]);
}

/** A stopped cluster of a real server, which must start again with the same rows. */
async function makeReal(
  datadir: string,
  options: { walSegmentSizeMb?: number },
  statements: readonly string[],
): Promise<Made> {
  const home = serverHome(MAJOR);
  chmodSync(dirname(datadir), 0o711);
  initializeCluster(home, datadir, { checksums: true, ...options });
  giveTree(datadir, home.user);
  const rows = async (
    change: readonly string[],
  ): Promise<Awaited<ReturnType<typeof tableChecksums>>> => {
    const server = await PostgresServer.start(home, datadir);
    try {
      await server.run("postgres", ...change);
      return await tableChecksums(server);
    } finally {
      await server.stop();
    }
  };
  const before = await rows([...statements, "CHECKPOINT"]);
  const stopped = treeOf(datadir);
  return {
    assertSame: async () => {
      assertSameTree(treeOf(datadir), stopped);
      assert.deepEqual(await rows([]), before);
    },
  };
}
