/**
 * Encrypts a data directory into a new one; the source is only read. The new directory has a journal until its
 * manifest is in place, and a guard from the first moment on.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { randomBytes } from "../crypto/primitives.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse } from "../datadir/in-use.ts";
import { StateError } from "../errors.ts";
import type { DueStep } from "../storage/journal.ts";
import type { Lock } from "../storage/lock.ts";
import { inspectBackupManifest, sealBackupManifest } from "./backup-manifest.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { lockDatadir, unfinishedRun } from "./run/datadir-lock.ts";
import { DirectoryRun } from "./run/directory-run.ts";
import {
  assertManifestFits,
  assertNoGuardLeft,
  assertNothingToAccept,
  installGuardFrom,
  inventoryOptions,
  runContextOf,
  selectedScope,
} from "./encrypt-datadir.ts";
import type { EncryptOptions, EncryptReport } from "./encrypt-report.ts";
import { takeInventory } from "./inventory.ts";
import { hasManifest } from "./open-manifest.ts";
import {
  finishFolders,
  makeFolders,
  makeOutputRoot,
  type OutputOptions,
  planOutput,
} from "./output-directory.ts";
import { claimPlaces, claimRemovals } from "./place-claims.ts";
import { proveAndEnd } from "./prove-and-end.ts";
import { endOutputBefore, keptOutput } from "./run/output-run.ts";
import { sealAll } from "./seal-all.ts";
import { tellOfSealedWal } from "./seal-wal.ts";
import { assertNoServerSince, withoutServers } from "./server-watch.ts";
import { survey } from "./survey.ts";

/** @throws as encryptDatadir; {UsageError} for tablespaces without a place. The source is never changed. */
export async function encryptIntoOutput(
  engine: EngineContext,
  keyContext: KeyContext,
  options: EncryptOptions,
  outputOptions: OutputOptions,
): Promise<EncryptReport> {
  const { fs } = engine;
  const source = openDatadir(fs, options.root);
  unfinishedRun(fs, source.root, undefined, undefined);
  assertNotInUse(fs, source, options);
  return await withoutServers(fs, source, options, () =>
    encryptFrom(source, engine, keyContext, options, outputOptions),
  );
}

async function encryptFrom(
  source: Datadir,
  engine: EngineContext,
  keyContext: KeyContext,
  options: EncryptOptions,
  outputOptions: OutputOptions,
): Promise<EncryptReport> {
  const { fs } = engine;
  const { keys } = keyContext;
  if (hasManifest(fs, source.root)) {
    throw new StateError("the source is encrypted already", {
      hint: "Copy it with any tool that copies files.",
    });
  }
  assertNothingToAccept(options);
  assertNoGuardLeft(fs, source);
  const scope = selectedScope(engine, keyContext, source, options.scope);
  const inventory = inventoryOptions({ ...options, scope }, keyContext);
  const todo = survey(fs, source, inventory, "first");
  assertManifestFits(source, undefined, todo);
  inspectBackupManifest(fs, source, false);
  tellOfSealedWal(engine, source, options.wal);
  const { output } = outputOptions;
  if (options.dryRun) {
    planOutput(fs, source, outputOptions, keyContext.memory);
    return { outcome: "dry-run", survey: todo, scope };
  }
  if (endOutputBefore(engine, keyContext, output, "encryptOutput")) throw isOfEarlierRun(output);
  const plan = planOutput(fs, source, outputOptions, keyContext.memory);

  makeOutputRoot(fs, source, plan);
  const lock: Lock = lockDatadir(fs, plan.output, engine.command);
  try {
    const directoryId = randomBytes(16).toString("hex");
    const epoch = 1n;
    const order = { operation: "encryptOutput", directoryId, epoch, from: undefined } as const;
    const run = DirectoryRun.begin(fs, plan.output, keyContext, order, keptOutput(plan));
    const context = runContextOf(source, keyContext, run);
    const runner = engine.startRunner(context, (bytes) => engine.progress.advance(bytes));
    try {
      claimPlaces(fs, plan, run.header.runId);
      installGuardFrom(fs, source, plan.output, keyContext, run);
      makeFolders(fs, source, plan);
      engine.progress.begin("encrypting", todo.bytes);
      const places = { source: source.root, output: plan.output };
      await sealAll(
        engine,
        runner,
        context,
        source,
        places,
        takeInventory(fs, source, inventory, "work"),
        () => {},
      );
      sealBackupManifest(fs, source, plan.output, keys, run.saltKey);
      finishFolders(fs, source, plan);
      const datadir = openDatadir(fs, plan.output);
      const commit = (steps: readonly DueStep[]): void => {
        // Nothing guards the source: what a server writes while it is read is of no single moment.
        assertNoServerSince(fs, source, options);
        run.commitLast([...steps, ...claimRemovals(plan)]);
      };
      const { wal } = options;
      return await proveAndEnd(engine, keyContext, runner, {
        datadir,
        run,
        scope,
        wal,
        todo,
        commit,
      });
    } finally {
      engine.progress.end();
      await runner.close();
      run.leave();
    }
  } finally {
    lock.release();
  }
}

/** Nothing is kept of the source as it was then: it may have changed, or another one may be named now. */
function isOfEarlierRun(output: BytePath): StateError {
  return new StateError(
    `"${displayPath(output)}" was filled by an earlier run, which is ended now: the source was not compared with it`,
    {
      hint: '"tde verify" checks the output, and "tde sync SOURCE OUTPUT" brings it up to date with its source; or delete it with its tablespaces, and run the same command again.',
    },
  );
}
