/**
 * The guard: a postgresql.auto.conf with a setting that no server knows, so that every way to start PostgreSQL stops
 * before it writes. The original lies sealed beside it, and comes back when the directory is decrypted.
 *
 * Order: the sealed original is durable, and has been opened, before the guard replaces the file; on the way back the guard goes last.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { type KeyObject, sha256 } from "../crypto/primitives.ts";
import { readSealedFile, sealBytes } from "../datadir/sealed-file.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { type PlainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { workingName } from "../datadir/relation-path.ts";
import { IntegrityError } from "../errors.ts";
import { fileContext, linkContext } from "../format/container.ts";
import { newFileSalt } from "../format/file-salt.ts";
import { guardFileContent, isGuardFile, settingsBesideGuard } from "../format/postgres-conf.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { attributesAt, readWholeFile } from "../storage/file-io.ts";
import type { FileAttributes, FileSystem } from "../storage/file-system.ts";
import { carryOut, type DueStep } from "../storage/journal.ts";
import { fileOf, type NewFile, writeDurably, writeNewFile } from "./new-file.ts";

export const AUTO_CONF = "postgresql.auto.conf" as BytePath;
export const SEALED_AUTO_CONF = "tde.postgresql.auto.conf" as BytePath;
/** ALTER SYSTEM writes a few settings; far more is something else. */
const AUTO_CONF_LIMIT_BYTES = 2 ** 24;

/** Context of the sealed original where there was no postgresql.auto.conf. */
export const ABSENT_CONTEXT: string = `datadir-absent:${AUTO_CONF}`;

export interface GuardKeys {
  readonly keys: DataKeys;
  readonly systemIdentifier: bigint;
  /** When sealing: of the run. */
  readonly saltKey?: KeyObject | undefined;
}

/** What stood where the guard stands now. */
export type OriginalAutoConf =
  | { readonly kind: "file"; readonly content: Buffer }
  | { readonly kind: "link"; readonly target: BytePath }
  | { readonly kind: "absent" };

/** What stands in the original's place where it is lost. */
export const LOST_AUTO_CONF: OriginalAutoConf = {
  kind: "file",
  content: Buffer.from("# What ALTER SYSTEM had set was damaged, and is lost.\n"),
};

/**
 * Without the guard a server could start on an encrypted directory while it is written to, or may have been.
 * @throws {IntegrityError}
 */
export function assertGuard(fs: FileSystem, root: BytePath): void {
  if (readAutoConf(fs, root) === "guard") return;
  throw new IntegrityError(`the guard in "${displayPath(joinPath(root, AUTO_CONF))}" is gone`, {
    hint: 'Restore the file from a backup of the encrypted directory; "tde verify" lists what else was changed.',
  });
}

/** Reads what postgresql.auto.conf is now, in a directory that may have a guard already. */
export function readAutoConf(fs: FileSystem, root: BytePath): OriginalAutoConf | "guard" {
  const path = joinPath(root, AUTO_CONF);
  const stat = fs.stat(path);
  if (stat === undefined) return { kind: "absent" };
  if (stat.kind === "link") return { kind: "link", target: fs.readLink(path) };
  const content = readWholeFile(fs, path, AUTO_CONF_LIMIT_BYTES);
  return isGuardFile(content) ? "guard" : { kind: "file", content };
}

/**
 * Seals `original` and puts the guard into its place, in a directory that already has a journal.
 * @param attributes - of the guard and the sealed file: those of the original, or of PG_VERSION.
 */
export function installGuard(
  fs: FileSystem,
  root: BytePath,
  original: OriginalAutoConf,
  keys: GuardKeys,
  attributes: FileAttributes,
): void {
  writeDurably(fs, root, sealedOriginal(fs, original, keys, attributes));
  writeGuard(fs, root, attributes);
}

/**
 * As installGuard, in a directory that has a guard: the new files are written under working names, durably.
 * @returns the steps that let them take their places.
 */
