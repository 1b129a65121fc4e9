/**
 * Judges what a command did to a composed disk, by what the keyholder's own runs were given and by nothing that tde
 * says of it. What is never allowed:
 *
 * - success, or "verified", over content that no run of the keyholder produced as a whole: forged, mixed, or older
 *   than what is remembered, without consent;
 * - a remembered epoch that falls, or another root at the same epoch;
 * - a journal acted on that is of no run which is open at this place;
 * - legitimate content that is gone afterwards; above all, a finished directory that was emptied;
 * - advice that leads to any of it, and advice to recover what is no open run.
 *
 * Plaintext of a first encryption is the exception: nobody has vouched for it, so it is taken as it is, by a run that
 * is open or that the victim begins unadvised.
 */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import { loadState } from "../../src/keyring/state.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { STATE } from "../support/simulated-tde.ts";
import type { Composition } from "./attacker.ts";
import {
  type CompleteState,
  type History,
  type OpenRun,
  PLACE_NAMES,
  type PlaceName,
  PLACES,
} from "./history.ts";
import { type Image, imageOf } from "./image.ts";
import {
  difference,
  isOwn,
  JOURNAL,
  type JournalFacts,
  MANIFEST,
  type ManifestFacts,
  type Reading,
  sameThing,
  workingPaths,
} from "./reading.ts";
import { CONTROL, EXPENDABLE, type Tree } from "./tiny-cluster.ts";
import { adviceOf, type Command, type Outcome, VICTIMS_OUTPUT } from "./victim.ts";

export interface Violation {
  readonly kind: ViolationKind;
  readonly what: string;
}

export type ViolationKind =
  | "forged"
  | "rolled back"
  | "memory"
  | "journal"
  | "emptied"
  | "lost"
  | "advice"
  | "changed by a refusal"
  | "broken";

interface Remembered {
  readonly isVerified: boolean;
  readonly directories: ReadonlyMap<string, { readonly epoch: bigint; readonly root: string }>;
  /** Runs that are registered, and whether only their journal is left to be removed. */
  readonly runs: ReadonlyMap<string, { readonly place: string; readonly ended: boolean }>;
}

/** A disk as it is before or after a command. */
export interface View {
  readonly images: ReadonlyMap<PlaceName, Image>;
  readonly output: Image;
  readonly remembered: Remembered;
}

/** One directory before a command, and what is true of it. */
interface Scene {
  readonly command: Command;
  readonly outcome: Outcome;
  readonly before: View;
  readonly after: View;
  readonly was: Reading;
  readonly is: Reading;
  /** The run that the journal there is of, where it is open, or the user does without knowing; else undefined. */
  readonly resumed: OpenRun | undefined;
  /** Nothing tells that it is open. */
  readonly isDoubted: boolean;
  /** The journal is of a run that has ended here, and of which only the journal is to be removed. */
  readonly isEnded: boolean;
}

const SIGNALS = ["recovery.signal", "standby.signal"];
const OPERATION_NAMES = [
  "",
  "encrypt",
  "decrypt",
  "encryptOutput",
  "decryptOutput",
  "rotate",
  "sync",
];

/** Follows one victim over several commands. */
export class Oracle {
  private readonly history: History;
  private readonly keys: DataKeys;
  private readonly target: PlaceName;
  private readonly states: CompleteState[];
  private readonly plain: Tree;
  private readonly hasState: boolean;
  private open: OpenRun | undefined;
  /** For a report: whether the journal that the last command met was of an open run. */
  wasOpen: boolean = false;

  constructor(history: History, keys: DataKeys, { present, target, state }: Composition) {
    this.history = history;
    this.keys = keys;
    this.target = target;
    const now = history.moments[present];
    this.states = history.states.filter(({ since }) => since <= present);
    this.plain = now?.images.get("plain") ?? new Map();
    // A state file that was put back is all that the victim has: what was open then is open.
    this.open =
      state.kind === "kept"
        ? now?.open
        : state.kind === "older"
          ? history.moments[state.moment]?.open
          : undefined;
    this.hasState = state.kind === "kept" || state.kind === "older";
  }

  /** For a report: the operation of the journal that lies there. */
  static journalName(journal: JournalFacts | undefined): string {
    return journal === undefined ? "none" : (OPERATION_NAMES[journal.operation] ?? "damaged");
  }

