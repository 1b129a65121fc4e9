/**
 * `tde verify --file`: every tag of one file that stands by itself, or without a key its checksums and form.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { Problem } from "../format/problem.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { EngineContext } from "./context.ts";
import { type DetachedFile, detachedContext, detachedItem, openDetached } from "./detached-file.ts";

export interface VerifiedDetached {
  readonly ok: boolean;
  readonly depth: "checksums" | "tags";
  readonly file: DetachedFile;
  /** Pages under each key; of a file that is sealed whole one. */
  readonly keys: ReadonlyMap<number, number>;
  readonly pages: number;
  /** Pages whose checksum was wrong before they were encrypted. */
  readonly wrongChecksums: number;
  /** The first of them. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
}

/** @throws {UsageError} {StateError} {FormatError} as openDetached. What does not authenticate is a problem. */
export async function verifyDetached(
  engine: EngineContext,
  keys: DataKeys | undefined,
  path: BytePath,
): Promise<VerifiedDetached> {
  const { fs, progress } = engine;
  const file = openDetached(fs, path);
  progress.begin("checking", file.sizeBytes);
  const runner = engine.startRunner(detachedContext(file, keys), (done) => progress.advance(done));
  try {
    const depth = keys === undefined ? "form" : "tags";
    const [result] = await runner.run({ kind: "check", depth, items: [detachedItem(file)] });
    const { problems = [], problemCount = problems.length } = result ?? {};
    return {
      ok: problemCount === 0,
      depth: keys === undefined ? "checksums" : "tags",
      file,
      keys: result?.keys ?? new Map(),
      pages: result?.pages ?? 0,
      wrongChecksums: result?.wrongChecksums ?? 0,
      problems,
      problemCount,
    };
  } finally {
    progress.end();
    await runner.close();
  }
}
