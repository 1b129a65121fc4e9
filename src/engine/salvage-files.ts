/**
 * What a decryption does with damaged files, in place or into a new directory. In place the sealed file is first put aside, with
 * its sidecar, and what can be opened of it then takes its place: so nothing that is lost here is lost from the disk before the
 * run has ended. A run that goes on does it again from what was put aside. Nothing tells then which of two files is the sealed one,
 * if there is one in both places: only what was made of the one that was put aside may stand in the other, and anything else
 * ends the run before either is touched.
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../bytes/byte-path.ts";
import { fileContext } from "../format/container.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { plainAccess, plainAttributes } from "../datadir/plain-access.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { parseRelationPath, sidecarName, workingName } from "../datadir/relation-path.ts";
import { IntegrityError, StateError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { FileStat, FileSystem } from "../storage/file-system.ts";
import type { DueStep } from "../storage/journal.ts";
import { haveSameContent } from "../storage/read-back.ts";
import { runInOrder, runWriting, type TaskRunner } from "../workers/runner.ts";
import type { Item, ItemResult, ReadableItem, Task } from "../workers/tasks.ts";
import {
  type Damage,
  DAMAGE_REPORT,
  type DamagedFile,
  type DamageDone,
  damageLines,
  type Fate,
  KEPT_FOLDER,
  keptPlace,
  outermost,
  pairOf,
} from "./damage.ts";
import type { EngineContext } from "./context.ts";
import type { DirectoryRun } from "./run/directory-run.ts";
import { assertRealFolders, isInRealFolders } from "./run/step-folders.ts";
import { fileOf, writeDurably } from "./new-file.ts";
import { newPath, type Places, readableItem, stepsFor } from "./plan-items.ts";

const COMPARE_BYTES = 2 ** 18;

/** Steps of one entry of the journal. */
const STEPS_AT_ONCE = 1000;

interface Salvage {
  readonly engine: EngineContext;
  readonly runner: TaskRunner;
  readonly datadir: Datadir;
  readonly manifest: Manifest;
  readonly damage: Damage;
}

/** @throws {StateError} when files of an earlier decryption stand where these would be put aside. */
export function assertNothingKept(fs: FileSystem, { root }: Datadir, damage: Damage): void {
  for (const folder of keptFolders(damage)) {
    if (fs.stat(joinPath(root, folder)) === undefined) continue;
    throw new StateError(`"${displayPath(folder)}" holds what an earlier decryption put aside`, {
      hint: "Move it out of the data directory, and run the same command again.",
    });
  }
}

/** Puts damaged files aside, and what can be opened of them in their place. Every step can be done again. */
export async function salvageInPlace(
  salvage: Salvage,
  run: DirectoryRun,
): Promise<readonly DamageDone[]> {
  const { engine, datadir, damage } = salvage;
  const { fs } = engine;
  const { root } = datadir;
  putAside(fs, datadir, damage, entriesOf(salvage), run);
  const places: Places = { source: root, output: undefined };
  const done = await salvageAll(salvage, places, keptPlace, (steps) => run.commit(steps));
  writeReport(fs, root, done);
  return done;
}

/** The same for a new directory: the source keeps what is damaged. */
export async function salvageIntoOutput(
  salvage: Salvage,
  places: Places & { readonly output: BytePath },
): Promise<readonly DamageDone[]> {
  const { engine } = salvage;
  await copyPlainFiles(salvage, places);
  const done = await salvageAll(
    salvage,
    places,
    (path) => path,
    () => {},
  );
  writeReport(engine.fs, places.output, done);
  return done;
}

/** Files that are not encrypted, and are not what the manifest says: as they are. */
async function copyPlainFiles(salvage: Salvage, places: Places): Promise<void> {
  const { engine, runner, datadir } = salvage;
  const { fs } = engine;
  const items: ReadableItem[] = [];
  for (const { path, class: kind } of entriesOf(salvage).values()) {
    const stat = statReal(fs, datadir.root, path);
    if (isPlain(kind) && stat?.kind === "file")
      items.push(readableItem(places, path, stat.sizeBytes));
  }
  const access = plainAccess(fs, places.output ?? places.source);
  const task = { kind: "open", access, items } as const;
  if (items.length > 0) await runWriting(runner, [{ task, context: undefined }], { take() {} });
}

