/**
 * The operations that the crash harness stops everywhere, as a table: a new command joins by one entry. Each says how
 * its disk looks before, what the command does, how it is repaired afterwards, and what must then be true.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { readAutoConf } from "../../src/engine/guard.ts";
import { SEALED_PAGE_MARK } from "../../src/format/page-message.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import { StateError, TdeError } from "../../src/errors.ts";
import { scopeFilter, serializeScope, WHOLE_CLUSTER } from "../../src/format/scope.ts";
import { PAGE_HEADER } from "../../src/postgres/page.ts";
import { readWholeFile } from "../../src/storage/file-io.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import { parseRelationPath, sidecarName } from "../../src/datadir/relation-path.ts";
import { JOURNAL_NAME } from "../../src/storage/journal.ts";
import { KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { crashCluster, RELATIONS, ROOT, TABLESPACE } from "./crash-cluster.ts";
import { beforeWork, nightOfWork } from "./crash-source.ts";
import type { CrashDisk } from "./crash-disk.ts";
import { KEY_FILE, KEYRING, OTHER_KEY_FILE, SimulatedTde } from "./simulated-tde.ts";
import { WAL_OPERATIONS } from "./wal-operations.ts";
import { WAL_READABLE_OPERATIONS } from "./wal-readable-operations.ts";
import { assertSameFiles, type DiskTree, diskTree, litterIn } from "./disk-tree.ts";

/** How a user goes on after a crash: `tde recover`, or the same command again. */
export type Repair = "recover" | "again";

export interface Operation {
  readonly name: string;
  readonly repairs: readonly Repair[];
  /** The disk before it, all of it durable. */
  readonly prepare: () => Promise<CrashDisk>;
  readonly run: (tde: SimulatedTde) => Promise<void>;
  readonly recover?: (tde: SimulatedTde) => Promise<unknown>;
  /** Whether all that it reads is authenticated, so that a read that returns changed bytes is noticed. */
  readonly provesReads: boolean;
  /** What holds at every moment, also while nothing is repaired yet. */
  readonly always: (disk: CrashDisk) => Promise<void>;
  /** @param finished - whether it must have come to its end; otherwise it may also be as if it had never begun. */
  readonly check: (disk: CrashDisk, finished: boolean) => Promise<void>;
}

export const OUTPUT = "/srv/new" as BytePath;
export const OUTPUT_TABLESPACE = "/srv/new_ts" as BytePath;
const INTO = { output: OUTPUT, tablespaceMapping: new Map([[TABLESPACE, OUTPUT_TABLESPACE]]) };

/** Of the database with the most files: one relation of it stays out, in two segments. */
const PART: ScopeSelection = {
  ...NOTHING_SELECTED,
  databases: ["5" as BytePath],
  exclude: ["base/5/1259" as BytePath],
};
const PART_TEXT = "database:5 except relation:1663/5/1259";

export const OPERATIONS: readonly Operation[] = [
  inPlace("encrypt-datadir", plainDisk, encrypt, assertEncrypted),
  inPlace("decrypt-datadir", encryptedDisk, decrypt, assertPlain),
  inPlace(
    "encrypt-datadir of what was added since",
    addedToDisk,
    encrypt,
    assertAddedEncrypted,
    async (disk) => {
      await encrypt(new SimulatedTde(disk));
      await assertAddedEncrypted(disk);
    },
  ),
  inPlace("rotate", newKeyDisk, rotate, assertRotated),
  // A file that cannot be opened ends a rotation, which then has to be asked for once more.
  inPlace(
    "recover of a rotation",
    () => crashedDisk(newKeyDisk, rotate),
    async (tde) => {
      await recover(tde);
      await rotate(tde);
    },
    assertRotated,
  ),
  leading("encrypt-datadir of a part", plainDisk, encryptPart, PART_TEXT),
  leading("encrypt-datadir of a wider scope", partlyEncryptedDisk, encrypt, "all"),
  inPlace(
    "recover of an encryption",
    () => crashedDisk(plainDisk, encrypt),
    recover,
    assertEncrypted,
  ),
  inPlace(
    "recover of a decryption",
    () => crashedDisk(encryptedDisk, decrypt),
    recover,
    assertPlain,
  ),
  intoOutput("encrypt-datadir --output", plainDisk, (tde) => tde.encrypt(ROOT, INTO)),
  intoOutput("decrypt-datadir --output", encryptedDisk, (tde) => tde.decrypt(ROOT, INTO)),
  intoOutput("recover of encrypt-datadir --output", () =>
    crashedDisk(plainDisk, (tde) => tde.encrypt(ROOT, INTO)),
  ),
  syncInto("sync", behindDisk),
  syncInto("sync that goes on", () => crashedDisk(behindDisk, (tde) => tde.sync(ROOT, OUTPUT))),
  keyringChange("keyring create", diskWithKeyFile, (tde) => tde.createKeyring(), 0),
  keyringChange("keyring new-key", plainDisk, (tde) =>
    tde.changeKeyring(async (keyring, state) => keyring.newKey(state)),
  ),
  keyringChange("keyring rewrap", twoKeyFilesDisk, (tde) =>
    tde.changeKeyring((keyring) =>
      keyring.rewrap(1, new KeyFileProvider(tde.disk, OTHER_KEY_FILE)),
    ),
  ),
  keyringChange("keyring remove-recipient", twoRecipientsDisk, (tde) =>
    tde.changeKeyring((keyring) =>
      keyring.removeRecipients([2], [new KeyFileProvider(tde.disk, KEY_FILE)]),
    ),
  ),
  ...WAL_OPERATIONS,
  ...WAL_READABLE_OPERATIONS,
];

