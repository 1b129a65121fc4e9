/**
 * Decrypts a data directory into a new one; the source is only read. A guard keeps servers away from the new
 * directory until it is whole.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { StateError } from "../errors.ts";
import { attributesAt } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { Acceptance, acceptedFiles } from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { DAMAGE_REPORT, damageToCome, exceptDamage, leftOutOf } from "./damage.ts";
import {
  type DecryptOptions,
  type DecryptReport,
  examine,
  startRunner,
} from "./decrypt-datadir.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import {
  AUTO_CONF,
  linesAddedToGuard,
  settingsAddedToGuard,
  stageAutoConf,
  withLines,
  writeGuard,
} from "./guard.ts";
import { originalAutoConf } from "./lost-auto-conf.ts";
import { fileOf, writeNewFile } from "./new-file.ts";
import { countToOpen, openAll } from "./open-all.ts";
import { openToDecrypt } from "./open-by-manifest.ts";
import { openJudgedManifest } from "./open-manifest.ts";
import {
  finishFolders,
  makeFolders,
  makeOutputRoot,
  type OutputOptions,
  planOutput,
} from "./output-directory.ts";
import { assertControl, isOriginal, originalControl } from "./restore-control.ts";
import { endOutputBefore, keptOutput } from "./run/output-run.ts";
import { claimPlaces, claimRemovals } from "./place-claims.ts";
import { assertNothingKept, salvageIntoOutput } from "./salvage-files.ts";
import { assertEncrypted } from "./verify-datadir.ts";

/** @throws as decryptDatadir; {UsageError} for tablespaces without a place. The source is never changed. */
export async function decryptIntoOutput(
  engine: EngineContext,
  keyContext: KeyContext,
  options: DecryptOptions,
  outputOptions: OutputOptions,
): Promise<DecryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  const acceptance = new Acceptance(options.acceptChanged);
  const source = openToDecrypt(fs, options.root, keyContext, options.restoreControl);
  unfinishedRun(fs, source.root, undefined, keyContext.memory);
  assertNotInUse(fs, source, { assumeStopped: true });
  assertEncrypted(fs, source);
  const manifest = openJudgedManifest(fs, source.root, keyContext, options);
  assertControl(fs, source, manifest, options, engine.notice);
  const preflight = { byDefault: false, acceptance };
  const found = await examine(engine, keyContext, source, manifest, options, preflight);
  const { damage, addedSignals, accepted } = found;
  const original = originalAutoConf(fs, source, keys, damage);
  if (damage !== undefined) assertNothingKept(fs, source, damage);
  const runner = startRunner(engine, source, keyContext, manifest);
  try {
    const opening = { manifest, accepted, only: exceptDamage(source, damage).only };
    const counted = countToOpen(fs, source, opening);
    const added = [...settingsAddedToGuard(fs, source.root), ...addedSignals];
    const report: DecryptReport = {
      outcome: options.dryRun ? "dry-run" : "decrypted",
      ...counted,
      checkedAgain: 0,
      unchecked: 0,
      controlRestored: !isOriginal(fs, source.root, manifest),
      recoverySettings: added,
      recoverySettingsKept: options.keepRecoverySettings,
      accepted: acceptedFiles(accepted),
      damaged: damage === undefined ? [] : damageToCome(damage),
    };
    const { output } = outputOptions;
    const isFilled =
      !options.dryRun && endOutputBefore(engine, keyContext, output, "decryptOutput", manifest);
    // What single relations were decrypted into has no PG_VERSION, and is not empty either.
    if (isFilled && fs.stat(joinPath(output, "PG_VERSION")) !== undefined)
      return reportOfEarlierRun(engine, output);
    const plan = planOutput(fs, source, outputOptions, keyContext.memory);
    if (options.dryRun) return report;

    makeOutputRoot(fs, source, plan);
    const lock = lockDatadir(fs, plan.output, engine.command);
    try {
      const { directoryId, epoch } = manifest.header;
      const order = { operation: "decryptOutput", directoryId, epoch, from: manifest } as const;
      const run = DirectoryRun.begin(fs, plan.output, keyContext, order, keptOutput(plan));
      try {
        claimPlaces(fs, plan, run.header.runId);
        const like = attributesAt(fs, joinPath(source.root, AUTO_CONF));
        const found = like ?? attributesAt(fs, joinPath(source.root, "PG_VERSION"));
        if (found === undefined) throw new StateError("PG_VERSION is gone");
        const access = plainAccess(fs, plan.output);
        const attributes = plainAttributes(found, access);
        writeGuard(fs, plan.output, attributes);
        const isLeftOut = leftOutOf(damage);
        makeFolders(fs, source, plan, isLeftOut);
        engine.progress.begin("decrypting", counted.bytes);
        const places = { source: source.root, output: plan.output };
        await openAll(engine, runner, source, places, opening, () => {});
        const work = { engine, runner, datadir: source, manifest };
        const damaged =
          damage === undefined ? [] : await salvageIntoOutput({ ...work, damage }, places);
        const control = originalControl(fs, source.root, manifest, plan.output);
        writeNewFile(fs, joinPath(plan.output, CONTROL_PATH), control);
        const kept = options.keepRecoverySettings;
        if (kept) for (const signal of addedSignals) copySignal(fs, source, plan.output, signal);
        finishFolders(fs, source, plan, access, isLeftOut);
        const steps = stageAutoConf(
          fs,
          plan.output,
          kept ? withLines(original, linesAddedToGuard(fs, source.root)) : original,
          attributes,
        );
        run.commitLast([...steps, ...claimRemovals(plan)]);
        run.end({ kind: "nothing" });
        return { ...report, damaged };
      } finally {
        run.leave();
      }
    } finally {
      lock.release();
    }
  } finally {
    engine.progress.end();
    await runner.close();
  }
}

/** Another run filled the directory, with the options that it had; anybody may have written to it since. */
function reportOfEarlierRun({ fs, notice }: EngineContext, output: BytePath): DecryptReport {
  if (fs.stat(joinPath(output, DAMAGE_REPORT)) !== undefined)
    notice(`"${DAMAGE_REPORT}" in "${displayPath(output)}" lists what that run could not decrypt`);
  return {
    outcome: "ended-before",
    files: 0,
    bytes: 0,
    checkedAgain: 0,
    unchecked: "all",
    controlRestored: false,
    recoverySettings: [],
    recoverySettingsKept: false,
    accepted: [],
    damaged: [],
  };
}

function copySignal(fs: FileSystem, source: Datadir, output: BytePath, name: string): void {
  const like = attributesAt(fs, joinPath(source.root, name));
  if (like === undefined) return;
  const attributes = plainAttributes(like, plainAccess(fs, output));
  const file = fileOf(fs, name as BytePath, Buffer.alloc(0), attributes);
  writeNewFile(fs, joinPath(output, name), file);
}
