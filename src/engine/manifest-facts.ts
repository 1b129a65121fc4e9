/**
 * What a manifest says of its directory, read without a key: hearsay, of which form and root are checked and nothing
 * is proved. It needs no other file, so that a directory of a million files is told about in the time of one.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { AUTO_CONF, BACKUP_MANIFEST, classify } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import type { Manifest } from "../format/manifest.ts";
import type { KeyLoad, KeyLoads } from "../keyring/key-load.ts";
import { addEntryLoad } from "./directory-load.ts";
import { type PlaintextGroup, PlaintextGroups } from "./plaintext-groups.ts";

/** Files, and the bytes that they have as they are stored. */
export interface FileCount {
  readonly files: number;
  readonly bytes: number;
}

export interface ManifestFacts {
  readonly header: ManifestHeader;
  /** 64 hex digits. */
  readonly root: string;
  /** Relation files with a sidecar, or empty ones. */
  readonly relations: FileCount;
  /** Other files, sealed whole. */
  readonly contents: FileCount;
  /** Segments of WAL in readable mode. */
  readonly segments: FileCount;
  readonly load: KeyLoads;
  readonly readable: readonly PlaintextGroup[];
  /** Relation files in each tablespace of pg_tblspc, by OID. */
  readonly tablespaces: ReadonlyMap<number, FileCount>;
}

export function manifestFacts(manifest: Manifest, datadir: Datadir): ManifestFacts {
  const relations = new Counter();
  const contents = new Counter();
  const segments = new Counter();
  const readable = new PlaintextGroups();
  const load = new Map<number, KeyLoad>();
  const tablespaces = new Map<number, Counter>();
  for (const entry of manifest.entries()) {
    const { path, class: entryClass, sizeBytes } = entry;
    addEntryLoad(load, entry, datadir.control.blockSizeBytes);
    if (entryClass === "P") relations.add(sizeBytes);
    if (entryClass === "S") contents.add(sizeBytes);
    if (entryClass === "W") segments.add(sizeBytes);
    const plain = whyReadable(entry, datadir);
    if (plain !== undefined) readable.add(plain.why, plain.exposed, path, sizeBytes);
    if (entryClass === "P" || entryClass === "O") countTablespace(tablespaces, path, sizeBytes);
  }
  const { header, root } = manifest;
  return {
    header,
    root: root.toString("hex"),
    relations,
    contents,
    segments,
    load,
    readable: readable.list(),
    tablespaces,
  };
}

/** Files by tablespace of pg_tblspc, told by their paths alone. */
export function countTablespace(
  counts: Map<number, Counter>,
  path: BytePath,
  sizeBytes: number,
): void {
  const oid = /^pg_tblspc\/([1-9]\d*)\//.exec(path)?.[1];
  if (oid === undefined) return;
  const count = counts.get(Number(oid)) ?? new Counter();
  count.add(sizeBytes);
  counts.set(Number(oid), count);
}

export class Counter implements FileCount {
  files = 0;
  bytes = 0;

  add(sizeBytes: number): void {
    this.files++;
    this.bytes += sizeBytes;
  }
}

/** Why an entry's content can be read by anybody, in the words of the proof pass; undefined where it cannot. */
function whyReadable(
  { path, class: entryClass }: ManifestEntry,
  datadir: Datadir,
): Pick<PlaintextGroup, "why" | "exposed"> | undefined {
  switch (entryClass) {
    case "P":
    case "S":
    case "D":
      return undefined;
    case "W":
      return { why: STRUCTURE_OF_WAL, exposed: false };
    case "L": {
      const link = classify(path, "link", datadir);
      return link.class !== "link" || link.followed
        ? undefined
        : { why: `symbolic link: ${link.why}`, exposed: link.leadsToContent };
    }
    case "O": {
      const isWal = classify(path, "file", datadir).class === "wal";
      const why = isWal ? "WAL, left as it is by --wal=skip" : "relations out of scope";
      return { why, exposed: true };
    }
    case "R": {
      if (path === AUTO_CONF) return { why: "the guard, which keeps servers away", exposed: false };
      if (path === BACKUP_MANIFEST) return { why: REWRITTEN_LIST, exposed: false };
      const file = classify(path, "file", datadir);
      return { why: "why" in file ? file.why : "readable by design", exposed: false };
    }
  }
}

/** What of a segment in readable mode can be read. */
export const STRUCTURE_OF_WAL = "structure of WAL records, as pg_waldump shows it";

/** Why backup_manifest can be read. */
export const REWRITTEN_LIST = "list of the backup's files, rewritten for pg_verifybackup";
