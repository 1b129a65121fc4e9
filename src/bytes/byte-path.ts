/**
 * Paths as the kernel sees them: bytes. A BytePath holds one byte in each character (U+0000 to U+00FF), so that
 * it compares and sorts by raw bytes, works as a key of a Map, and loses nothing where a name is not UTF-8.
 */

declare const brand: unique symbol;
export type BytePath = string & { readonly [brand]: "BytePath" };

/** A path from a JavaScript string, such as an argument of the command line. */
export function bytePath(path: string): BytePath {
  return Buffer.from(path, "utf8").toString("latin1") as BytePath;
}

/** A path from the bytes that a system call gave. */
export function bytePathFromBytes(bytes: Buffer): BytePath {
  return bytes.toString("latin1") as BytePath;
}

/** The path as `node:fs` takes it: as a string, which it takes faster, where that cannot change its bytes. */
export function toNativePath(path: BytePath): Buffer | string {
  return NOT_ASCII.test(path) ? Buffer.from(path, "latin1") : path;
}

const NOT_ASCII = /[\x80-\xff]/;

/** Joins parts by slashes; empty parts and the lone "." vanish. An absolute first part stays absolute. */
export function joinPath(...parts: readonly string[]): BytePath {
  const [folder, name] = parts;
  if (parts.length === 2 && isCleanPart(folder) && isCleanPart(name) && name[0] !== "/")
    return `${folder}/${name}` as BytePath;
  const kept = parts.filter((part) => part !== "" && part !== ".");
  if (kept.length === 0) return (parts.includes(".") ? "." : "") as BytePath;
  return kept
    .map((part, i) => (i === 0 ? part : part.replace(/^\/+/, "")))
    .join("/")
    .replace(/\/{2,}/g, "/") as BytePath;
}

/** What a walk through a directory joins, once or twice for every file: nothing of it vanishes or is put right. */
function isCleanPart(part: string | undefined): part is string {
  return (
    part !== undefined && part !== "" && part !== "." && !part.endsWith("/") && !part.includes("//")
  );
}

/** The path without the slashes at its end; "/" for a path of nothing else. */
export function withoutTrailingSlashes(path: BytePath): BytePath {
  let end = path.length;
  while (end > 1 && path[end - 1] === "/") end--;
  return path.slice(0, end) as BytePath;
}

/** The part before the last slash; "." for a bare name, "/" for a name in the root. */
export function directoryOf(path: BytePath): BytePath {
  const slash = path.lastIndexOf("/");
  return (slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash)) as BytePath;
}

/** The part after the last slash. */
export function nameOf(path: BytePath): BytePath {
  return path.slice(path.lastIndexOf("/") + 1) as BytePath;
}

/**
 * The path for a person to read: UTF-8 where it is valid and printable, and `\xNN` for every other byte and for
 * control characters, so that a name can neither break a line nor move the cursor.
 */
export function displayPath(path: BytePath | string): string {
  const bytes = Buffer.from(path, "latin1");
  const text = bytes.toString("utf8");
  const valid = Buffer.from(text, "utf8").equals(bytes);
  return (valid ? text : path).replace(
    valid ? /[\p{Cc}\p{Cf}\u2028\u2029]/gu : /[^\x20-\x7e]/g,
    (character) =>
      [...Buffer.from(character, valid ? "utf8" : "latin1")]
        .map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
        .join(""),
  );
}
