/**
 * What several commands say in the same words: the configuration that was taken as it is, and what is not encrypted.
 */
import type { AcceptedFile } from "../engine/accepted-changes.ts";
import { type Scope, serializeScope } from "../format/scope.ts";
import { formatBytes } from "./progress.ts";

/** `1 problem`, `2 problems`. */
export function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function acceptedLines(accepted: readonly AcceptedFile[]): string[] {
  return accepted.map(({ path, change }) => `${change}, accepted: ${path}`);
}

/** Relation files that are plain, and how many bytes they have. */
interface Plain {
  readonly files: number;
  readonly bytes: number;
}

/** Comes before everything else; nothing where all is encrypted. */
export function outOfScopeLines(scope: Scope, plain: Plain): string[] {
  const text = serializeScope(scope);
  return text === "all" ? [] : [outOfScopeLine(plain), `scope: ${text}`];
}

export function outOfScopeLine({ files, bytes }: Plain): string {
  return `NOT encrypted, out of scope: ${files} relation files, ${formatBytes(bytes)}`;
}
