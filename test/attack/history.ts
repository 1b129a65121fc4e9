/**
 * What happened before the attack: the keyholder's own runs on two copies of a cluster, one after the other, some of
 * them cut by a power failure and taken up again. Every state that lay on the disk in between is kept, because whoever
 * can read the directories may have copied it; and of every state that a run completed it is known what it holds.
 */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { StateError } from "../../src/errors.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import type { JournalOperation } from "../../src/storage/journal.ts";
import { CrashDisk, PowerCut } from "../support/crash-disk.ts";
import type { CallKind } from "../support/crash-errnos.ts";
import { type Random, randomFrom, type Survivors } from "../support/crash-nodes.ts";
import { KEY_FILE, SimulatedTde } from "../support/simulated-tde.ts";
import { type Image, imageOf, inPlace, install, type Place, putFile, remove } from "./image.ts";
import { journalFacts, manifestFacts, Reader } from "./reading.ts";
import {
  CONTROL,
  contentOf,
  firstTree,
  HBA,
  nightOfWork,
  pages,
  type Tree,
} from "./tiny-cluster.ts";

export const KEYS_FOLDER = "/keys" as BytePath;

function place(name: string): Place {
  return { root: `/srv/${name}` as BytePath, tablespace: `/srv/${name}_ts` as BytePath };
}

/** plain: the cluster that goes on. a, b: its two copies. out: what `--output` makes. */
export type PlaceName = "plain" | "a" | "b" | "out";
export const PLACE_NAMES: readonly PlaceName[] = ["plain", "a", "b", "out"];
export const PLACES: Readonly<Record<PlaceName, Place>> = {
  plain: place("plain"),
  a: place("a"),
  b: place("b"),
  out: place("out"),
};

/** A run that began and has not ended. */
export interface OpenRun {
  readonly place: PlaceName;
  readonly operation: JournalOperation;
  /** Nobody has vouched for what it seals: an encryption of what was plain. */
  readonly isFirst: boolean;
  /** What the directory holds, as plaintext, when it has ended. */
  readonly goal: Tree;
  /** Hex; undefined until it has a journal. */
  readonly runId: string | undefined;
}

/** A state of a directory that a run of the keyholder completed. */
export interface CompleteState {
  readonly directoryId: string;
  readonly epoch: bigint;
  readonly root: string;
  readonly tree: Tree;
  /** The moment from which on it was there. */
  readonly since: number;
}

export interface Moment {
  readonly index: number;
  readonly label: string;
  /** Nothing runs: a run has ended, or the power has gone. Others can only be copied from. */
  readonly isRest: boolean;
  readonly images: ReadonlyMap<PlaceName, Image>;
  /** The keyring, its key file and its state file. */
  readonly keys: Image;
  readonly open: OpenRun | undefined;
}

export interface History {
  readonly seed: number;
  readonly kind: "copied" | "encrypted separately";
  readonly moments: readonly Moment[];
  readonly states: readonly CompleteState[];
  /** Every run that there was, by its id. */
  readonly runs: ReadonlyMap<string, OpenRun>;
  readonly reader: Reader;
}

/** Of the larger database alone: another one stays plain. */
export const PART: ScopeSelection = { ...NOTHING_SELECTED, databases: ["5" as BytePath] };

const OPERATIONS_IN_A_HISTORY = 10;
/** What is visible has changed when one of these comes. */
const SHOWS: ReadonlySet<CallKind> = new Set(["rename", "remove", "removeDirectory", "sync"]);
const SURVIVORS: readonly Survivors[] = ["everything", "everything", "random", "synced-only"];

/** The same for the same seed, but for keys, nonces, ids and times. */
export async function makeHistory(seed: number): Promise<History> {
  return await new Keyholder(seed).live();
}

interface Work {
  readonly what: string;
  readonly place: PlaceName;
  readonly operation: JournalOperation;
  readonly isFirst: boolean;
  readonly goal: Tree;
  readonly command: (tde: SimulatedTde) => Promise<unknown>;
}

type Standing = { readonly tree: Tree; readonly scope: "plain" | "part" | "all" };

