/**
 * Keeps an encryption from meeting a server that starts at the same moment. A server reads its configuration first,
 * takes postmaster.pid next, and opens no file of the cluster before it has it (PostmasterMain: SelectConfigFiles, then
 * CreateDataDirLockFile). So one that comes after the guard stops at it; one that had read its configuration before
 * shows its postmaster.pid a moment later. That moment is waited for before the first file is replaced, and it is
 * looked once more before every batch, in case the machine held the server up for longer.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { type Datadir, openDatadir } from "../datadir/datadir.ts";
import { assertNotInUse, type InUseOptions } from "../datadir/in-use.ts";
import { StateError, TdeError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";

/** From reading the configuration to postmaster.pid a server needs less than one millisecond. */
const SETTLE_MS = 100;

/**
 * Waits until every server shows that did not see the guard, which stands since just now. Without returning to the
 * event loop, like every wait between two steps.
 * @throws {StateError} when a server runs, or has run since `datadir` was opened.
 */
export function awaitLateServers(fs: FileSystem, datadir: Datadir, options: InUseOptions): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SETTLE_MS);
  assertNoServerSince(fs, datadir, options);
}

/**
 * Whether the directory is as it was when `datadir` was opened, as far as servers go.
 * @throws {StateError} when one runs, or has run since.
 */
export function assertNoServerSince(fs: FileSystem, datadir: Datadir, options: InUseOptions): void {
  assertNotInUse(fs, datadir, options);
  if (!openDatadir(fs, datadir.root).controlBytes.equals(datadir.controlBytes))
    throw wasStarted(datadir.root);
}

/**
 * Reads a directory that no server uses. A server that comes all the same takes files away and changes others, which
 * shows as any error at all: then the server is what to tell of.
 */
export async function withoutServers<T>(
  fs: FileSystem,
  datadir: Datadir,
  options: InUseOptions,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof TdeError) tellOfServer(fs, datadir, options);
    throw error;
  }
}

/** @throws {StateError} when a server has come; no other error, for the one that asks matters more. */
function tellOfServer(fs: FileSystem, datadir: Datadir, options: InUseOptions): void {
  try {
    assertNoServerSince(fs, datadir, options);
  } catch (error) {
    if (error instanceof StateError) throw error;
  }
}

function wasStarted(root: BytePath): StateError {
  return new StateError(`a server was started on "${displayPath(root)}" while tde read it`, {
    hint: "Shut it down, see that nothing starts it again, and run the command once more.",
  });
}
