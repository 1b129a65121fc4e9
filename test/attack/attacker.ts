/**
 * Someone without any key who can write to the directories and has kept copies of them from earlier: composes a disk
 * of files from any moments of any copy, and of what needs no key to be made. The keyring is out of reach. Its folder
 * is not, in one class of attacks of its own: there the state file is missing, damaged, or an older one.
 */
import { CrashDisk } from "../support/crash-disk.ts";
import type { Random } from "../support/crash-nodes.ts";
import { STATE } from "../support/simulated-tde.ts";
import {
  type History,
  KEYS_FOLDER,
  type Moment,
  PLACE_NAMES,
  type PlaceName,
  PLACES,
} from "./history.ts";
import { type Image, install, type Thing } from "./image.ts";
import { isSidecar, isWorking, JOURNAL, MANIFEST, SEALED_CONF } from "./reading.ts";
import { AUTO_CONF, HBA, pages, relationsOf, XACT } from "./tiny-cluster.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import type { BytePath } from "../../src/bytes/byte-path.ts";

/** Where a copied file comes from. */
export interface Origin {
  readonly moment: number;
  readonly place: PlaceName;
}

/** Files that belong together. */
export type Group =
  | "journal"
  | "manifest"
  | "guard"
  | "own files"
  | "working files"
  | "sidecars"
  | "relations"
  | "sealed files"
  | "everything but the journal";

export type Edit =
  | { readonly do: "put back"; readonly what: Group | readonly string[]; readonly from: Origin }
  | { readonly do: "remove"; readonly what: Group | readonly string[] }
  | { readonly do: "forge"; readonly path: string; readonly keepSidecar: boolean }
  | { readonly do: "add to guard" }
  | { readonly do: "flip"; readonly path: string; readonly bit: number };

export type StateFile =
  | { readonly kind: "kept" }
  | { readonly kind: "missing" }
  | { readonly kind: "damaged" }
  | { readonly kind: "older"; readonly moment: number };

/** All that there is to an attack, as data. */
export interface Composition {
  /** The moment at which it happens: nothing of a later one is known. */
  readonly present: number;
  readonly target: PlaceName;
  /** What lies at the target before the edits. */
  readonly base: Origin;
  readonly edits: readonly Edit[];
  readonly state: StateFile;
}

/** Draws an attack. */
export function compose(history: History, random: Random): Composition {
  return new Attacker(history, random).compose();
}

/** The disk that the victim finds. */
export function diskOf(
  history: History,
  { present, target, base, edits, state }: Composition,
): CrashDisk {
  const disk = new CrashDisk();
  for (const folder of ["/srv", KEYS_FOLDER]) disk.makeDirectory(folder as BytePath, 0o700);
  const now = history.moments[present] as Moment;
  for (const name of PLACE_NAMES) {
    if (name === target) continue;
    install(disk, PLACES[name], now.images.get(name) ?? new Map());
  }
  let image = imageAt(history, base);
  for (const edit of edits) image = edited(image, edit, history);
  install(disk, PLACES[target], image);
  install(disk, { root: KEYS_FOLDER, tablespace: KEYS_FOLDER }, keysOf(history, now, state));
  return disk.copy();
}

function keysOf(history: History, now: Moment, state: StateFile): Image {
  const name = STATE.slice(KEYS_FOLDER.length + 1);
  const keys = new Map(now.keys);
  const file = keys.get(name);
  if (typeof file !== "object") return keys;
  if (state.kind === "missing") keys.delete(name);
  if (state.kind === "damaged") keys.set(name, flipped(file, 8 * Math.floor(file.length / 2)));
  if (state.kind === "older") {
    const older = history.moments[state.moment]?.keys.get(name);
    if (older !== undefined) keys.set(name, older);
    else keys.delete(name);
  }
  return keys;
}

export function imageAt(history: History, { moment, place }: Origin): Image {
  return history.moments[moment]?.images.get(place) ?? new Map();
}

