/**
 * Where pg_wal and the tablespaces lead now, held against where they led when the directory was encrypted. A restore may
 * point them elsewhere, so a move is no problem; but whoever can write to the directory can, too, and what is written in
 * place would land there. docs/FORMAT.md, "Entries".
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { sha256 } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { IntegrityError } from "../errors.ts";
import { isMovableLink, type ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { EngineContext } from "./context.ts";

export interface MovedLink {
  /** `pg_wal`, `pg_tblspc/<oid>` */
  readonly path: BytePath;
  /** What the link says now; undefined for a folder. */
  readonly target: BytePath | undefined;
  /** The move as a sentence's beginning: `pg_wal leads to "/x" now, and ...`. */
  readonly message: string;
}

/** Those that the manifest tells of; nothing of a link whose place it does not have. */
export function movedLinks(fs: FileSystem, { root }: Datadir, manifest: Manifest): MovedLink[] {
  const moved: MovedLink[] = [];
  for (const entry of manifest.entries()) {
    if (!isMovableLink(entry.path)) continue;
    const path = joinPath(root, entry.path);
    const kind = fs.stat(path)?.kind;
    if (kind !== "link" && kind !== "directory") continue;
    const target = kind === "link" ? fs.readLink(path) : undefined;
    const message = moveOf(entry, target);
    if (message !== undefined) moved.push({ path: entry.path, target, message });
  }
  return moved;
}

/** @param target - undefined for a folder. */
function moveOf(
  { path, class: kind, digest }: ManifestEntry,
  target: BytePath | undefined,
): string | undefined {
  const name = displayPath(path);
  if (kind === "D") {
    return target === undefined
      ? undefined
      : `${name} leads to "${displayPath(target)}" now, and was a folder when the directory was encrypted`;
  }
  if (digest === undefined) return undefined;
  if (target === undefined)
    return `${name} is a folder now, and was a link when the directory was encrypted`;
  return targetDigest(target) === digest
    ? undefined
    : `${name} leads to "${displayPath(target)}" now, and led elsewhere when the directory was encrypted`;
}

/** SHA-256 in hex, as the manifest keeps it. */
export function targetDigest(target: BytePath): string {
  return sha256(Buffer.from(target, "latin1")).toString("hex");
}

export const HINT_OF_BEGINNING =
  "Nothing was changed. If you moved it on purpose, give --accept-moved; else set the link right. With --output nothing is written behind it.";
/**
 * Before a run begins that writes in place. One that goes on looks whether its links lead to where they did then:
 * run/followed-links.ts.
 * @param moved - all that has.
 * @param isAccepted - the user knows of them.
 * @throws {IntegrityError} that names the first of them.
 */
export function assertNotMoved(
  moved: readonly MovedLink[],
  isAccepted: boolean,
  hint: string,
  what = "plaintext",
): void {
  const [first] = moved;
  if (first === undefined || isAccepted) return;
  throw new IntegrityError(`${first.message}: ${what} would be written there`, {
    file: displayPath(first.path),
    hint,
  });
}

/**
 * As assertNotMoved, before a run begins that writes ciphertext in place; says what has moved.
 * @param acceptMoved - the user knows of all of them.
 */
export function acceptMovesToSeal(
  { fs, notice }: EngineContext,
  datadir: Datadir,
  manifest: Manifest,
  acceptMoved: boolean | undefined,
): void {
  const moved = movedLinks(fs, datadir, manifest);
  const hint =
    "Nothing was changed. If you moved it on purpose, give --accept-moved; else set the link right.";
  assertNotMoved(moved, acceptMoved === true, hint, "ciphertext");
  for (const { message } of moved) notice(message);
}
