/**
 * Decrypts a data directory in place: everything that can be checked without writing is checked first, then batch
 * by batch plain files take the place of sealed ones, each page only after its tag held. Guard, manifest, sidecars and
 * containers' tags stay until every file is done. After a crash the same call goes on: a file that is plain already must
 * give the tags that are kept of it, everything else is opened.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { plainAccess } from "../datadir/plain-access.ts";
import { IntegrityError } from "../errors.ts";
import type { Manifest } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
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
  readAutoConf,
  removeGuard,
  sameOriginal,
  SEALED_AUTO_CONF,
  settingsAddedToGuard,
  withLines,
} from "./guard.ts";
import { countToOpen, openAll, type Opening } from "./open-all.ts";
import { assertNotMoved, HINT_OF_BEGINNING, movedLinks } from "./moved-links.ts";
import {
  type Damage,
  type DamageDone,
  type DamagePolicy,
  damageToCome,
  exceptDamage,
  losesAutoConf,
} from "./damage.ts";
import { narrowFolders } from "./narrow-folders.ts";
import { KeptTags } from "./run/kept-tags.ts";
import { preflight } from "./preflight.ts";
import { originalAutoConf, whyAutoConfIsLost } from "./lost-auto-conf.ts";
import { assertNothingKept, removeZeroed, salvageInPlace } from "./salvage-files.ts";
import { removeKeptSidecars, settleDecryption, type SettledFiles } from "./settle-decryption.ts";
import {
  assertManifestOfRun,
  hasManifest,
  manifestIsMissing,
  openJudgedManifest,
  openManifestOfRun,
} from "./open-manifest.ts";
import { openToDecrypt } from "./open-by-manifest.ts";
import { assertControl, isOriginal, restoreControl } from "./restore-control.ts";
import { assertLinksOwn } from "./shared-links.ts";
import { assertIntact, type Intact } from "./structure-check.ts";
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
  /** What becomes of damaged files. Left out: fail. */
  readonly damaged?: DamagePolicy | undefined;
  /**
   * Reads everything to its last tag before the first write. Left out: in place; and always in a dry run and where damaged files
   * are dealt with.
   */
  readonly preflight?: boolean | undefined;
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
  /** What was damaged, and what became of it; of a dry run, what would be dealt with. */
  readonly damaged: readonly DamageDone[];
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
  /** What it does without; absent where nothing was damaged. */
  readonly damage?: Damage | undefined;
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
  const open = (): Datadir => openToDecrypt(fs, root, keyContext, options.restoreControl);
  const unlocked = open();
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
    const datadir = open();
    assertNotInUse(fs, datadir, { assumeStopped: true });
    const header = unfinishedRun(fs, root, "decrypt", keyContext.memory);
    if (header !== undefined) {
      if (options.damaged !== undefined)
        engine.notice(
          "an interrupted decryption is finished first, with what was said when it was begun: --damaged does not count",
        );
      return await resumeDecryption(engine, keyContext, datadir, header);
    }
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
  assertControl(fs, datadir, manifest, options, engine.notice);
  const load = directoryLoad(manifest, datadir.control.blockSizeBytes);
  for (const notice of retiredKeyNotices(load, keys)) engine.notice(notice);
  assertLinksOwn(fs, datadir, manifest, keyContext.memory);
  const links = movedLinks(fs, datadir, manifest);
  assertNotMoved(links, options.acceptMoved === true, HINT_OF_BEGINNING);
  for (const { message } of links) engine.notice(`${message}: plaintext goes there`);

  const preflight = { byDefault: true, acceptance };
  const found = await examine(engine, keyContext, datadir, manifest, options, preflight);
  const { damage, addedSignals, accepted } = found;
  if (damage !== undefined) assertNothingKept(fs, datadir, damage);
  const runner = startRunner(engine, datadir, keyContext, manifest);
  try {
    if (options.dryRun) return dryRunReport(fs, datadir, { manifest, accepted, damage });
    const { keepRecoverySettings } = options;
    const guardDigest = digestOfGuard(fs, datadir.root);
    const addedLines = linesAddedToGuard(fs, datadir.root).toString("base64");
    const plan: DecryptPlan = {
      keepRecoverySettings,
      addedSignals,
      accepted,
      guardDigest,
      addedLines,
      damage,
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
      return endedReport(plan, "all");
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
    let damaged: readonly DamageDone[] = damageBefore(plan);
    if (!isCommitted) {
      const { only } = exceptDamage(datadir, plan.damage);
      const opening = { manifest, accepted: plan.accepted, settled, only };
      counted = countToOpen(fs, datadir, opening);
      engine.progress.begin("decrypting", counted.bytes);
      const places = { source: datadir.root, output: undefined };
      const tags = new KeptTags(fs, datadir.root);
      await openAll(engine, runner, datadir, places, opening, (steps, containers) => {
        tags.keep(containers);
        run.commit(steps);
      });
      const { damage } = plan;
      if (damage !== undefined)
        damaged = await salvageInPlace({ engine, runner, datadir, manifest, damage }, run);
    }
    const controlRestored = restoreControl(fs, datadir.root, manifest);
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
      damaged,
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
  if (plan.damage !== undefined) removeZeroed(fs, datadir, plan.damage);
  if (manifest !== undefined) removeKeptSidecars(fs, datadir, manifest);
  new KeptTags(fs, root).remove();
  fs.remove(joinPath(root, OWN_FILES["backup-manifest"]));
  fs.syncDirectory(root);
  fs.remove(joinPath(root, OWN_FILES.manifest));
  const recoverySettings = restoreAutoConf(fs, keys, datadir, plan);
  fs.remove(joinPath(root, SEALED_AUTO_CONF));
  fs.syncDirectory(root);
  const { directoryId } = run.header;
  run.end({ kind: "released", directoryId, place: fs.realPath(root) });
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
  datadir: Datadir,
  plan: DecryptPlan,
): string[] {
  const { root } = datadir;
  const found = readAutoConf(fs, root);
  const hasOriginal =
    losesAutoConf(plan.damage) || fs.stat(joinPath(root, SEALED_AUTO_CONF)) !== undefined;
  if (found !== "guard" && !hasOriginal) return [];
  const original = originalAutoConf(fs, datadir, keys, plan.damage);
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
    damaged: damageBefore(plan),
  };
}

