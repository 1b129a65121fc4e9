/**
 * Which keys a directory's own files name, for a directory whose manifest does not tell: the slots of all sidecars
 * and the headers of all sealed files. Nothing of it is proved; it reads 1.6 % of the relations.
 */
import { directoryOf, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { parseSidecarPage, slotOffset, slotsPerPage } from "../format/sidecar-page.ts";
import { readSlotFields, SLOT_KIND, type SlotFields } from "../format/slot.ts";
import { WAL_SIDECAR_PAGE_BYTES } from "../format/wal/wal-slot.ts";
import { addLoad, type KeyLoad, type KeyLoads } from "../keyring/key-load.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";

export interface StoredKeyUse {
  /** 16 hex digits each; more than one where files of several directories are mixed. */
  readonly keyringIds: readonly string[];
  readonly load: KeyLoads;
  /** With a sidecar, or sealed whole. */
  readonly sealedFiles: number;
}

export function storedKeyUse(fs: FileSystem, datadir: Datadir): StoredKeyUse {
  const keyringIds = new Set<string>();
  const load = new Map<number, KeyLoad>();
  let sealedFiles = 0;
  const page = Buffer.alloc(datadir.control.blockSizeBytes);
  const walPage = Buffer.alloc(WAL_SIDECAR_PAGE_BYTES);
  for (const { path, kind, classification } of walkDatadir(fs, datadir.root, datadir)) {
    const full = joinPath(datadir.root, path);
    if (classification.class === "sidecar") {
      const keyringId = withFile(fs, full, (file) =>
        readUsedSlots(
          file,
          directoryOf(path) === "pg_wal" ? walPage : page,
          ({ keyId, lengthBytes }) => addLoad(load, keyId, { pages: 1, bytes: lengthBytes }),
        ),
      );
      if (keyringId === undefined) continue;
      keyringIds.add(keyringId);
      sealedFiles++;
    } else if (kind === "file" && classification.class !== "relation") {
      const header = containerHeaderOf(fs, full);
      if (header === undefined) continue;
      keyringIds.add(header.keyringId);
      addLoad(load, header.keyId, { pages: 1, bytes: fs.stat(full)?.sizeBytes ?? 0 });
      sealedFiles++;
    }
  }
  return { keyringIds: [...keyringIds].sort(), load, sealedFiles };
}

/**
 * Reads the used slots of a sidecar, up to what is no sidecar page.
 * @param page - as large as the sidecar's pages, to read into.
 * @returns the keyring of its first page; undefined where there is none.
 */
export function readUsedSlots(
  file: OpenFile,
  page: Buffer,
  take: (slot: SlotFields) => void,
): string | undefined {
  let keyringId: string | undefined;
  for (let position = 0; ; position += page.length) {
    if (readUpTo(file, page, 0, page.length, position) < page.length) return keyringId;
    const head = parseSidecarPage(page);
    if (typeof head === "string") return keyringId;
    keyringId ??= head.keyringId;
    for (let slot = 0; slot < slotsPerPage(page.length); slot++) {
      const fields = readSlotFields(page, slotOffset(slot));
      if (fields.kind !== SLOT_KIND.unused && fields.kind !== SLOT_KIND.walCarry) take(fields);
    }
  }
}
