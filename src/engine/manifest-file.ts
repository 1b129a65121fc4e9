/**
 * Writes a tde.manifest under a working name, durably, and reads it back; the caller lets it take its place.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { StateError } from "../errors.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import { type ManifestSummary, ManifestWriter, openManifest } from "../format/manifest.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { fileParts, writeAll } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { notAsWritten, readingBack } from "../storage/read-back.ts";

/**
 * @param fill - adds every entry, by rising path.
 * @returns the root, 64 hex digits.
 */
export async function writeManifestFile(
  fs: FileSystem,
  root: BytePath,
  name: BytePath,
  { header, keys }: { readonly header: ManifestHeader; readonly keys: DataKeys },
  fill: (writer: ManifestWriter) => Promise<void>,
): Promise<string> {
  const path = joinPath(root, name);
  const like = fs.stat(joinPath(root, "PG_VERSION"));
  if (like === undefined) throw new StateError('"PG_VERSION" is gone');
  fs.remove(path);
  const file = fs.create(path, 0o600);
  let summary: ManifestSummary;
  try {
    let position = 0;
    const dek = dekFor(keys, header.keyringId, header.keyId, OWN_FILES.manifest);
    const writer = new ManifestWriter(header, dek, (text) => {
      writeAll(file, text, 0, text.length, position);
      position += text.length;
    });
    await fill(writer);
    summary = writer.finish();
    // Readable by whoever may read PG_VERSION; its time tells when this state of the directory was made.
    const { accessTimeNs, modifyTimeNs } = file.stat();
    file.setAttributes({ ...like, accessTimeNs, modifyTimeNs });
    file.sync();
  } finally {
    file.close();
  }
  const written = summary.root;
  const isRight = readingBack(OWN_FILES.manifest, () => isManifest(fs, path, keys, written));
  if (!isRight) throw notAsWritten(OWN_FILES.manifest);
  return written.toString("hex");
}

/**
 * Whether a file is the manifest of that root: every line of it is read anew, and its MAC holds.
 * @throws {IntegrityError} {FormatError} where it is none.
 */
export function isManifest(fs: FileSystem, path: BytePath, keys: DataKeys, root: Buffer): boolean {
  return openManifest(fileParts(fs, path), keys, OWN_FILES.manifest).root.equals(root);
}
