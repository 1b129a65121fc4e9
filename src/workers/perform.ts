/**
 * Carries out one task over a file system: opens and creates files, lets datadir/ do the work chunk by chunk, and
 * syncs what it made. Runs in a worker thread, or in the engine's own thread.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { randomBytes, runningSha256 } from "../crypto/primitives.ts";
import { digestSidecar, openRange } from "../datadir/open-relation.ts";
import { proveContainer, proveRelation } from "../datadir/prove.ts";
import { type RunFacts, wholeRange } from "../datadir/relation-job.ts";
import { digestRelation } from "../datadir/relation-digest.ts";
import { sealRange } from "../datadir/seal-relation.ts";
import { sealFile, sealedFileDigest, unsealFile, verifySealedFile } from "../datadir/sealed-file.ts";
import { FormatError, IntegrityError, KeyError, StorageError, TdeError } from "../errors.ts";
import { Chunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import { FILE_SALT_BYTES } from "../format/sidecar-page.ts";
import { readExactly, writeAll } from "../storage/file-io.ts";
import type { FileSystem, OpenFile } from "../storage/file-system.ts";
import type { OnBytes } from "./runner.ts";
import {
  type ContentItem,
  type Item,
  type ItemResult,
  MAX_PROBLEMS_PER_FILE,
  type ReadableItem,
  type RelationItem,
  type Task,
} from "./tasks.ts";

/** New files that wait for their sync in one go; each keeps a descriptor. */
const SYNC_GROUP = 64;

export interface RunContext extends RunFacts {
  readonly systemIdentifier: bigint;
}

export class TaskPerformer {
  private readonly fs: FileSystem;
  private readonly context: RunContext;
  private readonly onBytes: OnBytes;
  private readonly chunk: Chunk;
  private unsynced: OpenFile[] = [];

  constructor(fs: FileSystem, context: RunContext, onBytes: OnBytes) {
    this.fs = fs;
    this.context = context;
    this.onBytes = onBytes;
    this.chunk = new Chunk(context.blockSizeBytes);
  }

  async perform(task: Task): Promise<ItemResult[]> {
    const results: ItemResult[] = [];
    try {
      for (const item of task.items) {
        results.push(this.performItem(task.kind, item));
        if (this.unsynced.length >= SYNC_GROUP) await this.syncNewFiles();
      }
      await this.syncNewFiles();
    } finally {
      for (const file of this.unsynced.splice(0)) file.close();
    }
    return results;
  }

  private performItem(kind: Task["kind"], item: Item): ItemResult {
    switch (kind) {
      case "seal":
        if (item.kind === "relation") return this.sealRelation(item);
        return item.kind === "content" ? this.sealContent(item) : this.copy(item);
      case "open":
        if (item.kind === "relation") return this.openRelation(item);
        return item.kind === "content" ? this.openContent(item) : this.copy(item);
      case "check":
        if (item.kind === "relation") return this.checkRelation(item);
        return item.kind === "content" ? this.checkContent(item) : this.digestReadable(item);
      case "digest":
        if (item.kind === "relation") return this.digestRelation(item);
        return item.kind === "content" ? this.digestContent(item) : this.digestReadable(item);
      case "prove":
        if (item.kind === "relation") return this.proveRelation(item);
        return item.kind === "content" ? this.proveContent(item) : { path: item.path };
    }
  }

  private sealRelation({ files, fileSalt, range }: RelationItem): ItemResult {
    const salt = fileSalt === undefined ? randomBytes(FILE_SALT_BYTES) : Buffer.from(fileSalt);
    const source = this.fs.open(files.plain);
    try {
      const sealed = this.output(files.sealed, range === undefined, source, files.sizeBytes);
      const sidecar = this.output(files.sidecar, range === undefined, source);
      const part = range ?? wholeRange(files, this.context.blockSizeBytes);
      const target = { source, sealed, sidecar, fileSalt: salt };
      const counts = sealRange(this.chunk, this.context, files, target, part, this.onBytes);
      return { path: files.path, ...counts };
    } finally {
      source.close();
    }
  }

