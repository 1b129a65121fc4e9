/**
 * Before a directory is decrypted: everything that can be held against the manifest without reading pages. Sizes,
 * sidecars, containers' tags, readable files, missing and added files. The pages' own tags are checked as they are
 * decrypted.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { AUTO_CONF } from "../datadir/classify.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, KeyError, StateError, StorageError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import { joinByPath } from "../format/manifest-order.ts";
import type { Manifest } from "../format/manifest.ts";
import type { Problem } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { TaskRunner } from "../workers/runner.ts";
import { type Planned, runBatches } from "./batches.ts";
import { type AcceptedChange, Acceptance, acceptOption } from "./accepted-changes.ts";
import { isClaim, STRAY_CLAIM } from "./claim-file.ts";
import type { EngineContext } from "./context.ts";
import { changedFile, digestProblem, expectationOf } from "./expected-entry.ts";
import { settingsAddedToGuard } from "./guard.ts";

const RESUMED_HINT =
  "Nothing was changed. It is not as it was when the run was begun: put it back, and run the same command again.";

/** Files that a restore tool adds to start recovery. */
const RECOVERY_SIGNALS: readonly string[] = ["recovery.signal", "standby.signal"];

/** Whether it asks a server for a recovery: a file, of which the name says all. */
export function isAddedSignal({ path, kind }: Pick<WalkEntry, "path" | "kind">): boolean {
  return kind === "file" && RECOVERY_SIGNALS.includes(path);
}

export interface Intact {
  /** Signal files that the manifest does not name. */
  readonly addedSignals: readonly string[];
  /** Configuration that is not what the manifest says, and that the user named. */
  readonly accepted: readonly AcceptedChange[];
}

export interface IntactOptions {
  readonly acceptance: Acceptance;
  /** Whether a file that the manifest does not name is no problem; none is allowed without it. */
  readonly allowAdded?: ((found: WalkEntry) => boolean) | undefined;
  /** Looks at these lines alone. */
  readonly only?: ((entry: ManifestEntry) => boolean) | undefined;
  /** Problems of these files, by their displayed paths, are known. */
  readonly isKnown?: ((path: string) => boolean) | undefined;
  /** Of a run that goes on: what it accepts was settled when it began. */
  readonly isResumed?: boolean | undefined;
}

interface Checked {
  readonly found: WalkEntry;
  /** Undefined: no line names it, and the user wants it all the same. */
  readonly entry: ManifestEntry | undefined;
}

/**
 * @throws {IntegrityError} that names the first problem and how many there are, {StorageError} where that is a file
 *   that cannot be read. {UsageError} for a path to accept that does not exist. Nothing was changed.
 */
export async function assertIntact(
  engine: EngineContext,
  runner: TaskRunner,
  datadir: Datadir,
  manifest: Manifest,
  options: IntactOptions,
): Promise<Intact> {
  const { fs } = engine;
  const { acceptance } = options;
  acceptance.assertAllExist(fs, datadir.root, manifest);
  const addedSignals: string[] = [];
  const problems = new FirstProblem(
    options.isResumed === true ? RESUMED_HINT : undefined,
    options.isKnown,
  );
  const { blockSizeBytes } = datadir.control;
  await runBatches<Checked>(
    runner,
    plan(fs, datadir, manifest, problems, addedSignals, options),
    {
      blockSizeBytes,
      splitLarge: false,
      task: (items) => ({ kind: "digest", items }),
      signal: engine.signal,
    },
    (done) => {
      for (const { extra, result } of done) {
        const { found, entry } = extra;
        for (const problem of result?.problems ?? []) problems.add(problem);
        if (result === undefined || (entry !== undefined && isJudgedElsewhere(fs, datadir, entry)))
          continue;
        const { digest, sizeBytes = 0 } = result;
        if (acceptance.allows(found, entry)) {
          if (digest !== undefined) acceptance.take({ path: found.path, digest, sizeBytes }, entry);
        } else if (entry !== undefined) {
          const differs = digestProblem(entry, result);
          if (differs !== undefined) problems.add(differs, acceptOption(found.path, entry));
        }
      }
    },
  );
  problems.throwIfAny();
  return { addedSignals, accepted: acceptance.changes };
}

/**
 * What can be told without reading files: whether all that the manifest names is there, and nothing else.
 * @throws {IntegrityError} that names the first problem and how many there are.
 */
export function assertAllThere(fs: FileSystem, datadir: Datadir, manifest: Manifest): void {
  const problems = new FirstProblem();
  const options = { acceptance: new Acceptance([]) };
  // What it yields would be read.
  const found = plan(fs, datadir, manifest, problems, [], options);
  while (found.next().done !== true);
  problems.throwIfAny();
}

