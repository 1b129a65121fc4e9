/**
 * One line of the manifest for each file, directory and link: its fields, and the strict grammar between text
 * and value. A value has exactly one text; every other text is refused, so that the root over the text is a root
 * over the values. Specified in docs/FORMAT.md, "Manifest".
 */
import assert from "node:assert/strict";
import type { BytePath } from "../bytes/byte-path.ts";
import { FormatError } from "../errors.ts";
import { escapePath, unescapePath } from "./manifest-path.ts";

/**
 * P relation file with sidecar, W WAL segment with sidecar, S sealed container, R readable by design,
 * O out of scope and plain, D directory, L symbolic link.
 */
export type ManifestClass = "P" | "W" | "S" | "R" | "O" | "D" | "L";

/** How many pages, blocks or containers of a file are under a key; 0 where the key only MACs a sidecar page. */
export interface KeyUse {
  readonly keyId: number;
  readonly count: number;
}

export interface ManifestEntry {
  readonly path: BytePath;
  readonly class: ManifestClass;
  /** Backup tools leave it out: missing, it is reported, not an error. */
  readonly expendable: boolean;
  /** It did not exist before encryption. */
  readonly added: boolean;
  /** Of the stored file; 0 for directories and links. */
  readonly sizeBytes: number;
  /** By rising key id; empty for R, O, D, L and for empty files. */
  readonly keys: readonly KeyUse[];
  /**
   * 64 hex digits: of the sidecar (P, W), of header and tags (S), of the content (R, O), of the target (L). Of a movable
   * link it may be missing: then nothing is known of where it led.
   */
  readonly digest: string | undefined;
}

/** A longer line is refused: an escaped path of 4095 bytes, and some two thousand keys. */
export const ENTRY_LIMIT_BYTES = 65536;

const MAX_KEY_ID = 0xffffffff;
const LINE =
  /^file\t([^\t]+)\t([PWSRODL])\t(-|xn?|n)\t(0|[1-9]\d{0,15})\t(-|[\d:,]+)\t(-|[0-9a-f]{64})$/;

/** The line with its LF. */
export function serializeEntry(entry: ManifestEntry): string {
  const flags = `${entry.expendable ? "x" : ""}${entry.added ? "n" : ""}` || "-";
  const keys = entry.keys.map(({ keyId, count }) => `${keyId}:${count}`).join(",") || "-";
  const fields = [escapePath(entry.path), entry.class, flags, entry.sizeBytes, keys];
  const line = `file\t${fields.join("\t")}\t${entry.digest ?? "-"}\n`;
  // What is written is what a reader takes: a bug of ours shows now, not at the next verify.
  const problem = problemOf(entry);
  assert(problem === undefined, `manifest entry ${escapePath(entry.path)}: ${problem}`);
  assert(line.length <= ENTRY_LIMIT_BYTES, "manifest line too long");
  return line;
}

/**
 * @param line - without its LF.
 * @param where - file and line, for messages.
 * @throws {FormatError} when the line is not in canonical form.
 */
export function parseEntry(line: string, where: string): ManifestEntry {
  const match = LINE.exec(line);
  if (match === null) throw new FormatError(`${where} is not a manifest entry`);
  const [, path = "", fileClass = "", flags = "", size = "", keys = "", digest = ""] = match;
  const entry: ManifestEntry = {
    path: unescapePath(path, where),
    class: fileClass as ManifestClass,
    expendable: flags.startsWith("x"),
    added: flags.endsWith("n"),
    sizeBytes: Number(size),
    keys: keys === "-" ? [] : keys.split(",").map((use) => parseKeyUse(use, where)),
    digest: digest === "-" ? undefined : digest,
  };
  const problem = problemOf(entry);
  if (problem !== undefined) throw new FormatError(`${where} is not valid: ${problem}`);
  return entry;
}

/** The links that a restore may point elsewhere: that their target is another one is no error. */
export function isMovableLink(path: BytePath): boolean {
  return path === "pg_wal" || /^pg_tblspc\/[^/]+$/.test(path);
}

function parseKeyUse(text: string, where: string): KeyUse {
  const match = /^([1-9]\d{0,9}):(0|[1-9]\d{0,9})$/.exec(text);
  if (match === null) throw new FormatError(`${where} has an invalid list of keys`);
  return { keyId: Number(match[1]), count: Number(match[2]) };
}

/** What a valid entry cannot have; undefined when all is well. */
function problemOf(entry: ManifestEntry): string | undefined {
  const { sizeBytes, keys, digest } = entry;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) return "its size is too large";
  if (digest !== undefined && !/^[0-9a-f]{64}$/.test(digest)) return "its digest has another form";
  if (keys.some(({ keyId }) => keyId < 1 || keyId > MAX_KEY_ID))
    return "it names an invalid key id";
  if (keys.some(({ keyId }, i) => i > 0 && keyId <= (keys[i - 1]?.keyId ?? 0))) {
    return "its keys are not in rising order";
  }
  const sealed = entry.class === "P" || entry.class === "W" || entry.class === "S";
  const isFile = sealed || entry.class === "R" || entry.class === "O";
  if (!isFile && sizeBytes !== 0) return "a directory or link has a size";
  if (entry.class === "S" && (keys.length !== 1 || keys[0]?.count !== 1)) {
    return "a sealed file must name one key, once";
  }
  // An empty relation file has no sidecar: neither keys nor a digest.
  const wantsKeys = sealed && sizeBytes > 0;
  if (keys.length > 0 !== wantsKeys)
    return wantsKeys ? "it names no key" : "it must not name a key";
  const wantsDigest =
    wantsKeys || entry.class === "R" || entry.class === "O" || entry.class === "L";
  const mayLackDigest = entry.class === "L" && isMovableLink(entry.path);
  if ((digest !== undefined) !== wantsDigest && !mayLackDigest) {
    return wantsDigest ? "it has no digest" : "it must not have a digest";
  }
  return undefined;
}