function inPlace(
  name: string,
  prepare: () => Promise<CrashDisk>,
  command: (tde: SimulatedTde) => Promise<unknown>,
  assertDone: (disk: CrashDisk) => Promise<void>,
  assertNotBegun: (disk: CrashDisk) => Promise<void> = assertWhole,
): Operation {
  return {
    name,
    repairs: ["recover", "again"],
    provesReads: assertDone === assertPlain || assertDone === assertRotated,
    prepare,
    run: async (tde) => void (await command(tde)),
    recover: recoverIfBegun,
    always: (disk) =>
      assertSafe(disk, ROOT, assertDone === assertRotated ? assertWhole : assertDone),
    async check(disk, finished): Promise<void> {
      assert.deepEqual(litterIn(disk, "/srv" as BytePath), []);
      if (finished) await assertDone(disk);
      else await assertNotBegun(disk);
    },
  };
}

/** An encryption in place that ends with a certain scope, and with nothing sealed that is out of it. */
function leading(
  name: string,
  prepare: () => Promise<CrashDisk>,
  command: (tde: SimulatedTde) => Promise<unknown>,
  scope: string,
): Operation {
  const operation = inPlace(name, prepare, command, assertEncrypted);
  return {
    ...operation,
    async check(disk, finished): Promise<void> {
      await operation.check(disk, finished);
      if (disk.stat(joinPath(ROOT, "tde.manifest")) === undefined) return;
      const found = await assertScopeHolds(disk);
      if (finished) assert.equal(found, scope);
    },
  };
}

/** @returns the scope of the manifest, of which the files themselves are no other. */
async function assertScopeHolds(disk: CrashDisk): Promise<string> {
  const { scope = WHOLE_CLUSTER } = await new SimulatedTde(disk.copy()).verify(ROOT);
  const isInScope = scopeFilter(scope);
  const { major, catalogVersion, blocksPerSegment } = openDatadir(disk, ROOT);
  for (const path of RELATIONS) {
    const relative = path.slice(ROOT.length + 1) as BytePath;
    const file = parseRelationPath(relative, { major, catalogVersion, blocksPerSegment });
    const isEmpty = disk.stat(path)?.sizeBytes === 0;
    assert.ok(file !== undefined);
    assert.equal(isSealed(disk, path), isInScope(file) && !isEmpty, path);
  }
  return serializeScope(scope);
}

function intoOutput(
  name: string,
  prepare: () => Promise<CrashDisk>,
  command?: (tde: SimulatedTde) => Promise<unknown>,
): Operation {
  let untouched: Promise<DiskTree> | undefined;
  return {
    name,
    repairs: command === undefined ? ["recover"] : ["recover", "again"],
    provesReads: prepare === encryptedDisk,
    prepare,
    async run(tde): Promise<void> {
      try {
        await (command?.(tde) ?? tde.recover(OUTPUT));
      } catch (error) {
        // Refused because it is done: then the check finds the whole of it there.
        const isDone = /is not an empty directory|was filled by an earlier run, which is ended now/;
        if (!(error instanceof StateError) || !isDone.test(error.message)) throw error;
      }
    },
    async recover(tde): Promise<void> {
      // A directory that never came to be needs no recovery.
      if (tde.disk.stat(OUTPUT) !== undefined) await tde.recover(OUTPUT);
    },
    async always(disk): Promise<void> {
      untouched ??= prepare().then((before) => diskTree(before, ROOT));
      assertSameFiles(diskTree(disk, ROOT), await untouched);
      if (disk.stat(joinPath(OUTPUT, "PG_VERSION")) === undefined) return;
      assertGuarded(disk, OUTPUT);
      if (readAutoConf(disk.copy(), OUTPUT) === "guard") return;
      // A server could start on it.
      const ended = disk.copy();
      await new SimulatedTde(ended).recover(OUTPUT);
      await assertWhole(ended, OUTPUT);
    },
    async check(disk, finished): Promise<void> {
      assert.deepEqual(litterIn(disk, "/srv" as BytePath), []);
      const mustExist = finished && command !== undefined;
      if (!mustExist && isEmptyOrAbsent(disk, OUTPUT)) {
        assert.ok(isEmptyOrAbsent(disk, OUTPUT_TABLESPACE), "the tablespace is not empty");
      } else {
        await assertWhole(disk, OUTPUT);
      }
    },
  };
}