  view(disk: CrashDisk): View {
    const images = new Map(PLACE_NAMES.map((name) => [name, imageOf(disk, PLACES[name].root)]));
    const { status, directories, runs } = loadState(disk, STATE, this.keys);
    return {
      images,
      output: imageOf(disk, VICTIMS_OUTPUT.root),
      remembered: { isVerified: status === "verified", directories, runs },
    };
  }

  judge(command: Command, outcome: Outcome, before: View, after: View): Violation[] {
    const { reader } = this.history;
    const was = reader.read(this.targetOf(before));
    const is = reader.read(this.targetOf(after));
    const isOpen = this.isOpen(was.journal);
    const isDoubted =
      !isOpen && command.consents.withoutState === true && !before.remembered.isVerified;
    const resumed = isOpen
      ? this.open
      : isDoubted && was.journal !== undefined
        ? this.history.runs.get(was.journal.runId)
        : undefined;
    this.wasOpen = isOpen;
    const registered = before.remembered.runs.get(was.journal?.runId ?? "");
    const isEnded = registered?.ended === true && registered.place === PLACES[this.target].root;
    const scene = { command, outcome, before, after, was, is, resumed, isDoubted, isEnded };
    const violations = [
      ...(outcome.kind === "broken"
        ? [{ kind: "broken", what: stackOf(outcome.error) } as const]
        : []),
      ...this.memory(scene),
      ...this.claims(scene),
      ...this.journals(scene),
      ...this.losses(scene),
      ...this.advice(scene),
    ];
    this.follow(scene);
    return violations;
  }

  /** Whether a journal at the target is of a run that is open there. */
  isOpen(journal: JournalFacts | undefined): boolean {
    const { open, target } = this;
    return journal !== undefined && open?.place === target && open.runId === journal.runId;
  }

  private targetOf({ images }: View): Image {
    return images.get(this.target) ?? new Map();
  }

  /** Memory only grows. */
  private memory({ before, after }: Scene): Violation[] {
    if (!before.remembered.isVerified) return [];
    if (!after.remembered.isVerified) return [{ kind: "memory", what: "the state file is gone" }];
    const violations: Violation[] = [];
    for (const [id, old] of before.remembered.directories) {
      const now = after.remembered.directories.get(id);
      const short = id.slice(0, 8);
      if (now === undefined) violations.push({ kind: "memory", what: `${short} is forgotten` });
      else if (now.epoch < old.epoch) {
        const what = `the epoch of ${short} falls from ${old.epoch} to ${now.epoch}`;
        violations.push({ kind: "memory", what });
      } else if (now.epoch === old.epoch && now.root !== old.root) {
        violations.push({ kind: "memory", what: `the root of ${short} is replaced` });
      }
    }
    return violations;
  }

  /** What success says of the content. */
  private claims(scene: Scene): Violation[] {
    const { command, outcome, is } = scene;
    switch (outcome.kind) {
      case "refused":
        // An earlier run is ended, and that is all: what it made stands.
        if (scene.was.journal?.isCommitted === true && is.journal === undefined && is.manifest)
          this.learn(is.manifest, scene.resumed?.goal);
        return [];
      case "broken":
      case "not verified":
        return [];
      case "verified": {
        const accepted = new Set(outcome.report.accepted.map(({ path }) => path));
        return this.whole(scene, is.tree, is.manifest, accepted);
      }
      case "encrypted":
        if (command.name === "encrypt --output into it") return this.sameAsPlain(scene);
        return this.encrypted(scene, new Set(outcome.report.accepted?.map(({ path }) => path)));
      case "decrypted": {
        // It says that it proves nothing, and ends with an error.
        if (outcome.report.unchecked !== 0) return [];
        const accepted = new Set(outcome.report.accepted.map(({ path }) => path));
        return this.decrypted(scene, accepted);
      }
      case "rotated":
        // It vouches for what it sealed anew, and the manifest goes on saying what it said of the rest.
        if (is.manifest !== undefined) this.learn(is.manifest, this.baseTree(scene));
        return [];
      case "synced":
        return this.sameAsPlain(scene);
      case "recovered":
        return this.recovered(scene, outcome.report);
    }
  }

