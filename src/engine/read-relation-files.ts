/**
 * Reads what RelationFiles adds up: sizes from the directory, and keys from the manifest, which names every file with
 * its pages under each key. Where there is none to go by, the slots of the sidecars tell, at 1.6 % of the bytes.
 */
import { type BytePath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { parseRelationPath, type RelationFile } from "../datadir/relation-path.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import type { KeyUse, ManifestEntry } from "../format/manifest-entry.ts";
import { joinByPath } from "../format/manifest-order.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { RelationFiles } from "./relation-files.ts";
import { readUsedSlots } from "./stored-key-use.ts";

/**
 * @param entries - of the manifest, by rising path; undefined where there is none, or a run was interrupted.
 * @throws {StorageError}, and whatever `entries` throws.
 */
export function readRelationFiles(
  fs: FileSystem,
  datadir: Datadir,
  entries: Iterable<ManifestEntry> | undefined,
): RelationFiles {
  const reader = new FileReader(fs, datadir);
  const walked = walkDatadir(fs, datadir.root, datadir);
  if (entries === undefined) {
    for (const { path, classification } of walked) {
      if (classification.class === "relation") reader.add(path, classification.file);
      else if (classification.class === "sidecar") reader.addSidecar(path, classification.of);
    }
  } else {
    for (const { path, entry, found } of joinByPath(entries, relationFiles(walked))) {
      if (found !== undefined) reader.add(path, found.file, entry);
    }
  }
  return reader.files;
}

function* relationFiles(
  walked: Iterable<WalkEntry>,
): Generator<{ readonly path: BytePath; readonly file: RelationFile }> {
  for (const { path, classification } of walked) {
    if (classification.class === "relation") yield { path, file: classification.file };
  }
}

class FileReader {
  readonly files: RelationFiles;
  private readonly fs: FileSystem;
  private readonly datadir: Datadir;
  private readonly page: Buffer;

  constructor(fs: FileSystem, datadir: Datadir) {
    this.files = new RelationFiles(datadir);
    this.fs = fs;
    this.datadir = datadir;
    this.page = Buffer.alloc(datadir.control.blockSizeBytes);
  }

  /** @param entry - of the manifest. */
  add(path: BytePath, file: RelationFile, entry?: ManifestEntry): void {
    const sizeBytes = this.sizeOf(path) ?? 0;
    this.files.add(file, { sizeBytes, pages: Math.ceil(sizeBytes / this.page.length) });
    if (entry?.class === "P") this.files.addSealed(file, sizeBytes, entry.keys);
  }

  /** Counts the pages under each key in a sidecar, as its slots say; nothing of it is proved. */
  addSidecar(path: BytePath, owner: BytePath): void {
    const sizeBytes = this.sizeOf(owner);
    const file = parseRelationPath(owner, this.datadir);
    // Of a file that is gone the catalog tells.
    if (sizeBytes === undefined || file === undefined) return;
    const pages = new Map<number, number>();
    withFile(this.fs, joinPath(this.datadir.root, path), (sidecar) =>
      readUsedSlots(sidecar, this.page, ({ keyId }) => {
        pages.set(keyId, (pages.get(keyId) ?? 0) + 1);
      }),
    );
    const keys: KeyUse[] = [...pages].map(([keyId, count]) => ({ keyId, count }));
    this.files.addSealed(file, sizeBytes, keys);
  }

  private sizeOf(path: BytePath): number | undefined {
    return this.fs.stat(joinPath(this.datadir.root, path))?.sizeBytes;
  }
}