export function stageGuard(
  fs: FileSystem,
  root: BytePath,
  original: OriginalAutoConf,
  keys: GuardKeys,
  attributes: FileAttributes,
): DueStep[] {
  const stage = (file: NewFile): DueStep => {
    const working = workingName(file.name);
    fs.remove(joinPath(root, working));
    writeNewFile(fs, joinPath(root, working), file);
    return { action: "rename", from: working, to: file.name };
  };
  return [
    stage(sealedOriginal(fs, original, keys, attributes)),
    stage(fileOf(fs, AUTO_CONF, guardFileContent(), attributes)),
  ];
}

/** The original as it lies beside the guard. It is opened before the guard takes its place. */
function sealedOriginal(
  fs: FileSystem,
  original: OriginalAutoConf,
  { keys, systemIdentifier, saltKey }: GuardKeys,
  attributes: FileAttributes,
): NewFile {
  const [content, context] = sealedForm(original);
  const options = { keys, systemIdentifier, context };
  return {
    name: SEALED_AUTO_CONF,
    attributes,
    write: (file) => {
      sealBytes(content, file, { ...options, fileSalt: newFileSalt(saltKey, SEALED_AUTO_CONF) });
    },
    isRight: (path) => readSealedFile(fs, path, AUTO_CONF_LIMIT_BYTES, options).equals(content),
  };
}

/** The guard alone, where the original is kept elsewhere. */
export function writeGuard(fs: FileSystem, root: BytePath, attributes: FileAttributes): void {
  writeDurably(fs, root, fileOf(fs, AUTO_CONF, guardFileContent(), attributes));
}

/** The original behind the guard. @throws {IntegrityError} {KeyError} {FormatError} when it cannot be opened. */
export function openOriginalAutoConf(
  fs: FileSystem,
  root: BytePath,
  { keys, systemIdentifier }: GuardKeys,
): OriginalAutoConf {
  const path = joinPath(root, SEALED_AUTO_CONF);
  const context = containerHeaderOf(fs, path)?.context;
  if (context === undefined || !contexts().includes(context)) {
    throw new IntegrityError(`"${SEALED_AUTO_CONF}" is missing, damaged or of another file`, {
      hint: "Restore it from a backup of the encrypted directory.",
    });
  }
  const options = { keys, systemIdentifier, context };
  const content = readSealedFile(fs, path, AUTO_CONF_LIMIT_BYTES, options);
  if (context === ABSENT_CONTEXT) return { kind: "absent" };
  return context === linkContext(AUTO_CONF)
    ? { kind: "link", target: content.toString("latin1") as BytePath }
    : { kind: "file", content };
}

/**
 * Takes the guard away and puts `original` into its place; also where nothing is in its place any more.
 * @param access - of a directory that is decrypted; else the file has the guard's owner and mode, which was its own.
 */
export function removeGuard(
  fs: FileSystem,
  root: BytePath,
  original: OriginalAutoConf,
  access?: PlainAccess,
): void {
  const like = [AUTO_CONF, SEALED_AUTO_CONF]
    .map((name) => attributesAt(fs, joinPath(root, name)))
    .find((found) => found !== undefined);
  if (like === undefined) return;
  const attributes = access === undefined ? like : plainAttributes(like, access);
  carryOut(fs, root, stageAutoConf(fs, root, original, attributes));
}

/** Undoes installGuard, where nothing else was done; settings that came in beside the guard stay. */
export function takeBackGuard(fs: FileSystem, root: BytePath, keys: GuardKeys): void {
  if (readAutoConf(fs, root) === "guard") {
    const original = openOriginalAutoConf(fs, root, keys);
    removeGuard(fs, root, withLines(original, linesAddedToGuard(fs, root)));
  }
  fs.remove(joinPath(root, SEALED_AUTO_CONF));
  fs.syncDirectory(root);
}

