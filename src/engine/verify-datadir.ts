/**
 * Verifies an encrypted data directory: the tag of every page and chunk, the manifest, and that this is the newest
 * state that was seen of it. Goes on to the end whatever it finds, and says "verified" of nothing that it did not
 * check. Without a keyring it checks checksums and form, which find damage but no forger.
 */
import { type BytePath, directoryOf, displayPath, joinPath } from "../bytes/byte-path.ts";
import { AUTO_CONF, OWN_FILES } from "../datadir/classify.ts";
import { CONTROL_PATH, type Datadir } from "../datadir/datadir.ts";
import { parseRelationPath, sidecarName } from "../datadir/relation-path.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { StateError, type StorageError, TdeError } from "../errors.ts";
import { isMovableLink, type ManifestClass, type ManifestEntry } from "../format/manifest-entry.ts";
import { joinByPath } from "../format/manifest-order.ts";
import type { Manifest } from "../format/manifest.ts";
import type { Problem, ProblemKind } from "../format/problem.ts";
import { type Scope, type ScopeFilter, scopeFilter } from "../format/scope.ts";
import { sameButForChecksums } from "../postgres/control-file.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { NEW_JOURNAL_NAME } from "../storage/journal.ts";
import { problemOf } from "../workers/problem-collector.ts";
import type { ItemResult } from "../workers/tasks.ts";
import { type Planned, runBatches } from "./batches.ts";
import { Acceptance, acceptedFiles, acceptOption } from "./accepted-changes.ts";
import { catalogNames } from "./catalog-names.ts";
import { AccessNotes } from "./access-notes.ts";
import { isClaim, STRAY_CLAIM } from "./claim-file.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { unfinishedRun } from "./run/datadir-lock.ts";
import { directoryLoad } from "./directory-load.ts";
import { retiredKeyNotices } from "./retired-keys.ts";
import { changedFile, digestProblem, type Expectation, expectationOf } from "./expected-entry.ts";
import { settingsAddedToGuard } from "./guard.ts";
import { hasManifest, seenAsManifest, placesToJudge, whyNotCurrent } from "./open-manifest.ts";
import { movedLinks } from "./moved-links.ts";
import { openManifestFor, type OpenedByManifest, openToVerify } from "./open-by-manifest.ts";
import { namesOfFiles } from "./relation-names.ts";
import { relationsOfManifest, relationsOnDisk, selectScope } from "./select-scope.ts";
import { NOTHING_SELECTED, type ScopeSelection, selectsEverything } from "./scope-request.ts";
import { segmentsOf } from "./seal-wal.ts";
import { isAddedSignal, isFolderOf } from "./structure-check.ts";
import { findStrippedFile, tracesOfTools } from "./tool-traces.ts";
import { crossingDefect } from "./wal-readable/crossing-record.ts";
import { VerifyFindings, type VerifyReport } from "./verify-report.ts";

export interface VerifyOptions {
  readonly root: BytePath;
  /** 64 hex digits, or a beginning of them of at least 16. */
  readonly expectRoot: string | undefined;
  /** Only these relations, and nothing else; everything where nothing is named. */
  readonly scope: ScopeSelection;
  readonly acceptOlder: boolean;
  /** Configuration files to take as they are now, whatever the manifest says of them. */
  readonly acceptChanged: readonly BytePath[];
}

/**
 * @param keyContext - undefined: checksums and form only.
 * @throws {StateError} when the directory is not encrypted, or a run on it is unfinished.
 */
export async function verifyDatadir(
  engine: EngineContext,
  keyContext: KeyContext | undefined,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const { fs } = engine;
  const opened = openToVerify(fs, options.root, keyContext);
  unfinishedRun(fs, options.root, undefined, keyContext?.memory);
  assertEncrypted(fs, opened.datadir);
  return new Verification(engine, opened, keyContext, options).run();
}