function edited(before: Image, edit: Edit, history: History): Image {
  const image = new Map(before);
  switch (edit.do) {
    case "put back": {
      const from = imageAt(history, edit.from);
      for (const path of pathsOf(edit.what, from)) {
        const thing = from.get(path);
        if (thing !== undefined) putInto(image, path, thing);
      }
      return image;
    }
    case "remove":
      for (const path of pathsOf(edit.what, before)) image.delete(path);
      return image;
    case "forge": {
      const there = before.get(edit.path);
      putInto(image, edit.path, forged(edit.path, typeof there === "object" ? there.length : 0));
      if (!edit.keepSidecar) image.delete(sidecarName(edit.path as BytePath));
      return image;
    }
    case "add to guard": {
      const guard = before.get(AUTO_CONF);
      const added = Buffer.from("archive_command = 'anything'\n");
      if (typeof guard === "object") image.set(AUTO_CONF, Buffer.concat([guard, added]));
      return image;
    }
    case "flip": {
      const thing = before.get(edit.path);
      if (typeof thing === "object" && thing.length > 0) {
        image.set(edit.path, flipped(thing, edit.bit % (8 * thing.length)));
      }
      return image;
    }
  }
}

/** A file needs its folders, and one in the tablespace the link. */
function putInto(image: Map<string, Thing>, path: string, thing: Thing): void {
  for (let slash = path.indexOf("/"); slash > 0; slash = path.indexOf("/", slash + 1)) {
    const folder = path.slice(0, slash);
    if (!image.has(folder)) {
      image.set(folder, /^pg_tblspc\/\d+$/.test(folder) ? "tablespace" : "folder");
    }
  }
  image.set(path, thing);
}

const FORGED_TEXT: Readonly<Record<string, string>> = {
  [HBA]: "host all all all trust\n",
  [AUTO_CONF]: "archive_command = 'anything at all'\n",
};

