/**
 * What a directory is, told without any key and without a lock: plain, encrypted or between the two, of which cluster,
 * and which keyring and keys it takes to open it. Nothing here is authenticated; verify proves it.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { assertNoServerOn, lockedAs } from "../datadir/in-use.ts";
import { walkDatadir } from "../datadir/walk.ts";
import { StateError, StorageError, TdeError } from "../errors.ts";
import { openManifestWithoutKey } from "../format/manifest.ts";
import { secondsOf, type FileSystem } from "../storage/file-system.ts";
import { type JournalHeader, NEW_JOURNAL_NAME, readJournalHeader } from "../storage/journal.ts";
import { hasLock } from "./run/datadir-lock.ts";
import { readAutoConf } from "./guard.ts";
import {
  Counter,
  countTablespace,
  type FileCount,
  type ManifestFacts,
  manifestFacts,
} from "./manifest-facts.ts";
import { GOES_BY_COPY, openByManifest } from "./open-by-manifest.ts";
import { hasManifest, manifestSource } from "./open-manifest.ts";
import { findStrippedFile } from "./tool-traces.ts";
import { type StoredKeyUse, storedKeyUse } from "./stored-key-use.ts";

/**
 * plain: nothing of tde's is in it. encrypted: manifest and guard stand. unfinished: a run was interrupted.
 * inconsistent: parts of an encrypted directory without others that belong to it.
 */
export type DirectoryState = "plain" | "encrypted" | "unfinished" | "inconsistent";

/** cluster: a server stopped in it. backup: a base backup. copy: of a cluster that ran, or one that crashed. */
export type DirectoryOrigin = "cluster" | "backup" | "copy";

export interface DirectoryInfo {
  readonly state: DirectoryState;
  /** Undefined where there is no cluster to be told. */
  readonly origin: DirectoryOrigin | undefined;
  /** What else stands out, one phrase each: a running server, a missing guard, a lock. */
  readonly notes: readonly string[];
  /** Undefined for a new directory that an interrupted run did not get far with. */
  readonly datadir: Datadir | undefined;
  /** Of the interrupted run, unproved. */
  readonly run: JournalHeader | undefined;
  /** Of an encrypted directory. */
  readonly manifest: (ManifestFacts & { readonly writtenAt: Date }) | undefined;
  /** What its files say themselves, where the manifest does not tell. */
  readonly stored: StoredKeyUse | undefined;
  /** Of a directory without tde's files: its relation files, and all others. */
  readonly plain: PlainFacts | undefined;
}

export interface PlainFacts {
  readonly relations: FileCount;
  readonly others: FileCount;
  readonly tablespaces: ReadonlyMap<number, FileCount>;
}

/** @throws {StateError} {FormatError} when it is no data directory, and nothing of tde's is in it. */
export function directoryInfo(fs: FileSystem, root: BytePath): DirectoryInfo {
  const notes: string[] = [];
  const journal = readRun(fs, root, notes);
  const { datadir, isWhole } = openUnlessUnfinished(fs, root, journal, notes);
  const nothing = {
    datadir,
    run: journal === "unreadable" ? undefined : journal,
    manifest: undefined,
    stored: undefined,
    plain: undefined,
  };
  if (datadir === undefined) return { ...nothing, state: "unfinished", origin: undefined, notes };
  const origin = originOf(fs, datadir, notes);
  addLitter(fs, root, notes);
  const told = { ...nothing, origin, notes };
  if (journal !== undefined)
    return { ...told, state: "unfinished", stored: storedKeyUse(fs, datadir) };
  const hasGuard = readAutoConf(fs, root) === "guard";
  const manifest = readManifest(fs, datadir, notes);
  if (manifest !== undefined && hasGuard)
    return { ...told, state: isWhole ? "encrypted" : "inconsistent", manifest };
  if (manifest !== undefined) {
    notes.push("the guard is gone: a server could start on it and destroy it");
    return { ...told, state: "inconsistent", manifest };
  }
  const stored = storedKeyUse(fs, datadir);
  const stripped = stored.sealedFiles === 0 ? findStrippedFile(fs, datadir) : undefined;
  if (stripped !== undefined)
    notes.push(`"${displayPath(stripped)}" is sealed, but its sidecar is gone`);
  const hasTraces = hasManifest(fs, root) || hasGuard || stored.sealedFiles > 0;
  if (!hasTraces && stripped === undefined)
    return { ...told, state: "plain", plain: plainFacts(fs, datadir) };
  if (!hasManifest(fs, root)) notes.push(`"${OWN_FILES.manifest}" is missing`);
  return { ...told, state: "inconsistent", stored };
}

