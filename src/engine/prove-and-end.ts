/**
 * The end of every encryption: the proof, the manifests, the end of the journal, and last the memory beside the
 * keyring. A crash before the journal goes leaves a run to be taken up; one after it only a memory that is behind.
 */
import type { Datadir } from "../datadir/datadir.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { Scope } from "../format/scope.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import type { DirectoryRun } from "./directory-run.ts";
import type { EncryptReport } from "./encrypt-report.ts";
import type { Survey } from "./survey.ts";
import { writeManifests } from "./write-manifests.ts";

export interface Sealed {
  /** Every file in it is sealed. */
  readonly datadir: Datadir;
  readonly run: DirectoryRun;
  readonly scope: Scope;
  readonly wal: WalMode;
  readonly todo: Survey;
  /** Lets the manifests take their places. */
  readonly commit: (steps: readonly DueStep[]) => void;
}

/** @throws {IntegrityError} when something is not sealed as it should be; the run is then unfinished. */
export async function proveAndEnd(
  engine: EngineContext,
  { keys, memory }: KeyContext,
  runner: TaskRunner,
  { datadir, run, scope, wal, todo, commit }: Sealed,
): Promise<EncryptReport> {
  const { directoryId, epoch } = run.header;
  const header = {
    directoryId,
    keyringId: keys.keyringId,
    systemIdentifier: datadir.control.systemIdentifier,
    keyId: keys.currentKeyId,
    epoch,
    scope,
    wal,
    control: datadir.controlBytes,
  } as const;
  engine.progress.end();
  engine.progress.begin("proving", todo.bytes + todo.outOfScope.bytes);
  const { proof, steps } = await writeManifests(engine, runner, datadir, { header, keys });
  commit(steps);
  run.end();
  const { root, pagesByKey } = proof;
  memory.remember({ directoryId, epoch, root, path: datadir.realRoot, pagesByKey });
  return {
    outcome: "encrypted",
    scope,
    survey: todo,
    directoryId,
    epoch,
    keyId: keys.currentKeyId,
    proof,
  };
}
