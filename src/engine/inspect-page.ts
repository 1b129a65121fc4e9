/**
 * One page of a relation file: its header, which is readable in any case, its slot where the file is sealed, and its
 * content where that is plain or its tag held. Nothing of a sealed page is given out before.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { type OpenedPage, openPage } from "../datadir/open-page.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { type RelationFile, sidecarName } from "../datadir/relation-path.ts";
import { isStoredChecksum, SEALED_PAGE_MARK } from "../format/page-message.ts";
import { UsageError } from "../errors.ts";
import type { Problem } from "../format/problem.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { pageChecksum } from "../postgres/page-checksum.ts";
import { isZero, type PageHeader, parsePageHeader } from "../postgres/page.ts";
import { readExactly, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type BlockPlace, locateBlock } from "./locate-block.ts";
import {
  type DetachedFile,
  type DetachedRelation,
  detachedContext,
  relationFiles,
} from "./detached-file.ts";
import { openRelationItem } from "./plan-items.ts";

export interface InspectedPage {
  /** Of the segment that has the page. */
  readonly path: BytePath;
  readonly file: Pick<RelationFile, "fork">;
  /** Within the fork. */
  readonly block: number;
  /** In the segment. */
  readonly offsetBytes: number;
  /** Less than a block for the odd tail of a file. */
  readonly sizeBytes: number;
  /** Of the page as it lies there; of an odd tail there is none. */
  readonly stored: StoredHeader | undefined;
  /** Undefined for a plain page. */
  readonly sealed: SealedPage | undefined;
  /** The original page; undefined for a sealed one without keys, or one that does not authenticate. */
  readonly content: Buffer | undefined;
}

export interface StoredHeader {
  readonly header: PageHeader;
  /** The page's checksum as pg_checksums computes it; undefined for a page of zeros, which has none. */
  readonly computedChecksum: number | undefined;
  /** It bears the mark of sealed pages, and a checksum as sealing stores it. */
  readonly isSealedForm: boolean;
}

export interface SealedPage {
  /** 128 bytes; undefined where the sidecar has none for the page. */
  readonly slot: Buffer | undefined;
  /** What was not checked for want of keys is not in it. */
  readonly problems: readonly Problem[];
}

export interface InspectPageOptions {
  readonly path: BytePath;
  /** Within the fork; undefined for the file's first. */
  readonly block: number | undefined;
  /** No slot is later, where that is known. */
  readonly maxEpoch: bigint | undefined;
}

/** @throws {UsageError} for a path or block that is not there. @throws {StorageError}. */
export function inspectPage(
  fs: FileSystem,
  datadir: Datadir,
  options: InspectPageOptions,
  keys: DataKeys | undefined,
): InspectedPage {
  const place = locateBlock(fs, datadir, options.path, options.block);
  const { blockSizeBytes } = datadir.control;
  const offsetBytes = place.blockInFile * blockSizeBytes;
  const bytes = Buffer.alloc(Math.min(blockSizeBytes, place.sizeBytes - offsetBytes));
  withFile(fs, joinPath(datadir.root, place.path), (file) =>
    readExactly(file, bytes, 0, bytes.length, offsetBytes),
  );
  const { path, file, block } = place;
  const stored = bytes.length < blockSizeBytes ? undefined : storedHeader(bytes, block);
  const where = { path, file, block, offsetBytes, sizeBytes: bytes.length, stored };
  const sidecar = joinPath(datadir.root, sidecarName(path));
  if (fs.stat(sidecar) !== undefined) {
    const opened = openAt(fs, datadir, place, options.maxEpoch, keys);
    const { slot, problems, original } = opened;
    return { ...where, sealed: { slot, problems }, content: original };
  }
  if (stored?.isSealedForm === true) {
    const message = "the page is sealed, but the sidecar of its file is missing";
    const problem = { kind: "mark", path: displayPath(path), block, message } as const;
    return { ...where, sealed: { slot: undefined, problems: [problem] }, content: undefined };
  }
  return { ...where, sealed: undefined, content: bytes };
}

/** As inspectPage, of a relation file that stands by itself. @param block - within the fork, in this file. */
export function inspectDetachedPage(
  fs: FileSystem,
  file: DetachedFile,
  relation: DetachedRelation,
  block: number | undefined,
  keys: DataKeys | undefined,
): InspectedPage {
  const { blockSizeBytes, head } = relation;
  const { blockInFile, wanted } = blockOfDetached(file, relation, block);
  const files = relationFiles(file, relation);
  const offsetBytes = blockInFile * blockSizeBytes;
  return withFile(fs, files.sealed, (sealed) =>
    withFile(fs, files.sidecar, (sidecar) => {
      const bytes = Buffer.alloc(Math.min(blockSizeBytes, file.sizeBytes - offsetBytes));
      readExactly(sealed, bytes, 0, bytes.length, offsetBytes);
      const facts = detachedContext(file, keys);
      const { slot, problems, original } = openPage(facts, files, { sealed, sidecar }, blockInFile);
      return {
        path: file.path,
        file: { fork: head.identity.fork === "wal" ? "main" : head.identity.fork },
        block: wanted,
        offsetBytes,
        sizeBytes: bytes.length,
        stored: bytes.length < blockSizeBytes ? undefined : storedHeader(bytes, wanted),
        sealed: { slot, problems },
        content: original,
      };
    }),
  );
}

/** @throws {UsageError} for a block that the file does not have. */
export function blockOfDetached(
  { path, sizeBytes }: DetachedFile,
  { head, blockSizeBytes }: DetachedRelation,
  block: number | undefined,
): { readonly blockInFile: number; readonly wanted: number } {
  const { firstBlock } = head.identity;
  const wanted = block ?? firstBlock;
  const count = Math.ceil(sizeBytes / blockSizeBytes);
  if (wanted >= firstBlock && wanted < firstBlock + count)
    return { blockInFile: wanted - firstBlock, wanted };
  throw new UsageError(`"${displayPath(path)}" has no block ${wanted}`, {
    hint:
      count === 0
        ? "It is empty."
        : `It has the blocks ${firstBlock} to ${firstBlock + count - 1} of its fork.`,
  });
}

function storedHeader(page: Buffer, block: number): StoredHeader {
  const header = parsePageHeader(page);
  const checksum = pageChecksum(page, block);
  const hasMark = (header.flags & SEALED_PAGE_MARK) !== 0;
  return {
    header,
    computedChecksum: isZero(page) ? undefined : checksum,
    isSealedForm: hasMark && isStoredChecksum(header.checksum, checksum),
  };
}

function openAt(
  fs: FileSystem,
  datadir: Datadir,
  { path, file, sizeBytes, blockInFile }: BlockPlace,
  maxEpoch: bigint | undefined,
  keys: DataKeys | undefined,
): OpenedPage {
  const { control, root } = datadir;
  const places = { source: root, output: undefined };
  const { files } = openRelationItem(places, path, identityOf(datadir, file), sizeBytes);
  const facts = {
    blockSizeBytes: control.blockSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
    keys,
    keyringId: keys?.keyringId ?? "",
    epoch: maxEpoch ?? 2n ** 64n - 1n,
  };
  return withFile(fs, files.sealed, (sealed) =>
    withFile(fs, files.sidecar, (sidecar) =>
      openPage(facts, files, { sealed, sidecar }, blockInFile),
    ),
  );
}