  private openRelation({ files, range }: RelationItem): ItemResult {
    const sealed = this.fs.open(files.sealed);
    try {
      const sidecar = this.fs.open(files.sidecar);
      try {
        const plain = this.output(files.plain, range === undefined, sealed, files.sizeBytes);
        const part = range ?? wholeRange(files, this.context.blockSizeBytes);
        const source = { sealed, sidecar, plain };
        const opened = openRange(this.chunk, this.context, files, source, part, stop, this.onBytes);
        return { path: files.path, pages: part.slotCount, wrongChecksums: opened.wrongChecksums };
      } finally {
        sidecar.close();
      }
    } finally {
      sealed.close();
    }
  }

  private checkRelation({ files, range }: RelationItem): ItemResult {
    const collector = new ProblemCollector();
    const path = displayPath(files.path);
    return collector.guard(files.path, () => {
      const sealed = this.fs.open(files.sealed);
      try {
        const sidecar = this.fs.open(files.sidecar);
        try {
          const part = range ?? wholeRange(files, this.context.blockSizeBytes);
          const source = { sealed, sidecar, plain: undefined };
          const opened = openRange(this.chunk, this.context, files, source, part, collector.add, this.onBytes);
          const { root, sizeBytes: sidecarBytes } =
            range === undefined || range.firstSlot === 0
              ? digestSidecar(sidecar)
              : { root: undefined, sizeBytes: undefined };
          if (sidecarBytes !== undefined) {
            const slots = wholeRange(files, this.context.blockSizeBytes).slotCount;
            const expected = Math.ceil(slots / this.chunk.slotsPerPage) * this.context.blockSizeBytes;
            if (sidecarBytes > expected) {
              collector.add({
                kind: "sidecar",
                path,
                message: `the sidecar has ${sidecarBytes} bytes where the file needs ${expected}`,
              });
            }
          }
          const keys = new Map(opened.pagesByKey);
          for (const keyId of opened.macKeyIds) if (!keys.has(keyId)) keys.set(keyId, 0);
          return {
            path: files.path,
            keys,
            digest: root,
            sizeBytes: files.sizeBytes,
            pages: part.slotCount,
            wrongChecksums: opened.wrongChecksums,
          };
        } finally {
          sidecar.close();
        }
      } finally {
        sealed.close();
      }
    });
  }

  private digestRelation({ files }: RelationItem): ItemResult {
    const { sidecar, sizeBytes } = files;
    const { keys, digest } = digestRelation(this.fs, this.context, files, sidecar);
    return { path: files.path, keys, digest, sizeBytes };
  }

  private proveRelation({ files, range }: RelationItem): ItemResult {
    const collector = new ProblemCollector();
    return collector.guard(files.path, () => {
      const part = range ?? wholeRange(files, this.context.blockSizeBytes);
      proveRelation(this.fs, this.chunk, files, part, collector.add, this.onBytes);
      return { path: files.path, pages: part.slotCount };
    });
  }

  private sealContent(item: ContentItem): ItemResult {
    const { systemIdentifier } = this.context;
    const keys = this.keys();
    const source = this.fs.open(item.plain);
    try {
      const sealed = this.output(item.sealed, true, source);
      sealFile(this.fs, item.plain, sealed, { keys, systemIdentifier, context: item.context });
    } finally {
      source.close();
    }
    this.onBytes(item.sizeBytes);
    return { path: item.path };
  }

  private openContent(item: ContentItem): ItemResult {
    const source = this.fs.open(item.sealed);
    try {
      const plain = this.output(item.plain, true, source);
      const { header } = unsealFile(this.fs, item.sealed, plain, this.containerOptions());
      this.assertContext(item, header.context, header.systemIdentifier);
    } finally {
      source.close();
    }
    this.onBytes(item.sizeBytes);
    return { path: item.path };
  }

  private checkContent(item: ContentItem): ItemResult {
    const collector = new ProblemCollector();
    return collector.guard(item.path, () => {
      if (this.context.keys === undefined) {
        const digest = sealedFileDigest(this.fs, item.sealed).toString("hex");
        return { path: item.path, digest, sizeBytes: item.sizeBytes };
      }
      const { header, digest } = verifySealedFile(this.fs, item.sealed, this.containerOptions());
      this.onBytes(item.sizeBytes);
      this.assertContext(item, header.context, header.systemIdentifier);
      return {
        path: item.path,
        digest: digest.toString("hex"),
        sizeBytes: item.sizeBytes,
        keys: new Map([[header.keyId, 1]]),
      };
    });
  }

