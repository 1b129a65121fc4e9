/**
 * The end of every encryption: the proof, the manifests, the memory beside the keyring, and last the end of the
 * journal. A crash before the journal goes leaves a run to be taken up, and what it remembers once more counts once.
 */
import { BACKUP_MANIFEST } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { WalMode } from "../format/manifest-header.ts";
import type { Scope } from "../format/scope.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { type KeyLoads, loadGained } from "../keyring/key-load.ts";
import type { DueStep } from "../storage/journal.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { directoryLoad } from "./directory-load.ts";
import type { DirectoryRun } from "./run/directory-run.ts";
import type { EncryptReport } from "./encrypt-report.ts";
import { REWRITTEN_LIST } from "./manifest-facts.ts";
import { hasManifest, openAuthenticManifest } from "./open-manifest.ts";
import type { PlaintextGroup } from "./plaintext-groups.ts";
import { Proof } from "./proof.ts";
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
  { keys }: KeyContext,
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
  const options = { header, keys };
  // Files of an earlier encryption, which this run has only held against their digests, are not among them.
  const readBefore = { files: "of-run", pages: "sample" } as const;
  const before = loadBefore(engine, datadir, keys);
  const { proof, root, backupManifestBytes, steps } = await writeManifests(
    engine,
    runner,
    datadir,
    options,
    new Proof(engine.fs, datadir, { ...options, readBefore, signal: engine.signal }),
  );
  commit(steps);
  const { load } = proof;
  const written = loadGained(load, before);
  const seen = { directoryId, epoch, root, path: datadir.realRoot, load, written };
  run.end({ kind: "seen", seen });
  return {
    outcome: "encrypted",
    scope,
    survey: todo,
    directoryId,
    epoch,
    keyId: keys.currentKeyId,
    proof: { ...proof, root, plaintext: [...proof.plaintext, ...listed(backupManifestBytes)] },
  };
}

/** What each key protected before this run; sealing takes nothing away from it. */
function loadBefore({ fs }: EngineContext, datadir: Datadir, keys: DataKeys): KeyLoads {
  if (!hasManifest(fs, datadir.root)) return new Map();
  const manifest = openAuthenticManifest(fs, datadir.root, keys);
  return directoryLoad(manifest, datadir.control.blockSizeBytes);
}

function listed(backupManifestBytes: number | undefined): PlaintextGroup[] {
  if (backupManifestBytes === undefined) return [];
  return [
    {
      why: REWRITTEN_LIST,
      exposed: false,
      files: 1,
      bytes: backupManifestBytes,
      example: BACKUP_MANIFEST,
    },
  ];
}
