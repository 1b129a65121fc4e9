/**
 * The manifest of an encrypted directory, opened and judged: its MAC under a key that still proves something, and
 * its epoch against what is remembered of the directory.
 */
import { type BytePath, directoryOf, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { isUnderOtherKey } from "../datadir/sealed-file.ts";
import { FormatError, IntegrityError, KeyError, withHint } from "../errors.ts";
import { type Manifest, type ManifestSource, openManifest } from "../format/manifest.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { JournalHeader } from "../storage/journal.ts";
import type { DirectoryMemory, KeyContext, SeenDirectory } from "./context.ts";
import { directoryLoad } from "./directory-load.ts";
import { type FoundRun, hasJournal } from "./run/directory-run.ts";

const READ_BYTES = 2 ** 18;

const WITHOUT_MANIFEST = `Without "${OWN_FILES.manifest}" nothing shows that files are missing or old. Restore it from a backup of the encrypted directory. If there is none, "tde decrypt --file FILE --output NEW" gives relation files back one by one.`;

export function hasManifest(fs: FileSystem, root: BytePath): boolean {
  return fs.stat(joinPath(root, OWN_FILES.manifest)) !== undefined;
}

/** The bytes of the manifest, read anew for each pass. */
export function manifestSource(fs: FileSystem, root: BytePath): ManifestSource {
  return function* read(): Generator<Uint8Array> {
    const path = joinPath(root, OWN_FILES.manifest);
    const buffer = Buffer.alloc(READ_BYTES);
    const readAt = (position: number): number =>
      withFile(fs, path, (file) => file.read(buffer, 0, buffer.length, position));
    for (let position = 0, count = readAt(0); count > 0; count = readAt(position)) {
      yield buffer.subarray(0, count);
      position += count;
    }
  };
}

/**
 * The manifest with its MAC checked, whatever its epoch.
 * @throws {KeyError} also when it is the keyring's key that differs: a sealed file beside it is committed to another.
 * @throws {IntegrityError} when it was altered. @throws {FormatError}.
 */
export function openAuthenticManifest(fs: FileSystem, root: BytePath, keys: DataKeys): Manifest {
  try {
    return openManifest(manifestSource(fs, root), keys, OWN_FILES.manifest);
  } catch (error) {
    const sealed = joinPath(root, OWN_FILES["auto-conf"]);
    if (!(error instanceof IntegrityError) || !isUnderOtherKey(fs, sealed, keys)) {
      const isDamage = error instanceof IntegrityError || error instanceof FormatError;
      throw isDamage && error.hint === undefined ? withHint(error, WITHOUT_MANIFEST) : error;
    }
    throw new KeyError(
      `"${displayPath(root)}" is sealed under other keys of keyring ${keys.keyringId} than yours holds under the same ids`,
      {
        cause: error,
        hint: "The keyring was given new keys in two places. Give the copy that this directory was encrypted with.",
      },
    );
  }
}

/** The manifest, where it is one of files that no interrupted run is changing. @throws as openAuthenticManifest. */
export function settledManifest(
  fs: FileSystem,
  root: BytePath,
  keys: DataKeys,
): Manifest | undefined {
  if (!hasManifest(fs, root) || hasJournal(fs, root)) return undefined;
  return openAuthenticManifest(fs, root, keys);
}

export interface JudgeOptions {
  /** A restore from backup brings an older state back: take it all the same. */
  readonly acceptOlder: boolean;
}

/**
 * @throws {IntegrityError} when it is missing, altered or, without `acceptOlder`, older than what is remembered or
 *   under a retired key. @throws {KeyError} {FormatError}.
 */
export function openJudgedManifest(
  fs: FileSystem,
  root: BytePath,
  { keys, memory }: KeyContext,
  options: JudgeOptions,
): Manifest {
  if (!hasManifest(fs, root)) throw manifestIsMissing(root);
  const manifest = openAuthenticManifest(fs, root, keys);
  const problem = options.acceptOlder
    ? undefined
    : whyNotCurrent(manifest, memory, placesToJudge(fs, root));
  if (problem !== undefined) {
    throw new IntegrityError(problem, {
      hint: "If you restored it from a backup on purpose, give --accept-older.",
    });
  }
  return manifest;
}

export function manifestIsMissing(root: BytePath): IntegrityError {
  return new IntegrityError(`"${OWN_FILES.manifest}" is missing in "${displayPath(root)}"`, {
    hint: WITHOUT_MANIFEST,
  });
}

/**
 * Why a manifest that authenticates may still not be the newest; undefined when all is well.
 * @param places - of the directory: placesToJudge.
 */
export function whyNotCurrent(
  manifest: Manifest,
  memory: DirectoryMemory,
  places: readonly BytePath[],
): string | undefined {
  const { directoryId, epoch, keyId } = manifest.header;
  if (manifest.keyState === "retired") {
    return `the manifest is authenticated by key ${keyId}, which is retired: whoever has that key could have made it`;
  }
  const { verdict, lastEpoch, lastSeen } = memory.judge(
    directoryId,
    epoch,
    manifest.root.toString("hex"),
  );
  switch (verdict) {
    case "older":
      return `the directory is of epoch ${epoch}, older than epoch ${lastEpoch} of ${lastSeen}`;
    case "forked":
      return `the directory is of epoch ${epoch} as on ${lastSeen}, but with another content: two copies of it went different ways`;
    case "unknown":
    case "newer":
    case "same": {
      const [before] = places.flatMap((place) => memory.replacedAt(place, directoryId) ?? []);
      if (before === undefined) return undefined;
      return before.kind === "decrypted"
        ? `directory ${directoryId} was decrypted here, and this is a copy of it from before`
        : `directory ${directoryId} is in the place of ${before.id}, another encryption, which was seen there on ${before.lastSeen}, later than this one`;
    }
  }
}

/** Where a directory is, without a link, and the name that it was called by, which may be a link that was made since. */
export function placesToJudge(fs: FileSystem, root: BytePath): readonly BytePath[] {
  const real = fs.realPath(root);
  const name = nameOf(root);
  if (name === "" || name === "." || name === "..") return [real];
  const called = joinPath(fs.realPath(directoryOf(root)), name);
  return called === real ? [real] : [real, called];
}

/**
 * The manifest of a directory whose interrupted run is to be taken up; undefined where there is none. A journal says
 * that what has no sidecar is plain already, or still to be sealed: with one of another directory, anybody's files
 * would pass. Nothing was changed when this throws.
 * @param header - of the journal, unproved; its MAC is checked when the run is taken up.
 * @throws {IntegrityError} when journal and manifest do not belong together. @throws {KeyError} {FormatError}.
 */
export function openManifestOfRun(
  fs: FileSystem,
  root: BytePath,
  keys: DataKeys,
  header: JournalHeader,
): Manifest | undefined {
  if (!hasManifest(fs, root)) return undefined;
  const manifest = openAuthenticManifest(fs, root, keys);
  const { directoryId, epoch } = manifest.header;
  // A decryption keeps the epoch, everything else raises it.
  const sameEpoch = header.operation === "decrypt" ? epoch === header.epoch : epoch <= header.epoch;
  if (directoryId === header.directoryId && sameEpoch) return manifest;
  throw new IntegrityError(
    `"${OWN_FILES.journal}" in "${displayPath(root)}" is of another directory or run than "${OWN_FILES.manifest}"`,
    { hint: "Nothing was changed. Restore the directory as a whole from a backup." },
  );
}

/**
 * Before any step of an interrupted run is done: what lies there must be the manifest that it was begun with, or, where it
 * writes one, its own.
 * @throws {IntegrityError} when it is another state of the directory, or gone. @throws {KeyError} {FormatError}.
 */
export function assertManifestOfRun(
  fs: FileSystem,
  root: BytePath,
  keys: DataKeys,
  { content, from, standing }: FoundRun,
): void {
  const { header, committed } = content;
  const manifest = openManifestOfRun(fs, root, keys, header);
  const isDecryption = header.operation === "decrypt";
  // What a run that has ended left is held against what is remembered of it.
  if (standing === "ended" || manifest?.root.toString("hex") === from) return;
  if (manifest === undefined && isDecryption && committed) return;
  if (manifest === undefined) throw manifestIsMissing(root);
  if (!isDecryption && manifest.header.epoch === header.epoch) return;
  throw new IntegrityError(
    `"${OWN_FILES.manifest}" in "${displayPath(root)}" is not the one that the unfinished run was begun with`,
    { hint: "Nothing was changed. Restore the directory as a whole from a backup." },
  );
}

/**
 * The epoch of a run: above the manifest's, above all that is remembered, and above those of runs that are open on other
 * copies of the directory. So no epoch comes twice.
 */
export function nextEpoch(manifest: Manifest | undefined, memory: DirectoryMemory): bigint {
  if (manifest === undefined) return 1n;
  const { directoryId, epoch } = manifest.header;
  const { lastEpoch } = memory.judge(directoryId, epoch, manifest.root.toString("hex"));
  const openEpoch = memory.highestOpenEpoch(directoryId);
  return [epoch, lastEpoch, openEpoch].reduce((a, b) => (a > b ? a : b)) + 1n;
}

/** A directory as its manifest says it is, where nobody counted what was written. */
export function seenAsManifest({ control, realRoot }: Datadir, manifest: Manifest): SeenDirectory {
  const { directoryId, epoch } = manifest.header;
  return {
    directoryId,
    epoch,
    root: manifest.root.toString("hex"),
    path: realRoot,
    load: directoryLoad(manifest, control.blockSizeBytes),
    written: undefined,
  };
}

/**
 * What lies where a run has ended must be what it ended with: then only its journal is left to be removed.
 * @param epoch - of the run.
 * @returns undefined when the run came to nothing: the directory is as it was before.
 * @throws {IntegrityError} when it is another state of the directory.
 */
export function manifestOfEndedRun(
  datadir: Datadir,
  manifest: Manifest | undefined,
  { directoryId, epoch }: { readonly directoryId: string; readonly epoch: bigint },
  { memory }: KeyContext,
): Manifest | undefined {
  const root = manifest?.root.toString("hex") ?? "";
  const { verdict, lastEpoch } = memory.judge(directoryId, manifest?.header.epoch ?? epoch, root);
  if (lastEpoch < epoch) return undefined;
  if (manifest !== undefined && verdict === "same") return manifest;
  throw new IntegrityError(
    `"${OWN_FILES.journal}" in "${displayPath(datadir.root)}" is of a run that had come to its end, with another manifest than this`,
    {
      hint: 'Nothing was changed. Move the journal away: what "tde verify" says then is what the directory is.',
    },
  );
}