  private recovered(scene: Scene, outcome: string): Violation[] {
    const { is, resumed, isDoubted, isEnded } = scene;
    switch (outcome) {
      case "encryption-finished":
        return this.encrypted(scene, new Set());
      case "decryption-finished":
        return this.decrypted(scene, new Set());
      case "rotation-finished":
        if (is.manifest !== undefined) this.learn(is.manifest, this.baseTree(scene));
        return [];
      case "sync-finished":
        if (is.manifest !== undefined && resumed !== undefined)
          this.learn(is.manifest, resumed.goal);
        return [];
      case "output-finished":
      case "output-altered":
        // It says that the run had ended, and reads nothing.
        if (is.manifest !== undefined) this.learn(is.manifest, resumed?.goal);
        return [];
      case "output-emptied":
      case "output-place-left":
        if (isOutput(resumed) && !isDoubted) return [];
        return [{ kind: "emptied", what: "a directory that is no open output is empty" }];
      case "decryption-ended":
      case "output-ended":
        // It says that the run had ended, which the state file knows whatever journal of it lies there.
        return isEnded ? [] : this.decrypted(scene, new Set());
      case "decryption-unproved":
        return [];
      default:
        return [];
    }
  }

  /** An encryption vouches for all that lies there. */
  private encrypted(scene: Scene, accepted: ReadonlySet<string>): Violation[] {
    const { command, before, after, was, is, resumed } = scene;
    const { manifest } = is;
    if (manifest === undefined) return [{ kind: "forged", what: "encrypted, without a manifest" }];
    // All that this says is that the manifest is there, which says of each file what it has to be.
    const hadWritten = sameThing(
      this.targetOf(before).get(workingPaths(MANIFEST)[0] ?? ""),
      this.targetOf(after).get(MANIFEST),
    );
    if (hadWritten || manifest.root === was.manifest?.root) {
      this.learn(manifest, resumed?.goal);
      return [];
    }
    const isFirst = resumed?.isFirst ?? (was.journal === undefined && was.manifest === undefined);
    if (isFirst) {
      if (resumed === undefined && command.isAdvised) {
        return [{ kind: "advice", what: "a first encryption was advised" }];
      }
      const violations = this.firstEncryption(scene);
      if (violations.length === 0) this.learn(manifest, is.tree);
      return violations;
    }
    const image = this.targetOf(after);
    const expected = new Map(this.baseTree(scene));
    const exempt = new Set(accepted);
    for (const [path, thing] of is.tree) {
      const isAsItWas = sameThing(was.tree.get(path), thing);
      // What is new since may be anybody's; it must only not be a sealed file from elsewhere.
      const isNew = !expected.has(path) && !was.sealed.has(path) && isAsItWas;
      if (isNew || accepted.has(path)) expected.set(path, thing);
      // What was sealed before is not opened once more: damage stays, and "verified" may not be said of it.
      if (isNew || (isAsItWas && !is.sealed.has(path) && looksSealed(path, image)))
        exempt.add(path);
    }
    const violations = this.whole(scene, is.tree, was.manifest ?? manifest, exempt);
    if (violations.length === 0) this.learn(manifest, expected);
    return violations;
  }

  /** Everything is as it lay there, and nothing was sealed before but by this run. */
  private firstEncryption({ was, is, resumed }: Scene): Violation[] {
    const foreign = [...was.sealed].find(
      (path) => !sameThing(was.tree.get(path), resumed?.goal.get(path)),
    );
    if (foreign !== undefined) {
      return [{ kind: "forged", what: `${foreign} was sealed by another run, and is taken over` }];
    }
    // Steps that were due bring what the run had made.
    const changed = [...new Set([...is.tree.keys(), ...was.tree.keys()])].find((path) => {
      const now = is.tree.get(path);
      return !sameThing(now, was.tree.get(path)) && !sameThing(now, resumed?.goal.get(path));
    });
    return changed === undefined
      ? []
      : [{ kind: "forged", what: `${changed} has another content` }];
  }

  private decrypted(scene: Scene, accepted: ReadonlySet<string>): Violation[] {
    const { command, after, was, is, resumed } = scene;
    const { reader } = this.history;
    if (scene.isEnded) return [];
    // A new directory is plain, and anybody's to change, before the end as well as after it.
    if (isOutput(resumed) && was.journal?.isCommitted === true) return [];
    if (command.name === "decrypt --output") {
      return this.whole(scene, reader.read(after.output).tree, was.manifest, accepted);
    }
    if (command.name === "decrypt a --output into it") {
      const source = reader.read(after.images.get("a") ?? new Map());
      return this.whole(scene, is.tree, source.manifest, accepted);
    }
    return this.whole(scene, is.tree, was.manifest, accepted);
  }

