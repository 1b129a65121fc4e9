/**
 * The last pass of an encryption: looks at the directory as it now lies on disk, not at what the run believes to have
 * done. It fails if anything in scope is as it was, lists what stays readable and why, and writes the manifest from
 * what it found.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { OWN_FILES } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { identityOf } from "../datadir/relation-identity.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, KeyError, StateError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import { isMovableLink, type ManifestClass, type ManifestEntry } from "../format/manifest-entry.ts";
import type { ManifestHeader } from "../format/manifest-header.ts";
import { type ScopeFilter, scopeFilter } from "../format/scope.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyLoad, KeyLoads } from "../keyring/key-load.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { TaskRunner } from "../workers/runner.ts";
import type { Item, ItemResult, ReadBefore } from "../workers/tasks.ts";
import { runBatches, type Planned } from "./batches.ts";
import {
  filesToSum,
  hasSealedBackupManifest,
  openSealedBackupManifest,
} from "./backup-manifest.ts";
import { addEntryLoad } from "./directory-load.ts";
import { ABSENT_CONTEXT, contexts as autoConfContexts } from "./guard.ts";
import { secretsIn } from "./inventory.ts";
import { Counter, type FileCount, STRUCTURE_OF_WAL } from "./manifest-facts.ts";
import { writeManifestFile } from "./manifest-file.ts";
import { targetDigest } from "./moved-links.ts";
import { hasManifest, openAuthenticManifest } from "./open-manifest.ts";
import { contentItem, openRelationItem, type Places, readableItem, walItem } from "./plan-items.ts";
import { type PlaintextGroup, PlaintextGroups } from "./plaintext-groups.ts";
import type { BackupRewriting, ManifestProof } from "./write-manifests.ts";

export interface SecretFinding {
  readonly path: string;
  readonly setting: string;
  readonly line: number;
}

export interface ProofReport {
  /** 64 hex digits. */
  readonly root: string;
  /** Relations and whole files. */
  readonly sealedFiles: number;
  /** Segments of WAL in readable mode. */
  readonly segments: FileCount;
  readonly load: KeyLoads;
  /** Of relations, those that are of the header's epoch. */
  readonly newestPages: number;
  readonly wrongChecksums: number;
  /** Relation files that are plain because the scope leaves them out. */
  readonly outOfScope: { readonly files: number; readonly bytes: number };
  readonly plaintext: readonly PlaintextGroup[];
  readonly secrets: readonly SecretFinding[];
}

export interface ProofOptions {
  readonly header: ManifestHeader;
  readonly keys: DataKeys;
  /** What this run has read already, since it was written. All else is read to its last tag. */
  readonly readBefore: ReadBefore;
  /** Files that it wrote in place. */
  readonly patched?: ReadonlySet<BytePath> | undefined;
  readonly signal: AbortSignal | undefined;
}

/** What the manifest says of an entry besides what a check finds. */
interface Fact {
  readonly entry: WalkEntry;
  readonly class: ManifestClass;
  readonly sizeBytes: number;
  /** It did not exist before encryption. */
  readonly added: boolean;
}

export class Proof implements ManifestProof<ProofReport> {
  private readonly fs: FileSystem;
  private readonly datadir: Datadir;
  private readonly options: ProofOptions;
  private readonly places: Places;
  private readonly isInScope: ScopeFilter;
  private readonly plaintext: PlaintextGroups = new PlaintextGroups();
  private readonly secrets: SecretFinding[] = [];
  private readonly load: Map<number, KeyLoad> = new Map();
  private sealedFiles = 0;
  private readonly segments: Counter = new Counter();
  private newestPages = 0;
  private wrongChecksums = 0;
  private readonly outOfScope: { files: number; bytes: number } = { files: 0, bytes: 0 };
  /** Where movable links led when the directory was encrypted first: what has moved since stays told. */
  private readonly led: Map<BytePath, Pick<ManifestEntry, "class" | "digest">> = new Map();

  constructor(fs: FileSystem, datadir: Datadir, options: ProofOptions) {
    this.fs = fs;
    this.datadir = datadir;
    this.options = options;
    this.isInScope = scopeFilter(options.header.scope);
    this.places = { source: datadir.root, output: undefined };
  }

  get rewriting(): (() => BackupRewriting) | undefined {
    const { fs, datadir, options } = this;
    if (!hasSealedBackupManifest(fs, datadir.root)) return undefined;
    return () => {
      const from = openSealedBackupManifest(fs, datadir, options.keys);
      return { from, toSum: filesToSum(fs, datadir, from) };
    };
  }