/** The source is ROOT, which stays as it is; the copy is OUTPUT. */
function syncInto(name: string, prepare: () => Promise<CrashDisk>): Operation {
  return {
    name,
    repairs: ["recover", "again"],
    provesReads: false,
    prepare,
    run: async (tde) => void (await tde.sync(ROOT, OUTPUT)),
    async recover(tde): Promise<void> {
      try {
        await tde.recover(OUTPUT);
      } catch (error) {
        // What was half written is whole; the rest is the source's. Or it had not begun.
        const expected = /is between two states|its journal is missing$/;
        if (!(error instanceof StateError) || !expected.test(error.message)) throw error;
      }
    },
    async always(disk): Promise<void> {
      assertSameFiles(diskTree(disk, ROOT), await newTree());
      assertGuarded(disk, OUTPUT);
      await assertSafe(disk, OUTPUT, assertOldOrNew);
    },
    async check(disk, finished): Promise<void> {
      const isUnfinished = disk.stat(joinPath(OUTPUT, JOURNAL_NAME)) !== undefined;
      assert.ok(!isUnfinished || !finished);
      if (isUnfinished) {
        await assert.rejects(new SimulatedTde(disk.copy()).decrypt(OUTPUT), StateError);
        await new SimulatedTde(disk).sync(ROOT, OUTPUT);
      }
      assert.deepEqual(litterIn(disk, "/srv" as BytePath), []);
      if (finished || isUnfinished) await assertEncrypted(disk, OUTPUT, await newTree());
      else await assertOldOrNew(disk);
    },
  };
}

function keyringChange(
  name: string,
  prepare: () => Promise<CrashDisk>,
  command: (tde: SimulatedTde) => Promise<unknown>,
  keysBefore = 1,
): Operation {
  return {
    name,
    repairs: ["again"],
    provesReads: true,
    prepare,
    async run(tde): Promise<void> {
      try {
        await command(tde);
      } catch (error) {
        // Done already: a keyring is not created twice, and a recipient not removed twice.
        if (!(error instanceof TdeError) || !/exists already|has no recipient/.test(error.message))
          throw error;
      }
    },
    async always(disk): Promise<void> {
      // Old or new, but whole, and the keys of old are in it.
      if (disk.stat(KEYRING) === undefined) return assert.equal(keysBefore, 0);
      const keyring = await new SimulatedTde(disk.copy()).openKeyring();
      assert.ok(keyring.file.keys.length >= keysBefore);
    },
    async check(disk): Promise<void> {
      const tde = new SimulatedTde(disk);
      await tde.changeKeyring(async (keyring, state) => keyring.newKey(state));
      assert.deepEqual(litterIn(disk, "/keys" as BytePath), []);
      if (keysBefore > 0 && disk.stat(ROOT) !== undefined) {
        await tde.encrypt(ROOT);
        await assertEncrypted(disk);
      }
    },
  };
}

async function encrypt(tde: SimulatedTde): Promise<void> {
  await tde.encrypt(ROOT);
}

async function encryptPart(tde: SimulatedTde): Promise<void> {
  await tde.encrypt(ROOT, undefined, PART);
}

/** Decrypting twice is refused; that is as good as done. */
async function decrypt(tde: SimulatedTde): Promise<void> {
  try {
    await tde.decrypt(ROOT);
  } catch (error) {
    if (!(error instanceof StateError) || !error.message.endsWith("is not encrypted")) throw error;
  }
}

async function rotate(tde: SimulatedTde): Promise<void> {
  await tde.rotate(ROOT, 1);
}