function* plan(
  fs: FileSystem,
  datadir: Datadir,
  manifest: Manifest,
  problems: FirstProblem,
  addedSignals: string[],
  { acceptance, allowAdded, only }: IntactOptions,
): Generator<Planned<Checked>> {
  const places = { source: datadir.root, output: undefined };
  for (const { path, entry, found } of joinByPath(
    manifest.entries(),
    carried(fs, datadir, problems),
  )) {
    if (entry !== undefined && only?.(entry) === false) continue;
    // It comes from the manifest, whatever is there, if anything is.
    if (path === CONTROL_PATH) continue;
    if (found === undefined) {
      if (entry === undefined || entry.expendable || acceptance.takeRemoved(entry)) continue;
      problems.add(
        { kind: "missing", path: displayPath(path), message: "the file is missing" },
        acceptOption(path, entry),
      );
    } else if (entry === undefined) {
      if (isAddedSignal(found)) addedSignals.push(path);
      else if (acceptance.allows(found, entry)) {
        const sizeBytes = fs.stat(joinPath(datadir.root, path))?.sizeBytes ?? 0;
        const expected = changedFile(places, path, sizeBytes);
        for (const problem of expected.problems) problems.add(problem);
        yield { item: expected.item, extra: { found, entry } };
      } else if (!isFolderOf(acceptance, found) && allowAdded?.(found) !== true) {
        problems.add(
          { kind: "extra", path: displayPath(path), message: "the manifest does not name it" },
          acceptOption(path, entry),
        );
      }
    } else {
      const mayDiffer = isJudgedElsewhere(fs, datadir, entry) || acceptance.allows(found, entry);
      const expected = expectationOf(fs, datadir, found, entry, { mayDiffer });
      const option = mayDiffer ? undefined : acceptOption(path, entry);
      for (const problem of expected.problems) problems.add(problem, option);
      yield { item: expected.item, extra: { found, entry } };
    }
  }
}

/** A folder without a line that holds a file which the user wants. */
export function isFolderOf(acceptance: Acceptance, { path, kind }: WalkEntry): boolean {
  return kind === "directory" && acceptance.allowsFolder(path);
}

/** What should have a line in the manifest; what should not be there at all is added to the problems. */
export function* carried(
  fs: FileSystem,
  datadir: Datadir,
  problems: FirstProblem,
): Generator<WalkEntry> {
  for (const found of walkDatadir(fs, datadir.root, datadir)) {
    const { path, classification } = found;
    switch (classification.class) {
      case "refused":
        if (problems.isKnown(displayPath(path))) break;
        throw new StateError(`cannot work on "${displayPath(path)}": ${classification.why}`, {
          hint: "Move it out of the data directory, and run the same command again.",
        });
      case "sidecar": {
        const owner = fs.stat(joinPath(datadir.root, classification.of));
        // A tool that leaves out what is expendable keeps the sidecar, whose name it does not know.
        if (owner === undefined && classification.expendable) break;
        if (owner === undefined || owner.sizeBytes === 0) {
          problems.add({
            kind: "extra",
            path: displayPath(path),
            message: "a sidecar without its file",
          });
        }
        break;
      }
      case "own":
        if (classification.file === "auto-conf" || classification.file === "backup-manifest")
          yield found;
        break;
      case "working":
        problems.add({
          kind: "extra",
          path: displayPath(path),
          message: isClaim(path) ? STRAY_CLAIM : "left by an unfinished run",
        });
        break;
      case "excluded":
      case "foreign":
        break;
      case "directory":
      case "link":
      case "relation":
      case "wal":
      case "sealed":
      case "readable":
      case "auto-conf":
      case "backup-manifest":
        yield found;
        break;
    }
  }
}

/** The guard has rules of its own: what was added to it is named, and the original replaces it. */
function isJudgedElsewhere(fs: FileSystem, datadir: Datadir, { path }: ManifestEntry): boolean {
  return path === AUTO_CONF && settingsAddedToGuard(fs, datadir.root).length > 0;
}

/** The first problem of many, and how many there are. */
export class FirstProblem {
  private first: Problem | undefined;
  private option: string | undefined;
  private count = 0;
  private readonly hint: string | undefined;
  /** Whether problems of a file, by its displayed path, do not count. */
  readonly isKnown: (path: string) => boolean;

  /**
   * @param hint - of the error, where it is another than the usual.
   * @param isKnown - problems of these files do not count.
   */
  constructor(hint?: string, isKnown: (path: string) => boolean = () => false) {
    this.hint = hint;
    this.isKnown = isKnown;
  }

  /** @param option - what lets a change pass that was made on purpose. */
  add(problem: Problem, option?: string): void {
    if (this.isKnown(problem.path)) return;
    if (this.first === undefined) [this.first, this.option] = [problem, option];
    this.count++;
  }

  throwIfAny(): void {
    if (this.first === undefined) return;
    const { kind, path, message } = this.first;
    const more = this.count > 1 ? ` (and ${this.count - 1} more problems)` : "";
    const text = `${path as BytePath}: ${message}${more}`;
    const way =
      this.option === undefined ? "" : ` If you did that on purpose, give ${this.option}.`;
    const hint = this.hint ?? `Nothing was changed.${way} "tde verify" lists every problem.`;
    const details = { hint, file: path };
    if (kind === "unreadable") throw new StorageError(text, details);
    throw kind === "key" ? new KeyError(text, details) : new IntegrityError(text, details);
  }
}
