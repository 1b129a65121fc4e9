/**
 * Tells which files are not in every respect what they were: extended attributes that could not be set, and rights that
 * were not given because nobody may get more of plaintext than its directory allows. One notice for a run, however many files.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { nameWithoutSidecarSuffix, replacedName } from "../datadir/relation-path.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { ItemResult, NotKept, Task } from "../workers/tasks.ts";

const NAMED = 5;

/** As another runner; when that is closed, says what its tasks could not keep. */
export class TellingRunner implements TaskRunner {
  readonly width: number;
  readonly limits: TaskRunner["limits"];
  readonly #inner: TaskRunner;
  readonly #notice: (message: string) => void;
  readonly #named: NotKept[] = [];
  #count = 0;

  constructor(inner: TaskRunner, notice: (message: string) => void) {
    this.#inner = inner;
    this.width = inner.width;
    this.limits = inner.limits;
    this.#notice = notice;
  }

  async run(task: Task): Promise<ItemResult[]> {
    const results = await this.#inner.run(task);
    for (const { notKept = [] } of results) {
      const files = notKept.filter(({ path }) => !isSidecar(ownName(path)));
      this.#count += files.length;
      this.#named.push(...files.slice(0, NAMED - this.#named.length));
    }
    return results;
  }

  async close(): Promise<void> {
    await this.#inner.close();
    if (this.#count > 0) this.#notice(notKeptMessage(this.#named, this.#count));
    this.#count = 0;
  }
}

/** @param named - the first of them. */
function notKeptMessage(named: readonly NotKept[], count: number): string {
  const files = named.map(
    ({ path, what }) => `"${displayPath(ownName(path))}": ${what.join(", ")}`,
  );
  const rest = count > named.length ? `; and ${count - named.length} more` : "";
  return `not kept of ${count} ${count === 1 ? "file" : "files"}: ${files.join("; ")}${rest}`;
}

/** Of it the same is true as of its file. */
function isSidecar(path: BytePath): boolean {
  return nameWithoutSidecarSuffix(path) !== undefined;
}

function ownName(path: BytePath): BytePath {
  return replacedName(path) ?? path;
}