  /**
   * Writes the manifest under a working name, durably; the caller lets it take its place. A rewritten backup_manifest
   * has no entry in it: that is of this manifest's size, and comes later.
   * @throws {IntegrityError} when something is not sealed as it should be.
   */
  async writeManifest(runner: TaskRunner, name: BytePath): Promise<ProofReport> {
    const { fs, datadir, options } = this;
    this.rememberLinks();
    const root = await writeManifestFile(fs, datadir.root, name, options, (writer) =>
      runBatches<Fact>(
        runner,
        this.plan(),
        {
          blockSizeBytes: datadir.control.blockSizeBytes,
          splitLarge: true,
          task: (items) => ({
            kind: "check",
            depth: "tags",
            readBefore: options.readBefore,
            items,
          }),
          signal: options.signal,
        },
        (done) => {
          for (const { extra, result } of done) writer.add(this.manifestEntry(extra, result));
        },
      ),
    );
    return {
      root,
      sealedFiles: this.sealedFiles,
      segments: this.segments,
      load: this.load,
      newestPages: this.newestPages,
      wrongChecksums: this.wrongChecksums,
      outOfScope: this.outOfScope,
      plaintext: this.plaintext.list(),
      secrets: this.secrets,
    };
  }

  /** From the manifest that is to be replaced, where there is one. */
  private rememberLinks(): void {
    const { fs, datadir, options } = this;
    if (!hasManifest(fs, datadir.root)) return;
    const before = openAuthenticManifest(fs, datadir.root, options.keys);
    for (const { path, class: kind, digest } of before.entries()) {
      if (!isMovableLink(path)) continue;
      if (kind === "D" || digest !== undefined) this.led.set(path, { class: kind, digest });
    }
  }

  private *plan(): Generator<Planned<Fact>> {
    for (const entry of walkDatadir(this.fs, this.datadir.root, this.datadir)) {
      const sizeBytes =
        entry.kind === "file"
          ? (this.fs.stat(joinPath(this.datadir.root, entry.path))?.sizeBytes ?? 0)
          : 0;
      const planned = this.planEntry(entry, sizeBytes);
      if (planned !== undefined) yield planned;
    }
  }

  private planEntry(entry: WalkEntry, sizeBytes: number): Planned<Fact> | undefined {
    const { path, classification } = entry;
    const fact = (manifestClass: ManifestClass, item?: Item): Planned<Fact> => ({
      item,
      extra: { entry, class: manifestClass, sizeBytes, added: false },
    });
    const readable = (manifestClass: ManifestClass, why: string): Planned<Fact> => {
      this.plaintext.add(why, manifestClass === "O", path, sizeBytes);
      for (const { name, line } of secretsIn(this.fs, this.datadir, path, sizeBytes)) {
        this.secrets.push({ path: displayPath(path), setting: name, line });
      }
      return fact(manifestClass, readableItem(this.places, path, sizeBytes));
    };
    const content = (): Planned<Fact> =>
      fact("S", contentItem("check", this.places, path, sizeBytes));
    switch (classification.class) {
      case "relation": {
        if (!this.isInScope(classification.file)) {
          this.assertPlain(path);
          this.outOfScope.files++;
          this.outOfScope.bytes += sizeBytes;
          return readable("O", "relations out of scope");
        }
        if (sizeBytes === 0) return fact("P");
        const identity = identityOf(this.datadir, classification.file);
        const item = openRelationItem(this.places, path, identity, sizeBytes);
        return fact("P", { ...item, patched: this.options.patched?.has(path) });
      }
      case "wal": {
        if (this.hasSidecar(path)) {
          this.plaintext.add(STRUCTURE_OF_WAL, false, path, sizeBytes);
          return fact("W", walItem(this.places, this.datadir, path));
        }
        if (this.options.header.wal !== "skip" || this.isSealed(path)) return content();
        return readable("O", "WAL, left as it is by --wal=skip");
      }
      case "sealed":
        return content();
      case "readable":
        return this.isSealed(path) ? content() : readable("R", classification.why);
      case "auto-conf":
        return this.planGuard(entry, sizeBytes);
      case "backup-manifest":
        // What takes its place comes later; the plain original must not be what stays.
        if (hasSealedBackupManifest(this.fs, this.datadir.root)) return undefined;
        throw new IntegrityError(`"${displayPath(path)}" is there, but its original is not sealed`);
      case "own":
        return this.planOwnFile(entry, sizeBytes);
      case "directory":
        return fact("D");
      case "link":
        if (!classification.followed) {
          const why = `symbolic link: ${classification.why}`;
          this.plaintext.add(why, classification.leadsToContent, path, 0);
        }
        return fact("L");
      case "excluded":
      case "foreign":
        this.plaintext.add(classification.why, true, path, sizeBytes);
        return undefined;
      case "sidecar":
      case "working":
        return undefined;
      case "refused":
        throw new StateError(`cannot encrypt "${displayPath(path)}": ${classification.why}`);
    }
  }

