/**
 * Opens an encrypted directory whose own pg_control or PG_VERSION cannot be used: what cluster it is says the copy of
 * pg_control in the manifest. For what only reads, any manifest that can be read will do; what writes goes by one whose
 * MAC holds, and only where the user asked for it or an interrupted decryption may have begun so.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { type Datadir, openDatadir, openDatadirWith } from "../datadir/datadir.ts";
import { TdeError } from "../errors.ts";
import { type Manifest, openManifestWithoutKey } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { hasManifest, manifestSource, openAuthenticManifest } from "./open-manifest.ts";
import { hasJournal } from "./run/directory-run.ts";

export interface OpenedByManifest {
  readonly datadir: Datadir;
  /** By its own pg_control, or why that cannot be used. */
  readonly own: Datadir | TdeError;
}

/**
 * By its own pg_control, or by the manifest's copy where that cannot be used: to read from, never to write to.
 * @param keyContext - undefined: the manifest is believed without proof.
 * @throws as openDatadir where there is no manifest to go by.
 */
export function openByManifest(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): OpenedByManifest {
  const own = openOwn(fs, root);
  if (!(own instanceof TdeError)) return { datadir: own, own };
  const copy = openCopy(fs, root, keyContext);
  // Nothing is left to go by: the first error says why.
  if (copy === undefined || copy instanceof TdeError) throw own;
  return { datadir: copy, own };
}

/**
 * By the manifest's copy wherever its own pg_control is another: one changed file must not make problems of all others.
 * @throws as openDatadir where there is no manifest to go by.
 */
export function openToVerify(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): OpenedByManifest {
  const own = openOwn(fs, root);
  const copy = openCopy(fs, root, keyContext);
  const isUsable = copy !== undefined && !(copy instanceof TdeError);
  if (own instanceof TdeError) {
    if (isUsable) return { datadir: copy, own };
    throw own;
  }
  return { datadir: isUsable && !isOf(own, copy) ? copy : own, own };
}

/**
 * To decrypt it: by the copy of an authentic manifest where the original is to be put back.
 * @param restoreControl - the user asked for that. An interrupted decryption puts it back in any case.
 * @throws as openDatadir; as openAuthenticManifest where only the manifest can tell.
 */
export function openToDecrypt(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext,
  restoreControl: boolean,
): Datadir {
  const own = openOwn(fs, root);
  const goesByCopy = restoreControl || hasJournal(fs, root);
  const copy = goesByCopy ? openCopy(fs, root, keyContext) : undefined;
  if (copy === undefined || copy instanceof TdeError) {
    // Where there is an own one, whoever opens the manifest next says what is wrong with that.
    if (!(own instanceof TdeError)) return own;
    throw restoreControl && copy !== undefined ? copy : own;
  }
  return own instanceof TdeError || !isOf(own, copy) ? copy : own;
}

/** Tells the user where a command goes by the manifest's copy. */
export function tellOfCopy(
  { notice }: Pick<EngineContext, "notice">,
  opened: OpenedByManifest,
): void {
  if (opened.own instanceof TdeError) notice(`${opened.own.message}${GOES_BY_COPY}`);
}

/** Ends a sentence that says what is wrong with pg_control. */
export const GOES_BY_COPY = "; what it said is taken from the manifest's copy of it";

/** The manifest, authenticated where there are keys to do it with. @throws as openManifest. */
export function openManifestFor(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): Manifest {
  return keyContext === undefined
    ? openManifestWithoutKey(manifestSource(fs, root), OWN_FILES.manifest)
    : openAuthenticManifest(fs, root, keyContext.keys);
}

function openOwn(fs: FileSystem, root: BytePath): Datadir | TdeError {
  try {
    return openDatadir(fs, root);
  } catch (error) {
    if (error instanceof TdeError) return error;
    throw error;
  }
}

/** Undefined where there is no manifest. */
function openCopy(
  fs: FileSystem,
  root: BytePath,
  keyContext: KeyContext | undefined,
): Datadir | TdeError | undefined {
  try {
    if (!hasManifest(fs, root)) return undefined;
    return openDatadirWith(fs, root, openManifestFor(fs, root, keyContext).header.control);
  } catch (error) {
    if (error instanceof TdeError) return error;
    throw error;
  }
}

function isOf(own: Datadir, copy: Datadir): boolean {
  return own.major === copy.major && own.controlBytes.equals(copy.controlBytes);
}