/**
 * As verifyDatadir, of a directory that is opened and judged: for a decryption, before its first write.
 * @returns also each file that something is wrong with, by its displayed path, and what kinds of problems it has.
 */
export async function examineDatadir(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  acceptChanged: readonly BytePath[],
): Promise<{
  readonly report: VerifyReport;
  readonly wrongFiles: ReadonlyMap<string, ReadonlySet<ProblemKind>>;
}> {
  const scope = NOTHING_SELECTED;
  const options = {
    root: datadir.root,
    expectRoot: undefined,
    scope,
    acceptOlder: true,
    acceptChanged,
  };
  const opened = { datadir, own: datadir };
  const verification = new Verification(engine, opened, keyContext, options);
  const report = await verification.run({ isPreflight: true });
  return { report, wrongFiles: verification.findings.wrongFiles };
}

interface Extra {
  readonly entry: ManifestEntry | undefined;
  readonly found: WalkEntry;
  readonly problems: readonly Problem[];
}

class Verification {
  private readonly engine: EngineContext;
  private readonly fs: FileSystem;
  private readonly datadir: Datadir;
  /** By its own pg_control; undefined where that cannot be used. */
  private readonly own: Datadir | undefined;
  private readonly keyContext: KeyContext | undefined;
  private readonly options: VerifyOptions;
  readonly findings: VerifyFindings = new VerifyFindings();
  private readonly access: AccessNotes;
  private readonly acceptance: Acceptance;
  private manifest: Manifest | undefined;
  /** Segments in readable mode that are authentic each by itself. */
  private readonly segments: BytePath[] = [];
  /** Undefined: everything is checked. */
  private selected: Scope | undefined;
  private isSelected: ScopeFilter = () => true;
  /** Folders that could not be listed: what is in them is not missing. */
  private readonly unreadable: Set<BytePath> = new Set();

  constructor(
    engine: EngineContext,
    { datadir, own }: OpenedByManifest,
    keyContext: KeyContext | undefined,
    options: VerifyOptions,
  ) {
    this.engine = engine;
    this.fs = engine.fs;
    this.datadir = datadir;
    this.own = own instanceof TdeError ? undefined : own;
    this.keyContext = keyContext;
    this.options = options;
    this.acceptance = new Acceptance(options.acceptChanged);
    this.access = new AccessNotes(engine.fs, datadir);
  }

  /** @param isPreflight - of a decryption: nothing is remembered, and the CRCs across segments, whose originals it has, are left. */
  async run({ isPreflight = false } = {}): Promise<VerifyReport> {
    this.manifest = this.readManifest();
    this.judgeManifest();
    this.select();
    if (this.manifest !== undefined)
      this.acceptance.assertAllExist(this.fs, this.datadir.root, this.manifest);
    await this.checkFiles();
    if (!isPreflight) this.checkCrossings();
    this.addNotices();
    const { manifest, findings, keyContext, datadir } = this;
    if (!findings.clean) {
      const isWrong = (path: BytePath): boolean => findings.isWrong(displayPath(path));
      this.lookAtTraces(isWrong);
      const facts = { keys: keyContext?.keys, manifest };
      const sayWhyNot = (reason: string): void => findings.notice(reason);
      findings.name((files) => namesOfFiles(this.engine, datadir, facts, files, sayWhyNot));
    }
    const root = manifest?.root.toString("hex");
    const isWhole = this.selected === undefined;
    const isToRemember = isWhole && findings.clean && !isPreflight;
    if (isToRemember && manifest !== undefined && keyContext !== undefined)
      this.remember(manifest, keyContext);
    return findings.report({
      depth: keyContext === undefined ? "checksums" : "tags",
      directoryId: manifest?.header.directoryId,
      keyringId: manifest?.header.keyringId,
      epoch: manifest?.header.epoch,
      root,
      scope: manifest?.header.scope,
      selected: this.selected,
      accepted: acceptedFiles(this.acceptance.changes),
    });
  }