/** Writes the original under its working name, durably. @returns the steps that let it take the guard's place. */
export function stageAutoConf(
  fs: FileSystem,
  root: BytePath,
  original: OriginalAutoConf,
  attributes: FileAttributes,
): DueStep[] {
  const working = workingName(AUTO_CONF);
  fs.remove(joinPath(root, working));
  if (original.kind === "absent") return [{ action: "remove", path: AUTO_CONF }];
  if (original.kind === "link") {
    fs.makeLink(original.target, joinPath(root, working));
  } else {
    const file = fileOf(fs, AUTO_CONF, original.content, attributes);
    writeNewFile(fs, joinPath(root, working), file);
  }
  fs.syncDirectory(root);
  return [{ action: "rename", from: working, to: AUTO_CONF }];
}

/** The original with lines behind it that were added beside the guard. */
export function withLines(original: OriginalAutoConf, added: Buffer): OriginalAutoConf {
  if (added.length === 0 || original.kind === "link") return original;
  const content = original.kind === "file" ? original.content : Buffer.alloc(0);
  return { kind: "file", content: Buffer.concat([content, added]) };
}

/** Names of settings that stand beside the guard's line: a restore tool added them after encryption. */
export function settingsAddedToGuard(fs: FileSystem, root: BytePath): string[] {
  const path = joinPath(root, AUTO_CONF);
  const stat = fs.stat(path);
  // What is larger than any such file is no guard with settings beside it, and is judged as any file is.
  if (stat?.kind !== "file" || stat.sizeBytes > AUTO_CONF_LIMIT_BYTES) return [];
  const content = readWholeFile(fs, path, AUTO_CONF_LIMIT_BYTES);
  return isGuardFile(content) ? settingsBesideGuard(content).map(({ name }) => name) : [];
}

/** Whether the guard stands there as it was written: nothing else in its place, and nothing beside it. */
export function hasBareGuard(fs: FileSystem, root: BytePath): boolean {
  return digestOfGuard(fs, root) === sha256(guardFileContent()).toString("hex");
}

/** SHA-256 of what stands in the place of postgresql.auto.conf, 64 hex digits; of nothing where nothing does. */
export function digestOfGuard(fs: FileSystem, root: BytePath): string {
  const path = joinPath(root, AUTO_CONF);
  const isFile = fs.stat(path)?.kind === "file";
  const content = isFile ? readWholeFile(fs, path, AUTO_CONF_LIMIT_BYTES) : Buffer.alloc(0);
  return sha256(content).toString("hex");
}

/** The lines of those settings, to be carried over; none where no guard stands. */
export function linesAddedToGuard(fs: FileSystem, root: BytePath): Buffer {
  if (settingsAddedToGuard(fs, root).length === 0) return Buffer.alloc(0);
  const content = readWholeFile(fs, joinPath(root, AUTO_CONF), AUTO_CONF_LIMIT_BYTES);
  const lines = content.toString("latin1").split("\n");
  const kept = settingsBesideGuard(content).map(({ line }) => `${lines[line - 1] ?? ""}\n`);
  return Buffer.from(kept.join(""), "latin1");
}

export function contexts(): string[] {
  return [fileContext(AUTO_CONF), linkContext(AUTO_CONF), ABSENT_CONTEXT];
}

export function sameOriginal(a: OriginalAutoConf, b: OriginalAutoConf): boolean {
  const [contentA, contextA] = sealedForm(a);
  const [contentB, contextB] = sealedForm(b);
  return contextA === contextB && contentA.equals(contentB);
}

function sealedForm(original: OriginalAutoConf): [content: Buffer, context: string] {
  switch (original.kind) {
    case "file":
      return [original.content, fileContext(AUTO_CONF)];
    case "link":
      return [Buffer.from(original.target, "latin1"), linkContext(AUTO_CONF)];
    case "absent":
      return [Buffer.alloc(0), ABSENT_CONTEXT];
  }
}
