/**
 * A cut-down real cluster: a few files of each kind out of a fixture, so that it is encrypted and verified in
 * milliseconds. With it what an operation of the engine needs, in this thread and without a keyring file.
 */
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import type { DirectoryMemory, EngineContext, KeyContext } from "../../src/engine/context.ts";
import {
  decryptDatadir,
  type DecryptOptions,
  type DecryptReport,
} from "../../src/engine/decrypt-datadir.ts";
import { encryptDatadir } from "../../src/engine/encrypt-datadir.ts";
import type { EncryptOptions, EncryptReport } from "../../src/engine/encrypt-report.ts";
import { type ProgressSink, silentProgress } from "../../src/engine/progress-sink.ts";
import { recoverDatadir, type RecoveryOutcome } from "../../src/engine/recover.ts";
import { rotateDatadir, type RotateReport } from "../../src/engine/rotate-datadir.ts";
import type { RotationRequest } from "../../src/engine/rotation-selection.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import { syncDatadir, type SyncReport } from "../../src/engine/sync-datadir.ts";
import { verifyDatadir, type VerifyOptions } from "../../src/engine/verify-datadir.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import type { OpenRun } from "../../src/keyring/state.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import type { FileSystem } from "../../src/storage/file-system.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import type { TaskLimits } from "../../src/workers/runner.ts";
import { temporaryPath } from "./cluster.ts";
import { type FixtureMajor, unpackFixture } from "./fixture.ts";
import { testKeys } from "./keys.ts";
import { copyTree } from "./tree.ts";

/** What is left of the database template1; 1255 (pg_proc) needs more than one sidecar page. */
const KEPT_IN_BASE =
  /^(?:PG_VERSION|pg_filenode\.map|(?:1255|1259|1247|2619)(?:_fsm|_vm)?|2662|2663|13\d\d\d)$/;
const KEPT_IN_GLOBAL = /^(?:pg_control|pg_filenode\.map|(?:1260|1262)(?:_fsm|_vm)?|1214|2671)$/;
/** Folders that are taken as they are. */
const KEPT_FOLDERS = ["pg_xact", "pg_multixact", "pg_twophase", "pg_logical", "pg_notify"];
const EMPTY_FOLDERS = ["pg_wal", "pg_wal/archive_status", "pg_tblspc", "pg_stat", "pg_replslot"];
const KEPT_FILES = ["PG_VERSION", "pg_hba.conf", "postgresql.auto.conf"];

export const WAL_FILE = "pg_wal/000000010000000000000001";
/** In base/1: more than one sidecar page. */
export const LARGE = "base/1/1255";
export const ORDINARY = "base/1/1259";
export const OTHER = "base/1/1247";
/** A copy of ORDINARY with an odd tail, a zero page, a page with a wrong checksum and one of garbage. */
export const ODD = "base/1/90001";
export const BLOCK_SIZE = 8192;

const masters = new Map<FixtureMajor, string>();

/** @returns a new copy of the cut-down cluster, plain; gone when this process is. */
export function makeSmallCluster(major: FixtureMajor = 17): string {
  let master = masters.get(major);
  if (master === undefined) {
    master = cutDown(major);
    masters.set(major, master);
  }
  return copyOf(master);
}

/** @returns a new copy of any directory. */
/** Puts all of `copy` in the place of what is at `datadir`. */
export function putBack(copy: string, datadir: string): void {
  rmSync(datadir, { recursive: true, force: true });
  copyTree(copy, datadir);
}

export function copyOf(datadir: string): string {
  const copy = join(temporaryPath("small"), "data");
  copyTree(datadir, copy);
  return copy;
}