  private digestContent(item: ContentItem): ItemResult {
    const header = proveContainer(this.fs, item.sealed, item.context);
    return {
      path: item.path,
      digest: sealedFileDigest(this.fs, item.sealed).toString("hex"),
      sizeBytes: item.sizeBytes,
      keys: new Map([[header.keyId, 1]]),
    };
  }

  private proveContent(item: ContentItem): ItemResult {
    const collector = new ProblemCollector();
    return collector.guard(item.path, () => {
      proveContainer(this.fs, item.sealed, item.context);
      return { path: item.path };
    });
  }

  private digestReadable(item: ReadableItem): ItemResult {
    const collector = new ProblemCollector();
    return collector.guard(item.path, () => {
      const hash = runningSha256();
      const sizeBytes = this.readThrough(item.from, (bytes) => hash.update(bytes));
      return { path: item.path, digest: hash.digest().toString("hex"), sizeBytes };
    });
  }

  private copy(item: ReadableItem): ItemResult {
    const source = this.fs.open(item.from);
    try {
      const target = this.output(item.to, true, source);
      const sizeBytes = this.readThrough(item.from, (bytes, position) =>
        writeAll(target, bytes, 0, bytes.length, position),
      );
      return { path: item.path, sizeBytes };
    } finally {
      source.close();
    }
  }

  private readThrough(path: BytePath, take: (bytes: Buffer, position: number) => void): number {
    const file = this.fs.open(path);
    try {
      const { sizeBytes } = file.stat();
      for (let position = 0; position < sizeBytes; position += this.chunk.data.length) {
        const length = Math.min(this.chunk.data.length, sizeBytes - position);
        readExactly(file, this.chunk.data, 0, length, position);
        take(this.chunk.data.subarray(0, length), position);
        this.onBytes(length);
      }
      return sizeBytes;
    } finally {
      file.close();
    }
  }

  /**
   * A file to write: created, or of a range opened. It takes owner, mode and times of `like` when it is synced.
   * @param sizeBytes - set at once where known, so that what is never written stays a hole.
   */
  private output(path: BytePath, create: boolean, like: OpenFile, sizeBytes?: number): OpenFile {
    const file = create ? this.fs.create(path, 0o600) : this.fs.openForWriting(path);
    this.unsynced.push(file);
    if (create && sizeBytes !== undefined) file.truncate(sizeBytes);
    this.likes.set(file, like.stat());
    return file;
  }

  private readonly likes: Map<OpenFile, ReturnType<OpenFile["stat"]>> = new Map();

  private async syncNewFiles(): Promise<void> {
    for (const file of this.unsynced) {
      const like = this.likes.get(file);
      if (like !== undefined) file.setAttributes(like);
    }
    await this.fs.syncFiles(this.unsynced);
    for (const file of this.unsynced.splice(0)) file.close();
    this.likes.clear();
  }
}

/** Gathers problems, and turns expected errors into problems: verify goes on to the end. */
class ProblemCollector {
  private readonly problems: Problem[] = [];
  private count = 0;

  readonly add = (problem: Problem): void => {
    this.count++;
    if (this.problems.length < MAX_PROBLEMS_PER_FILE) this.problems.push(problem);
  };

  guard(path: BytePath, action: () => ItemResult): ItemResult {
    let result: ItemResult = { path };
    try {
      result = action();
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      this.add({ kind: kindOf(error), path: displayPath(path), message: error.message });
    }
    return { ...result, problems: this.problems, problemCount: this.count };
  }
}

function kindOf(error: TdeError): Problem["kind"] {
  if (error instanceof KeyError) return "key";
  return error instanceof StorageError ? "unreadable" : "tag";
}

/** For a task that writes: the first problem ends it. */
function stop(problem: Problem): never {
  const block = problem.block === undefined ? "" : ` block ${problem.block}`;
  const message = `${problem.path}${block}: ${problem.message}`;
  if (problem.kind === "key") throw new KeyError(message);
  throw new IntegrityError(message, {
    hint: 'Restore this file and its sidecar from a backup; "tde verify" lists every damaged block.',
  });
}
