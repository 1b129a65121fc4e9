/**
 * Paths as tde's own text formats write them: every byte outside 21 to 7e, and `%`, as `%xx` in lower case, so
 * that no name can break a line or a field. And the one test of whether a path from such a format may be used:
 * relative, without a part that leads elsewhere. Specified in docs/FORMAT.md, "Manifest".
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { escapeBytes, unescapeBytes } from "../bytes/percent-escape.ts";
import { FormatError } from "../errors.ts";

/** PATH_MAX of Linux without its terminator. */
export const PATH_LIMIT_BYTES = 4095;

/** The path as the text formats write it. */
export function escapePath(path: BytePath): string {
  return escapeBytes(path);
}

/**
 * @param where - the file that holds the path, for messages.
 * @throws {FormatError} when the text is not the canonical escape of a safe path.
 */
export function unescapePath(text: string, where: string): BytePath {
  let path: BytePath;
  try {
    path = unescapeBytes(text) as BytePath;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${where} has a path that is not in canonical form: ${shown(text)}`);
  }
  assertSafePath(path, where);
  return path;
}

/**
 * @param where - the file that names the path, for messages.
 * @throws {FormatError} unless the path is relative, has 1 to 4095 bytes, no NUL, and no empty, "." or ".." part.
 */
export function assertSafePath(path: BytePath, where: string): void {
  const parts = path.split("/");
  const unsafe =
    path.length > PATH_LIMIT_BYTES ||
    path.includes("\0") ||
    parts.some((part) => part === "" || part === "." || part === "..");
  if (unsafe) {
    throw new FormatError(`${where} names a path that may not be used: ${shown(path)}`, {
      hint: "Paths must be relative and stay inside the data directory. The file was altered.",
    });
  }
}

function shown(path: string): string {
  return `"${displayPath(path.length > 200 ? `${path.slice(0, 200)}...` : path)}"`;
}
