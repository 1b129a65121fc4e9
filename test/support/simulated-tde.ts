/**
 * tde's commands on a simulated disk: each one opens the keyring anew, as a new process would, and runs in this thread.
 * The keyring, its key file and its state file are on the disk, too, so that a crash or an error can meet them.
 */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { keyContext } from "../../src/cli/engine-context.ts";
import type { OpenedKeyring } from "../../src/cli/open-keyring.ts";
import { rememberArchive } from "../../src/cli/remember-archive.ts";
import type { Output } from "../../src/cli/output.ts";
import type { EngineContext, KeyContext } from "../../src/engine/context.ts";
import { decryptDatadir, type DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptDatadir } from "../../src/engine/encrypt-datadir.ts";
import type { EncryptReport } from "../../src/engine/encrypt-report.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import type { OutputOptions } from "../../src/engine/output-directory.ts";
import { silentProgress } from "../../src/engine/progress-sink.ts";
import { recoverDatadir, type RecoveryOutcome } from "../../src/engine/recover.ts";
import { rotateDatadir, type RotateReport } from "../../src/engine/rotate-datadir.ts";
import type { RotationRequest } from "../../src/engine/rotation-selection.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import { syncDatadir, type SyncReport } from "../../src/engine/sync-datadir.ts";
import { verifyDatadir } from "../../src/engine/verify-datadir.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { type ArchiveReport, archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { type RestoreOutcome, restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import {
  rotateArchive,
  type RotateArchiveReport,
} from "../../src/engine/wal-archive/rotate-archive.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { rotateWal } from "../../src/engine/wal-readable/rotate-wal.ts";
import { createKeyring, type Keyring, openKeyring } from "../../src/keyring/keyring.ts";
import { createKeyFile, KeyFileProvider } from "../../src/keyring/providers/key-file.ts";
import { loadState, type State, updateState } from "../../src/keyring/state.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import type { TaskLimits } from "../../src/workers/runner.ts";
import type { CrashDisk } from "./crash-disk.ts";

export const KEYRING = "/keys/app.keyring" as BytePath;
export const KEY_FILE = "/keys/kek.key" as BytePath;
export const OTHER_KEY_FILE = "/keys/other.key" as BytePath;
export const STATE = "/keys/app.keyring.state" as BytePath;

/** Small enough for several journal entries in a run, and for a file that is cut into ranges. */
const LIMITS: TaskLimits = {
  files: 5,
  bytes: 2 ** 20,
  largeFileBytes: 2 ** 20,
  rangeBytes: 2 ** 18,
};

const quiet: Output = {
  result(): void {},
  json(): void {},
  note(): void {},
  detail(): void {},
  warn: () => Promise.resolve(),
};

/** What a user may agree to, beyond the command itself. */
export interface Consents {
  readonly acceptOlder?: boolean;
  readonly acceptChanged?: readonly BytePath[];
  readonly restoreControl?: boolean;
  /** In place: of the copy that the user made, whose tablespace lies elsewhere. */
  readonly acceptMoved?: boolean;
  readonly withoutState?: boolean;
  readonly preflight?: boolean;
}

export class SimulatedTde {
  readonly disk: CrashDisk;

  constructor(disk: CrashDisk) {
    this.disk = disk;
  }

  async encrypt(
    root: BytePath,
    output?: OutputOptions,
    scope: ScopeSelection = NOTHING_SELECTED,
    consents: Consents = {},
  ): Promise<EncryptReport> {
    const { acceptOlder = false, acceptChanged = [] } = consents;
    const options = {
      root,
      scope,
      wal: "readable",
      assumeStopped: false,
      sealConfig: false,
      acceptOlder,
      acceptMoved: consents.acceptMoved,
      acceptChanged,
      dryRun: false,
    } as const;
    const [engine, keys] = await this.contexts("tde encrypt-datadir", consents);
    return output === undefined
      ? await encryptDatadir(engine, keys, options)
      : await encryptIntoOutput(engine, keys, options, output);
  }

  async decrypt(
    root: BytePath,
    output?: OutputOptions,
    consents: Consents = {},
  ): Promise<DecryptReport> {
    const { acceptOlder = false, acceptChanged = [], restoreControl = false } = consents;
    const options = {
      root,
      acceptOlder,
      acceptChanged,
      restoreControl,
      acceptMoved: consents.acceptMoved,
      preflight: consents.preflight,
      keepRecoverySettings: false,
      dryRun: false,
    };
    const [engine, keys] = await this.contexts("tde decrypt-datadir", consents);
    return output === undefined
      ? await decryptDatadir(engine, keys, options)
      : await decryptIntoOutput(engine, keys, options, output);
  }

  async sync(
    source: BytePath,
    root: BytePath,
    tablespaceMapping: ReadonlyMap<BytePath, BytePath> = new Map(),
    consents: Consents = {},
  ): Promise<SyncReport> {
    const { acceptOlder = false } = consents;
    const [engine, keys] = await this.contexts("tde sync", consents);
    return await syncDatadir(engine, keys, {
      source,
      root,
      tablespaceMapping,
      assumeStopped: false,
      acceptOlder,
      acceptMoved: consents.acceptMoved,
      dryRun: false,
    });
  }

