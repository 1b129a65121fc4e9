/**
 * Decrypts a data directory in place: everything that can be checked without writing is checked first, then batch
 * by batch plain files take the place of sealed ones, each page only after its tag held. Guard, manifest, sidecars and
 * containers' tags stay until every file is done. After a crash the same call goes on: a file that is plain already must
 * give the tags that are kept of it, everything else is opened.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { IntegrityError, StateError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { CONTROL_FILE_BYTES, sameButForChecksums } from "../postgres/control-file.ts";
import { attributesAt } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { holds } from "../storage/read-back.ts";
import { type JournalHeader, removeUnbornJournal } from "../storage/journal.ts";
import type { RunContext } from "../workers/perform.ts";
import type { TaskRunner } from "../workers/runner.ts";
import {
  type AcceptedChange,
  type AcceptedFile,
  Acceptance,
  acceptedFiles,
} from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { assertDecrypted } from "./run/as-ended.ts";
import { hasLock, lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { directoryLoad } from "./directory-load.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import { retiredKeyNotices } from "./retired-keys.ts";
import {
  AUTO_CONF,
  digestOfGuard,
  linesAddedToGuard,
  openOriginalAutoConf,
  readAutoConf,
  removeGuard,
  sameOriginal,
  SEALED_AUTO_CONF,
  settingsAddedToGuard,
  withLines,
} from "./guard.ts";
import { fileOf, writeDurably } from "./new-file.ts";
import { countToOpen, openAll, type Opening } from "./open-all.ts";
import { assertNotMoved, HINT_OF_BEGINNING, movedLinks } from "./moved-links.ts";
import { narrowFolders } from "./narrow-folders.ts";
import { KeptTags } from "./run/kept-tags.ts";
import { removeKeptSidecars, settleDecryption, type SettledFiles } from "./settle-decryption.ts";
import {
  assertManifestOfRun,
  hasManifest,
  manifestIsMissing,
  openJudgedManifest,
  openManifestOfRun,
} from "./open-manifest.ts";
import { assertLinksOwn } from "./shared-links.ts";
import { assertIntact } from "./structure-check.ts";
import { assertEncrypted } from "./verify-datadir.ts";
import { removeWorkingFiles } from "./run/working-files.ts";

export interface DecryptOptions {
  readonly root: BytePath;
  readonly acceptOlder: boolean;
  /** pg_wal and tablespaces may lead elsewhere than when the directory was encrypted. */
  readonly acceptMoved?: boolean | undefined;
  /** Put the original pg_control back, whatever was changed in it. */
  readonly restoreControl: boolean;
  /** Carry over what a restore tool added beside the guard, and signal files. */
  readonly keepRecoverySettings: boolean;
  /** Configuration files to take as they are now, whatever the manifest says of them. */
  readonly acceptChanged: readonly BytePath[];
  readonly dryRun: boolean;
}

export interface DecryptReport {
  /** ended-before: an interrupted run had decrypted and checked every file; of some nothing is left to check them again. */
  readonly outcome: "decrypted" | "dry-run" | "ended-before";
  readonly files: number;
  readonly bytes: number;
  /** Files that an interrupted run had opened, and that gave their tags once more. */
  readonly checkedAgain: number;
  /**
   * Files of which nothing is left that would tell whether they are still what was decrypted: an interrupted run was
   * taking that away. "all": nor is it known how many there are.
   */
  readonly unchecked: number | "all";
  readonly controlRestored: boolean;
  /** Settings and signal files that were left out, or kept. */
  readonly recoverySettings: readonly string[];
  readonly recoverySettingsKept: boolean;
  /** Configuration that is not what was encrypted, and was taken as it is. */
  readonly accepted: readonly AcceptedFile[];
}

/** What the journal keeps of the options. */
interface DecryptPlan {
  readonly keepRecoverySettings: boolean;
  /** Signal files that were not there when the directory was encrypted. */
  readonly addedSignals: readonly string[];
  readonly accepted: readonly AcceptedChange[];
  /** SHA-256 of the guard with what stands beside it, 64 hex digits. */
  readonly guardDigest: string;
  /** The lines beside the guard, base64. */
  readonly addedLines: string;
}