class Keyholder {
  private readonly seed: number;
  private readonly random: Random;
  private readonly kind: History["kind"];
  private disk: CrashDisk = new CrashDisk();
  private readonly moments: Moment[] = [];
  private readonly states: CompleteState[] = [];
  private readonly runs: Map<string, OpenRun> = new Map();
  private readonly standing: Map<PlaceName, Standing> = new Map();
  private open: OpenRun | undefined;
  private generation = 0;
  private label = "the beginning";

  constructor(seed: number) {
    this.seed = seed;
    this.random = randomFrom(seed * 7919 + 13);
    this.kind = this.random() < 0.5 ? "copied" : "encrypted separately";
  }

  async live(): Promise<History> {
    for (const folder of ["/srv", KEYS_FOLDER]) {
      this.disk.makeDirectory(folder as BytePath, 0o700);
    }
    const tde = new SimulatedTde(this.disk);
    tde.createKeyFile(KEY_FILE);
    await tde.createKeyring();
    const tree = firstTree();
    for (const name of ["plain", "a"] as const) this.give(name, { tree, scope: "plain" });
    await this.encrypt("a", this.chance(0.5) ? "part" : "all");
    if (this.kind === "copied") this.copyDirectory();
    else {
      this.give("b", { tree, scope: "plain" });
      await this.encrypt("b", "all");
    }
    for (let i = 0; i < OPERATIONS_IN_A_HISTORY; i++) await this.next();
    this.nameRuns();
    const { seed, kind, moments, states, runs } = this;
    const keys = (await new SimulatedTde(this.disk.copy()).openKeyring()).dataKeys();
    const system = contentOf(tree, CONTROL).readBigUInt64LE(0);
    return { seed, kind, moments, states, runs, reader: new Reader(keys, system) };
  }

  /** One more thing that a keyholder does. */
  private async next(): Promise<void> {
    const name = this.chance(0.6) ? "a" : "b";
    const { scope } = this.standingOf(name);
    if (scope === "plain") {
      if (this.chance(0.6)) this.workOn(name);
      return await this.encrypt(name, this.chance(0.3) ? "part" : "all");
    }
    const choice = this.random();
    if (scope === "part" && choice < 0.4) return await this.encrypt(name, "all");
    if (choice < 0.2) return await this.rotate(name);
    if (choice < 0.4) {
      if (this.chance(0.8)) this.workOn("plain");
      return await this.sync(name);
    }
    if (choice < 0.5) return await this.acceptChange(name);
    if (choice < 0.6) return await this.addRelation(name);
    if (choice < 0.8) return await this.decrypt(name);
    return await this.intoOutput(name);
  }

  private async encrypt(name: PlaceName, scope: "part" | "all"): Promise<void> {
    const { tree, scope: before } = this.standingOf(name);
    const selection = scope === "part" ? PART : NOTHING_SELECTED;
    const { root } = PLACES[name];
    await this.perform({
      what: before === "plain" ? `encrypt ${scope} of` : "widen",
      place: name,
      operation: "encrypt",
      isFirst: before === "plain",
      goal: tree,
      command: (tde) =>
        tde.encrypt(root, undefined, selection, { acceptOlder: true, acceptMoved: true }),
    });
    this.standing.set(name, { tree, scope });
  }

  private async rotate(name: PlaceName): Promise<void> {
    const { tree } = this.standingOf(name);
    const { root } = PLACES[name];
    if (this.chance(0.6)) {
      const tde = new SimulatedTde(this.disk);
      await tde.changeKeyring(async (keyring, state) => keyring.newKey(state));
    }
    await this.perform({
      what: "rotate",
      place: name,
      operation: "rotate",
      isFirst: false,
      goal: tree,
      command: (tde) => tde.rotate(root, undefined, { acceptOlder: true, acceptMoved: true }),
    });
  }

  private async sync(name: PlaceName): Promise<void> {
    const goal = this.standingOf("plain").tree;
    const { root } = PLACES[name];
    await this.perform({
      what: "sync",
      place: name,
      operation: "sync",
      isFirst: false,
      goal,
      command: (tde) =>
        tde.sync(PLACES.plain.root, root, new Map(), { acceptOlder: true, acceptMoved: true }),
    });
    this.standing.set(name, { ...this.standingOf(name), tree: goal });
  }