/** What a decryption begins with. */
export interface Examined extends Intact {
  /** What it is to do without. */
  readonly damage: Damage | undefined;
}

/**
 * Everything that a decryption checks before its first write.
 * @param byDefault - whether everything is read to its last tag where nothing is said.
 * @throws as assertIntact and preflight; for a sealed original of postgresql.auto.conf that cannot be opened and is no known damage.
 */
export async function examine(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  { damaged: policy = "fail", preflight: isAsked, dryRun, acceptChanged }: DecryptOptions,
  { byDefault, acceptance }: { readonly byDefault: boolean; readonly acceptance: Acceptance },
): Promise<Examined> {
  const lost = whyAutoConfIsLost(engine.fs, datadir, keyContext.keys, policy);
  const isFirst = dryRun || policy !== "fail" || (isAsked ?? byDefault);
  const options = { policy, acceptChanged };
  const damage = isFirst
    ? await preflight(engine, keyContext, datadir, manifest, options)
    : undefined;
  if (lost !== undefined && !losesAutoConf(damage)) throw lost;
  const runner = startRunner(engine, datadir, keyContext, manifest);
  try {
    const except = exceptDamage(datadir, damage);
    const intact = await assertIntact(engine, runner, datadir, manifest, { acceptance, ...except });
    return { ...intact, damage };
  } finally {
    await runner.close();
  }
}

/** What a run that was interrupted when it had done everything says in its report file. */
function damageBefore({ damage }: DecryptPlan): DamageDone[] {
  return damage === undefined ? [] : damageToCome(damage);
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

function dryRunReport(
  fs: FileSystem,
  datadir: Datadir,
  { damage, ...rest }: Opening & { readonly damage: Damage | undefined },
): DecryptReport {
  const opening = { ...rest, ...exceptDamage(datadir, damage) };
  return {
    outcome: "dry-run",
    ...countToOpen(fs, datadir, opening),
    checkedAgain: 0,
    unchecked: 0,
    controlRestored: !isOriginal(fs, datadir.root, opening.manifest),
    recoverySettings: settingsAddedToGuard(fs, datadir.root),
    recoverySettingsKept: false,
    accepted: acceptedFiles(opening.accepted),
    damaged: damage === undefined ? [] : damageToCome(damage),
  };
}