/** Takes away, once all is done, what was put aside only until then. */
export function removeZeroed(fs: FileSystem, datadir: Datadir, damage: Damage): void {
  const { root } = datadir;
  if (damage.policy !== "zero") return;
  assertRealFolders(
    fs,
    root,
    damage.files.map(({ path }) => keptPlace(path)),
  );
  for (const { path } of damage.files)
    for (const name of pairOf(datadir, path)) fs.remove(joinPath(root, keptPlace(name)));
  const folders = new Set<BytePath>();
  for (const { path } of damage.files)
    for (const folder of foldersUpTo(keptPlace(path))) folders.add(folder);
  // The innermost first; what an extra file is in stays, and so does the folder of the report.
  for (const folder of [...folders].sort((a, b) => b.length - a.length)) {
    const at = joinPath(root, folder);
    if (fs.stat(at)?.kind !== "directory" || fs.readDirectory(at).length > 0) continue;
    fs.removeDirectory(at);
    fs.syncDirectory(directoryOf(at));
  }
}

/** @throws {IntegrityError} when a file is there once more that was put aside. */
function putAside(
  fs: FileSystem,
  datadir: Datadir,
  damage: Damage,
  entries: ReadonlyMap<BytePath, ManifestEntry>,
  run: DirectoryRun,
): void {
  const { root } = datadir;
  const steps: DueStep[] = [];
  const move = (from: BytePath, mayBeOpened: boolean): void => {
    const to = keptPlace(from);
    if (statReal(fs, root, from) === undefined) return;
    if (statReal(fs, root, to) === undefined) {
      makeFolder(fs, root, directoryOf(to));
      steps.push({ action: "rename", from, to });
    } else if (!mayBeOpened) throw standsTwice(from);
  };
  for (const { path } of damage.files) {
    if (!isSealed(entries.get(path))) continue;
    // What stands in its place by now may be what was opened of it.
    for (const name of pairOf(datadir, path)) move(name, name === path);
  }
  for (const { path } of outermost(damage.extra))
    for (const name of pairOf(datadir, path)) move(name, false);
  for (let i = 0; i < steps.length; i += STEPS_AT_ONCE)
    run.commit(steps.slice(i, i + STEPS_AT_ONCE));
  // The newest entry's steps are done again when the run is taken up: then these must not be, over what was put aside.
  if (steps.length > 0) run.mark();
}

function standsTwice(path: BytePath): IntegrityError {
  const [here, aside] = [displayPath(path), displayPath(keptPlace(path))];
  return new IntegrityError(
    `"${here}" and "${aside}" are both there, and one of them is not tde's`,
    {
      file: here,
      hint: "Neither was touched. One is the file that was put aside: move the other one out of the data directory, and run the same command again.",
    },
  );
}

/** What is there itself, and not behind a folder that has become a link. */
function statReal(fs: FileSystem, root: BytePath, path: BytePath): FileStat | undefined {
  return isInRealFolders(fs, root, path) ? fs.stat(joinPath(root, path)) : undefined;
}

function isSealed(entry: ManifestEntry | undefined): boolean {
  return entry?.class === "P" || entry?.class === "S" || entry?.class === "W";
}

function isPlain(kind: ManifestEntry["class"] | undefined): boolean {
  return kind === "R" || kind === "O";
}

/** The lines of damaged files, by their paths. */
function entriesOf({ manifest, damage }: Salvage): ReadonlyMap<BytePath, ManifestEntry> {
  const wanted = new Set(damage.files.map(({ path }) => path));
  const entries = new Map<BytePath, ManifestEntry>();
  for (const entry of manifest.entries())
    if (wanted.has(entry.path)) entries.set(entry.path, entry);
  return entries;
}

