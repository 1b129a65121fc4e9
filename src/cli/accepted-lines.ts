/**
 * How every command names the configuration that it took as it is, against the manifest.
 */
import type { AcceptedFile } from "../engine/accepted-changes.ts";

export function acceptedLines(accepted: readonly AcceptedFile[]): string[] {
  return accepted.map(({ path, change }) => `${change}, accepted: ${path}`);
}
