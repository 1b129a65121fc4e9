/**
 * `tde decrypt-datadir --file`: the original of one file that stands by itself, as a new file.
 *
 * Order: the original under a working name beside the output, synced and read back; then the output's name, which must be free
 * to the last; the directory synced. A crash leaves the working name, or the whole file.
 */
import { type BytePath, directoryOf, displayPath } from "../bytes/byte-path.ts";
import { type PlainAccess, plainAccess } from "../datadir/plain-access.ts";
import { workingName } from "../datadir/relation-path.ts";
import { StateError, StorageError, UsageError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { runWriting } from "../workers/runner.ts";
import { stop } from "../workers/tools.ts";
import type { EngineContext } from "./context.ts";
import { type DetachedFile, detachedContext, detachedItem, openDetached } from "./detached-file.ts";
import { verifyDetached } from "./verify-detached.ts";

export interface DecryptDetachedRequest {
  readonly path: BytePath;
  readonly output: BytePath;
  readonly dryRun: boolean;
}

export interface DecryptedDetached {
  readonly outcome: "decrypted" | "dry-run";
  readonly file: DetachedFile;
  /** Of the original. */
  readonly bytes: number;
}

const OWNER_ONLY = 0o600;

/**
 * @throws {UsageError} {StateError} {FormatError} for what is no such file, and where the output is there already.
 * @throws {IntegrityError} at the first page that does not authenticate, {KeyError}, {StorageError}: nothing is written then.
 */
export async function decryptDetached(
  engine: EngineContext,
  keys: DataKeys,
  { path, output, dryRun }: DecryptDetachedRequest,
): Promise<DecryptedDetached> {
  const { fs, progress } = engine;
  const file = openDetached(fs, path);
  assertFree(fs, output);
  if (dryRun) {
    const [problem] = (await verifyDetached(engine, keys, path)).problems;
    if (problem !== undefined) stop(problem);
    return { outcome: "dry-run", file, bytes: file.sizeBytes };
  }
  const working = workingName(output);
  const access = ownAccess(fs, working);
  progress.begin("decrypting", file.sizeBytes);
  const runner = engine.startRunner(detachedContext(file, keys), (done) => progress.advance(done));
  let bytes = 0;
  try {
    const task = { kind: "open", access, items: [detachedItem(file, working)] } as const;
    await runWriting(runner, [{ task, context: undefined }], {
      take: () => {
        bytes = fs.stat(working)?.sizeBytes ?? 0;
        giveName(fs, working, output);
        fs.syncDirectory(directoryOf(output));
      },
    });
    return { outcome: "decrypted", file, bytes };
  } catch (error) {
    removeQuietly(fs, working);
    throw error;
  } finally {
    progress.end();
    await runner.close();
  }
}

function assertFree(fs: FileSystem, output: BytePath): void {
  if (fs.statFollowing(directoryOf(output))?.kind !== "directory")
    throw new UsageError(`there is no directory "${displayPath(directoryOf(output))}"`);
  for (const path of [output, workingName(output)])
    if (fs.stat(path) !== undefined) throw isThere(path);
}

function isThere(path: BytePath): StateError {
  return new StateError(`"${displayPath(path)}" is there already`, {
    hint: "Nothing is ever overwritten: give another name, or take that file away.",
  });
}

/** Of a file that this user makes there; what root makes belongs to whom the directory belongs to. */
function ownAccess(fs: FileSystem, probe: BytePath): PlainAccess {
  const made = fs.create(probe, OWNER_ONLY);
  let { uid, gid } = { uid: 0, gid: 0 };
  try {
    ({ uid, gid } = made.stat());
  } finally {
    made.close();
    fs.remove(probe);
  }
  const folder = plainAccess(fs, directoryOf(probe));
  const owner = uid === 0 ? { uid: folder.uid, gid: folder.gid } : { uid, gid };
  return { ...owner, fileMode: OWNER_ONLY, folderMode: 0o700 };
}

/** A link fails where the name is taken; where a file system has none, a look and a rename are two steps. */
function giveName(fs: FileSystem, working: BytePath, output: BytePath): void {
  try {
    fs.makeHardLink(working, output);
  } catch (error) {
    if (!(error instanceof StorageError) || error.errno === undefined) throw error;
    if (error.errno === "EEXIST" || fs.stat(output) !== undefined) throw isThere(output);
    fs.rename(working, output);
    return;
  }
  fs.remove(working);
}

/** The error matters more than whatever goes wrong here. */
function removeQuietly(fs: FileSystem, path: BytePath): void {
  try {
    fs.remove(path);
  } catch {
    // It has a name that says what it is.
  }
}