/** @param sealedAt - where the sealed file is read, or its sidecar; relative to the directory. */
async function salvageAll(
  salvage: Salvage,
  places: Places,
  sealedAt: (path: BytePath) => BytePath,
  commit: (steps: readonly DueStep[]) => void,
): Promise<DamageDone[]> {
  const { engine, runner, datadir, damage } = salvage;
  const entries = entriesOf(salvage);
  const access = plainAccess(engine.fs, places.output ?? places.source);
  const facts = { fs: engine.fs, datadir, policy: damage.policy };
  const done: DamageDone[] = [];
  function* tasks(): Generator<{ task: Extract<Task, { kind: "salvage" }>; context: Planned }> {
    for (const file of damage.files) {
      engine.signal?.throwIfAborted();
      const planned = planOf(facts, places, file, entries.get(file.path), sealedAt);
      if (planned.item === undefined) assertNotTwice(salvage, places, planned, undefined);
      const items = planned.item === undefined ? [] : [planned.item];
      yield { task: { kind: "salvage", access, items }, context: planned };
    }
  }
  await runInOrder(runner, tasks(), ([result], planned) => {
    const { path } = planned.file;
    const opened = result?.lost === undefined ? undefined : newPath(places, path);
    if (planned.item !== undefined) assertNotTwice(salvage, places, planned, opened);
    if (opened !== undefined) commit(stepsFor(places, path));
    done.push(doneOf(places, planned, result));
  });
  for (const { path, why, relation } of damage.extra) {
    const kept = places.output === undefined ? displayPath(keptPlace(path)) : undefined;
    const told = { path: displayPath(path), relation, problem: why, kept } as const;
    done.push({ ...told, done: "left-out", lost: [], unit: "byte" });
  }
  return done;
}

/** What is to become of a damaged file in its place. @param entry - its line; none of a file that no line names. */
export function fateOf(
  fs: FileSystem,
  datadir: Datadir,
  policy: Damage["policy"],
  path: BytePath,
  entry: ManifestEntry | undefined,
): Fate {
  if (entry === undefined) return "left-out";
  const places: Places = { source: datadir.root, output: undefined };
  const planned = planOf({ fs, datadir, policy }, places, { path }, entry, (name) => name);
  return planned.item === undefined ? fateUnopened(places, planned) : "zeroed";
}

interface Planned<F = DamagedFile> {
  readonly file: F;
  readonly entry: ManifestEntry | undefined;
  /** Undefined where nothing of it is to be opened, or can be. */
  readonly item: Item | undefined;
  readonly isThere: boolean;
  readonly isFile: boolean;
  readonly kept: BytePath | undefined;
}

function planOf<F extends Pick<DamagedFile, "path">>(
  {
    fs,
    datadir,
    policy,
  }: { readonly fs: FileSystem; readonly datadir: Datadir; readonly policy: Damage["policy"] },
  places: Places,
  file: F,
  entry: ManifestEntry | undefined,
  sealedAt: (path: BytePath) => BytePath,
): Planned<F> {
  const { path } = file;
  const isPutAside = isSealed(entry) && places.output === undefined;
  const stat = statReal(fs, datadir.root, isSealed(entry) ? sealedAt(path) : path);
  const isThere = stat !== undefined;
  const isKept = isPutAside && isThere && policy !== "zero";
  const isFile = stat?.kind === "file";
  const planned = { file, entry, isThere, isFile, kept: isKept ? keptPlace(path) : undefined };
  if (entry === undefined || !isFile || policy === "skip") return { ...planned, item: undefined };
  return { ...planned, item: itemOf(fs, datadir, places, entry, sealedAt) };
}

function itemOf(
  fs: FileSystem,
  datadir: Datadir,
  places: Places,
  { path, class: kind, sizeBytes }: ManifestEntry,
  sealedAt: (path: BytePath) => BytePath,
): Item | undefined {
  const plain = newPath(places, path);
  const sealed = joinPath(datadir.root, sealedAt(path));
  if (kind === "S") {
    if (path === OWN_FILES["backup-manifest"] || path === OWN_FILES["auto-conf"]) return undefined;
    return { kind: "content", path, plain, sealed, context: fileContext(path), sizeBytes };
  }
  const file = parseRelationPath(path, datadir);
  const sidecarAt = sealedAt(sidecarName(path));
  const sidecar = joinPath(datadir.root, sidecarAt);
  // One without pages had none.
  const hasSidecar = sizeBytes === 0 || statReal(fs, datadir.root, sidecarAt)?.kind === "file";
  if (kind !== "P" || file === undefined || !hasSidecar) return undefined;
  const files = { path, plain, sealed, sidecar, identity: identityOf(datadir, file), sizeBytes };
  return { kind: "relation", files };
}

