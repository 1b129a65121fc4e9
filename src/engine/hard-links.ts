/**
 * Other names of files that are about to be replaced by encrypted ones: what they lead to stays as it is. Snapshots made with
 * `cp -al` have them, and archives that link what they take.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";

const NAMED = 3;

export interface LinkedFiles {
  count: number;
  /** The first of them. */
  readonly named: BytePath[];
}

export function noLinkedFiles(): LinkedFiles {
  return { count: 0, named: [] };
}

/** @param linkCount - of the file. */
export function countLinked(linked: LinkedFiles, path: BytePath, linkCount: number): void {
  if (linkCount < 2) return;
  linked.count++;
  if (linked.named.length < NAMED) linked.named.push(path);
}

/** One notice for all. */
export function tellLinked({ count, named }: LinkedFiles, notice: (message: string) => void): void {
  if (count === 0) return;
  const rest = count > named.length ? ` and ${count - named.length} more` : "";
  const names = named.map((path) => `"${displayPath(path)}"`).join(", ");
  const files = count === 1 ? "1 file has" : `${count} files have`;
  notice(`${files} other hard links, which keep the plaintext: ${names}${rest}`);
}
