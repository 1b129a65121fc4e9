/**
 * What all tasks of one thread share: the file system, the facts of the run, and the buffers, which are made once.
 * Whoever uses a buffer is done with it before anything is waited for.
 */
import { type RunFacts, type SlotRange, wholeRange } from "../datadir/relation-job.ts";
import { SegmentMemory, type WalFacts } from "../datadir/wal-segment.ts";
import { IntegrityError, KeyError } from "../errors.ts";
import { Chunk } from "../format/chunk.ts";
import type { Problem } from "../format/problem.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { OnBytes } from "./runner.ts";
import type { ContentItem } from "./tasks.ts";

export interface RunContext extends RunFacts {
  readonly systemIdentifier: bigint;
}

export class Tools {
  readonly fs: FileSystem;
  readonly context: RunContext;
  readonly onBytes: OnBytes;
  readonly chunk: Chunk;
  private readonly walMemory: SegmentMemory = new SegmentMemory();
  private other: Buffer | undefined;

  constructor(fs: FileSystem, context: RunContext, onBytes: OnBytes) {
    this.fs = fs;
    this.context = context;
    this.onBytes = onBytes;
    this.chunk = new Chunk(context.blockSizeBytes);
  }

  /** As large as the chunk's data: for what that is compared with. Made when it is needed. */
  get otherPages(): Buffer {
    this.other ??= Buffer.allocUnsafe(this.chunk.data.length);
    return this.other;
  }

  get walFacts(): WalFacts {
    return { ...this.context, memory: this.walMemory };
  }

  whole({ sizeBytes }: { readonly sizeBytes: number }): SlotRange {
    return wholeRange(sizeBytes, this.context.blockSizeBytes);
  }

  get keys(): DataKeys {
    if (this.context.keys === undefined) throw new KeyError("this needs an opened keyring");
    return this.context.keys;
  }

  /** To seal a container, or to open it. */
  containerOptions(item: ContentItem): {
    keys: DataKeys;
    systemIdentifier: bigint;
    context: string;
  } {
    const { systemIdentifier } = this.context;
    return { keys: this.keys, systemIdentifier, context: item.context };
  }
}

/** For a task that writes: the first problem of what it reads ends it. */
export function stop(problem: Problem): never {
  const block = problem.block === undefined ? "" : ` block ${problem.block}`;
  const message = `${problem.path}${block}: ${problem.message}`;
  const file = problem.path;
  if (problem.kind === "key") throw new KeyError(message, { file });
  throw new IntegrityError(message, {
    file,
    hint: 'Restore this file and its sidecar from a backup; "tde verify" lists every damaged block.',
  });
}
