/**
 * One page of a sidecar: what it says of itself, whether that is authentic, and what its slots are under.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { DerivedFileKeys } from "../datadir/open-relation.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { FormatError, StateError } from "../errors.ts";
import { describeIdentity, type FileIdentity, sameIdentity } from "../format/identity.ts";
import {
  parseSidecarPage,
  sidecarMacHolds,
  type SidecarPageHead,
  slotOffset,
  slotsPerPage,
} from "../format/sidecar-page.ts";
import { isUnusedSlot, readSlotFields } from "../format/slot.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { pageChecksum } from "../postgres/page-checksum.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DetachedFile, DetachedRelation } from "./detached-file.ts";
import { blockOfDetached } from "./inspect-page.ts";
import { locateBlock } from "./locate-block.ts";

export interface InspectedSidecar {
  /** Of the sidecar. */
  readonly path: BytePath;
  readonly pages: number;
  readonly head: SidecarPageHead;
  /** The path that the identity in it names. */
  readonly belongsTo: string;
  readonly usedSlots: number;
  /** Slots of this page under each key. */
  readonly keys: ReadonlyMap<number, number>;
  /** Whether its MAC holds; undefined without keys. A string says why it cannot be told. */
  readonly mac: boolean | string | undefined;
  readonly problems: readonly string[];
}

/**
 * @param path - of the relation file.
 * @param block - of the fork: the sidecar page that has its slot; undefined for the file's first.
 * @throws {UsageError} for a path or block that is not there. @throws {StateError} for a file without a sidecar.
 * @throws {FormatError} when the page is no sidecar page.
 */
export function inspectSidecar(
  fs: FileSystem,
  datadir: Datadir,
  { path, block }: { readonly path: BytePath; readonly block: number | undefined },
  keys: DataKeys | undefined,
): InspectedSidecar {
  const place = locateBlock(fs, datadir, path, block);
  const sidecar = sidecarName(place.path);
  const full = joinPath(datadir.root, sidecar);
  if (fs.stat(full) === undefined) {
    throw new StateError(`"${displayPath(place.path)}" has no sidecar`, {
      hint: "A file without one is empty or not encrypted.",
    });
  }
  const { blockSizeBytes } = datadir.control;
  const identity = identityOf(datadir, place.file);
  return sidecarPageAt(
    fs,
    { path: sidecar, at: full, blockSizeBytes, identity, blockInFile: place.blockInFile },
    keys,
  );
}

/** As inspectSidecar, of a relation file that stands by itself. */
export function inspectDetachedSidecar(
  fs: FileSystem,
  file: DetachedFile,
  relation: DetachedRelation,
  block: number | undefined,
  keys: DataKeys | undefined,
): InspectedSidecar {
  const { sidecar, blockSizeBytes, head } = relation;
  const { blockInFile } = blockOfDetached(file, relation, block);
  const { identity } = head;
  return sidecarPageAt(
    fs,
    { path: sidecar, at: sidecar, blockSizeBytes, identity, blockInFile },
    keys,
  );
}

interface SidecarPlace {
  /** As messages name it. */
  readonly path: BytePath;
  readonly at: BytePath;
  readonly blockSizeBytes: number;
  /** That it should have. */
  readonly identity: FileIdentity;
  readonly blockInFile: number;
}

function sidecarPageAt(
  fs: FileSystem,
  { path, at, blockSizeBytes, identity, blockInFile }: SidecarPlace,
  keys: DataKeys | undefined,
): InspectedSidecar {
  const page = Buffer.alloc(blockSizeBytes);
  const pageNumber = Math.floor(blockInFile / slotsPerPage(blockSizeBytes));
  const [count, sizeBytes] = withFile(fs, at, (file) => [
    readUpTo(file, page, 0, page.length, pageNumber * blockSizeBytes),
    file.stat().sizeBytes,
  ]);
  const head = count < page.length ? "it is cut" : parseSidecarPage(page);
  if (typeof head === "string")
    throw new FormatError(`"${displayPath(path)}" page ${pageNumber}: ${head}`);

  const problems: string[] = [];
  if (!sameIdentity(head.identity, identity))
    problems.push(`it belongs to ${describeIdentity(head.identity)}`);
  if (head.pageNumber !== pageNumber) problems.push(`it says that it is page ${head.pageNumber}`);
  const checksum = pageChecksum(page, identity.firstBlock + pageNumber);
  if (page.readUInt16LE(PAGE_HEADER.checksum) !== checksum) problems.push("its checksum is wrong");
  return {
    path,
    pages: sizeBytes / blockSizeBytes,
    head,
    belongsTo: describeIdentity(head.identity),
    ...countSlots(page),
    mac: keys === undefined ? undefined : macOf(page, head, keys, path),
    problems,
  };
}

function macOf(
  page: Buffer,
  head: SidecarPageHead,
  keys: DataKeys,
  path: BytePath,
): boolean | string {
  const key = new DerivedFileKeys(keys, head, displayPath(path)).macKey(head.macKeyId);
  return typeof key === "string" ? key : sidecarMacHolds(page, key);
}

function countSlots(page: Buffer): Pick<InspectedSidecar, "usedSlots" | "keys"> {
  const keys = new Map<number, number>();
  let usedSlots = 0;
  for (let slot = 0; slot < slotsPerPage(page.length); slot++) {
    const at = slotOffset(slot);
    if (isUnusedSlot(page, at)) continue;
    const { keyId } = readSlotFields(page, at);
    keys.set(keyId, (keys.get(keyId) ?? 0) + 1);
    usedSlots++;
  }
  return { usedSlots, keys };
}