  /** Whatever is under that key, or everything. */
  async rotate(
    root: BytePath,
    fromKey: number | undefined,
    consents: Consents = {},
  ): Promise<RotateReport> {
    const { acceptOlder = false } = consents;
    const request: RotationRequest =
      fromKey === undefined ? { kind: "all" } : { kind: "key", keyId: fromKey };
    const [engine, keys] = await this.contexts("tde rotate", consents);
    return await rotateDatadir(engine, keys, {
      root,
      request,
      acceptOlder,
      acceptMoved: consents.acceptMoved,
      dryRun: false,
    });
  }

  async recover(root: BytePath, consents: Consents = {}): Promise<RecoveryOutcome> {
    const [engine, keys] = await this.contexts("tde recover", consents);
    return await recoverDatadir(engine, keys, root);
  }

  async verify(
    root: BytePath,
    { acceptOlder = false, acceptChanged = [] }: Consents = {},
  ): Promise<VerifyReport> {
    const [engine, keys] = await this.contexts("tde verify");
    return await verifyDatadir(engine, keys, {
      root,
      expectRoot: undefined,
      acceptOlder,
      acceptChanged,
      scope: NOTHING_SELECTED,
    });
  }

  async archiveWal(source: BytePath, destination: BytePath): Promise<ArchiveReport> {
    const opened = await this.opened();
    const joins = (path: BytePath, archiveId: string): Promise<void> =>
      rememberArchive(opened, { path, archiveId, command: "tde wal archive" }, quiet);
    const context = { fs: this.disk, keys: opened.dataKeys, joins };
    return await archiveWal(context, { source, destination, compression: "gzip" });
  }

  async restoreWal(source: BytePath, target: BytePath): Promise<RestoreOutcome> {
    const { dataKeys } = await this.opened();
    return await restoreWal(this.disk, dataKeys, { source, target, allowPlain: false });
  }

  /** Whatever is not under the current key. */
  async rotateWal(archive: BytePath): Promise<RotateArchiveReport> {
    const { dataKeys } = await this.opened();
    const context = { fs: this.disk, keys: dataKeys, signal: undefined };
    return await rotateArchive(context, { archive, fromKey: undefined, dryRun: false });
  }

  async encryptWal(folder: BytePath): Promise<void> {
    const [engine, { keys }] = await this.contexts("tde wal encrypt");
    await encryptWal(engine, keys, { folder });
  }

  async decryptWal(folder: BytePath): Promise<void> {
    const [engine, { keys }] = await this.contexts("tde wal decrypt");
    await decryptWal(engine, keys, { folder });
  }

  async rotateReadable(folder: BytePath): Promise<void> {
    const [engine, { keys }] = await this.contexts("tde rotate --wal");
    await rotateWal(engine, keys, { archive: folder, fromKey: undefined, dryRun: false });
  }

  async createKeyring(): Promise<void> {
    await createKeyring(this.keyringPlace("create"), new KeyFileProvider(this.disk, KEY_FILE), "");
  }

  createKeyFile(path: BytePath): void {
    createKeyFile(this.disk, path);
  }

  /** As the commands of `tde keyring` do: change the file, then remember its generation. */
  async changeKeyring(
    change: (keyring: Keyring, state: State) => Promise<Keyring>,
  ): Promise<Keyring> {
    const keyring = await this.openKeyring();
    const next = await change(keyring, loadState(this.disk, STATE, keyring.dataKeys()));
    const place = { fs: this.disk, path: STATE, command: "tde keyring" };
    updateState(place, next.dataKeys(), next.file.generation, (content) => content);
    return next;
  }

  async openKeyring(): Promise<Keyring> {
    const providers = [KEY_FILE, OTHER_KEY_FILE]
      .filter((path) => this.disk.stat(path) !== undefined)
      .map((path) => new KeyFileProvider(this.disk, path));
    return await openKeyring(this.keyringPlace("show"), providers);
  }

  private keyringPlace(command: string): { fs: CrashDisk; path: BytePath; command: string } {
    return { fs: this.disk, path: KEYRING, command: `tde keyring ${command}` };
  }

  private async contexts(
    command: string,
    { withoutState = false }: Consents = {},
  ): Promise<[EngineContext, KeyContext]> {
    const { disk } = this;
    const engine: EngineContext = {
      fs: disk,
      startRunner: (context, onBytes) =>
        Object.assign(new InlineRunner(disk, context, onBytes), { limits: LIMITS }),
      progress: silentProgress,
      notice(): void {},
      signal: undefined,
      command,
    };
    return [engine, keyContext(await this.opened(), engine, quiet, { withoutState })];
  }

  private async opened(): Promise<OpenedKeyring> {
    const keyring = await this.openKeyring();
    const dataKeys = keyring.dataKeys();
    const state = loadState(this.disk, STATE, dataKeys);
    return { keyring, dataKeys, state, statePath: STATE };
  }
}
