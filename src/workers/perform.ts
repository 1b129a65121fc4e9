/**
 * Carries out one task over a file system, and syncs what it made. Runs in a worker thread, or in the engine's own
 * thread.
 */
import { patchRange } from "../datadir/patch-relation.ts";
import type { ChangedSlots } from "../datadir/compare-relation.ts";
import type { SlotRange } from "../datadir/relation-job.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NewFiles } from "./new-files.ts";
import { checkItem, checkRelation } from "./perform-checks.ts";
import { writeItem } from "./perform-writing.ts";
import { readBack, readBackPatches } from "./read-back.ts";
import type { OnBytes } from "./runner.ts";
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

  private async write({ kind, items }: WritingTask): Promise<ItemResult[]> {
    const results: ItemResult[] = [];
    const newFiles = new NewFiles(this.tools.fs);
    try {
      for (const item of items) {
        results.push(writeItem(this.tools, kind, item, newFiles));
        if (newFiles.count >= SYNC_GROUP) await newFiles.sync();
      }
      await newFiles.sync();
    } finally {
      newFiles.close();
    }
    return results;
  }

  private patch({ files, plainSizeBytes, range, sizeAfterBytes, changed }: PatchItem): ItemResult {
    const { fs, chunk, context } = this.tools;
    return withFile(fs, files.plain, (original) =>
      withFile(fs, files.sidecar, (sidecar) => {
        const order = {
          range,
          sizeAfterBytes,
          changed: changed ?? this.findChanged(files, range, plainSizeBytes),
        };
        const source = { original, sidecar };
        const parts = patchRange(chunk, context, files, source, order, stop);
        const patches = [
          { path: sidecarName(files.path), sizeBytes: parts.sidecarBytes, parts: parts.sidecar },
          { path: files.path, sizeBytes: sizeAfterBytes, parts: parts.sealed },
        ];
        return { path: files.path, pages: parts.pages, patches };
      }),
    );
  }

  private findChanged(
    files: PatchItem["files"],
    { firstSlot, slotCount }: SlotRange,
    plainSizeBytes: number,
  ): ChangedSlots | undefined {
    const slots = this.tools.whole(files).slotCount;
    const range = { firstSlot, slotCount: Math.max(0, Math.min(slotCount, slots - firstSlot)) };
    const against = { path: files.plain, sizeBytes: plainSizeBytes };
    const item = { kind: "relation", files, range, against } as const;
    return checkRelation(this.tools, item, { depth: "tags" }, stop).changed?.[0];
  }
}
