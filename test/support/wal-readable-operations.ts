/**
 * `tde wal encrypt` and `decrypt` in the crash harness: segments with a record across each end, at every moment either
 * plain or stored whole.
 */
import assert from "node:assert/strict";
import { type BytePath, bytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { containerHeaderOf, readSealedFile, sealBytes } from "../../src/datadir/sealed-file.ts";
import { sealedInPgWalAs } from "../../src/engine/wal-archive/sealed-wal.ts";
import { isStoredSegment, readStoredSegment } from "../../src/engine/wal-readable/read-stored.ts";
import { readWalFolder } from "../../src/engine/wal-readable/wal-folder.ts";
import { readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { CrashDisk } from "./crash-disk.ts";
import type { Operation } from "./crash-operations.ts";
import { litterIn } from "./disk-tree.ts";
import { KEY_FILE, SimulatedTde } from "./simulated-tde.ts";
import { crossing } from "./wal-folders.ts";
import { SEGMENT } from "./written-wal.ts";

const FOLDER = "/wal" as BytePath;

const writer = crossing();
const SEGMENTS = writer.segments.map((bytes, i) => ({ name: bytePath(writer.name(i)), bytes }));

type State = "plain" | "stored" | "whole";

export const WAL_READABLE_OPERATIONS: readonly Operation[] = [
  {
    name: "wal encrypt",
    repairs: ["again"],
    // What it reads is plain, and says itself no more than its CRCs do.
    provesReads: false,
    prepare: () => disk("plain"),
    run: (tde) => tde.encryptWal(FOLDER),
    always: async (look) => void (await statesOn(look)),
    check: (look, finished) => assertAre(look, finished, "stored"),
  },
  {
    name: "wal decrypt",
    repairs: ["again"],
    provesReads: true,
    prepare: () => disk("stored"),
    run: (tde) => tde.decryptWal(FOLDER),
    always: async (look) => void (await statesOn(look)),
    check: (look, finished) => assertAre(look, finished, "plain"),
  },
  {
    name: "wal decrypt of segments that are sealed whole",
    repairs: ["again"],
    provesReads: true,
    prepare: () => disk("whole"),
    run: (tde) => tde.decryptWal(FOLDER),
    always: async (look) => void (await statesOn(look)),
    check: (look, finished) => assertAre(look, finished, "plain"),
  },
  {
    name: "rotate --wal of readable segments",
    repairs: ["again"],
    provesReads: true,
    prepare: async () => {
      const made = await disk("stored");
      const tde = new SimulatedTde(made);
      await tde.changeKeyring(async (keyring, state) => keyring.newKey(state));
      return made.reboot({ survivors: "everything" });
    },
    run: (tde) => tde.rotateReadable(FOLDER),
    // Between its two renames a segment is whole under its working name: any run over the folder ends that first.
    always: async (look) => {
      const next = look.copy();
      await new SimulatedTde(next).encryptWal(FOLDER);
      assert.deepEqual(new Set(await statesOn(next)), new Set(["stored"]));
    },
    check: async (look, finished) => {
      if (!finished) await new SimulatedTde(look).encryptWal(FOLDER);
      await assertAre(look, true, "stored");
      if (finished) assert.deepEqual(keysOf(look), new Set([2]));
    },
  },
];

function keysOf(look: CrashDisk): Set<number | undefined> {
  return new Set(readWalFolder(look, FOLDER).segments.map(({ keyId }) => keyId));
}

async function disk(state: State): Promise<CrashDisk> {
  const made = new CrashDisk();
  for (const folder of ["/keys", FOLDER]) made.makeDirectory(folder as BytePath, 0o700);
  const tde = new SimulatedTde(made);
  tde.createKeyFile(KEY_FILE);
  await tde.createKeyring();
  for (const { name, bytes } of SEGMENTS) {
    const file = made.create(joinPath(FOLDER, name), 0o600);
    writeAll(file, bytes, 0, bytes.length, 0);
    file.close();
  }
  if (state === "stored") await tde.encryptWal(FOLDER);
  if (state === "whole") await sealWhole(made, tde);
  return made.reboot({ survivors: "everything" });
}

/** As encrypt-datadir seals the segments of pg_wal with --wal sealed. */
async function sealWhole(made: CrashDisk, tde: SimulatedTde): Promise<void> {
  const keys = (await tde.openKeyring()).dataKeys();
  for (const { name, bytes } of SEGMENTS) {
    made.remove(joinPath(FOLDER, name));
    const file = made.create(joinPath(FOLDER, name), 0o600);
    const context = sealedInPgWalAs(name);
    sealBytes(bytes, file, {
      keys,
      systemIdentifier: writer.system,
      context,
      chunkSizeBytes: 2 ** 18,
    });
    file.close();
  }
}

/** Of each segment, each of which opens to what it was. */
async function statesOn(look: CrashDisk): Promise<State[]> {
  const keys = (await new SimulatedTde(look).openKeyring()).dataKeys();
  return SEGMENTS.map(({ name, bytes }) => {
    const path = joinPath(FOLDER, name);
    if (containerHeaderOf(look, path) !== undefined) {
      const options = { keys, context: sealedInPgWalAs(name) };
      assert.ok(bytes.equals(readSealedFile(look, path, SEGMENT, options)), `${name} is another`);
      return "whole";
    }
    const isStored = isStoredSegment(look, FOLDER, name);
    const original = isStored
      ? readStoredSegment(look, FOLDER, name, keys).segment
      : readWholeFile(look, joinPath(FOLDER, name), SEGMENT);
    assert.ok(bytes.equals(original), `${name} is another`);
    return isStored ? "stored" : "plain";
  });
}

async function assertAre(look: CrashDisk, finished: boolean, state: State): Promise<void> {
  const states = await statesOn(look);
  if (!finished) return;
  assert.deepEqual(litterIn(look, FOLDER), []);
  assert.deepEqual(new Set(states), new Set([state]));
  const files = look.readDirectory(FOLDER).length;
  assert.equal(files, state === "stored" ? 2 * SEGMENTS.length : SEGMENTS.length);
}