/**
 * @throws {StateError} when the directory is in use or not encrypted. @throws {IntegrityError} when something does
 *   not authenticate: before the first change, but for a page whose tag fails, which stops a run that can go on once
 *   the file is restored. @throws {KeyError} {StorageError}.
 */
export async function decryptDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  options: DecryptOptions,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { root } = options;
  const acceptance = new Acceptance(options.acceptChanged);
  const unlocked = openDatadir(fs, root);
  assertNotInUse(fs, unlocked, { assumeStopped: true });
  if (options.dryRun) {
    unfinishedRun(fs, root, undefined, keyContext.memory);
    return begin(engine, keyContext, unlocked, options, acceptance);
  }
  // A directory that is none of ours gets no lock, but one that a dead process left is taken away.
  if (unfinishedRun(fs, root, "decrypt", keyContext.memory) === undefined && !hasLock(fs, root))
    assertEncrypted(fs, unlocked);
  const lock = lockDatadir(fs, root, engine.command);
  try {
    const datadir = openDatadir(fs, root);
    assertNotInUse(fs, datadir, { assumeStopped: true });
    const header = unfinishedRun(fs, root, "decrypt", keyContext.memory);
    if (header !== undefined) return await resumeDecryption(engine, keyContext, datadir, header);
    return await begin(engine, keyContext, datadir, options, acceptance);
  } finally {
    lock.release();
  }
}

async function begin(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  options: DecryptOptions,
  acceptance: Acceptance,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  assertEncrypted(fs, datadir);
  if (!options.dryRun) removeUnbornJournal(fs, datadir.root);
  const manifest = openJudgedManifest(fs, datadir.root, keyContext, options);
  assertControl(datadir, manifest, options, engine.notice);
  const load = directoryLoad(manifest, datadir.control.blockSizeBytes);
  for (const notice of retiredKeyNotices(load, keys)) engine.notice(notice);
  const { systemIdentifier } = datadir.control;
  openOriginalAutoConf(fs, datadir.root, { keys, systemIdentifier });
  assertLinksOwn(fs, datadir, manifest, keyContext.memory);
  const links = movedLinks(fs, datadir, manifest);
  assertNotMoved(links, options.acceptMoved === true, HINT_OF_BEGINNING);
  for (const { message } of links) engine.notice(`${message}: plaintext goes there`);

  const runner = startRunner(engine, datadir, keyContext, manifest);
  try {
    const { addedSignals, accepted } = await assertIntact(engine, runner, datadir, manifest, {
      acceptance,
    });
    if (options.dryRun) return dryRunReport(fs, datadir, { manifest, accepted });
    const { keepRecoverySettings } = options;
    const guardDigest = digestOfGuard(fs, datadir.root);
    const addedLines = linesAddedToGuard(fs, datadir.root).toString("base64");
    const plan: DecryptPlan = {
      keepRecoverySettings,
      addedSignals,
      accepted,
      guardDigest,
      addedLines,
    };
    narrowFolders(fs, datadir);
    const { directoryId, epoch } = manifest.header;
    const order = { operation: "decrypt", directoryId, epoch, from: manifest } as const;
    const run = DirectoryRun.begin(fs, datadir.root, keyContext, order, plan);
    // Of no run: nothing is written into a file that somebody put there.
    new KeptTags(fs, datadir.root).remove();
    const work = { datadir, manifest, run, plan, settled: undefined };
    return await carryOn(engine, keyContext, runner, work);
  } finally {
    engine.progress.end();
    await runner.close();
  }
}

