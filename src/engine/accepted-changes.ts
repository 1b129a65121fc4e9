/**
 * Configuration files that were edited, added or removed while a directory was encrypted, and that the user named one
 * by one to be taken as they are now (`--accept-changed`). Only configuration can be accepted: what the server reads
 * as data (pg_control, pg_filenode.map, pg_xact and the like) is the manifest's or nobody's. What is accepted is
 * reported as that, and never as verified.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { isConfiguration } from "../datadir/classify.ts";
import type { WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, UsageError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileSystem } from "../storage/file-system.ts";

export interface AcceptedChange {
  readonly path: BytePath;
  /** Against what the manifest says. */
  readonly change: "changed" | "added" | "removed";
  /** Of what lies there now, 0 where nothing does. */
  readonly sizeBytes: number;
  /** SHA-256 of what lies there now, 64 hex digits; a copy of it must have the same. */
  readonly digest: string | undefined;
}

/** As a report names it. */
export interface AcceptedFile {
  readonly path: string;
  readonly change: AcceptedChange["change"];
}

export function acceptedFiles(changes: readonly AcceptedChange[]): AcceptedFile[] {
  return changes.map(({ path, change }) => ({ path: displayPath(path), change }));
}

/**
 * What a run that goes on finds accepted must be what it was begun with.
 * @throws {IntegrityError} for a file that was changed once more.
 */
export function assertSameAccepted(
  found: readonly AcceptedChange[],
  begun: readonly AcceptedChange[],
): void {
  const facts = ({ change, sizeBytes, digest }: AcceptedChange): string =>
    `${change} ${sizeBytes} ${digest}`;
  const before = new Map(begun.map((one) => [one.path, facts(one)]));
  const after = new Map(found.map((one) => [one.path, facts(one)]));
  for (const path of [...before.keys(), ...after.keys()]) {
    if (before.get(path) === after.get(path)) continue;
    throw new IntegrityError(
      `${displayPath(path)}: it was changed once more while the run was unfinished`,
      {
        file: displayPath(path),
        hint: "Nothing was changed. Put the file back to what it was when the run was begun, and run the same command again.",
      },
    );
  }
}

/** The option that takes a change of this file as it is; undefined where nothing does. */
export function acceptOption(path: BytePath, entry: ManifestEntry | undefined): string | undefined {
  return isAcceptable(path, entry) ? `--accept-changed ${displayPath(path)}` : undefined;
}

/** Sealed configuration (`--seal-config`) is no exception: a plain file in its place is never accepted. */
function isAcceptable(path: BytePath, entry: ManifestEntry | undefined): boolean {
  return isConfiguration(path) && (entry === undefined || entry.class === "R");
}

export class Acceptance {
  readonly #paths: ReadonlySet<BytePath>;
  readonly #changes: AcceptedChange[] = [];

  /** @param paths - relative to the data directory. @throws {UsageError} when one of them is no configuration file. */
  constructor(paths: readonly BytePath[]) {
    for (const path of paths) {
      // Paths are compared as the manifest spells them: "./postgresql.conf" would never be met.
      if (isConfiguration(path) && !/(^|\/)(\.{0,2})(\/|$)/.test(path)) continue;
      throw new UsageError(
        `"${displayPath(path)}" cannot be accepted as changed: it is no path of a configuration file`,
        {
          hint: "--accept-changed takes paths as tde prints them, such as postgresql.conf or conf.d/memory.conf.",
        },
      );
    }
    this.#paths = new Set(paths);
  }

  /** What was accepted so far, in the order in which it was met. */
  get changes(): readonly AcceptedChange[] {
    return this.#changes;
  }

  /** @throws {UsageError} for a path that neither the manifest nor the directory has: most likely a slip. */
  assertAllExist(fs: FileSystem, root: BytePath, manifest: Manifest): void {
    const unknown = new Set(
      [...this.#paths].filter((path) => fs.stat(joinPath(root, path)) === undefined),
    );
    if (unknown.size === 0) return;
    for (const { path } of manifest.entries()) unknown.delete(path);
    for (const path of unknown) {
      throw new UsageError(`there is no "${displayPath(path)}", and there was none`, {
        hint: "--accept-changed takes paths relative to the data directory, as tde prints them.",
      });
    }
  }

  /** Whether a file may differ from its line, or be there without one. */
  allows(found: WalkEntry, entry: ManifestEntry | undefined): boolean {
    return this.#paths.has(found.path) && found.kind === "file" && isAcceptable(found.path, entry);
  }

  /** Whether a folder may have come or gone with the files in it, each of which is named. */
  allowsFolder(path: BytePath): boolean {
    return [...this.#paths].some((file) => file.startsWith(`${path}/`));
  }

  /** Takes a missing file. @returns whether it may be missing. */
  takeRemoved(entry: ManifestEntry): boolean {
    const { path } = entry;
    if (entry.class === "D") return this.allowsFolder(path);
    if (!this.#paths.has(path) || !isAcceptable(path, entry)) return false;
    this.#changes.push({ path, change: "removed", sizeBytes: 0, digest: undefined });
    return true;
  }

  /** Takes what was read of a file that `allows` let pass. @returns whether it differs from its line. */
  take(
    found: { readonly path: BytePath; readonly sizeBytes: number; readonly digest: string },
    entry: ManifestEntry | undefined,
  ): boolean {
    if (entry?.digest === found.digest && entry.sizeBytes === found.sizeBytes) return false;
    this.#changes.push({ ...found, change: entry === undefined ? "added" : "changed" });
    return true;
  }
}