  private async acceptChange(name: PlaceName): Promise<void> {
    const { tree: before, scope } = this.standingOf(name);
    const content = Buffer.from(`${contentOf(before, HBA).toString()}# ${++this.generation}\n`);
    const tree = new Map([...before, [HBA, content]]);
    const { root } = PLACES[name];
    putFile(this.disk, inPlace(PLACES[name], HBA), content);
    await this.perform({
      what: "accept a change in",
      place: name,
      operation: "encrypt",
      isFirst: false,
      goal: tree,
      command: (tde) =>
        tde.encrypt(root, undefined, scope === "part" ? PART : NOTHING_SELECTED, {
          acceptOlder: true,
          acceptMoved: true,
          acceptChanged: [HBA as BytePath],
        }),
    });
    this.standing.set(name, { tree, scope });
  }

  private async addRelation(name: PlaceName): Promise<void> {
    const { tree: before, scope } = this.standingOf(name);
    const path = `base/5/${9000 + ++this.generation}`;
    const content = pages("added", this.generation, 1);
    const tree = new Map([...before, [path, content]]);
    const { root } = PLACES[name];
    putFile(this.disk, inPlace(PLACES[name], path), content);
    await this.perform({
      what: "take a new file in",
      place: name,
      operation: "encrypt",
      isFirst: false,
      goal: tree,
      command: (tde) =>
        tde.encrypt(root, undefined, scope === "part" ? PART : NOTHING_SELECTED, {
          acceptOlder: true,
          acceptMoved: true,
        }),
    });
    this.standing.set(name, { tree, scope });
  }

  private async decrypt(name: PlaceName): Promise<void> {
    const { tree } = this.standingOf(name);
    const { root } = PLACES[name];
    await this.perform({
      what: "decrypt",
      place: name,
      operation: "decrypt",
      isFirst: false,
      goal: tree,
      command: (tde) => tde.decrypt(root, undefined, { acceptOlder: true, acceptMoved: true }),
    });
    this.standing.set(name, { tree, scope: "plain" });
  }

  private async intoOutput(name: PlaceName): Promise<void> {
    if (this.standing.has("out")) this.take("out");
    const encrypts = this.chance(0.6);
    const source = encrypts ? "plain" : name;
    const { tree } = this.standingOf(source);
    const output = {
      output: PLACES.out.root,
      tablespaceMapping: new Map([[PLACES[source].tablespace, PLACES.out.tablespace]]),
    };
    const { root } = PLACES[source];
    await this.perform({
      what: encrypts ? "encrypt --output into" : `decrypt ${name} --output into`,
      place: "out",
      operation: encrypts ? "encryptOutput" : "decryptOutput",
      isFirst: encrypts,
      goal: tree,
      command: (tde) =>
        encrypts ? tde.encrypt(root, output) : tde.decrypt(root, output, { acceptOlder: true }),
    });
    this.standing.set("out", { tree, scope: encrypts ? "all" : "plain" });
  }

  /** Lets a run come to its end, in one go or over a power cut. */
  private async perform(work: Work): Promise<void> {
    const { place: name, operation, isFirst, goal, command } = work;
    this.label = `${work.what} ${name}`;
    this.open = { place: name, operation, isFirst, goal, runId: undefined };
    this.keep(name, true, "before");
    if (this.chance(0.4)) await this.cut(work);
    await this.watched(name, () => this.finish(command));
    this.keep(name, true, "at the end");
    this.open = undefined;
    this.keep(name, true, "after");
  }