  private sameAsPlain(scene: Scene): Violation[] {
    const { is, was } = scene;
    const known = this.states.find(({ root }) => root === is.manifest?.root);
    if (known !== undefined && known.root === was.manifest?.root) {
      return this.whole(scene, is.tree, is.manifest, new Set());
    }
    const differs = difference(is.tree, this.plain);
    if (differs !== undefined) return [{ kind: "forged", what: `not as its source: ${differs}` }];
    if (is.manifest !== undefined) this.learn(is.manifest, this.plain);
    return [];
  }

  /** Whether a plain tree is one that a run of the keyholder produced, and that may be taken for the newest. */
  private whole(
    scene: Scene,
    tree: Tree,
    manifest: ManifestFacts | undefined,
    exempt: ReadonlySet<string>,
  ): Violation[] {
    const isExempt = (path: string): boolean =>
      exempt.has(path) || SIGNALS.includes(path) || (path === EXPENDABLE && !tree.has(path));
    const { resumed } = scene;
    const fromGoal = resumed && difference(tree, resumed.goal, isExempt);
    if (resumed !== undefined && fromGoal === undefined) return [];
    const ofDirectory = this.states.filter(
      ({ directoryId }) => manifest === undefined || directoryId === manifest.directoryId,
    );
    const byRoot = ofDirectory.filter(({ root }) => root === manifest?.root);
    const candidates = byRoot.length > 0 ? byRoot : ofDirectory;
    const differences = candidates.map((state) => difference(tree, state.tree, isExempt));
    const fitting = candidates.filter((_, i) => differences[i] === undefined);
    if (fitting.length === 0) {
      return [
        { kind: "forged", what: fromGoal ?? differences.at(-1) ?? "no such directory is known" },
      ];
    }
    if (fitting.some((state) => this.isCurrent(scene, state))) return [];
    const { epoch } = fitting[0] as CompleteState;
    return [{ kind: "rolled back", what: `epoch ${epoch} passes without consent` }];
  }

  private isCurrent({ command, before, resumed }: Scene, state: CompleteState): boolean {
    const { isVerified, directories } = before.remembered;
    if (!isVerified || command.consents.acceptOlder === true) return true;
    // Its epoch was judged when it began.
    if (resumed !== undefined && state.tree === resumed.goal) return true;
    const known = directories.get(state.directoryId);
    return known === undefined || state.epoch > known.epoch || state.root === known.root;
  }

  /** What the directory's manifest stood for before the command. */
  private baseTree({ was, resumed }: Scene): Tree | undefined {
    return resumed?.goal ?? this.states.find(({ root }) => root === was.manifest?.root)?.tree;
  }

  private learn({ directoryId, epoch, root }: ManifestFacts, tree: Tree | undefined): void {
    if (tree === undefined || this.states.some((state) => state.root === root)) return;
    this.states.push({ directoryId, epoch, root, tree, since: 0 });
  }

  /** Only a run that is open may be taken up, and a refusal changes nothing. */
  private journals(scene: Scene): Violation[] {
    const { outcome, before, after, was, is, resumed, isEnded } = scene;
    if (was.journal === undefined || resumed !== undefined) return [];
    const name = Oracle.journalName(was.journal);
    if (isEnded && difference(this.targetOf(after), this.targetOf(before), isOfRun) === undefined) {
      return [];
    }
    if (!sameThing(this.targetOf(before).get(JOURNAL), this.targetOf(after).get(JOURNAL))) {
      const what = `the journal of a run (${name}) that is not open was acted on`;
      return [{ kind: "journal", what: is.journal === undefined ? what : `${what}, and stays` }];
    }
    if (outcome.kind !== "refused") return [];
    const changed = PLACE_NAMES.find((place) => {
      const [old, now] = [before, after].map(({ images }) => images.get(place) ?? new Map());
      return difference(now as Image, old as Image, isLock) !== undefined;
    });
    if (changed === undefined) return [];
    return [{ kind: "changed by a refusal", what: `${changed}, beside a journal (${name})` }];
  }