/** Takes up an interrupted decryption of a locked directory and brings it to its end. */
export async function resumeDecryption(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  unproved: JournalHeader,
): Promise<DecryptReport> {
  const { fs } = engine;
  // The epoch was judged when the run began.
  const { root } = datadir;
  const { keys } = keyContext;
  const { run, content, plan, standing } = DirectoryRun.resume<DecryptPlan>(
    fs,
    root,
    keyContext,
    unproved,
    (found) => {
      assertManifestOfRun(fs, root, keys, found);
      if (found.standing === "ended") assertDecrypted(fs, root);
    },
  );
  try {
    if (standing === "ended") {
      run.endAgain();
      return endedReport(plan, 0);
    }
    removeWorkingFiles(fs, datadir);
    if (content.committed && !hasManifest(fs, root)) {
      finish(engine, keyContext, { datadir, manifest: undefined, run, plan });
      return endedReport(plan, "all");
    }
    const manifest = openManifestOfRun(fs, root, keys, run.header);
    if (manifest === undefined) throw manifestIsMissing(root);
    narrowFolders(fs, datadir);
    const runner = startRunner(engine, datadir, keyContext, manifest);
    try {
      const { committed: isCommitted } = content;
      const unsettled = { manifest, isCommitted, ...plan };
      engine.progress.begin("checking", 0);
      const settled = await settleDecryption(engine, runner, datadir, unsettled);
      engine.progress.end();
      const work = { datadir, manifest, run, plan, settled };
      return await carryOn(engine, keyContext, runner, work, isCommitted);
    } finally {
      engine.progress.end();
      await runner.close();
    }
  } finally {
    run.leave();
  }
}

interface Decryption {
  readonly datadir: Datadir;
  readonly manifest: Manifest;
  readonly run: DirectoryRun;
  readonly plan: DecryptPlan;
  /** What an interrupted run had opened; undefined where none was. */
  readonly settled: SettledFiles | undefined;
}

/** @param isCommitted - every file was done when the run was interrupted. */
async function carryOn(
  engine: EngineContext,
  keyContext: KeyContext,
  runner: TaskRunner,
  work: Decryption,
  isCommitted = false,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { datadir, manifest, run, plan, settled } = work;
  try {
    let counted = { files: 0, bytes: 0 };
    if (!isCommitted) {
      const opening = { manifest, accepted: plan.accepted, settled };
      counted = countToOpen(fs, datadir, opening);
      engine.progress.begin("decrypting", counted.bytes);
      const places = { source: datadir.root, output: undefined };
      const tags = new KeptTags(fs, datadir.root);
      await openAll(engine, runner, datadir, places, opening, (steps, containers) => {
        tags.keep(containers);
        run.commit(steps);
      });
    }
    // While the guard stands no server has run: what is in pg_control then is the original, or nobody's.
    const controlRestored = restoreControl(fs, datadir, manifest);
    if (!isCommitted) run.commitLast([]);
    const recoverySettings = finish(engine, keyContext, work);
    return {
      outcome: isCommitted ? "ended-before" : "decrypted",
      ...counted,
      checkedAgain: settled?.count ?? 0,
      unchecked: settled?.unchecked ?? 0,
      controlRestored,
      recoverySettings,
      recoverySettingsKept: plan.keepRecoverySettings,
      accepted: acceptedFiles(plan.accepted),
    };
  } catch (error) {
    run.abandon(() => removeWorkingFiles(fs, datadir));
    throw error;
  }
}

/**
 * All files are plain: what is left is to take tags, manifest and guard away. Each step can be done again.
 * @returns recovery settings and signal files that were left out, or kept.
 */
function finish(
  { fs }: EngineContext,
  { keys }: KeyContext,
  {
    datadir,
    manifest,
    run,
    plan,
  }: Omit<Decryption, "manifest" | "settled"> & {
    readonly manifest: Manifest | undefined;
  },
): string[] {
  const { root } = datadir;
  if (manifest !== undefined) removeKeptSidecars(fs, datadir, manifest);
  new KeptTags(fs, root).remove();
  fs.remove(joinPath(root, OWN_FILES["backup-manifest"]));
  fs.syncDirectory(root);
  fs.remove(joinPath(root, OWN_FILES.manifest));
  const recoverySettings = restoreAutoConf(fs, keys, datadir, plan);
  fs.remove(joinPath(root, SEALED_AUTO_CONF));
  fs.syncDirectory(root);
  run.end({ kind: "released", directoryId: run.header.directoryId });
  return recoverySettings;
}

/**
 * The original takes the guard's place. A run that goes on may have done that before: then the original is there.
 * @returns recovery settings and signal files that were left out, or kept.
 * @throws {IntegrityError} when something else is there, or the guard is not as the run found it.
 */
