/**
 * Steps and patches name files by their paths in the data directory. A folder on the way that is a link now would lead them to
 * another directory's files. Only pg_wal and the tablespaces may be links: where those lead is held against the run itself
 * (followed-links.ts).
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../../bytes/byte-path.ts";
import { parseTablespaceOid } from "../../datadir/relation-path.ts";
import { IntegrityError } from "../../errors.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { DueStep } from "../../storage/journal.ts";

/** @throws {IntegrityError} for the first folder of one of these files, relative to `root`, that is none. */
export function assertRealFolders(
  fs: Pick<FileSystem, "stat">,
  root: BytePath,
  paths: Iterable<BytePath>,
): void {
  const [wrong] = unrealFolders(fs, root, paths);
  if (wrong === undefined) return;
  const { folder, kind } = wrong;
  throw new IntegrityError(
    `"${displayPath(folder)}" in "${displayPath(root)}" is a ${kind}, and no folder, while tde has work to do there`,
    {
      file: displayPath(folder),
      hint: "Somebody put it there: put the folder back, then run the same command again.",
    },
  );
}

/** Whether a path, relative to `root`, leads nowhere else. */
export function isInRealFolders(
  fs: Pick<FileSystem, "stat">,
  root: BytePath,
  path: BytePath,
): boolean {
  return unrealFolders(fs, root, [path]).next().done === true;
}

/** Folders of these files that are something else, each once. One that is missing is not among them. */
function* unrealFolders(
  fs: Pick<FileSystem, "stat">,
  root: BytePath,
  paths: Iterable<BytePath>,
): Generator<{ readonly folder: BytePath; readonly kind: string }, void> {
  const known = new Set<BytePath>(["." as BytePath]);
  for (const path of paths) {
    for (let folder = directoryOf(path); !known.has(folder); folder = directoryOf(folder)) {
      known.add(folder);
      if (mayBeLink(folder)) continue;
      const kind = fs.stat(joinPath(root, folder))?.kind;
      if (kind !== "directory" && kind !== undefined) yield { folder, kind };
    }
  }
}

/** The files that steps touch. */
export function* pathsOf(steps: readonly DueStep[]): Generator<BytePath> {
  for (const step of steps) {
    if (step.action === "remove") yield step.path;
    else yield* [step.from, step.to];
  }
}

function mayBeLink(folder: BytePath): boolean {
  if (folder === "pg_wal") return true;
  const [first, second, third] = folder.split("/");
  return (
    first === "pg_tblspc" && third === undefined && parseTablespaceOid(second ?? "") !== undefined
  );
}
