/**
 * A run that has ended left nothing but its journal to be removed. That its journal says so, and the state file too, does
 * not make the directory what it was then: somebody may have put an older copy of it back, and kept the journal.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { OWN_FILES } from "../../datadir/classify.ts";
import { openDatadir } from "../../datadir/datadir.ts";
import { IntegrityError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { JOURNAL_NAME, type JournalHeader } from "../../storage/journal.ts";
import type { KeyContext } from "../context.ts";
import { readAutoConf } from "../guard.ts";
import { hasManifest, manifestOfEndedRun, openManifestOfRun } from "../open-manifest.ts";

/** @throws {IntegrityError} when what a decryption takes away is there. */
export function assertDecrypted(fs: FileSystem, root: BytePath): void {
  const hasTags = fs.stat(joinPath(root, OWN_FILES["kept-tags"])) !== undefined;
  if (hasManifest(fs, root) || hasTags || readAutoConf(fs, root) === "guard")
    throw notAsEnded(root, "the decryption that it is of had come to its end");
}

/** @throws {IntegrityError} when a new directory is neither empty again nor what its run has made. */
export function assertOutputAsEnded(
  fs: FileSystem,
  keyContext: KeyContext,
  output: BytePath,
  header: JournalHeader,
): void {
  const isCluster = fs.stat(joinPath(output, "PG_VERSION")) !== undefined;
  if (header.operation === "decryptOutput") {
    if (isCluster) assertDecrypted(fs, output);
    return;
  }
  const manifest = openManifestOfRun(fs, output, keyContext.keys, header);
  if (manifest === undefined && !isCluster) return;
  const datadir = openDatadir(fs, output);
  if (manifestOfEndedRun(datadir, manifest, header, keyContext) === undefined)
    throw notAsEnded(output, "the run that it is of had been undone");
}

/** @throws {IntegrityError} when the last step of a run into a new directory is done, which its journal knows nothing of. */
export function assertNotWhole(
  fs: FileSystem,
  output: BytePath,
  { operation }: JournalHeader,
): void {
  const isCluster = fs.stat(joinPath(output, "PG_VERSION")) !== undefined;
  const isWhole =
    operation === "encryptOutput"
      ? hasManifest(fs, output)
      : isCluster && readAutoConf(fs, output) !== "guard";
  if (!isWhole) return;
  throw new IntegrityError(
    `"${JOURNAL_NAME}" in "${displayPath(output)}" is of a run that was not finished, and the directory is whole`,
    {
      hint: "Nothing was changed. Somebody put an older journal there; the state file may be an older one, too. Bring the newer state file back, or name it with --state.",
    },
  );
}

function notAsEnded(root: BytePath, why: string): IntegrityError {
  return new IntegrityError(
    `"${displayPath(root)}" is not what the run of its "${JOURNAL_NAME}" left: ${why}`,
    {
      hint: "Nothing was changed. Somebody put back an older copy of the directory, or files of one: restore it as a whole.",
    },
  );
}
