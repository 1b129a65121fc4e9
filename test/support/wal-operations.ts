/**
 * Archives of WAL in the crash harness: archiving, restoring and re-keying, each stopped everywhere.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk } from "./crash-disk.ts";
import type { Operation } from "./crash-operations.ts";
import { litterIn } from "./disk-tree.ts";
import { KEY_FILE, SimulatedTde } from "./simulated-tde.ts";
import { walSegment, walSegmentName } from "./wal-segment.ts";

const PG_WAL = "/srv/data/pg_wal" as BytePath;
const ARCHIVE = "/srv/archive" as BytePath;
const NAMES = [1, 2, 3].map((number) => walSegmentName({ number }) as BytePath);
const SEGMENTS = [1, 2, 3].map((number) =>
  walSegment({ number, seed: number, noiseBytes: 50_000 }),
);
/** What the server asks for it under. */
const TARGET = joinPath(PG_WAL, "RECOVERYXLOG");
const FILE_LIMIT_BYTES = 2 ** 24;

export const WAL_OPERATIONS: readonly Operation[] = [
  {
    ...common("wal archive", () => walDisk(0)),
    run: (tde) => archiveAll(tde, 2),
    always: (disk) => assertWholeOrAbsent(disk, 2),
    check: async (disk, finished) => {
      assert.deepEqual(finished ? litterIn(disk, "/srv" as BytePath) : [], []);
      await assertWholeOrAbsent(disk, 2, finished ? 2 : 0);
    },
  },
  {
    ...common("wal restore", () => walDisk(1)),
    run: async (tde) => {
      const name = NAMES[0] as BytePath;
      assert.equal(await tde.restoreWal(joinPath(ARCHIVE, name), TARGET), "restored");
    },
    always: async (disk) => assertRestored(disk, false),
    check: async (disk, finished) => assertRestored(disk, finished),
  },
  {
    ...common("rotate --wal", async () => {
      const disk = await walDisk(3);
      await new SimulatedTde(disk).changeKeyring(async (keyring, state) => keyring.newKey(state));
      return settled(disk);
    }),
    run: async (tde) => {
      await tde.rotateWal(ARCHIVE);
    },
    always: (disk) => assertWholeOrAbsent(disk, 3, 3),
    check: async (disk, finished) => {
      assert.deepEqual(finished ? litterIn(disk, "/srv" as BytePath) : [], []);
      await assertWholeOrAbsent(disk, 3, 3);
      if (!finished) return;
      const { files, load } = await new SimulatedTde(disk.copy()).rotateWal(ARCHIVE);
      assert.equal(files, 0);
      assert.deepEqual([...load.keys()], [2]);
    },
  },
];

function common(
  name: string,
  prepare: () => Promise<CrashDisk>,
): Pick<Operation, "name" | "prepare" | "repairs" | "provesReads"> {
  return { name, prepare, repairs: ["again"], provesReads: true };
}

/** Keys, a server's pg_wal with three segments, and an archive with the first `archived` of them. */
async function walDisk(archived: number): Promise<CrashDisk> {
  const disk = new CrashDisk();
  for (const folder of ["/keys", "/srv", "/srv/data", PG_WAL, ARCHIVE]) {
    disk.makeDirectory(folder as BytePath, 0o700);
  }
  const tde = new SimulatedTde(disk);
  tde.createKeyFile(KEY_FILE);
  await tde.createKeyring();
  for (const [i, content] of SEGMENTS.entries()) {
    const file = disk.create(joinPath(PG_WAL, NAMES[i] ?? ""), 0o600);
    writeAll(file, content, 0, content.length, 0);
    file.sync();
    file.close();
  }
  await archiveAll(tde, archived);
  return settled(disk);
}

/** All of it durable. */
function settled(disk: CrashDisk): CrashDisk {
  return disk.reboot({ survivors: "everything" });
}

async function archiveAll(tde: SimulatedTde, count: number): Promise<void> {
  for (const name of NAMES.slice(0, count)) {
    await tde.archiveWal(joinPath(PG_WAL, name), joinPath(ARCHIVE, name));
  }
}

/** The sources are as they were; of the archive each file opens to its segment, and none is missing that must be there. */
async function assertWholeOrAbsent(disk: CrashDisk, count: number, atLeast = 0): Promise<void> {
  const look = disk.copy();
  let found = 0;
  for (const [i, name] of NAMES.slice(0, count).entries()) {
    const content = SEGMENTS[i] ?? Buffer.alloc(0);
    assert.ok(content.equals(readWholeFile(look, joinPath(PG_WAL, name), FILE_LIMIT_BYTES)));
    if (look.stat(joinPath(ARCHIVE, name)) === undefined) continue;
    found++;
    const outcome = await new SimulatedTde(look).restoreWal(joinPath(ARCHIVE, name), TARGET);
    assert.equal(outcome, "restored");
    assert.ok(content.equals(readWholeFile(look, TARGET, FILE_LIMIT_BYTES)), `${name} is another`);
  }
  assert.ok(found >= atLeast, `${found} of ${atLeast} files are in the archive`);
}

function assertRestored(disk: CrashDisk, finished: boolean): void {
  const look = disk.copy();
  if (look.stat(TARGET) === undefined) return assert.ok(!finished, "nothing was restored");
  assert.ok(SEGMENTS[0]?.equals(readWholeFile(look, TARGET, FILE_LIMIT_BYTES)));
}
