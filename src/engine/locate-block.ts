/**
 * From a relation file's path and a block number, as PostgreSQL counts them in a fork, to the segment that has it.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import {
  formatRelationPath,
  parseRelationPath,
  type RelationFile,
} from "../datadir/relation-path.ts";
import { UsageError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";

export interface BlockPlace {
  /** Of the segment, relative to the data directory. */
  readonly path: BytePath;
  readonly file: RelationFile;
  /** Of the segment. */
  readonly sizeBytes: number;
  /** Within the fork. */
  readonly block: number;
  readonly blockInFile: number;
}

/**
 * @param path - of any segment; of the first one, a block may lie in any other.
 * @param block - within the fork; undefined for the first of the file.
 * @throws {UsageError} when the path is no relation file, or the block is not there.
 */
export function locateBlock(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  block: number | undefined,
): BlockPlace {
  const named = parseRelationPath(path, datadir);
  if (named === undefined) {
    throw new UsageError(`"${displayPath(path)}" is no path of a relation file`, {
      hint: "Give it relative to the data directory, such as base/16384/16397 or global/1260_vm.",
    });
  }
  const { blocksPerSegment, control } = datadir;
  const wanted = block ?? named.relationSegment * blocksPerSegment;
  const relationSegment = Math.floor(wanted / blocksPerSegment);
  if (named.relationSegment !== 0 && named.relationSegment !== relationSegment) {
    throw new UsageError(`block ${wanted} is in another segment than "${displayPath(path)}"`, {
      hint: "Blocks are counted from the beginning of the fork: name its first file.",
    });
  }
  const file = { ...named, relationSegment };
  const filePath = formatRelationPath(file, datadir);
  const stat = fs.stat(joinPath(datadir.root, filePath));
  if (stat?.kind !== "file") {
    throw new UsageError(`there is no file "${displayPath(filePath)}"`, {
      hint: "Paths are relative to the data directory.",
    });
  }
  const blockInFile = wanted - relationSegment * blocksPerSegment;
  const blockCount = Math.ceil(stat.sizeBytes / control.blockSizeBytes);
  if (blockInFile >= blockCount) {
    throw new UsageError(
      `"${displayPath(filePath)}" has no block ${wanted}: ${blockCount === 0 ? "it is empty" : `its last one is ${wanted - blockInFile + blockCount - 1}`}`,
    );
  }
  return { path: filePath, file, sizeBytes: stat.sizeBytes, block: wanted, blockInFile };
}
