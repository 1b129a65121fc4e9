/**
 * Gathers what a check finds in one file, and turns expected errors into problems, so that verify goes on to the
 * end. Keeps a bounded number of them, and the count of all.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { FormatError, KeyError, StorageError, TdeError } from "../errors.ts";
import type { Problem, ProblemKind } from "../format/problem.ts";
import { type ItemResult, MAX_PROBLEMS_PER_FILE } from "./tasks.ts";

export class ProblemCollector {
  private readonly path: BytePath;
  private readonly problems: Problem[] = [];
  private count = 0;

  constructor(path: BytePath) {
    this.path = path;
  }

  /** Runs a check. @returns its result with the problems that it reported, or that stopped it. */
  collect(check: (report: (problem: Problem) => void) => ItemResult): ItemResult {
    const report = (problem: Problem): void => {
      this.count++;
      if (this.problems.length < MAX_PROBLEMS_PER_FILE) this.problems.push(problem);
    };
    let result: ItemResult = { path: this.path };
    try {
      result = check(report);
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      report(problemOf(error, this.path));
    }
    return { ...result, problems: this.problems, problemCount: this.count };
  }
}

/** What an expected error says of the file that it came of. */
export function problemOf(error: TdeError, path: BytePath): Problem {
  return { kind: kindOf(error), path: displayPath(path), message: error.message };
}

function kindOf(error: TdeError): ProblemKind {
  if (error instanceof KeyError) return "key";
  if (error instanceof StorageError) return "unreadable";
  return error instanceof FormatError ? "content" : "tag";
}