function doneOf(places: Places, planned: Planned, result?: ItemResult): DamageDone {
  const { file, entry, item, kept } = planned;
  const { path, relation, why: problem } = file;
  const facts = {
    path: displayPath(path),
    relation,
    problem,
    kept: kept === undefined ? undefined : displayPath(kept),
    unit: entry?.class === "P" ? "block" : "byte",
  } as const;
  const lost = item === undefined ? undefined : result?.lost;
  if (lost !== undefined) return { ...facts, done: "zeroed", lost };
  return { ...facts, done: fateUnopened(places, planned), lost: [] };
}

/** Of a file of which nothing is opened. */
function fateUnopened(
  places: Places,
  { entry, isThere, isFile }: Pick<Planned, "entry" | "isThere" | "isFile">,
): Fate {
  if (!isThere) return "missing";
  const isTaken = places.output === undefined || (isPlain(entry?.class) && isFile);
  return isSealed(entry) || !isTaken ? "left-out" : "as-it-is";
}

/**
 * @param opened - what was made of the file that was put aside; undefined where nothing was.
 * @throws {IntegrityError} when something else stands in its place.
 */
function assertNotTwice(
  { engine: { fs }, datadir }: Salvage,
  places: Places,
  { file: { path }, entry, isThere }: Planned,
  opened: BytePath | undefined,
): void {
  if (places.output !== undefined || !isSealed(entry) || !isThere) return;
  const stat = statReal(fs, datadir.root, path);
  if (stat === undefined) return;
  const buffers = [Buffer.alloc(COMPARE_BYTES), Buffer.alloc(COMPARE_BYTES)] as const;
  const isOpened =
    opened !== undefined &&
    stat.kind === "file" &&
    haveSameContent(fs, opened, joinPath(datadir.root, path), buffers);
  if (!isOpened) throw standsTwice(path);
}

function writeReport(fs: FileSystem, root: BytePath, done: readonly DamageDone[]): void {
  makeFolder(fs, root, KEPT_FOLDER as BytePath);
  assertRealFolders(fs, root, [DAMAGE_REPORT]);
  for (const path of [DAMAGE_REPORT, workingName(DAMAGE_REPORT)]) {
    if (fs.stat(joinPath(root, path))?.kind !== "directory") continue;
    throw new StateError(`a folder stands where "${displayPath(path)}" is to be written`, {
      hint: "Somebody put it there. Move it away, and run the same command again.",
    });
  }
  const { uid, gid } = plainAccess(fs, root);
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  const attributes = { mode: 0o600, uid, gid, accessTimeNs: nowNs, modifyTimeNs: nowNs };
  const text = `${damageLines(done).join("\n")}\n`;
  writeDurably(fs, root, fileOf(fs, DAMAGE_REPORT, Buffer.from(text), attributes));
}

/** With all folders above it, as the data directory's owner's own. */
function makeFolder(fs: FileSystem, root: BytePath, path: BytePath): void {
  for (const folder of foldersUpTo(joinPath(path, "x"))) {
    const at = joinPath(root, folder);
    if (fs.stat(at) !== undefined) continue;
    fs.makeDirectory(at, 0o700);
    const stat = fs.stat(at);
    const access = plainAccess(fs, root);
    if (stat !== undefined) fs.setAttributes(at, plainAttributes(stat, access, "directory"));
    fs.syncDirectory(directoryOf(at));
  }
}

/** The folders of a path that is put aside, from the one that tde made on; the outermost first. */
function foldersUpTo(path: BytePath): BytePath[] {
  const parts = path.split("/");
  const first = parts.indexOf(KEPT_FOLDER) + 1;
  const folders: BytePath[] = [];
  for (let end = first; end < parts.length; end++)
    folders.push(parts.slice(0, end).join("/") as BytePath);
  return folders;
}

function keptFolders(damage: Damage): Set<BytePath> {
  const all = [...damage.files, ...damage.extra].map(({ path }) => keptPlace(path));
  const folders = all.flatMap((path) => foldersUpTo(path).slice(0, 1));
  return new Set([KEPT_FOLDER as BytePath, ...folders]);
}