/** Of a run that is registered and has no journal yet nobody knows that: the same command again replaces it. */
async function recoverIfBegun(tde: SimulatedTde): Promise<void> {
  try {
    await tde.recover(ROOT);
  } catch (error) {
    if (!(error instanceof StateError) || !error.message.endsWith("its journal is missing"))
      throw error;
    assert.equal(tde.disk.stat(joinPath(ROOT, JOURNAL_NAME)), undefined);
  }
}

async function recover(tde: SimulatedTde): Promise<void> {
  await tde.recover(ROOT);
}

async function diskWithKeyFile(): Promise<CrashDisk> {
  const disk = crashCluster();
  disk.makeDirectory("/keys" as BytePath, 0o700);
  new SimulatedTde(disk).createKeyFile(KEY_FILE);
  return disk.copy();
}

let plain: Promise<CrashDisk> | undefined;
async function plainDisk(): Promise<CrashDisk> {
  plain ??= makePlainDisk();
  return (await plain).copy();
}

async function makePlainDisk(): Promise<CrashDisk> {
  const disk = await diskWithKeyFile();
  const tde = new SimulatedTde(disk);
  await tde.createKeyring();
  return disk.copy();
}

let behind: Promise<CrashDisk> | undefined;
/** An encrypted copy in OUTPUT, and a plain original in ROOT that has gone on since. */
async function behindDisk(): Promise<CrashDisk> {
  behind ??= makeBehindDisk();
  return (await behind).copy();
}

async function makeBehindDisk(): Promise<CrashDisk> {
  const disk = await plainDisk();
  beforeWork(disk);
  await new SimulatedTde(disk).encrypt(ROOT, INTO);
  oldTree = diskTree(disk, ROOT);
  nightOfWork(disk);
  return disk.copy();
}

let oldTree: DiskTree | undefined;
async function newTree(): Promise<DiskTree> {
  return diskTree(await behindDisk(), ROOT);
}

async function assertOldOrNew(disk: CrashDisk): Promise<void> {
  const copy = disk.copy();
  await new SimulatedTde(copy).decrypt(OUTPUT);
  const control = "global/pg_control";
  const expected = await newTree();
  const tree = diskTree(copy, OUTPUT);
  const isNew = tree.get(control)?.content?.equals(expected.get(control)?.content ?? NOTHING);
  assertSameFiles(tree, isNew === true ? expected : (oldTree ?? expected));
}

const NOTHING = Buffer.alloc(0);

let encrypted: Promise<CrashDisk> | undefined;
async function encryptedDisk(): Promise<CrashDisk> {
  encrypted ??= makeEncryptedDisk();
  return (await encrypted).copy();
}

async function makeEncryptedDisk(): Promise<CrashDisk> {
  const disk = await plainDisk();
  await encrypt(new SimulatedTde(disk));
  return disk.copy();
}

/** Encrypted under key 1, with key 2 as the current one. */
let newKey: Promise<CrashDisk> | undefined;
async function newKeyDisk(): Promise<CrashDisk> {
  newKey ??= makeNewKeyDisk();
  return (await newKey).copy();
}

async function makeNewKeyDisk(): Promise<CrashDisk> {
  const disk = await encryptedDisk();
  await new SimulatedTde(disk).changeKeyring(async (keyring, state) => keyring.newKey(state));
  return disk.copy();
}

let partlyEncrypted: Promise<CrashDisk> | undefined;
async function partlyEncryptedDisk(): Promise<CrashDisk> {
  partlyEncrypted ??= plainDisk().then(async (disk) => {
    await encryptPart(new SimulatedTde(disk));
    return disk.copy();
  });
  return (await partlyEncrypted).copy();
}

/** What a user might add to an encrypted directory: plain files that its manifest does not name. */
const ADDED = [
  ["base/5/1259", "base/5/2700"],
  ["log/postgresql.log", "log/second.log"],
] as const;

async function addedToDisk(): Promise<CrashDisk> {
  const disk = await encryptedDisk();
  addFiles(disk, await plainDisk());
  return disk.copy();
}

function addFiles(disk: CrashDisk, from: CrashDisk): void {
  for (const [source, target] of ADDED) {
    const path = joinPath(ROOT, source);
    const stat = from.stat(path);
    assert.ok(stat !== undefined);
    const content = readWholeFile(from, path, 2 ** 24);
    const file = disk.create(joinPath(ROOT, target), 0o600);
    file.write(content, 0, content.length, 0);
    file.setAttributes(stat);
    file.close();
  }
}

