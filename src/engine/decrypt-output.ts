/**
 * Decrypts a data directory into a new one; the source is only read. A guard keeps servers away from the new
 * directory until it is whole.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { StateError } from "../errors.ts";
import { CONTROL_FILE_BYTES } from "../postgres/control-file.ts";
import { attributesAt } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { Acceptance, acceptedFiles } from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import {
  assertControl,
  type DecryptOptions,
  type DecryptReport,
  startRunner,
} from "./decrypt-datadir.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import {
  AUTO_CONF,
  linesAddedToGuard,
  openOriginalAutoConf,
  settingsAddedToGuard,
  stageAutoConf,
  withLines,
  writeGuard,
} from "./guard.ts";
import { fileOf, writeNewFile } from "./new-file.ts";
import { countToOpen, openAll } from "./open-all.ts";
import { openJudgedManifest } from "./open-manifest.ts";
import {
  finishFolders,
  makeFolders,
  makeOutputRoot,
  type OutputOptions,
  planOutput,
} from "./output-directory.ts";
import { endOutputBefore, keptOutput } from "./run/output-run.ts";
import { claimPlaces, claimRemovals } from "./place-claims.ts";
import { assertIntact } from "./structure-check.ts";
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
  const source = openDatadir(fs, options.root);
  unfinishedRun(fs, source.root, undefined, keyContext.memory);
  assertNotInUse(fs, source, { assumeStopped: true });
  assertEncrypted(fs, source);
  const manifest = openJudgedManifest(fs, source.root, keyContext, options);
  assertControl(source, manifest, options, engine.notice);
  const { systemIdentifier } = source.control;
  const original = openOriginalAutoConf(fs, source.root, { keys, systemIdentifier });
  const runner = startRunner(engine, source, keyContext, manifest);
  try {
    const { addedSignals, accepted } = await assertIntact(engine, runner, source, manifest, {
      acceptance,
    });
    const opening = { manifest, accepted };
    const counted = countToOpen(fs, source, opening);
    const added = [...settingsAddedToGuard(fs, source.root), ...addedSignals];
    const report: DecryptReport = {
      outcome: options.dryRun ? "dry-run" : "decrypted",
      ...counted,
      checkedAgain: 0,
      unchecked: 0,
      controlRestored: !manifest.header.control.equals(source.controlBytes),
      recoverySettings: added,
      recoverySettingsKept: options.keepRecoverySettings,
      accepted: acceptedFiles(accepted),
    };
    const { output } = outputOptions;
    const ended = options.dryRun
      ? undefined
      : endOutputBefore(engine, keyContext, output, "decryptOutput");
    // What single relations were decrypted into has no PG_VERSION, and is not empty either.
    const isWhole = fs.stat(joinPath(output, "PG_VERSION")) !== undefined;
    if ((ended === "output-finished" || ended === "output-ended") && isWhole)
      return { ...report, outcome: "ended-before", files: 0, bytes: 0 };
    const plan = planOutput(fs, source, outputOptions);
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
        makeFolders(fs, source, plan);
        engine.progress.begin("decrypting", counted.bytes);
        const places = { source: source.root, output: plan.output };
        await openAll(engine, runner, source, places, opening, () => {});
        writeControl(fs, source, plan.output, manifest.header.control);
        const kept = options.keepRecoverySettings;
        if (kept) for (const signal of addedSignals) copySignal(fs, source, plan.output, signal);
        finishFolders(fs, source, plan, access);
        const steps = stageAutoConf(
          fs,
          plan.output,
          kept ? withLines(original, linesAddedToGuard(fs, source.root)) : original,
          attributes,
        );
        run.commitLast([...steps, ...claimRemovals(plan)]);
        run.end({ kind: "nothing" });
        return report;
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

/** The original, all 8192 bytes of it. */
function writeControl(fs: FileSystem, source: Datadir, output: BytePath, original: Buffer): void {
  const path = "global/pg_control" as BytePath;
  const like = attributesAt(fs, joinPath(source.root, path));
  if (like === undefined) throw new StateError(`${path} is gone`);
  const content = Buffer.alloc(CONTROL_FILE_BYTES);
  original.copy(content);
  const attributes = plainAttributes(like, plainAccess(fs, output));
  writeNewFile(fs, joinPath(output, path), fileOf(fs, path, content, attributes));
}

function copySignal(fs: FileSystem, source: Datadir, output: BytePath, name: string): void {
  const like = attributesAt(fs, joinPath(source.root, name));
  if (like === undefined) return;
  const attributes = plainAttributes(like, plainAccess(fs, output));
  const file = fileOf(fs, name as BytePath, Buffer.alloc(0), attributes);
  writeNewFile(fs, joinPath(output, name), file);
}