  private async cut({ place: name, command }: Work): Promise<void> {
    const rehearsal = this.disk.copy();
    await command(new SimulatedTde(rehearsal));
    const crashAt = 1 + Math.floor(this.random() * rehearsal.steps);
    this.disk = this.disk.copy({ crashAt });
    await this.watched(name, async () => {
      try {
        await command(new SimulatedTde(this.disk));
      } catch (error) {
        if (!(error instanceof PowerCut)) throw error;
      }
    });
    const survivors = this.pick(SURVIVORS);
    this.disk = this.disk.reboot({ survivors, seed: crashAt });
    this.keep(name, true, `after a power cut at step ${crashAt}, ${survivors} left`);
    if (this.chance(0.5)) return;
    await this.watched(name, async () => {
      if (this.disk.nodeAt(PLACES[name].root) === undefined) return;
      await this.finish((tde) => tde.recover(PLACES[name].root));
    });
    this.keep(name, true, "after its recovery");
  }

  /** What is done already, or never began, is refused, and that is as good. */
  private async finish(command: Work["command"]): Promise<void> {
    try {
      await command(new SimulatedTde(this.disk));
    } catch (error) {
      const isDone =
        /is not encrypted|not an empty directory|between two states|its journal is missing$/;
      if (!(error instanceof StateError) || !isDone.test(error.message)) throw error;
    }
  }

  private async watched(name: PlaceName, run: () => Promise<void>): Promise<void> {
    const { disk } = this;
    disk.watcher = (what) => {
      if (SHOWS.has(what)) this.keep(name, false, `step ${disk.steps}`);
    };
    await run();
    disk.watcher = undefined;
  }

  private keep(changed: PlaceName, isRest: boolean, when: string): void {
    const before = this.moments.at(-1);
    const images = new Map(before?.images);
    images.set(changed, imageOf(this.disk, PLACES[changed].root));
    const journal = journalFacts(images.get(changed) ?? new Map());
    if (this.open !== undefined && journal !== undefined) {
      this.open = { ...this.open, runId: journal.runId };
      this.runs.set(journal.runId, this.open);
    }
    // A new manifest takes its place when all that it names is in place.
    const manifest = manifestFacts(images.get(changed) ?? new Map());
    const isNew = !this.states.some(({ root }) => root === manifest?.root);
    if (manifest !== undefined && this.open !== undefined && isNew) {
      this.states.push({ ...manifest, tree: this.open.goal, since: this.moments.length });
    }
    this.moments.push({
      index: this.moments.length,
      label: `${this.label}: ${when}`,
      isRest,
      images,
      keys: imageOf(this.disk, KEYS_FOLDER),
      open: this.open,
    });
  }

  /** A run is registered before it has a journal to be known by. */
  private nameRuns(): void {
    let later: OpenRun | undefined;
    for (const [i, moment] of [...this.moments.entries()].toReversed()) {
      const { open } = moment;
      if (open !== undefined && open.runId === undefined && later?.goal === open.goal) {
        this.moments[i] = { ...moment, open: later };
      } else {
        later = open;
      }
    }
  }

  private copyDirectory(): void {
    install(this.disk, PLACES.b, imageOf(this.disk, PLACES.a.root));
    this.standing.set("b", this.standingOf("a"));
    this.label = "copy a to b";
    this.keep("b", true, "after");
  }

  private give(name: PlaceName, standing: Standing): void {
    this.disk = this.disk.copy();
    install(this.disk, PLACES[name], standing.tree);
    this.standing.set(name, standing);
    this.label = `work on ${name}`;
    this.keep(name, true, "after");
  }

  private take(name: PlaceName): void {
    remove(this.disk, PLACES[name]);
    this.standing.delete(name);
    this.label = `remove ${name}`;
    this.keep(name, true, "after");
  }

  /** The cluster goes on; with another name, a copy of it is made there, in the place of a plain one. */
  private workOn(name: PlaceName): void {
    const before = this.standingOf("plain").tree;
    const tree = nightOfWork(before, ++this.generation, this.random);
    for (const one of new Set<PlaceName>(["plain", name])) this.give(one, { tree, scope: "plain" });
  }

  private standingOf(name: PlaceName): Standing {
    const standing = this.standing.get(name);
    if (standing === undefined) throw new Error(`nothing is at ${name}`);
    return standing;
  }

  private chance(probability: number): boolean {
    return this.random() < probability;
  }

  private pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.random() * choices.length)] as T;
  }
}