function cutDown(major: FixtureMajor): string {
  const whole = unpackFixture(major, temporaryPath("whole")).datadir;
  const small = join(temporaryPath("master"), "data");
  for (const folder of ["base/1", "global", ...EMPTY_FOLDERS]) {
    mkdirSync(join(small, folder), { recursive: true, mode: 0o700 });
  }
  for (const folder of KEPT_FOLDERS) copyTree(join(whole, folder), join(small, folder));
  for (const file of KEPT_FILES) copyTree(join(whole, file), join(small, file));
  copyMatching(join(whole, "base/1"), join(small, "base/1"), KEPT_IN_BASE);
  copyMatching(join(whole, "global"), join(small, "global"), KEPT_IN_GLOBAL);
  writeFileSync(join(small, "postgresql.conf"), "max_connections = 20\n", { mode: 0o600 });
  // More than one chunk of a container; content of the right size for its name is nobody's concern here.
  const wal = readdirSync(join(whole, "pg_wal")).find((name) => /^[0-9A-F]{24}$/.test(name)) ?? "";
  cpSync(join(whole, "pg_wal", wal), join(small, WAL_FILE));
  truncateSync(join(small, WAL_FILE), 150_000);
  writeFileSync(join(small, ODD), oddRelation(readFileSync(join(small, ORDINARY))), {
    mode: 0o600,
  });
  writeFileSync(join(small, "base/1/90002"), "", { mode: 0o600 });
  return small;
}

function oddRelation(pages: Buffer): Buffer {
  const odd = Buffer.concat([pages.subarray(0, 5 * BLOCK_SIZE), Buffer.from("an odd tail")]);
  odd.fill(0, BLOCK_SIZE, 2 * BLOCK_SIZE);
  odd.writeUInt16LE(odd.readUInt16LE(2 * BLOCK_SIZE + 8) ^ 0x5a5a, 2 * BLOCK_SIZE + 8);
  odd.fill(0xd7, 3 * BLOCK_SIZE, 4 * BLOCK_SIZE);
  return odd;
}

function copyMatching(from: string, to: string, pattern: RegExp): void {
  for (const name of readdirSync(from)) {
    if (pattern.test(name)) copyTree(join(from, name), join(to, name));
  }
}

/** Remembers directories as the state file does, without a file. */
export class TestMemory implements DirectoryMemory {
  private readonly seen = new Map<string, { epoch: bigint; root: string; path: string }>();

  copy(): TestMemory {
    const copy = new TestMemory();
    copy.become(this);
    return copy;
  }

  get isEmpty(): boolean {
    return this.seen.size + this.runs.size === 0;
  }

  /** Remembers what another one does. */
  become({ seen, runs }: TestMemory): void {
    for (const [mine, theirs] of [
      [this.seen, new Map(seen)],
      [this.runs, new Map(runs)],
    ] as [Map<string, unknown>, Map<string, unknown>][]) {
      mine.clear();
      for (const [id, one] of theirs) mine.set(id, one);
    }
  }

  judge: DirectoryMemory["judge"] = (directoryId, epoch, root) => {
    const last = this.seen.get(directoryId);
    if (last === undefined) return { verdict: "unknown", lastEpoch: 0n, lastSeen: "" };
    const facts = { lastEpoch: last.epoch, lastSeen: "the day before" };
    if (epoch !== last.epoch) return { verdict: epoch > last.epoch ? "newer" : "older", ...facts };
    return { verdict: root === last.root ? "same" : "forked", ...facts };
  };

  remember: DirectoryMemory["remember"] = ({ directoryId, epoch, root, path }) => {
    const last = this.seen.get(directoryId);
    if (last === undefined || epoch > last.epoch) this.seen.set(directoryId, { epoch, root, path });
  };

  places: DirectoryMemory["places"] = (directoryId) => {
    const path = this.seen.get(directoryId)?.path as BytePath | undefined;
    return path === undefined ? [] : [path];
  };

  /** Of times it knows nothing. */
  replacedAt: DirectoryMemory["replacedAt"] = () => undefined;

  readonly isDoubtAccepted: boolean = false;
  readonly runs: Map<string, OpenRun> = new Map();

  doubt: DirectoryMemory["doubt"] = () => undefined;

  highestOpenEpoch: DirectoryMemory["highestOpenEpoch"] = (directoryId) =>
    [...this.runs.values()]
      .filter((run) => run.directoryId === directoryId)
      .reduce((highest, { epoch }) => (epoch > highest ? epoch : highest), 0n);

  openRun: DirectoryMemory["openRun"] = (runId) => this.runs.get(runId);

  openRunsAt: DirectoryMemory["openRunsAt"] = (place) =>
    [...this.runs.values()].filter((run) => run.place === place);

  beginRun: DirectoryMemory["beginRun"] = (run) => {
    for (const [id, { place }] of this.runs) if (place === run.place) this.runs.delete(id);
    this.runs.set(run.runId, { ...run, time: "2026-11-12T08:00:00Z", ended: false });
  };

