/**
 * A new directory that a run fills, beside the source that it only reads. Until the journal's last entry the whole of
 * it counts for nothing: it was empty when the run began, so a crash is undone by emptying it again.
 */
import {
  type BytePath,
  directoryOf,
  displayPath,
  joinPath,
  withoutTrailingSlashes,
} from "../bytes/byte-path.ts";
import { CLAIM_NAME } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { type PlainAccess, plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { tablespaceFolder } from "../datadir/relation-path.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { StateError, UsageError } from "../errors.ts";
import type { FileAttributes, FileStat, FileSystem } from "../storage/file-system.ts";
import { isClaimed } from "./claim-file.ts";
import type { DirectoryMemory } from "./context.ts";
import { isLockName } from "./run/datadir-lock.ts";
import { NEW_JOURNAL_NAME } from "../storage/journal.ts";

export interface OutputOptions {
  readonly output: BytePath;
  /** Where each tablespace outside the data directory goes: old directory -> new one, both absolute. */
  readonly tablespaceMapping: ReadonlyMap<BytePath, BytePath>;
}

/** Where the output and its tablespaces will be. */
export interface OutputPlan {
  readonly output: BytePath;
  /** `pg_tblspc/<oid>` -> new directory, absolute. */
  readonly tablespaces: ReadonlyMap<BytePath, BytePath>;
  /** The same without a link in it. */
  readonly places: ReadonlyMap<BytePath, BytePath>;
}

/**
 * Works out where everything goes, and refuses what cannot be; writes nothing.
 * @throws {UsageError} for a tablespace without a place, or a mapping without a tablespace.
 * @throws {StateError} when a place is not empty, or source and output overlap.
 */
export function planOutput(
  fs: FileSystem,
  source: Datadir,
  options: OutputOptions,
  memory: DirectoryMemory,
): OutputPlan {
  const { output, tablespaceMapping } = options;
  const tablespaces = placesOfTablespaces(source, tablespaceMapping, () => true);
  const all = [output, ...tablespaces.values()];
  const sources = placesOf(source);
  const folder = tablespaceFolder(source);
  const realPlaces = all.map((place) => futureRealPath(fs, place, all));
  for (const [i, place] of all.entries()) {
    const real = realPlaces[i] ?? place;
    // One tablespace may lie in another's folder, beside what is that one's.
    const others = realPlaces
      .slice(0, i)
      .filter((other, k) => k === 0 || !isBeside(real, other, folder));
    assertNoOverlap(place, real, [...sources, ...others]);
    assertEmpty(fs, place, { others: placesIn(real, realPlaces), memory });
  }
  const places = [...tablespaces.keys()].map(
    (path, i) => [path, realPlaces[i + 1] ?? path] as const,
  );
  return { output, tablespaces, places: new Map(places) };
}

/** Where a data directory and what its links lead to are, without a link in it. */
export function placesOf({ realRoot, tablespaces, walTarget }: Datadir): BytePath[] {
  return [realRoot, ...tablespaces.map(({ realPath }) => realPath), walTarget ?? realRoot];
}

/**
 * The new places of the source's tablespaces: `pg_tblspc/<oid>` -> directory, absolute.
 * @param isNew - whether a tablespace (by that path) needs one.
 * @throws {UsageError} for one without a place, or a mapping without a tablespace.
 */
export function placesOfTablespaces(
  source: Datadir,
  mapping: ReadonlyMap<BytePath, BytePath>,
  isNew: (path: BytePath) => boolean,
): Map<BytePath, BytePath> {
  const places = new Map<BytePath, BytePath>();
  const unused = new Set(mapping.keys());
  for (const { path, linkTarget, realPath } of source.tablespaces) {
    if (linkTarget === undefined) continue;
    const old = mapping.has(realPath) ? realPath : linkTarget;
    const target = mapping.get(old);
    unused.delete(old);
    if (!isNew(path)) continue;
    if (target === undefined) {
      throw new UsageError(`tablespace "${displayPath(realPath)}" has no place in the output`, {
        hint: "Give --tablespace-mapping OLD=NEW for it; a link to the old place would lead back into the source.",
      });
    }
    if (!target.startsWith("/")) {
      throw new UsageError(
        `the new place of a tablespace must be absolute: "${displayPath(target)}"`,
      );
    }
    places.set(path, target);
  }
  for (const old of unused) {
    throw new UsageError(
      `"${displayPath(old)}" in --tablespace-mapping is no tablespace of the source`,
    );
  }
  return places;
}

/**
 * @param isClaimed - by this very run, which was interrupted.
 * @param memory - tells whose claim stands in the way.
 * @throws {StateError} when a new place is not empty, or overlaps one that is taken (without a link in it).
 */
export function assertFreePlace(
  fs: FileSystem,
  place: BytePath,
  taken: readonly BytePath[],
  { isClaimed = false, memory }: { isClaimed?: boolean; memory?: DirectoryMemory } = {},
): void {
  assertNoOverlap(place, futureRealPath(fs, place), taken);
  if (!isClaimed) assertEmpty(fs, place, { memory });
}

function assertNoOverlap(place: BytePath, real: BytePath, taken: readonly BytePath[]): void {
  if (taken.some((other) => overlap(real, other))) {
    throw new StateError(
      `"${displayPath(place)}" overlaps the source or another part of the output`,
      { hint: "Choose a directory outside of it." },
    );
  }
}

/** Whether one of two places of tablespaces lies in the other, and outside of the folder that a server makes there. */
function isBeside(one: BytePath, other: BytePath, folder: BytePath): boolean {
  const [inner, outer] = one.length > other.length ? [one, other] : [other, one];
  return inner.startsWith(`${outer}/`) && !overlap(inner, joinPath(outer, folder));
}

/** Names in a place that lead to others of the same run. */
export function placesIn(place: BytePath, places: Iterable<BytePath>): BytePath[] {
  return [...places]
    .filter((other) => other.startsWith(`${place}/`))
    .map((other) => other.slice(place.length + 1).split("/")[0] as BytePath);
}

/**
 * Makes the output directory itself, so that it can be locked, durably: what comes to be in tablespaces must not
 * outlive the journal that says what to do with it. A new one gets the source's owner, and its group's access; of one that
 * is there already these stay, and so say who may read what is decrypted into it.
 */
export function makeOutputRoot(fs: FileSystem, source: Datadir, { output }: OutputPlan): void {
  if (fs.statFollowing(output) !== undefined) return;
  fs.makeDirectory(output, 0o700);
  const like = fs.statFollowing(source.root);
  if (like !== undefined)
    fs.setAttributes(output, plainAttributes(like, plainAccess(fs, source.root), "directory"));
  fs.syncDirectory(parentOf(output));
}

/**
 * Makes every folder and link of the source, to places that are claimed. pg_wal becomes a folder wherever it was.
 * @param isLeftOut - what is not made.
 */
export function makeFolders(
  fs: FileSystem,
  source: Datadir,
  plan: OutputPlan,
  isLeftOut: (path: BytePath) => boolean = () => false,
): void {
  for (const { path, kind, classification } of walkDatadir(fs, source.root, source)) {
    if (isLeftOut(path)) continue;
    const target = joinPath(plan.output, path);
    const tablespace = plan.tablespaces.get(path);
    if (classification.class === "directory" || path === "pg_wal") {
      fs.makeDirectory(target, 0o700);
    } else if (tablespace !== undefined) {
      fs.makeLink(tablespace, target);
      assertLeadsTo(fs, target, plan.places.get(path));
    } else if (classification.class === "link") {
      fs.makeLink(fs.readLink(joinPath(source.root, path)), target);
    }
    if (kind !== "link" || path === "pg_wal") continue;
    const stat = fs.stat(joinPath(source.root, path));
    if (stat !== undefined) fs.setLinkOwner(target, stat.uid, stat.gid);
  }
}

function assertLeadsTo(fs: FileSystem, link: BytePath, place: BytePath | undefined): void {
  if (fs.statFollowing(link) !== undefined && fs.realPath(link) === place) return;
  throw new StateError(`"${displayPath(fs.readLink(link))}" was moved while tde was at work`, {
    hint: 'Run "tde recover" on the new directory, then begin again.',
  });
}

/**
 * Gives every folder its owner, mode and times, and makes all names durable.
 * @param access - where what is in them is plain.
 */
export function finishFolders(
  fs: FileSystem,
  source: Datadir,
  plan: OutputPlan,
  access?: PlainAccess,
  isLeftOut: (path: BytePath) => boolean = () => false,
): void {
  const folders: BytePath[] = [...walkDatadir(fs, source.root, source)]
    .filter(
      ({ path, classification }) =>
        !isLeftOut(path) &&
        (classification.class === "directory" || path === "pg_wal" || plan.tablespaces.has(path)),
    )
    .map(({ path }) => path);
  // The deepest first: setting up a folder changes the times of the one above it.
  for (const path of ["" as BytePath, ...folders].toReversed()) {
    const target = fs.realPath(joinPath(plan.output, path));
    const stat = fs.statFollowing(joinPath(source.root, path));
    if (stat !== undefined) fs.setAttributes(target, folderAttributes(stat, access));
    fs.syncDirectory(target);
  }
  for (const tablespace of plan.tablespaces.values()) fs.syncDirectory(parentOf(tablespace));
  fs.syncDirectory(parentOf(plan.output));
}

/** Of the folder that takes the place of one with these. */
export function folderAttributes(stat: FileStat, access: PlainAccess | undefined): FileAttributes {
  return access === undefined ? stat : plainAttributes(stat, access, "directory");
}

/** Everything in a folder but `keep`; nothing of it is synced. */
export function emptyDirectory(
  fs: FileSystem,
  directory: BytePath,
  keep: readonly BytePath[],
): void {
  for (const { name, kind } of fs.readDirectory(directory)) {
    if (keep.includes(name)) continue;
    const path = joinPath(directory, name);
    if (kind === "directory") {
      emptyDirectory(fs, path, []);
      fs.removeDirectory(path);
    } else {
      fs.remove(path);
    }
  }
}

/**
 * A place may exist, but must hold nothing: what a run is undone by deleting must be all its own.
 * @param others - names in it that lead to other places, which are looked at by themselves.
 * @param memory - to say whose a claim is.
 */
export function assertEmpty(
  fs: FileSystem,
  place: BytePath,
  {
    others = [],
    memory,
  }: { others?: readonly BytePath[]; memory?: DirectoryMemory | undefined } = {},
): void {
  const stat = fs.statFollowing(place);
  if (stat === undefined) return;
  const names =
    stat.kind === "directory"
      ? fs
          .readDirectory(place)
          .filter(
            ({ name }) => name !== NEW_JOURNAL_NAME && !isLockName(name) && !others.includes(name),
          )
      : [];
  if (stat.kind === "directory" && names.length === 0) return;
  if (names.some(({ name, kind }) => name === CLAIM_NAME && kind === "file"))
    throw isClaimed(fs, place, memory);
  throw new StateError(`"${displayPath(place)}" exists and is not an empty directory`, {
    hint: "Choose a new directory; nothing that exists is overwritten.",
  });
}

/**
 * The absolute path of a directory that may not exist yet, its existing part without links.
 * @param planned - directories that will be there by then.
 */
export function futureRealPath(
  fs: FileSystem,
  path: BytePath,
  planned: readonly BytePath[] = [],
): BytePath {
  if (fs.statFollowing(path) !== undefined) return fs.realPath(path);
  const parent = parentOf(path);
  const name = path.slice(path.lastIndexOf("/") + 1);
  const isPlanned = planned.some((other) => withoutTrailingSlashes(other) === parent);
  if (isPlanned && fs.statFollowing(parent) === undefined)
    return joinPath(futureRealPath(fs, parent, planned), name);
  if (fs.statFollowing(parent)?.kind !== "directory") {
    throw new StateError(`"${displayPath(parent)}" is not a directory`, {
      hint: "Make the parent of the output directory first.",
    });
  }
  return joinPath(fs.realPath(parent), name);
}

export function parentOf(path: BytePath): BytePath {
  return directoryOf(withoutTrailingSlashes(path));
}

export function overlap(a: BytePath, b: BytePath): boolean {
  return `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
}