  private planGuard(entry: WalkEntry, sizeBytes: number): Planned<Fact> {
    const sealed = joinPath(this.datadir.root, OWN_FILES["auto-conf"]);
    const added = containerHeaderOf(this.fs, sealed)?.context === ABSENT_CONTEXT;
    const item = readableItem(this.places, entry.path, sizeBytes);
    return { item, extra: { entry, class: "R", sizeBytes, added } };
  }

  private planOwnFile(entry: WalkEntry, sizeBytes: number): Planned<Fact> | undefined {
    const { path } = entry;
    if (path !== OWN_FILES["auto-conf"] && path !== OWN_FILES["backup-manifest"]) return undefined;
    const context = containerHeaderOf(this.fs, joinPath(this.datadir.root, path))?.context;
    const expected =
      path === OWN_FILES["auto-conf"] ? autoConfContexts() : [fileContext("backup_manifest")];
    if (context === undefined || !expected.includes(context)) {
      throw new IntegrityError(`"${path}" is not the sealed original that it should be`);
    }
    const item = { ...contentItem("check", this.places, path, sizeBytes), context };
    return { item, extra: { entry, class: "S", sizeBytes, added: true } };
  }

  /** Ciphertext that the manifest calls plain would be lost. */
  private assertPlain(path: BytePath): void {
    if (!this.hasSidecar(path)) return;
    throw new IntegrityError(`"${displayPath(path)}" is out of scope, but has a sidecar`, {
      file: displayPath(path),
    });
  }

  private hasSidecar(path: BytePath): boolean {
    return this.fs.stat(joinPath(this.datadir.root, sidecarName(path))) !== undefined;
  }

  private isSealed(path: BytePath): boolean {
    const header = containerHeaderOf(this.fs, joinPath(this.datadir.root, path));
    return (
      header?.context === fileContext(path) && header.keyringId === this.options.keys.keyringId
    );
  }

  private manifestEntry(fact: Fact, result: ItemResult | undefined): ManifestEntry {
    const { entry, sizeBytes } = fact;
    const problem = result?.problems?.[0];
    if (problem !== undefined) {
      const block = problem.block === undefined ? "" : ` block ${problem.block}`;
      const message = `${problem.path}${block} is not sealed as it should be: ${problem.message}`;
      const details = { file: problem.path };
      throw problem.kind === "key"
        ? new KeyError(message, details)
        : new IntegrityError(message, details);
    }
    if (["P", "W", "S"].includes(fact.class) && sizeBytes > 0) {
      if (fact.class === "W") this.segments.add(sizeBytes);
      else this.sealedFiles++;
      this.newestPages += result?.newestPages ?? 0;
      this.wrongChecksums += result?.wrongChecksums ?? 0;
    }
    const link = this.led.get(entry.path) ?? {
      class: fact.class,
      digest: fact.class === "L" ? linkDigest(this.fs, this.datadir, entry.path) : undefined,
    };
    const isFolder = fact.class === "D" || fact.class === "L";
    const manifestEntry: ManifestEntry = {
      path: entry.path,
      class: isFolder ? link.class : fact.class,
      expendable: "expendable" in entry.classification && entry.classification.expendable,
      added: fact.added,
      sizeBytes: isFolder ? 0 : sizeBytes,
      keys: [...(result?.keys ?? [])]
        .map(([keyId, count]) => ({ keyId, count }))
        .sort((a, b) => a.keyId - b.keyId),
      digest: isFolder ? link.digest : result?.digest,
    };
    addEntryLoad(this.load, manifestEntry, this.datadir.control.blockSizeBytes);
    return manifestEntry;
  }
}

/** Of the target of a link, as the manifest keeps it. */
export function linkDigest(fs: FileSystem, datadir: Datadir, path: BytePath): string {
  return targetDigest(fs.readLink(joinPath(datadir.root, path)));
}
