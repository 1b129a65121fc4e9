/**
 * Writes a tde.manifest under a working name, durably; the caller lets it take its place.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import { StateError } from "../errors.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import { ManifestWriter } from "../format/manifest.ts";
import { type DataKeys, dekFor } from "../keyring/data-keys.ts";
import { writeAll } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";

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
  try {
    let position = 0;
    const dek = dekFor(keys, header.keyringId, header.keyId, OWN_FILES.manifest);
    const writer = new ManifestWriter(header, dek, (text) => {
      writeAll(file, text, 0, text.length, position);
      position += text.length;
    });
    await fill(writer);
    const summary = writer.finish();
    // Readable by whoever may read PG_VERSION; its time tells when this state of the directory was made.
    const { accessTime, modifyTime } = file.stat();
    file.setAttributes({ ...like, accessTime, modifyTime });
    file.sync();
    return summary.root.toString("hex");
  } finally {
    file.close();
  }
}