  /** Legitimate content that was there is there. */
  private losses(scene: Scene): Violation[] {
    const { before, after } = scene;
    const violations: Violation[] = [];
    for (const place of PLACE_NAMES) {
      const [old, now] = [before, after].map(({ images }) => images.get(place) ?? new Map());
      if (old === undefined || now === undefined || difference(now, old) === undefined) continue;
      const lost = this.lostIn(scene, place, old, now);
      if (lost === undefined) continue;
      const isEmpty = ![...now.keys()].some((path) => !isOwn(path, now));
      violations.push({ kind: isEmpty ? "emptied" : "lost", what: lost });
      break;
    }
    return violations;
  }

  private lostIn(
    { command, outcome, resumed, isDoubted }: Scene,
    place: PlaceName,
    old: Image,
    now: Image,
  ): string | undefined {
    const { reader } = this.history;
    const [was, is] = [reader.read(old), reader.read(now)];
    const isTarget = place === this.target;
    if (isTarget && isOutput(resumed) && !isDoubted) return undefined;
    const isSynced = isTarget && (command.name === "sync" || resumed?.operation === "sync");
    for (const [path, thing] of was.tree) {
      if (typeof thing !== "object" || !this.isLegitimate(path, thing)) continue;
      const left = is.tree.get(path);
      if (sameThing(left, thing)) continue;
      if (isSynced && sameThing(left, this.plain.get(path))) continue;
      if (path === CONTROL && left !== undefined && this.isLegitimate(path, left)) continue;
      const hasWorking = workingPaths(path).some((working) => now.has(working) || old.has(working));
      if (resumed !== undefined && (outcome.kind === "refused" || hasWorking)) continue;
      return `${place}: ${path} is ${left === undefined ? "gone" : "another"}`;
    }
    return undefined;
  }

  private isLegitimate(path: string, thing: Buffer | "folder" | "tablespace"): boolean {
    return (
      sameThing(this.plain.get(path), thing) ||
      this.states.some(({ tree }) => sameThing(tree.get(path), thing))
    );
  }

  private advice({ command, outcome, was, resumed, isEnded }: Scene): Violation[] {
    if (was.journal === undefined || resumed !== undefined || isEnded) return [];
    // A refusal that is about the source, where a run is open, says nothing of the target.
    const isOfSource = command.name === "decrypt a --output into it" && this.open?.place === "a";
    if (isOfSource && outcome.kind === "refused" && outcome.error.message.includes(PLACES.a.root))
      return [];
    const text = adviceOf(outcome);
    if (!/tde recover|same command/.test(text)) return [];
    const name = Oracle.journalName(was.journal);
    return [{ kind: "advice", what: `beside a journal (${name}) of no open run: ${text}` }];
  }

  /** Which run is open now. */
  private follow({ was, is, resumed, before, outcome }: Scene): void {
    if (resumed !== undefined && is.journal?.runId !== was.journal?.runId) {
      this.open = undefined;
      // It came to its end, whatever the command said of what it wanted to do next.
      if (is.manifest !== undefined) {
        this.learn(is.manifest, resumed.isFirst ? is.tree : resumed.goal);
      }
    }
    if (is.journal === undefined || is.journal.runId === was.journal?.runId) return;
    // A run of the victim's own that was stopped half way, registered where there is a state to register it in.
    if (!before.remembered.isVerified && !this.hasState && outcome.kind !== "refused") return;
    const operation = OPERATION_NAMES[is.journal.operation] as OpenRun["operation"];
    const isFirst = operation === "encrypt" && was.manifest === undefined;
    const goal =
      operation === "sync"
        ? this.plain
        : (this.states.find(({ root }) => root === was.manifest?.root)?.tree ?? was.tree);
    this.open = { place: this.target, operation, isFirst, goal, runId: is.journal.runId };
  }
}

/** Whether a file looks like one that was sealed. */
function looksSealed(path: string, image: Image): boolean {
  const bytes = image.get(path);
  const isContainer = typeof bytes === "object" && bytes.toString("latin1", 0, 4) === "TDEC";
  return isContainer || image.has(sidecarName(path as BytePath));
}

function isLock(path: string): boolean {
  return path.startsWith("tde.lock");
}

function isOfRun(path: string): boolean {
  return path === JOURNAL || isLock(path);
}

function isOutput(run: OpenRun | undefined): boolean {
  return run?.operation === "encryptOutput" || run?.operation === "decryptOutput";
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
