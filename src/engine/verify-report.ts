/**
 * What verify found, gathered as it goes: a bounded number of problems, the count of all, and sums by key id.
 */
import type { Problem, ProblemKind } from "../format/problem.ts";
import type { Scope } from "../format/scope.ts";
import type { ItemResult } from "../workers/tasks.ts";
import type { AcceptedFile } from "./accepted-changes.ts";
import type { ToolTrace } from "./tool-traces.ts";

/** Kept in memory and printed; the count goes on. */
const MAX_PROBLEMS = 10_000;

/** A problem, and what the relation is called whose file it is about, where that can be told. */
export interface NamedProblem extends Problem {
  /** `shop.public.orders` */
  readonly relation?: string | undefined;
}

export interface VerifyReport {
  /** Nothing was wrong; what was checked is said by `depth`. */
  readonly ok: boolean;
  /** checksums: without a key. tags: every page and chunk. */
  readonly depth: "checksums" | "tags";
  readonly directoryId: string | undefined;
  readonly keyringId: string | undefined;
  readonly epoch: bigint | undefined;
  /** 64 hex digits. */
  readonly root: string | undefined;
  /** Which relations are encrypted, as the manifest says. */
  readonly scope: Scope | undefined;
  /** The relations that were checked, and nothing else was; undefined when everything was. */
  readonly selected: Scope | undefined;
  /** Relation files that are plain because the scope leaves them out: held against their digests. */
  readonly outOfScope: { readonly files: number; readonly bytes: number };
  readonly files: number;
  readonly pages: number;
  readonly bytes: number;
  readonly wrongChecksums: number;
  /** Pages, chunked files counted as one, under each key id; problems of each. */
  readonly keys: readonly { readonly keyId: number; readonly pages: number }[];
  /** Files that backup tools leave out by design, and that are not there. */
  readonly missingExpendable: readonly string[];
  /** Configuration that is not what the manifest says and that the user named: counted nowhere else. */
  readonly accepted: readonly AcceptedFile[];
  readonly notices: readonly string[];
  /** Which of PostgreSQL's tools seems to be behind the problems, and what to do. */
  readonly traces: readonly ToolTrace[];
  readonly problems: readonly NamedProblem[];
  readonly problemCount: number;
  /** Of all problems, also of those that are only counted. */
  readonly kinds: readonly ProblemKind[];
}

export class VerifyFindings {
  private problems: NamedProblem[] = [];
  /** Every file that something is wrong with, also of problems that are only counted, by its displayed path. */
  readonly wrongFiles: Map<string, Set<ProblemKind>> = new Map();
  private readonly kinds: Set<ProblemKind> = new Set();
  private readonly missingExpendable: string[] = [];
  private readonly notices: string[] = [];
  private toolTraces: readonly ToolTrace[] = [];
  private readonly pagesByKey: Map<number, number> = new Map();
  private problemCount = 0;
  private files = 0;
  private pages = 0;
  private bytes = 0;
  private wrongChecksums = 0;
  private readonly plain: { files: number; bytes: number } = { files: 0, bytes: 0 };

  problem(problem: Problem): void {
    this.problemCount++;
    this.kinds.add(problem.kind);
    const ofFile = this.wrongFiles.get(problem.path);
    if (ofFile === undefined) this.wrongFiles.set(problem.path, new Set([problem.kind]));
    else ofFile.add(problem.kind);
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(problem);
  }

  notice(text: string): void {
    this.notices.push(text);
  }

  missing(path: string): void {
    this.missingExpendable.push(path);
  }

  /** Takes what came of one file, its problems too. */
  add(result: ItemResult): void {
    this.files++;
    this.pages += result.pages ?? 0;
    this.bytes += result.sizeBytes ?? 0;
    this.wrongChecksums += result.wrongChecksums ?? 0;
    for (const [keyId, count] of result.keys ?? []) {
      this.pagesByKey.set(keyId, (this.pagesByKey.get(keyId) ?? 0) + count);
    }
    for (const problem of result.problems ?? []) this.problem(problem);
    this.problemCount += (result.problemCount ?? 0) - (result.problems?.length ?? 0);
  }

  /** Counts a file among the plain ones, besides what `add` counts. */
  outOfScope(bytes: number): void {
    this.plain.files++;
    this.plain.bytes += bytes;
  }

  /** @param namesOf - the names of relations by their files' paths. */
  name(namesOf: (files: Iterable<string>) => ReadonlyMap<string, string>): void {
    const names = namesOf(this.problems.map(({ path }) => path));
    this.problems = this.problems.map((problem) => {
      const relation = names.get(problem.path);
      return relation === undefined ? problem : { ...problem, relation };
    });
  }

  traces(found: readonly ToolTrace[]): void {
    this.toolTraces = found;
  }

  /** Whether one of the problems is of this file. */
  isWrong(path: string): boolean {
    return this.wrongFiles.has(path);
  }

  get clean(): boolean {
    return this.problemCount === 0;
  }

  report(
    facts: Pick<
      VerifyReport,
      "depth" | "directoryId" | "keyringId" | "epoch" | "root" | "scope" | "selected" | "accepted"
    >,
  ): VerifyReport {
    return {
      ...facts,
      ok: this.clean,
      outOfScope: this.plain,
      files: this.files,
      pages: this.pages,
      bytes: this.bytes,
      wrongChecksums: this.wrongChecksums,
      keys: [...this.pagesByKey]
        .sort(([a], [b]) => a - b)
        .map(([keyId, pages]) => ({ keyId, pages })),
      missingExpendable: this.missingExpendable,
      notices: this.notices,
      traces: this.toolTraces,
      problems: this.problems,
      problemCount: this.problemCount,
      kinds: [...this.kinds],
    };
  }
}