function forged(path: string, sizeBytes: number): Buffer {
  const text = FORGED_TEXT[path];
  if (text !== undefined) return Buffer.from(text);
  if (path === XACT) return Buffer.alloc(256, 0xee);
  if (/\/[1-9]\d*(_\w+)?(\.\d+)?$/.test(path)) {
    const content = pages("forged", 0, Math.max(1, Math.ceil(sizeBytes / 1024)));
    return sizeBytes === 0 ? content : content.subarray(0, sizeBytes);
  }
  return Buffer.alloc(Math.max(sizeBytes, 10), "forged ");
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

function pathsOf(what: Group | readonly string[], image: Image): readonly string[] {
  const all = [...image.keys()].filter((path) => typeof image.get(path) === "object");
  switch (what) {
    case "journal":
      return [JOURNAL];
    case "manifest":
      return [MANIFEST];
    case "guard":
      return [AUTO_CONF, SEALED_CONF];
    case "own files":
      return [...all.filter((path) => path.startsWith("tde.")), AUTO_CONF];
    case "working files":
      return all.filter(isWorking);
    case "sidecars":
      return all.filter(isSidecar);
    case "relations":
      return all.filter((path) => /\/[1-9]\d*(_\w+)?(\.\d+)?$/.test(path));
    case "sealed files":
      return all.filter((path) => !path.startsWith("tde.") && path !== AUTO_CONF);
    case "everything but the journal":
      return all.filter((path) => path !== JOURNAL);
    default:
      return what;
  }
}

type Weighted<T> = readonly (readonly [weight: number, choice: T])[];

const GROUPS: Weighted<Group> = [
  [6, "journal"],
  [2, "manifest"],
  [2, "guard"],
  [2, "own files"],
  [2, "working files"],
  [1, "sidecars"],
  [1, "relations"],
  [1, "sealed files"],
  [1, "everything but the journal"],
];

class Attacker {
  private readonly history: History;
  private readonly random: Random;
  private present: number = 0;

  constructor(history: History, random: Random) {
    this.history = history;
    this.random = random;
  }

  compose(): Composition {
    const { moments } = this.history;
    const rests = moments.filter(({ isRest, index }) => isRest && index > 0);
    this.present = this.chance(0.6) ? this.pick(rests).index : this.below(moments.length);
    const now = moments[this.present] as Moment;
    const targets = PLACE_NAMES.filter(
      (name) => name !== "plain" && (now.images.get(name)?.size ?? 0) > 0,
    );
    const isRunning = now.open !== undefined && this.chance(0.6);
    const anywhere = this.pick(targets.length === 0 ? (["a"] as const) : targets);
    const target = isRunning ? now.open.place : anywhere;
    // What is unfinished is attacked as it lies there, and not only with journals of other times.
    const lies = isRunning && this.chance(0.6);
    const base = lies ? { moment: this.present, place: target } : this.base(target);
    const edits: Edit[] = [];
    const count = this.chance(0.1) ? 0 : 1 + this.below(6);
    const kept = imageAt(this.history, base);
    // What resumes most often stands at the beginning of an attack.
    if (this.chance(lies ? 0.2 : 0.5)) {
      edits.push({ do: "put back", what: "journal", from: this.withJournal() });
    }
    for (let i = 0; i < count; i++) edits.push(this.edit(kept));
    return { present: this.present, target, base, edits, state: this.stateFile() };
  }

  private base(target: PlaceName): Origin {
    const choice = this.random();
    if (choice < 0.45) return { moment: this.present, place: target };
    if (choice < 0.75) return this.someWhere([target]);
    return this.someWhere(PLACE_NAMES);
  }

  private stateFile(): StateFile {
    const choice = this.random();
    if (choice < 0.6) return { kind: "kept" };
    if (choice < 0.75) return { kind: "missing" };
    if (choice < 0.85) return { kind: "damaged" };
    return { kind: "older", moment: this.below(this.present + 1) };
  }

  private edit(image: Image): Edit {
    const choice = this.random();
    const files = [...image.keys()].filter((path) => typeof image.get(path) === "object");
    const relation = this.pick(relationsOf(image).concat("base/5/9999"));
    if (choice < 0.3) {
      const what = this.weighted(GROUPS);
      const from = what === "journal" ? this.withJournal() : this.someWhere(PLACE_NAMES);
      return { do: "put back", what, from };
    }
    if (choice < 0.55) {
      const from = this.someWhere(PLACE_NAMES);
      const there = [...imageAt(this.history, from).keys()].filter((path) => !isSidecar(path));
      const path = this.pick(there.length > 0 ? there : [HBA]);
      const pair = [path, sidecarName(path as BytePath)];
      const what = this.chance(0.7) ? pair : [this.pick(pair)];
      return { do: "put back", what, from };
    }
    if (choice < 0.7) {
      const path = this.pick(files.length > 0 ? files : [HBA]);
      const what = this.chance(0.4)
        ? this.weighted(GROUPS)
        : this.chance(0.5)
          ? [path]
          : [relation, sidecarName(relation as BytePath)];
      return { do: "remove", what };
    }
    if (choice < 0.94) {
      const path = this.chance(0.6) ? relation : this.pick([HBA, XACT, AUTO_CONF, MANIFEST]);
      return { do: "forge", path, keepSidecar: this.chance(0.25) };
    }
    if (choice < 0.96) return { do: "add to guard" };
    return {
      do: "flip",
      path: this.pick(files.length > 0 ? files : [HBA]),
      bit: this.below(2 ** 20),
    };
  }

  /** Any moment up to the present, at one of these places where there is something then. */
  private someWhere(places: readonly PlaceName[]): Origin {
    for (let tries = 0; tries < 20; tries++) {
      const origin = { moment: this.below(this.present + 1), place: this.pick(places) };
      if (imageAt(this.history, origin).size > 0) return origin;
    }
    return { moment: this.present, place: "a" };
  }

  private withJournal(): Origin {
    for (let tries = 0; tries < 40; tries++) {
      const origin = this.someWhere(PLACE_NAMES);
      if (imageAt(this.history, origin).has(JOURNAL)) return origin;
    }
    return this.someWhere(PLACE_NAMES);
  }

  private weighted<T>(choices: Weighted<T>): T {
    let left = this.random() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, choice] of choices) {
      left -= weight;
      if (left < 0) return choice;
    }
    return this.pick(choices)[1];
  }

  private pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  private below(count: number): number {
    return Math.floor(this.random() * count);
  }

  private chance(probability: number): boolean {
    return this.random() < probability;
  }
}