function restoreAutoConf(
  fs: FileSystem,
  keys: DataKeys,
  { root, control }: Datadir,
  plan: DecryptPlan,
): string[] {
  const found = readAutoConf(fs, root);
  const hasOriginal = fs.stat(joinPath(root, SEALED_AUTO_CONF)) !== undefined;
  if (found !== "guard" && !hasOriginal) return [];
  const { systemIdentifier } = control;
  const original = openOriginalAutoConf(fs, root, { keys, systemIdentifier });
  const { keepRecoverySettings: isKept, addedSignals, addedLines } = plan;
  const expected = isKept ? withLines(original, Buffer.from(addedLines, "base64")) : original;
  const isGuard = found === "guard" && digestOfGuard(fs, root) === plan.guardDigest;
  if (
    !isGuard &&
    (found === "guard" || (found.kind !== "absent" && !sameOriginal(found, expected)))
  ) {
    throw new IntegrityError(
      `"${displayPath(joinPath(root, AUTO_CONF))}" was changed while the decryption was unfinished`,
      {
        file: AUTO_CONF,
        hint: "Move that file away, and run the same command again: the original is kept, sealed, and takes its place.",
      },
    );
  }
  const recoverySettings = [...settingsAddedToGuard(fs, root), ...addedSignals];
  if (!isKept) for (const signal of addedSignals) fs.remove(joinPath(root, signal));
  removeGuard(fs, root, expected, plainAccess(fs, root));
  return recoverySettings;
}

/** The run was interrupted when every file was plain and checked, and what is kept of their tags was going. */
function endedReport(plan: DecryptPlan, unchecked: DecryptReport["unchecked"]): DecryptReport {
  return {
    outcome: "ended-before",
    files: 0,
    bytes: 0,
    checkedAgain: 0,
    unchecked,
    controlRestored: false,
    recoverySettings: [],
    recoverySettingsKept: plan.keepRecoverySettings,
    accepted: acceptedFiles(plan.accepted),
  };
}

export function startRunner(
  engine: EngineContext,
  { control }: Datadir,
  { keys }: KeyContext,
  manifest: Manifest,
): TaskRunner {
  const context: RunContext = {
    blockSizeBytes: control.blockSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    systemIdentifier: control.systemIdentifier,
    keys,
    keyringId: manifest.header.keyringId,
    epoch: manifest.header.epoch,
  };
  return engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
}

/** What was changed in pg_control since. Starting a server with it could mean pages without the checksums it expects. */
export function assertControl(
  { control, controlBytes, root }: Datadir,
  manifest: Manifest,
  { restoreControl: restore }: DecryptOptions,
  notice: (message: string) => void,
): void {
  const original = manifest.header.control;
  if (manifest.header.systemIdentifier !== control.systemIdentifier) {
    throw new IntegrityError("the manifest is of another cluster than global/pg_control", {
      hint: "Files of two clusters are mixed here. Restore the directory as a whole.",
    });
  }
  if (original.equals(controlBytes)) return;
  if (sameButForChecksums(original, controlBytes)) {
    notice(
      "pg_checksums --enable or --disable was run on the encrypted directory; global/pg_control is put back as it was",
    );
  } else if (!restore) {
    throw new StateError(
      `global/pg_control in "${displayPath(root)}" was changed since it was encrypted`,
      {
        hint: "The manifest keeps the original: give --restore-control to put it back.",
      },
    );
  }
}

/** @returns whether there was something to restore. */
function restoreControl(fs: FileSystem, { root }: Datadir, manifest: Manifest): boolean {
  const path = "global/pg_control" as BytePath;
  const stat = attributesAt(fs, joinPath(root, path));
  if (stat === undefined) throw new StateError("global/pg_control is gone");
  const content = Buffer.alloc(CONTROL_FILE_BYTES);
  manifest.header.control.copy(content);
  if (holds(fs, joinPath(root, path), content)) return false;
  const attributes = plainAttributes(stat, plainAccess(fs, root));
  writeDurably(fs, root, fileOf(fs, path, content, attributes));
  return true;
}

function dryRunReport(fs: FileSystem, datadir: Datadir, opening: Opening): DecryptReport {
  return {
    outcome: "dry-run",
    ...countToOpen(fs, datadir, opening),
    checkedAgain: 0,
    unchecked: 0,
    controlRestored: false,
    recoverySettings: settingsAddedToGuard(fs, datadir.root),
    recoverySettingsKept: false,
    accepted: acceptedFiles(opening.accepted),
  };
}