/** Encrypted with the added files, which come back, too. */
async function assertAddedEncrypted(disk: CrashDisk): Promise<void> {
  const original = await plainDisk();
  addFiles(original, await plainDisk());
  await assertEncrypted(disk, ROOT, diskTree(original, ROOT));
}

async function twoKeyFilesDisk(): Promise<CrashDisk> {
  const disk = await plainDisk();
  new SimulatedTde(disk).createKeyFile(OTHER_KEY_FILE);
  return disk.copy();
}

async function twoRecipientsDisk(): Promise<CrashDisk> {
  const disk = await twoKeyFilesDisk();
  await new SimulatedTde(disk).changeKeyring((keyring) =>
    keyring.addRecipient(new KeyFileProvider(disk, OTHER_KEY_FILE), "other"),
  );
  return disk.copy();
}

/** Stopped in the middle, with all that it had written. */
async function crashedDisk(
  prepare: () => Promise<CrashDisk>,
  command: (tde: SimulatedTde) => Promise<unknown>,
): Promise<CrashDisk> {
  const before = await prepare();
  const whole = before.copy();
  await command(new SimulatedTde(whole));
  const disk = before.copy({ crashAt: Math.floor(whole.steps * 0.6) });
  await assert.rejects(command(new SimulatedTde(disk)));
  return disk.copy();
}

/** A relation file is ciphertext only behind a guard, and with its sidecar, or a journal that brings it. */
async function assertSafe(
  disk: CrashDisk,
  root: BytePath,
  assertDone: (disk: CrashDisk) => Promise<void>,
): Promise<void> {
  assertGuarded(disk, root);
  const copy = disk.copy();
  let ok: boolean;
  try {
    ok = (await new SimulatedTde(copy).verify(root)).ok;
  } catch (error) {
    if (!(error instanceof TdeError)) throw error;
    return;
  }
  // What verify accepts must be whole.
  if (ok) await (assertDone === assertPlain ? assertEncrypted(copy) : assertDone(copy));
}

function assertGuarded(disk: CrashDisk, root: BytePath): void {
  const look = disk.copy();
  for (const path of RELATIONS) {
    const here = path.replace(ROOT, root) as BytePath;
    if (look.stat(here) === undefined || !isSealed(look, here)) continue;
    assert.equal(readAutoConf(look, root), "guard", `${here} is sealed, and there is no guard`);
    const hasSidecar = look.stat(sidecarName(here)) !== undefined;
    const hasJournal = look.stat(joinPath(root, JOURNAL_NAME)) !== undefined;
    assert.ok(hasSidecar || hasJournal, `${here} is sealed and has no sidecar`);
  }
}

function isSealed(disk: CrashDisk, path: BytePath): boolean {
  const content = readWholeFile(disk, path, 2 ** 24);
  return (
    content.length >= 8192 && (content.readUInt16LE(PAGE_HEADER.flags) & SEALED_PAGE_MARK) !== 0
  );
}

/** Wholly encrypted or wholly plain. */
async function assertWhole(disk: CrashDisk, root: BytePath = ROOT): Promise<void> {
  const isEncrypted = disk.stat(joinPath(root, "tde.manifest")) !== undefined;
  if (isEncrypted) await assertEncrypted(disk, root);
  else await assertPlain(disk, root);
}

async function assertEncrypted(
  disk: CrashDisk,
  root: BytePath = ROOT,
  plainTree?: DiskTree,
): Promise<void> {
  const copy = disk.copy();
  const tde = new SimulatedTde(copy);
  const report = await tde.verify(root);
  assert.deepEqual(report.problems, []);
  assert.ok(report.ok);
  await tde.decrypt(root);
  await assertPlain(copy, root, plainTree);
}

/** Encrypted, and nothing in it names key 1 any more. */
async function assertRotated(disk: CrashDisk): Promise<void> {
  const report = await new SimulatedTde(disk.copy()).verify(ROOT);
  assert.deepEqual(
    report.keys.map(({ keyId }) => keyId),
    [2],
  );
  await assertEncrypted(disk);
}

async function assertPlain(
  disk: CrashDisk,
  root: BytePath = ROOT,
  plainTree?: DiskTree,
): Promise<void> {
  assertSameFiles(diskTree(disk, root), plainTree ?? (await originalTree()));
}

let original: Promise<DiskTree> | undefined;
function originalTree(): Promise<DiskTree> {
  original ??= plainDisk().then((disk) => diskTree(disk, ROOT));
  return original;
}

function isEmptyOrAbsent(disk: CrashDisk, path: BytePath): boolean {
  return disk.stat(path) === undefined || disk.readDirectory(path).length === 0;
}
