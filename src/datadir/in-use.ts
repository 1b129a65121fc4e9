/**
 * Keeps tde away from a data directory that a server uses, or may use: tde's writes and a server's would destroy each
 * other. A process on another machine or in another container cannot be seen, so a control file that does not say
 * "shut down" counts, too. Sources: utils/init/miscinit.c (CreateLockFile) for postmaster.pid.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { StateError } from "../errors.ts";
import { readWholeFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { placeIdOf, type RunningServer, runningServers } from "../storage/running-servers.ts";
import type { Datadir } from "./datadir.ts";
import { tablespaceFolder } from "./relation-path.ts";

/** Whether a process with this id exists. */
export type IsAlive = (pid: number) => boolean;

export interface InUseOptions {
  /** The user says that no server uses the directory, whatever its control file tells. */
  readonly assumeStopped: boolean;
}

const LOCK_FILE_LIMIT_BYTES = 8192;

/**
 * @throws {StateError} when a live process has the directory locked, when the server of another directory uses one of its
 * tablespaces or its WAL, or when the control file tells of a server that was not shut down, unless `assumeStopped` or the
 * directory is a base backup.
 */
export function assertNotInUse(
  fs: FileSystem,
  datadir: Datadir,
  options: InUseOptions,
  isAlive: IsAlive = processIsAlive,
): void {
  assertNoServerOn(fs, datadir, options, isAlive);
  assertNotShared(datadir, runningServers());
}

/**
 * The links of a copy lead to where those of the original do, and its server goes on writing there.
 * @throws {StateError} when one of the servers uses a tablespace or pg_wal of this directory, or lies in it.
 */
function assertNotShared(datadir: Datadir, servers: readonly RunningServer[]): void {
  if (servers.length === 0) return;
  const { realRoot, walTarget, tablespaces, major } = datadir;
  const own = placeIdOf(realRoot);
  const folder = tablespaceFolder(datadir);
  const isWithin = (path: BytePath, place: BytePath): boolean => path.startsWith(`${place}/`);
  const used = tablespaces.map(({ realPath }) => joinPath(realPath, folder));
  for (const server of servers.filter(({ place }) => place !== own)) {
    const name = `the server of "${displayPath(server.directory)}" (pid ${server.pid})`;
    const shares = (isWal: boolean, place: BytePath): boolean =>
      server.links.some(
        (link) => (link.path === "pg_wal") === isWal && link.place === placeIdOf(place),
      );
    const wal = walTarget ?? joinPath(realRoot, "pg_wal");
    if (shares(true, wal)) throw isShared(name, `"${displayPath(wal)}" for its WAL`);
    // Servers of several majors may use one location, each a folder of its own: pg_upgrade leaves them so.
    const tablespace = tablespaces.find(
      ({ realPath }) => server.version === String(major) && shares(false, realPath),
    );
    if (tablespace !== undefined)
      throw isShared(name, `tablespace "${displayPath(tablespace.realPath)}"`);
    const around = [realRoot, ...used, ...(walTarget === undefined ? [] : [walTarget])].find(
      (place) => isWithin(server.directory, place),
    );
    if (around === undefined) continue;
    throw new StateError(`${name} is running in "${displayPath(around)}"`, {
      hint: "Stop the server and move its data directory out of there first.",
    });
  }
}

function isShared(server: string, what: string): StateError {
  return new StateError(`${server} uses ${what}, too`, { hint: HINT_OF_SHARED });
}

/** What to do about links of a copy. */
export const HINT_OF_SHARED =
  "The copy's links lead into the original: copy what is behind them, too, and point the links there.";

/** @throws {StateError} as assertNotInUse, whatever the servers of other directories do. */
export function assertNoServerOn(
  fs: FileSystem,
  datadir: Datadir,
  options: InUseOptions,
  isAlive: IsAlive = processIsAlive,
): void {
  const lockPath = joinPath(datadir.root, "postmaster.pid");
  const lockExists = fs.stat(lockPath) !== undefined;
  if (lockExists) assertLockIsStale(fs, datadir, lockPath, options, isAlive);

  const { state } = datadir.control;
  if (state === "shut down" || state === "shut down in recovery" || options.assumeStopped) return;
  // Up to 14 a running server can have a backup_label; a base backup never has a postmaster.pid.
  if (!lockExists && fs.stat(joinPath(datadir.root, "backup_label")) !== undefined) return;
  throw new StateError(
    `the server of "${displayPath(datadir.root)}" was not shut down: its control file says "${state}"`,
    {
      hint:
        "A server may be using it, also one in another container or on another machine. Shut it down first. " +
        "For a snapshot or copy that no server uses, give --assume-stopped.",
    },
  );
}

function assertLockIsStale(
  fs: FileSystem,
  datadir: Datadir,
  lockPath: BytePath,
  options: InUseOptions,
  isAlive: IsAlive,
): void {
  const lock = readServerLock(fs, datadir.root);
  if (lock === undefined) {
    if (options.assumeStopped) return;
    throw new StateError(`file "${displayPath(lockPath)}" names no server process`, {
      hint: "A server may be starting just now. If none is, remove the file or give --assume-stopped.",
    });
  }
  if (!isAlive(lock.pid) || !isSameDirectory(fs, lock.directory, datadir.root)) return;
  throw new StateError(`a server is running on "${displayPath(datadir.root)}" (pid ${lock.pid})`, {
    hint: "Stop the server first. If that process is no PostgreSQL server, remove postmaster.pid.",
  });
}

/** What a server wrote into its lock file. */
interface ServerLock {
  readonly pid: number;
  readonly directory: BytePath;
}

/** Undefined where postmaster.pid is missing or names no server. */
function readServerLock(fs: FileSystem, root: BytePath): ServerLock | undefined {
  const path = joinPath(root, "postmaster.pid");
  // Only a regular file is opened: a pipe would wait for ever.
  if (fs.stat(path)?.kind !== "file") return undefined;
  const lines = readWholeFile(fs, path, LOCK_FILE_LIMIT_BYTES).toString("latin1").split("\n");
  // A server in single-user mode writes its process id as a negative number.
  const pid = /^-?([1-9][0-9]{0,9})$/.exec((lines[0] ?? "").trim())?.[1];
  const directory = lines[1] as BytePath | undefined;
  if (pid === undefined || directory === undefined || directory === "") return undefined;
  return { pid: Number(pid), directory };
}

/** The directory that a lock file in this one is of, where that is another one: then this one is a copy of it. */
export function lockedAs(fs: FileSystem, { root }: Datadir): BytePath | undefined {
  const lock = readServerLock(fs, root);
  return lock === undefined || isSameDirectory(fs, lock.directory, root)
    ? undefined
    : lock.directory;
}

/** Another path in the lock file means that the directory is a copy of the one that the server uses. */
export function isSameDirectory(fs: FileSystem, a: BytePath, b: BytePath): boolean {
  const one = fs.statFollowing(a);
  const other = fs.statFollowing(b);
  if (one === undefined || other === undefined) return false;
  const sameInode = one.inode === other.inode && one.device === other.device;
  return sameInode || fs.realPath(a) === fs.realPath(b);
}

function processIsAlive(pid: number): boolean {
  // As the server does: our own id in a file that someone else wrote is a coincidence after a restart.
  if (pid === process.pid || pid === process.ppid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it exists, and belongs to someone else.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
