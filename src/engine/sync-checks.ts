/**
 * What speaks against bringing an encrypted copy up to date, told before anything is read or written: the source must
 * be a plain, stopped, not older state of the same cluster, and share no place with the copy.
 */
import { displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { StateError } from "../errors.ts";
import type { ControlFile } from "../postgres/control-file.ts";
import { formatLsn } from "../postgres/lsn.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { hasJournal } from "./run/directory-run.ts";
import { readAutoConf } from "./guard.ts";
import { inspectBackupManifest } from "./backup-manifest.ts";
import { type InventoryEntry, type InventoryOptions, takeInventory } from "./inventory.ts";
import { hasManifest } from "./open-manifest.ts";
import { overlap } from "./output-directory.ts";
import { assertEncrypted } from "./verify-datadir.ts";

/** @throws {StateError} {IntegrityError} when the source has anything of tde's in it. */
export function assertPlainSource(fs: FileSystem, source: Datadir): void {
  const { root } = source;
  if (hasManifest(fs, root) || hasJournal(fs, root) || readAutoConf(fs, root) === "guard")
    throw sourceIsEncrypted(source);
  inspectBackupManifest(fs, source, false);
}

/** The source's entries. @throws {StateError} at one that is sealed, or tde's own. */
export function* plainInventory(
  fs: FileSystem,
  source: Datadir,
  options: InventoryOptions,
): Generator<InventoryEntry> {
  for (const found of takeInventory(fs, source, options, "first")) {
    const { classification } = found.entry;
    const isOwn = classification.class === "own" && classification.file !== "lock";
    if (isOwn || classification.class === "sidecar" || found.action.do === "nothing")
      throw sourceIsEncrypted(source);
    yield found;
  }
}

function sourceIsEncrypted({ root }: Datadir): StateError {
  return new StateError(`the source "${displayPath(root)}" is encrypted, or partly so`, {
    hint: "Name the plain data directory first, then its encrypted copy.",
  });
}

/** @throws {StateError} when the copy is a plain directory. */
export function assertEncryptedCopy(fs: FileSystem, copy: Datadir): void {
  try {
    assertEncrypted(fs, copy);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    throw new StateError(error.message, {
      cause: error,
      hint: 'Make an encrypted copy first: "tde encrypt-datadir -D SOURCE --output COPY".',
    });
  }
}

/** @throws {StateError} when a file could be reached from both: one of them would be read as it is written. */
export function assertApart(fs: FileSystem, source: Datadir, copy: Datadir): void {
  const [ofSource, ofCopy] = [source, copy].map(({ realRoot, tablespaces, walTarget }) => [
    realRoot,
    ...tablespaces.map(({ realPath }) => realPath),
    ...(walTarget === undefined ? [] : [walTarget]),
  ]) as [Datadir["realRoot"][], Datadir["realRoot"][]];
  for (const one of ofSource) {
    for (const other of ofCopy) {
      const [a, b] = [fs.statFollowing(one), fs.statFollowing(other)];
      const isSame = a !== undefined && a.inode === b?.inode && a.device === b.device;
      if (!isSame && !overlap(one, other)) continue;
      throw new StateError(
        `source and copy share a place: "${displayPath(one)}" and "${displayPath(other)}"`,
        {
          hint: "The copy needs a directory of its own, and its tablespaces and pg_wal, too: look at its links.",
        },
      );
    }
  }
}

/** @throws {StateError} when the two are not of one cluster, or not laid out in the same way. */
export function assertSameCluster(source: Datadir, copy: Datadir): void {
  const facts: readonly (readonly [what: string, of: (datadir: Datadir) => unknown])[] = [
    ["system identifier", ({ control }) => control.systemIdentifier],
    ["major version", ({ major }) => major],
    ["catalog version", ({ catalogVersion }) => catalogVersion],
    ["block size", ({ control }) => control.blockSizeBytes],
    ["segment size in blocks", ({ blocksPerSegment }) => blocksPerSegment],
  ];
  for (const [what, of] of facts) {
    const [wanted, found] = [of(source), of(copy)].map(String);
    if (wanted === found) continue;
    throw new StateError(
      `"${displayPath(source.root)}" is of another cluster than its copy: its ${what} is ${wanted}, the copy's ${found}`,
      {
        hint: "Nothing was changed. Make an encrypted copy of this cluster with encrypt-datadir --output.",
      },
    );
  }
}

/**
 * By timeline, then by the place of the latest checkpoint, then by the time when pg_control was last written.
 * @param than - a state that the copy had, or was brought to.
 * @throws {StateError} when `source` is older. The same state is as good as a newer one.
 */
export function assertNotOlder(source: ControlFile, than: ControlFile): void {
  const orders: readonly (readonly [
    what: string,
    is: bigint,
    was: bigint,
    text: (n: bigint) => string,
  ])[] = [
    ["timeline", BigInt(source.checkpoint.timeline), BigInt(than.checkpoint.timeline), String],
    [
      "latest checkpoint",
      source.checkpoint.location,
      than.checkpoint.location,
      formatLsn as (n: bigint) => string,
    ],
    ["time of pg_control", source.modifyTime, than.modifyTime, formatSeconds],
  ];
  for (const [what, is, was, text] of orders) {
    if (is > was) return;
    if (is === was) continue;
    throw new StateError(
      `the source is older than its encrypted copy: its ${what} is ${text(is)}, the copy's ${text(was)}`,
      { hint: "Nothing was changed. To have the older state, encrypt it into a new directory." },
    );
  }
}

function formatSeconds(seconds: bigint): string {
  return new Date(Number(seconds) * 1000).toISOString();
}

/** What a source that changed meanwhile would have given is a mixture. @throws {StateError}. */
export function assertStillSame(before: Datadir, after: Datadir): void {
  if (before.controlBytes.equals(after.controlBytes)) return;
  throw new StateError(`"${displayPath(joinPath(before.root, "global/pg_control"))}" has changed`, {
    hint: "A server was started on the source. Stop it, and run the same command again.",
  });
}
