/**
 * Makes the plain files of damaged ones, with zeros for what is lost, and reads them back.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { type LostPart, salvageContainer, salvageRelation } from "../datadir/salvage.ts";
import { readUpTo, withFile, writeAll } from "../storage/file-io.ts";
import type { OpenFile } from "../storage/file-system.ts";
import { notAsWritten } from "../storage/read-back.ts";
import type { NewFiles } from "./new-files.ts";
import type { Item, ItemResult } from "./tasks.ts";
import type { Tools } from "./tools.ts";

type TakePart = (bytes: Buffer, position: number) => void;

/** @returns without `lost` where nothing can be opened: then no file was made. */
export function salvageItem(tools: Tools, item: Item, newFiles: NewFiles): ItemResult {
  assert(item.kind === "relation" || item.kind === "content", "it is sealed, and no WAL");
  const { path, sealed, plain } = item.kind === "relation" ? item.files : item;
  let target: OpenFile | undefined;
  const lost = withFile(tools.fs, sealed, (like) => {
    const found = salvage(tools, item, (bytes, position) => {
      target ??= newFiles.open(plain, true, like, 0);
      writeAll(target, bytes, 0, bytes.length, position);
    });
    // A file without content.
    if (found !== undefined) target ??= newFiles.open(plain, true, like, 0);
    return found;
  });
  return { path, lost };
}

/**
 * Opens the damaged file once more, and holds the new one against it.
 * @param lost - what was lost when it was made; undefined: there is no new file.
 * @throws {StorageError} when it is not as it was written, or another part was lost now.
 */
export function readBackSalvaged(
  tools: Tools,
  item: Item,
  lost: readonly LostPart[] | undefined,
): void {
  assert(item.kind === "relation" || item.kind === "content", "it is sealed, and no WAL");
  if (lost === undefined) return;
  const { path, plain } = item.kind === "relation" ? item.files : item;
  const again = withFile(tools.fs, plain, (file) => {
    let end = 0;
    const found = salvage(tools, item, (bytes, position) => {
      end = position + bytes.length;
      requireBytes(file, path, bytes, position);
    });
    if (file.stat().sizeBytes !== end) throw notAsWritten(path);
    return found;
  });
  if (JSON.stringify(again) !== JSON.stringify(lost))
    throw notAsWritten(
      path,
      "what can be read of the damaged file changes from one time to the next",
    );
}

function salvage(tools: Tools, item: Item, take: TakePart): LostPart[] | undefined {
  const { fs, chunk, context } = tools;
  if (item.kind === "content") {
    const options = { ...tools.containerOptions(item), where: `"${displayPath(item.path)}"` };
    return withFile(fs, item.sealed, (file) =>
      salvageContainer(file, item.sizeBytes, options, take),
    );
  }
  assert(item.kind === "relation", "it is a relation");
  const { files } = item;
  if (files.sizeBytes === 0) return [];
  return withFile(fs, files.sealed, (sealed) =>
    withFile(fs, files.sidecar, (sidecar) =>
      salvageRelation(chunk, context, files, { sealed, sidecar }, (firstSlot, dataBytes) =>
        take(chunk.data.subarray(0, dataBytes), firstSlot * context.blockSizeBytes),
      ),
    ),
  );
}

function requireBytes(file: OpenFile, path: BytePath, bytes: Buffer, position: number): void {
  const found = Buffer.allocUnsafe(bytes.length);
  const count = readUpTo(file, found, 0, found.length, position);
  if (!found.subarray(0, count).equals(bytes)) throw notAsWritten(path);
}