  endRun: DirectoryMemory["endRun"] = (runId, outcome) => {
    const run = this.runs.get(runId);
    if (run !== undefined) this.runs.set(runId, { ...run, ended: true });
    if (outcome.kind === "seen") this.remember(outcome.seen);
  };

  closeRun: DirectoryMemory["closeRun"] = (runId) => void this.runs.delete(runId);
}

/** The engine in this thread. */
export class SmallEngine {
  readonly keyContext: KeyContext;
  readonly engine: EngineContext;
  readonly notices: string[] = [];

  constructor({
    keys = testKeys(),
    fs = new NodeFileSystem(),
    progress = silentProgress,
    memory = new TestMemory(),
    limits,
  }: {
    keys?: KeyContext["keys"];
    fs?: FileSystem;
    progress?: ProgressSink;
    memory?: DirectoryMemory;
    limits?: TaskLimits | undefined;
  } = {}) {
    this.keyContext = { keys, memory };
    this.engine = {
      fs,
      startRunner: (context, onBytes) =>
        Object.assign(new InlineRunner(fs, context, onBytes), { limits }),
      progress,
      notice: (message) => void this.notices.push(message),
      signal: undefined,
      command: "a test",
    };
  }

  encrypt(datadir: string, options: Partial<EncryptOptions> = {}): Promise<EncryptReport> {
    return encryptDatadir(this.engine, this.keyContext, this.encryptOptions(datadir, options));
  }

  verify(datadir: string, options: Partial<VerifyOptions> = {}): Promise<VerifyReport> {
    return verifyDatadir(this.engine, this.keyContext, this.verifyOptions(datadir, options));
  }

  /** Checksums and form only. */
  verifyWithoutKey(datadir: string): Promise<VerifyReport> {
    return verifyDatadir(this.engine, undefined, this.verifyOptions(datadir));
  }

  verifyOptions(datadir: string, options: Partial<VerifyOptions> = {}): VerifyOptions {
    return {
      root: bytePath(datadir),
      expectRoot: undefined,
      acceptOlder: false,
      acceptChanged: [],
      scope: NOTHING_SELECTED,
      ...options,
    };
  }

  decrypt(datadir: string, options: Partial<DecryptOptions> = {}): Promise<DecryptReport> {
    return decryptDatadir(this.engine, this.keyContext, this.decryptOptions(datadir, options));
  }

  encryptOptions(datadir: string, options: Partial<EncryptOptions> = {}): EncryptOptions {
    return {
      root: bytePath(datadir),
      wal: "sealed",
      assumeStopped: false,
      sealConfig: false,
      acceptOlder: false,
      acceptChanged: [],
      scope: NOTHING_SELECTED,
      dryRun: false,
      ...options,
    };
  }

  rotate(
    datadir: string,
    request: RotationRequest = { kind: "all" },
    options: { acceptOlder?: boolean; acceptMoved?: boolean; dryRun?: boolean } = {},
  ): Promise<RotateReport> {
    return rotateDatadir(this.engine, this.keyContext, {
      root: bytePath(datadir),
      request,
      acceptOlder: options.acceptOlder === true,
      acceptMoved: options.acceptMoved,
      dryRun: options.dryRun === true,
    });
  }

  sync(
    source: string,
    copy: string,
    options: {
      acceptOlder?: boolean;
      acceptMoved?: boolean;
      dryRun?: boolean;
      mapping?: Record<string, string>;
    } = {},
  ): Promise<SyncReport> {
    const { acceptOlder = false, acceptMoved, dryRun = false, mapping = {} } = options;
    return syncDatadir(this.engine, this.keyContext, {
      source: bytePath(source),
      root: bytePath(copy),
      tablespaceMapping: new Map(
        Object.entries(mapping).map(([from, to]) => [bytePath(from), bytePath(to)]),
      ),
      assumeStopped: false,
      acceptOlder,
      acceptMoved,
      dryRun,
    });
  }

  recover(datadir: string): Promise<RecoveryOutcome> {
    return recoverDatadir(this.engine, this.keyContext, bytePath(datadir));
  }

  decryptOptions(datadir: string, options: Partial<DecryptOptions> = {}): DecryptOptions {
    return {
      root: bytePath(datadir),
      acceptOlder: false,
      acceptChanged: [],
      restoreControl: false,
      keepRecoverySettings: false,
      dryRun: false,
      ...options,
    };
  }
}