function readRun(
  fs: FileSystem,
  root: BytePath,
  notes: string[],
): JournalHeader | "unreadable" | undefined {
  try {
    return readJournalHeader(fs, root);
  } catch (error) {
    note(notes, error);
    return "unreadable";
  }
}

/**
 * A run into a new directory may have been interrupted before that was a data directory. Where only pg_control cannot be
 * used, the manifest has a copy.
 * @returns isWhole - false where the copy stands for it.
 */
function openUnlessUnfinished(
  fs: FileSystem,
  root: BytePath,
  journal: JournalHeader | "unreadable" | undefined,
  notes: string[],
): { readonly datadir: Datadir | undefined; readonly isWhole: boolean } {
  try {
    const { datadir, own } = openByManifest(fs, root, undefined);
    if (!(own instanceof TdeError)) return { datadir, isWhole: true };
    note(notes, own, GOES_BY_COPY);
    return { datadir, isWhole: false };
  } catch (error) {
    if (journal === undefined) throw error;
    note(notes, error);
    return { datadir: undefined, isWhole: false };
  }
}

function readManifest(
  fs: FileSystem,
  datadir: Datadir,
  notes: string[],
): DirectoryInfo["manifest"] {
  const path = joinPath(datadir.root, OWN_FILES.manifest);
  const stat = fs.stat(path);
  if (stat === undefined) return undefined;
  try {
    const manifest = openManifestWithoutKey(manifestSource(fs, datadir.root), OWN_FILES.manifest);
    if (manifest.header.systemIdentifier !== datadir.control.systemIdentifier)
      notes.push(`the manifest is of another cluster, ${manifest.header.systemIdentifier}`);
    const facts = manifestFacts(manifest, datadir);
    return { ...facts, writtenAt: new Date(secondsOf(stat.modifyTimeNs) * 1000) };
  } catch (error) {
    note(notes, error);
    return undefined;
  }
}

/** What is damaged is said. What this user cannot read, or nobody can now, says nothing of what the directory is. */
function note(notes: string[], error: unknown, end = ""): void {
  if (!(error instanceof TdeError) || error instanceof StorageError) throw error;
  notes.push(`${error.message}${end}`);
}

/** As far as its own files tell. */
function originOf(fs: FileSystem, datadir: Datadir, notes: string[]): DirectoryOrigin {
  const { state } = datadir.control;
  const has = (name: string): boolean => fs.stat(joinPath(datadir.root, name)) !== undefined;
  if (has("standby.signal")) notes.push("standby.signal makes it a standby");
  if (has("recovery.signal")) notes.push("recovery.signal asks for a recovery to a point in time");
  const runs = whyInUse(fs, datadir);
  if (runs !== undefined) {
    notes.push(runs);
    return "cluster";
  }
  const original = lockedAs(fs, datadir);
  if (original !== undefined) {
    notes.push(`postmaster.pid names "${displayPath(original)}": it is a copy of that directory`);
    return "copy";
  }
  if (has("backup_label")) return "backup";
  if (state === "shut down" || state === "shut down in recovery") return "cluster";
  notes.push(`pg_control says "${state}": a copy of a running server, or one that crashed`);
  return "copy";
}

function whyInUse(fs: FileSystem, datadir: Datadir): string | undefined {
  try {
    assertNoServerOn(fs, datadir, { assumeStopped: true });
    return undefined;
  } catch (error) {
    if (error instanceof StateError) return error.message;
    throw error;
  }
}

function addLitter(fs: FileSystem, root: BytePath, notes: string[]): void {
  if (hasLock(fs, root)) notes.push("a lock stands in it: another tde works on it, or was killed");
  if (fs.stat(joinPath(root, NEW_JOURNAL_NAME)) !== undefined)
    notes.push(`"${NEW_JOURNAL_NAME}" is left of a run that never began`);
}

function plainFacts(fs: FileSystem, datadir: Datadir): PlainFacts {
  const relations = new Counter();
  const others = new Counter();
  const tablespaces = new Map<number, Counter>();
  for (const { path, kind, classification } of walkDatadir(fs, datadir.root, datadir)) {
    if (kind !== "file") continue;
    const sizeBytes = fs.stat(joinPath(datadir.root, path))?.sizeBytes ?? 0;
    if (classification.class !== "relation") {
      others.add(sizeBytes);
      continue;
    }
    relations.add(sizeBytes);
    countTablespace(tablespaces, path, sizeBytes);
  }
  return { relations, others, tablespaces };
}