  /** Which tool was here, as far as the files that tell it can be read. */
  private lookAtTraces(isWrong: (path: BytePath) => boolean): void {
    const { datadir, own, manifest } = this;
    try {
      this.findings.traces(tracesOfTools(this.fs, { datadir, own, manifest }, isWrong));
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      this.findings.notice(`which tool changed the directory cannot be told: ${error.message}`);
    }
  }

  /**
   * Looks at one path. What the system or the file itself has against that is a problem of this path alone: everything
   * else is checked all the same.
   */
  private at<T>(path: BytePath, look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      this.findings.problem(problemOf(error, path));
      return undefined;
    }
  }

  /** The manifest, or undefined when it cannot be believed: then the files are checked by themselves. */
  private readManifest(): Manifest | undefined {
    const { fs, datadir, keyContext } = this;
    if (!hasManifest(fs, datadir.root)) {
      this.problem(
        "manifest",
        OWN_FILES.manifest,
        "the manifest is missing: missing, added and older files cannot be told",
      );
      return undefined;
    }
    try {
      return openManifestFor(fs, datadir.root, keyContext);
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      this.problem(kindOfManifestError(error), OWN_FILES.manifest, error.message);
      return undefined;
    }
  }

  private judgeManifest(): void {
    const { manifest, keyContext, options, datadir, own = datadir } = this;
    if (manifest === undefined) return;
    const root = manifest.root.toString("hex");
    if (options.expectRoot !== undefined && !root.startsWith(options.expectRoot)) {
      this.problem(
        "rollback",
        OWN_FILES.manifest,
        `the root is ${root}, not ${options.expectRoot}`,
      );
    }
    if (manifest.header.systemIdentifier !== own.control.systemIdentifier) {
      const message = `the manifest is of cluster ${manifest.header.systemIdentifier}, global/pg_control of ${own.control.systemIdentifier}`;
      this.problem("manifest", OWN_FILES.manifest, message);
    }
    if (keyContext === undefined) return;
    this.judgeMemory(keyContext);
    if (options.acceptOlder) return;
    const problem = whyNotCurrent(
      manifest,
      keyContext.memory,
      placesToJudge(this.fs, datadir.root),
    );
    if (problem !== undefined) this.problem("rollback", OWN_FILES.manifest, problem);
  }

  /** A state file that is there but cannot be believed hides an older copy: somebody may have made it so. */
  private judgeMemory({ memory }: KeyContext): void {
    const doubt = memory.doubt();
    if (doubt === undefined) return;
    if (doubt.kind !== "absent" && !memory.isDoubtAccepted) {
      this.findings.problem({ kind: "state", path: doubt.path, message: doubt.message });
      return;
    }
    this.findings.notice(
      `${doubt.message}: an older copy of this directory could not be told from the newest`,
    );
  }

  private select(): void {
    const { engine, fs, datadir, manifest, options, keyContext } = this;
    if (selectsEverything(options.scope)) return;
    const onDisk = relationsOnDisk(fs, datadir);
    const known = manifest === undefined ? onDisk : relationsOfManifest(onDisk, manifest);
    const { withPartitions } = options.scope;
    this.selected = selectScope(known, options.scope, {
      names: catalogNames(engine, datadir, {
        keys: keyContext?.keys,
        manifest,
        withPartitions,
      }),
      limitBytes: undefined,
    });
    this.isSelected = scopeFilter(this.selected);
  }

  /** Whether a path is to be looked at: where relations were named, theirs and no other. */
  private looksAt(path: BytePath): boolean {
    if (this.selected === undefined) return true;
    const file = parseRelationPath(path, this.datadir);
    return file !== undefined && this.isSelected(file);
  }

  private async checkFiles(): Promise<void> {
    const { engine, datadir, keyContext, findings, manifest } = this;
    const { control } = datadir;
    engine.progress.begin("verifying", this.totalBytes());
    const runner = engine.startRunner(
      {
        blockSizeBytes: control.blockSizeBytes,
        dataChecksums: control.dataChecksumVersion !== 0,
        systemIdentifier: control.systemIdentifier,
        keys: keyContext?.keys,
        keyringId: manifest?.header.keyringId ?? keyContext?.keys.keyringId ?? "",
        // No slot is later than the manifest. Where there is none to believe, any epoch will do.
        epoch: manifest?.header.epoch ?? 2n ** 64n - 1n,
      },
      (bytes) => engine.progress.advance(bytes),
    );
    try {
      await runBatches<Extra>(
        runner,
        this.plan(),
        {
          blockSizeBytes: control.blockSizeBytes,
          splitLarge: true,
          task: (items) => ({
            kind: "check",
            depth: keyContext === undefined ? "form" : "tags",
            items,
          }),
          signal: engine.signal,
        },
        (done) => {
          for (const { extra, result } of done) {
            for (const problem of extra.problems) findings.problem(problem);
            if (result === undefined) continue;
            this.at(extra.found.path, () => this.take(extra, result));
          }
        },
      );
    } finally {
      engine.progress.end();
      await runner.close();
    }
  }

  private take({ entry, found }: Extra, result: ItemResult): void {
    const { findings } = this;
    if (this.isAccepted(found, entry, result)) return;
    findings.add(result);
    if (entry?.class === "O" && found.classification.class === "relation")
      findings.outOfScope(result.sizeBytes ?? 0);
    const differs = entry === undefined ? undefined : digestProblem(entry, result);
    if (differs !== undefined && entry !== undefined) this.reportDifference(entry, differs);
    const isWhole = differs === undefined && result.problemCount === 0;
    if (isWhole && this.isSegment(found)) this.segments.push(found.path);
  }

  /** A stored CRC that counts bytes of two segments is in no message of either. */
  private checkCrossings(): void {
    const segments = segmentsOf(this.datadir, this.segments);
    for (const segment of segments) {
      const defect = this.at(segment.path, () =>
        crossingDefect(this.fs, segments, segment, () => true),
      );
      if (defect !== undefined) this.problem("checksum", segment.path, defect);
    }
  }

  private *plan(): Generator<Planned<Extra>> {
    for (const { path, entry, found } of joinByPath(this.entries(), this.walk())) {
      if (found === undefined && entry !== undefined) this.reportMissing(path, entry);
      if (found === undefined) continue;
      // Behind other links nothing is the directory's.
      if (found.kind !== "link" || isMovableLink(path)) this.access.look(path);
      const expectation = this.at(path, () => this.expect(found, entry));
      if (expectation === undefined) continue;
      const { problems, item } = expectation;
      yield { item, extra: { entry, found, problems } };
    }
  }

  /** @returns undefined where there is nothing to expect: the file was reported, or is none to look at. */
  private expect(found: WalkEntry, entry: ManifestEntry | undefined): Expectation | undefined {
    const { fs, datadir } = this;
    const { path } = found;
    const isAcceptable = this.acceptance.allows(found, entry);
    if (entry === undefined && isAcceptable) {
      const sizeBytes = fs.stat(joinPath(datadir.root, path))?.sizeBytes ?? 0;
      return changedFile({ source: datadir.root, output: undefined }, path, sizeBytes);
    }
    const expected = entry ?? this.assumedEntry(found);
    if (expected === undefined) return undefined;
    // Settings beside the guard make it longer, and so may edits; the content is looked at when it has been read.
    const isGuard = path === AUTO_CONF && settingsAddedToGuard(fs, datadir.root).length > 0;
    return expectationOf(fs, datadir, found, expected, { mayDiffer: isGuard || isAcceptable });
  }

  /** The lines of what is looked at. */
  private *entries(): Generator<ManifestEntry> {
    for (const entry of this.manifest?.entries() ?? []) if (this.looksAt(entry.path)) yield entry;
  }

  /** Whether a file is not what its line says, and is taken as it is: then it is counted as that and nothing else. */
  private isAccepted(
    found: WalkEntry,
    entry: ManifestEntry | undefined,
    { digest, sizeBytes = 0 }: ItemResult,
  ): boolean {
    const { acceptance } = this;
    if (digest === undefined || !acceptance.allows(found, entry)) return false;
    return acceptance.take({ path: found.path, digest, sizeBytes }, entry);
  }

  /** What has a line in the manifest, or should have. Everything else is looked at on the way. */
  private *walk(): Generator<WalkEntry> {
    const passOver = (path: BytePath, error: StorageError): void => {
      this.unreadable.add(path);
      this.findings.problem(problemOf(error, path === "" ? OWN_FOLDER : path));
    };
    for (const found of walkDatadir(this.fs, this.datadir.root, this.datadir, passOver)) {
      const { path, classification } = found;
      if (!this.looksAt(classification.class === "sidecar" ? classification.of : path)) continue;
      switch (classification.class) {
        case "sidecar": {
          const { of, expendable } = classification;
          this.at(path, () => this.lookForOwner(path, of, expendable));
          break;
        }
        case "own":
          if (classification.file === "auto-conf" || classification.file === "backup-manifest")
            yield found;
          break;
        case "excluded":
        case "foreign":
          this.findings.notice(
            `not part of the encrypted directory: ${displayPath(path)}: ${classification.why}`,
          );
          break;
        case "refused":
        case "working":
          if (path === NEW_JOURNAL_NAME) {
            this.findings.notice(
              `${path} is left of a run that never began; "tde recover" removes it`,
            );
            break;
          }
          this.problem(
            "extra",
            path,
            classification.class === "refused"
              ? classification.why
              : isClaim(path)
                ? STRAY_CLAIM
                : "left by an unfinished run",
          );
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

  private lookForOwner(sidecar: BytePath, of: BytePath, expendable: boolean): void {
    const owner = this.fs.stat(joinPath(this.datadir.root, of));
    // A tool that leaves out what is expendable keeps the sidecar, whose name it does not know.
    if (owner === undefined && expendable) return;
    if (owner === undefined || owner.sizeBytes === 0)
      this.problem("extra", sidecar, "a sidecar without its file");
  }

  /** How to check a file that no line names: reported as such, and checked by itself where there is no manifest. */
  private assumedEntry(
    found: WalkEntry,
  ): Pick<ManifestEntry, "class" | "sizeBytes" | "digest"> | undefined {
    const { path, classification } = found;
    if (this.manifest !== undefined) {
      if (isAddedSignal(found)) {
        this.findings.notice(
          `${path} was added after encryption; decryption leaves it out unless it is asked to keep it`,
        );
      } else if (!isFolderOf(this.acceptance, found)) {
        this.problem("extra", path, withHint("the manifest does not name it", path));
      }
      return undefined;
    }
    const sealed: Partial<Record<typeof classification.class, ManifestClass>> = {
      relation: "P",
      wal: this.hasSidecar(path) ? "W" : "S",
      sealed: "S",
      own: "S",
    };
    const manifestClass = sealed[classification.class];
    if (manifestClass === undefined) return undefined;
    const sizeBytes = this.fs.stat(joinPath(this.datadir.root, path))?.sizeBytes ?? 0;
    return { class: manifestClass, sizeBytes, digest: undefined };
  }

  private isSegment({ path, classification }: WalkEntry): boolean {
    return classification.class === "wal" && this.hasSidecar(path);
  }

  private hasSidecar(path: BytePath): boolean {
    return this.fs.stat(joinPath(this.datadir.root, sidecarName(path))) !== undefined;
  }

  private reportMissing(path: BytePath, entry: ManifestEntry): void {
    if (this.isHidden(path)) return;
    if (entry.expendable) this.findings.missing(displayPath(path));
    else if (!this.acceptance.takeRemoved(entry))
      this.problem("missing", path, withHint("the file is missing", path, entry));
  }

  /** Whether it is in a folder that could not be listed, which was said. */
  private isHidden(path: BytePath): boolean {
    for (let folder = directoryOf(path); folder !== "."; folder = directoryOf(folder))
      if (this.unreadable.has(folder)) return true;
    return this.unreadable.has("" as BytePath);
  }

  private reportDifference(entry: ManifestEntry, problem: Problem): void {
    const { fs, datadir, own, manifest, findings } = this;
    if (entry.path === AUTO_CONF) {
      const added = settingsAddedToGuard(fs, datadir.root);
      if (added.length > 0) {
        findings.notice(
          `${AUTO_CONF}: settings were added beside the guard after encryption: ${added.join(", ")}; decryption leaves them out unless it is asked to keep them`,
        );
        return;
      }
    }
    if (
      entry.path === CONTROL_PATH &&
      own !== undefined &&
      manifest !== undefined &&
      sameButForChecksums(manifest.header.control, own.controlBytes)
    ) {
      findings.problem({
        ...problem,
        message:
          "only state, time and checksum version were changed, as pg_checksums --enable or --disable does; decrypt-datadir puts the original back",
      });
      return;
    }
    findings.problem({ ...problem, message: withHint(problem.message, entry.path, entry) });
  }

  private addNotices(): void {
    const { manifest, keyContext, datadir } = this;
    for (const notice of this.access.notices) this.findings.notice(notice);
    this.addMoves();
    if (manifest?.header.wal === "skip")
      this.findings.notice("pg_wal is plaintext: the directory was encrypted with --wal=skip");
    if (manifest === undefined || keyContext === undefined) return;
    const load = directoryLoad(manifest, datadir.control.blockSizeBytes);
    for (const notice of retiredKeyNotices(load, keyContext.keys)) this.findings.notice(notice);
  }

  /** What leads elsewhere than it did: a restore may have moved it, and so may somebody else. */
  private addMoves(): void {
    const { fs, datadir, manifest } = this;
    if (manifest === undefined || this.selected !== undefined) return;
    const moved = this.at("pg_tblspc" as BytePath, () => movedLinks(fs, datadir, manifest));
    for (const { message } of moved ?? []) this.findings.notice(message);
  }

  private totalBytes(): number {
    let bytes = 0;
    for (const { sizeBytes } of this.entries()) bytes += sizeBytes;
    return bytes;
  }

  private remember(manifest: Manifest, keyContext: KeyContext): void {
    const { directoryId, epoch } = manifest.header;
    const root = manifest.root.toString("hex");
    const { verdict } = keyContext.memory.judge(directoryId, epoch, root);
    if (verdict === "unknown" || verdict === "newer")
      keyContext.memory.remember(seenAsManifest(this.datadir, manifest));
  }

  private problem(kind: Problem["kind"], path: BytePath, message: string): void {
    this.findings.problem({ kind, path: displayPath(path), message });
  }
}

function kindOfManifestError({ code }: TdeError): Problem["kind"] {
  if (code === "storage") return "unreadable";
  return code === "key" ? "key" : "manifest";
}

/** The data directory's own, as problems name it. */
const OWN_FOLDER = "." as BytePath;

/** What was found, and the option that takes it as it is where there is one. */
function withHint(message: string, path: BytePath, entry?: ManifestEntry): string {
  const option = acceptOption(path, entry);
  return option === undefined ? message : `${message} (on purpose? ${option})`;
}

/** @throws {StateError} when nothing in the directory is sealed: there is nothing to verify. */
export function assertEncrypted(fs: FileSystem, datadir: Datadir): void {
  if (hasManifest(fs, datadir.root)) return;
  for (const { classification } of walkDatadir(fs, datadir.root, datadir)) {
    const own = classification.class === "own" && classification.file !== "lock";
    if (own || classification.class === "sidecar") return;
  }
  if (findStrippedFile(fs, datadir) !== undefined) return;
  throw new StateError(`"${displayPath(datadir.root)}" is not encrypted`, {
    hint: "There is no manifest, no sidecar and no sealed page in it.",
  });
}
