/**
 * What has to be done with each entry of a directory that is to be encrypted, and what speaks against beginning.
 * Walked twice: once before anything is written, so that a refused directory is as it was, and once to do the work;
 * after a crash it tells what is sealed already from what is not.
 */
import { type BytePath, displayPath, joinPath, nameOf } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { assertNoGuard, isPlainSegment } from "../datadir/pg-wal.ts";
import { type RelationFile, sidecarName, workingName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { assertMappedTablespacesAreThere } from "../datadir/tablespace-map.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { StateError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import type { WalMode } from "../format/manifest-header.ts";
import { type Scope, type ScopeFilter, scopeFilter } from "../format/scope.ts";
import { isStoredChecksum, SEALED_PAGE_MARK } from "../format/page-message.ts";
import { secretHbaOptions, type SecretSetting, secretSettings } from "../format/postgres-conf.ts";
import { pageChecksum } from "../postgres/page-checksum.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import { readUpTo, readWholeFile, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";

export interface InventoryOptions {
  /** Relations outside of it stay as they are. */
  readonly scope: Scope;
  readonly wal: WalMode;
  /** Seal configuration files that hold passwords, too. */
  readonly sealConfig: boolean;
  /** 16 hex digits: only this keyring's containers count as sealed already. */
  readonly keyringId: string;
}

/**
 * Which walk it is. first: before a run; names of tde's own work are refused. resumed: before an interrupted run goes
 * on, which left such names. work: the one that sealing follows, which looks at every page itself.
 */
export type InventoryPass = "first" | "resumed" | "work";

export type Action =
  | { readonly do: "seal-relation"; readonly file: RelationFile }
  /** A WAL segment, in readable mode. */
  | { readonly do: "seal-wal" }
  | { readonly do: "seal-content" }
  /** Sealed by an earlier run. */
  | { readonly do: "nothing" }
  /** Stays as it is. `plaintext` where that is by the user's choice, not by design. */
  | { readonly do: "keep"; readonly plaintext: boolean }
  /** Not part of the encrypted directory: tde's own files, sidecars, sockets, foreign folders. */
  | { readonly do: "pass" };

export interface InventoryEntry {
  readonly entry: WalkEntry;
  readonly action: Action;
  /** Of files, else 0. */
  readonly sizeBytes: number;
  /** Names of a file; of anything else 1. */
  readonly linkCount: number;
}

/** @throws {StateError} at the first thing that speaks against encrypting. */
export function* takeInventory(
  fs: FileSystem,
  datadir: Datadir,
  options: InventoryOptions,
  pass: InventoryPass,
): Generator<InventoryEntry> {
  const isInScope = scopeFilter(options.scope);
  assertMappedTablespacesAreThere(fs, datadir);
  for (const entry of walkDatadir(fs, datadir.root, datadir)) {
    const path = joinPath(datadir.root, entry.path);
    const stat = entry.kind === "file" ? fs.stat(path) : undefined;
    const { sizeBytes, linkCount } = stat ?? { sizeBytes: 0, linkCount: 1 };
    const action = actionFor(fs, datadir, entry, sizeBytes, { ...options, isInScope, pass });
    yield { entry, action, sizeBytes, linkCount };
  }
}

function actionFor(
  fs: FileSystem,
  datadir: Datadir,
  entry: WalkEntry,
  sizeBytes: number,
  options: InventoryOptions & { readonly isInScope: ScopeFilter; readonly pass: InventoryPass },
): Action {
  const { classification } = entry;
  switch (classification.class) {
    case "refused":
      throw new StateError(`cannot encrypt "${displayPath(entry.path)}": ${classification.why}`, {
        hint: "Nothing was changed.",
      });
    case "working":
      if (options.pass !== "first") return PASS;
      throw new StateError(
        `"${displayPath(entry.path)}" has a name that tde uses for its own work`,
        {
          hint: "It is not from an unfinished run, which would have a journal. Move it away.",
        },
      );
    case "relation":
      if (!options.isInScope(classification.file))
        return outOfScopeAction(fs, datadir, entry.path, classification.file);
      return relationAction(fs, datadir, entry.path, classification.file, sizeBytes, options.pass);
    case "sidecar":
      if (!classification.expendable) assertHasOwner(fs, datadir, entry.path, classification.of);
      return PASS;
    case "wal":
      return walAction(fs, datadir, entry.path, sizeBytes, options);
    case "sealed":
      return contentAction(fs, datadir, entry.path, options);
    case "readable":
      if (!options.sealConfig || secretsIn(fs, datadir, entry.path, sizeBytes).length === 0)
        return KEEP;
      return contentAction(fs, datadir, entry.path, options);
    case "directory":
    case "link":
      return KEEP;
    case "auto-conf":
    case "backup-manifest":
    case "own":
    case "excluded":
    case "foreign":
      return PASS;
  }
}

const PASS: Action = { do: "pass" };
const KEEP: Action = { do: "keep", plaintext: false };

function relationAction(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  file: RelationFile,
  sizeBytes: number,
  pass: InventoryPass,
): Action {
  const hasSidecar = fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined;
  if (sizeBytes === 0) {
    if (!hasSidecar) return KEEP;
    throw new StateError(`"${displayPath(path)}" is empty, but has a sidecar`, {
      file: displayPath(path),
      hint: "The file was emptied after it was encrypted. Restore it from a backup.",
    });
  }
  if (hasSidecar) return { do: "nothing" };
  if (pass !== "work") assertNotSealed(fs, datadir, path, file);
  return { do: "seal-relation", file };
}

/** Encryption takes nothing out of encryption, whatever the scope of an earlier run was. */
function outOfScopeAction(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  file: RelationFile,
): Action {
  if (fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined) {
    throw new StateError(
      `"${displayPath(path)}" is encrypted, but not in the scope that is given`,
      {
        file: displayPath(path),
        hint: 'Nothing was changed. Name all that is encrypted, which "tde verify" prints, and what is to be added. To take something out, decrypt the directory and encrypt it anew.',
      },
    );
  }
  assertNotSealed(fs, datadir, path, file);
  return { do: "keep", plaintext: true };
}

/**
 * Looks at the first page of a file without a sidecar; sealing looks at every page again.
 * @throws {StateError} when it bears the mark of sealed pages, and a checksum as sealing stores it.
 */
export function assertNotSealed(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  file: RelationFile,
): void {
  if (!beginsSealed(fs, datadir, path, file)) return;
  throw new StateError(`"${displayPath(path)}" is sealed already, but its sidecar is missing`, {
    file: displayPath(path),
    hint: "Restore the file together with its sidecar (_tde) from a backup; nothing is ever encrypted twice.",
  });
}

/** Whether the first page bears the mark of sealed pages, and a checksum as sealing stores it. */
export function beginsSealed(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  file: RelationFile,
): boolean {
  const { blockSizeBytes, blocksPerSegment } = datadir.control;
  const page = Buffer.alloc(blockSizeBytes);
  const count = withFile(fs, joinPath(datadir.root, path), (opened) =>
    readUpTo(opened, page, 0, blockSizeBytes, 0),
  );
  if (count < blockSizeBytes || (page.readUInt16LE(PAGE_HEADER.flags) & SEALED_PAGE_MARK) === 0)
    return false;
  const checksum = pageChecksum(page, file.relationSegment * blocksPerSegment);
  return isStoredChecksum(page.readUInt16LE(PAGE_HEADER.checksum), checksum);
}

/** What the file systems of Linux take (NAME_MAX). */
const MAX_NAME_BYTES = 255;

function contentAction(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  options: InventoryOptions,
): Action {
  const header = containerHeaderOf(fs, joinPath(datadir.root, path));
  const sealed = header?.keyringId === options.keyringId && header.context === fileContext(path);
  if (sealed) return { do: "nothing" };
  // The file that is to replace it stands beside it, when it is decrypted, too.
  if (nameOf(workingName(path)).length > MAX_NAME_BYTES) {
    throw new StateError(`cannot encrypt "${displayPath(path)}": its name is too long`, {
      hint: `It has ${nameOf(path).length} bytes, and no server makes such names. Move the file away.`,
    });
  }
  return { do: "seal-content" };
}

/** Whatever the mode is now, what an earlier run sealed stays as it is. */
function walAction(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  sizeBytes: number,
  options: InventoryOptions,
): Action {
  if (fs.stat(joinPath(datadir.root, sidecarName(path))) !== undefined) return { do: "nothing" };
  assertNoGuard(fs, datadir, path);
  if (options.wal === "skip") return { do: "keep", plaintext: true };
  const action = contentAction(fs, datadir, path, options);
  if (action.do === "nothing" || !isPlainSegment(fs, datadir, path, sizeBytes)) return action;
  return options.wal === "readable" ? { do: "seal-wal" } : action;
}

function assertHasOwner(
  fs: FileSystem,
  datadir: Datadir,
  sidecar: BytePath,
  owner: BytePath,
): void {
  if (fs.stat(joinPath(datadir.root, owner)) !== undefined) return;
  throw new StateError(
    `sidecar "${displayPath(sidecar)}" has no file "${displayPath(nameOf(owner))}" beside it`,
    {
      hint: "The file is missing. Restore it from a backup, or remove the sidecar if it is not wanted.",
    },
  );
}

/** Configuration files are small; what is larger is not looked into. */
const CONFIG_LIMIT_BYTES = 2 ** 22;

/** Settings in a readable configuration file that hold or may hold a password. */
export function secretsIn(
  fs: FileSystem,
  datadir: Datadir,
  path: BytePath,
  sizeBytes: number,
): SecretSetting[] {
  if (!path.endsWith(".conf") || sizeBytes > CONFIG_LIMIT_BYTES) return [];
  const bytes = readWholeFile(fs, joinPath(datadir.root, path), CONFIG_LIMIT_BYTES);
  return /(^|\/)pg_(hba|ident|hosts)\.conf$/.test(path)
    ? secretHbaOptions(bytes)
    : secretSettings(bytes);
}
