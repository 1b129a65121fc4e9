/**
 * Carries out one task over a file system, and syncs what it made. Runs in a worker thread, or in the engine's own
 * thread.
 */
import { type ChangedSlots, joinChanged } from "../datadir/compare-relation.ts";
import { notAsCompared, patchRange } from "../datadir/patch-relation.ts";
import { splitRange } from "../datadir/relation-job.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NewFiles } from "./new-files.ts";
import { checkItem, checkRelation } from "./perform-checks.ts";
import { writeItem } from "./perform-writing.ts";
import { readBack, readBackPatches } from "./read-back.ts";
import type { OnBytes } from "./runner.ts";
import { readBackSalvaged, salvageItem } from "./salvage.ts";
import type { ItemResult, PatchItem, Task, WritingTask } from "./tasks.ts";
import { type RunContext, stop, Tools } from "./tools.ts";

export type { RunContext } from "./tools.ts";

/** New files that wait for their sync in one go; each keeps a descriptor. */
const SYNC_GROUP = 64;

export class TaskPerformer {
  private readonly tools: Tools;

  constructor(fs: FileSystem, context: RunContext, onBytes: OnBytes) {
    this.tools = new Tools(fs, context, onBytes);
  }

  /**
   * Tasks may overlap: while the new files of one are synced, the next one's pages are worked on.
   * @throws {TdeError} the first that an item of a writing task meets, or of one that reads back; checks report problems
   *   instead.
   */
  async perform(task: Task): Promise<ItemResult[]> {
    const { tools } = this;
    switch (task.kind) {
      case "seal":
      case "open":
      case "reseal":
        return await this.write(task);
      case "salvage":
        return await this.salvage(task);
      case "read-back":
        return task.items.map((item) => readBack(tools, task.written, item));
      case "patch":
        return task.items.map((item) => this.patch(item));
      case "read-back-patches":
        return task.items.map((item) => readBackPatches(tools, item));
      case "check":
      case "check-plain":
      case "digest":
      case "checksum":
        return task.items.map((item) => checkItem(tools, task, item));
    }
  }

  private async write(task: WritingTask): Promise<ItemResult[]> {
    const results: ItemResult[] = [];
    const newFiles = new NewFiles(this.tools.fs, task.kind === "open" ? task.access : undefined);
    try {
      for (const item of task.items) {
        results.push(writeItem(this.tools, task.kind, item, newFiles));
        if (newFiles.count >= SYNC_GROUP) await newFiles.sync();
      }
      await newFiles.sync();
    } finally {
      newFiles.close();
    }
    const last = results.pop();
    const { notKept } = newFiles;
    if (last !== undefined) results.push(notKept.length === 0 ? last : { ...last, notKept });
    return results;
  }

  private async salvage({
    items,
    access,
  }: Extract<Task, { kind: "salvage" }>): Promise<ItemResult[]> {
    const results: ItemResult[] = [];
    for (const item of items) {
      const newFiles = new NewFiles(this.tools.fs, access);
      try {
        results.push(salvageItem(this.tools, item, newFiles));
        await newFiles.sync();
      } finally {
        newFiles.close();
      }
      readBackSalvaged(this.tools, item, results.at(-1)?.lost);
    }
    return results;
  }

  private patch(item: PatchItem): ItemResult {
    const { files, range, sizeAfterBytes, sidecarDigests } = item;
    const { fs, chunk, context } = this.tools;
    return withFile(fs, files.plain, (original) =>
      withFile(fs, files.sidecar, (sidecar) => {
        const order = {
          range,
          sizeAfterBytes,
          changed: item.changed ?? this.findChanged(item),
          sidecarDigests,
        };
        const source = { original, sidecar };
        const parts = patchRange(chunk, context, files, source, order, stop);
        const patches = [
          { path: sidecarName(files.path), sizeBytes: parts.sidecarBytes, parts: parts.sidecar },
          { path: files.path, sizeBytes: sizeAfterBytes, parts: parts.sealed },
        ];
        const patchedDigests = parts.sidecarDigests;
        return { path: files.path, pages: parts.pages, patches, patchedDigests };
      }),
    );
  }

  /** Chunk by chunk, so that each can be held against what was compared before. */
  private findChanged(item: PatchItem): ChangedSlots | undefined {
    const { files, plainSizeBytes, sidecarDigests } = item;
    const { firstSlot, slotCount } = item.range;
    const { slotCapacity } = this.tools.chunk;
    const end = Math.min(firstSlot + slotCount, this.tools.whole(files).slotCount);
    const before = { firstSlot, slotCount: Math.max(0, end - firstSlot) };
    const against = { path: files.plain, sizeBytes: plainSizeBytes };
    const found: ChangedSlots[] = [];
    for (const range of splitRange(before, slotCapacity)) {
      const part = { kind: "relation", files, range, against } as const;
      const { changed = [], rangeDigests } = checkRelation(
        this.tools,
        part,
        { depth: "tags" },
        stop,
      );
      const chunkIndex = (range.firstSlot - firstSlot) / slotCapacity;
      if (rangeDigests?.[0] !== sidecarDigests[chunkIndex]) throw notAsCompared(files);
      found.push(...changed);
    }
    return joinChanged(found);
  }
}
