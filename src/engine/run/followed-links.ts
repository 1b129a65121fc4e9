/**
 * Where pg_wal and the tablespaces of a data directory lead when a run on it begins. A run that is taken up renames, removes
 * and writes behind these links, so before it does anything they must lead to where they did. The manifest cannot tell: it
 * says where they led at encryption, and a directory may have been moved since.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { parseTablespaceOid } from "../../datadir/relation-path.ts";
import { IntegrityError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { JournalHeader, JournalOperation } from "../../storage/journal.ts";
import { claimOf } from "../place-claims.ts";
import { pathFromHex, pathToHex } from "./hex-path.ts";

/** What of a run tells which links may be new. */
interface RunToFollow extends Pick<JournalHeader, "operation" | "runId"> {
  /** Its last steps are being done. */
  readonly committed: boolean;
}

/** `pg_wal`, `pg_tblspc/<oid>` -> the end of the link, absolute and without a link in it, in hex; "" leads nowhere. */
export type KeptLinks = Readonly<Record<string, string>>;

/** Whether a run of that operation works on a directory that is there, and follows its links. */
export function followsLinks(operation: JournalOperation): boolean {
  return operation !== "encryptOutput" && operation !== "decryptOutput";
}

export function followedLinks(fs: FileSystem, root: BytePath): KeptLinks {
  const links: Record<string, string> = {};
  for (const path of linksIn(fs, root)) {
    const link = joinPath(root, path);
    const leadsNowhere = fs.statFollowing(link) === undefined;
    links[path] = leadsNowhere ? "" : pathToHex(fs.realPath(link));
  }
  return links;
}

/** @throws {IntegrityError} for a link that leads elsewhere than when the run was begun, is gone, or is new. */
export function assertLinksOfRun(
  fs: FileSystem,
  root: BytePath,
  run: RunToFollow,
  begun: KeptLinks,
): void {
  const now = followedLinks(fs, root);
  for (const path of new Set([...Object.keys(begun), ...Object.keys(now)])) {
    const [before, found] = [begun[path], now[path]];
    if (before === found || mayHaveChanged(fs, root, run, path, before)) continue;
    throw new IntegrityError(
      `"${path}" in "${displayPath(root)}" leads elsewhere than when the run was begun: ${difference(before, found)}`,
      {
        file: path,
        hint: "Nothing was changed. Somebody moved what is behind it, or put another link there: put the link back, then run the same command again.",
      },
    );
  }
}

/** A sync makes the links of tablespaces that its source has anew, to places that it claims, and removes those of others. */
function mayHaveChanged(
  fs: FileSystem,
  root: BytePath,
  { operation, runId, committed }: RunToFollow,
  path: string,
  before: string | undefined,
): boolean {
  if (operation !== "sync" || !path.startsWith(`${TABLESPACES}/`)) return false;
  const link = joinPath(root, path);
  // The claims go with the last steps, when the new manifest says where links lead.
  return before === undefined
    ? committed || claimOf(fs, link, runId) === "own"
    : fs.stat(link) === undefined;
}

function difference(before: string | undefined, now: string | undefined): string {
  const place = (hex: string): string =>
    hex === "" ? "nowhere" : `"${displayPath(pathFromHex(hex))}"`;
  if (now === undefined) return `it is no link now, and led to ${place(before ?? "")}`;
  return before === undefined
    ? `${place(now)}, and was no link`
    : `${place(now)}, not ${place(before)}`;
}

const TABLESPACES = "pg_tblspc" as BytePath;

/** pg_tblspc itself is never one, but steps below it would be done behind it. */
function linksIn(fs: FileSystem, root: BytePath): BytePath[] {
  const isLink = (path: BytePath): boolean => fs.stat(joinPath(root, path))?.kind === "link";
  const links = (["pg_wal", TABLESPACES] as BytePath[]).filter(isLink);
  if (fs.stat(joinPath(root, TABLESPACES))?.kind !== "directory") return links;
  for (const { name, kind } of fs.readDirectory(joinPath(root, TABLESPACES))) {
    if (kind === "link" && parseTablespaceOid(name) !== undefined)
      links.push(joinPath(TABLESPACES, name));
  }
  return links.sort();
}
