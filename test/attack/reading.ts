/**
 * What a data directory holds, whatever tde would say of it: each file opened by the book where it is sealed and its
 * tags hold, and taken as it lies where not. Nothing here asks whether files belong together; that is the oracle's
 * question, which it answers by comparing with what the keyholder's own runs were given.
 */
import { sidecarName, workingName } from "../../src/datadir/relation-path.ts";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { isGuardFile } from "../../src/format/postgres-conf.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import {
  type BookOpening,
  openContainerByTheBook,
  openRelationByTheBook,
} from "../support/open-by-the-book.ts";
import type { BookIdentity } from "../support/sealed-by-the-book.ts";
import type { Image, Thing } from "./image.ts";
import { AUTO_CONF, BLOCK_BYTES, BLOCKS_PER_SEGMENT, CONTROL, type Tree } from "./tiny-cluster.ts";

export const JOURNAL = "tde.journal";
export const MANIFEST = "tde.manifest";
/** How much of pg_control says something. */
const CONTROL_DATA_BYTES = 512;
export const SEALED_CONF = "tde.postgresql.auto.conf";

/** What a manifest says that it is of. */
export interface ManifestFacts {
  readonly directoryId: string;
  readonly epoch: bigint;
  readonly root: string;
}

/** What the header of a journal says, believed or not. */
export interface JournalFacts {
  readonly runId: string;
  readonly directoryId: string;
  readonly operation: number;
  /** All of the run is in its place: its newest record says so. */
  readonly isCommitted: boolean;
}

export interface Reading {
  /** The plain directory that decryption should give back; a file that does not open stands there as it lies. */
  readonly tree: Tree;
  /** Paths that are sealed, and open. */
  readonly sealed: ReadonlySet<string>;
  readonly manifest: ManifestFacts | undefined;
  readonly journal: JournalFacts | undefined;
}

export class Reader {
  private readonly book: BookOpening;
  private readonly controls: WeakMap<Buffer, Buffer> = new WeakMap();
  private readonly systemIdentifier: string;
  private readonly relations: WeakMap<Buffer, Opened[]> = new WeakMap();
  private readonly containers: WeakMap<Buffer, Container> = new WeakMap();

  constructor({ keyringId, keys }: DataKeys, systemIdentifier: bigint) {
    const deks = new Map(
      [...keys].flatMap(([id, { dek }]) => (dek === undefined ? [] : [[id, dek]])),
    );
    this.book = { blockSize: BLOCK_BYTES, keyringId, deks };
    this.systemIdentifier = String(systemIdentifier);
  }

  read(image: Image): Reading {
    const tree = new Map<string, Thing>();
    const sealed = new Set<string>();
    for (const [path, thing] of image) {
      if (isOwn(path, image)) continue;
      if (typeof thing !== "object") {
        tree.set(path, thing);
        continue;
      }
      const opened = this.open(path, thing, image);
      if (opened !== undefined) sealed.add(path);
      tree.set(path, opened ?? thing);
    }
    this.readAutoConf(image, tree, sealed);
    const control = tree.get(CONTROL);
    // What servers leave zero behind their data means nothing, and comes back as zeros.
    if (typeof control === "object") tree.set(CONTROL, this.withoutTail(control));
    return { tree, sealed, manifest: manifestFacts(image), journal: journalFacts(image) };
  }

  /** Behind the guard stands the sealed original. */
  private readAutoConf(image: Image, tree: Map<string, Thing>, sealed: Set<string>): void {
    const conf = image.get(AUTO_CONF);
    const original = image.get(SEALED_CONF);
    if (typeof original !== "object") return;
    if (typeof conf === "object" && !isGuardFile(conf)) return;
    const container = this.openContainer(original);
    if (container?.context === `datadir-absent:${AUTO_CONF}`) tree.delete(AUTO_CONF);
    if (container?.context !== `datadir:${AUTO_CONF}`) return;
    tree.set(AUTO_CONF, container.content);
    sealed.add(AUTO_CONF);
  }

  private open(path: string, stored: Buffer, image: Image): Buffer | undefined {
    const identity = identityOf(path, this.systemIdentifier);
    if (identity === undefined) {
      const container = this.openContainer(stored);
      return container?.context === `datadir:${path}` ? container.content : undefined;
    }
    const sidecar = image.get(sidecarName(path as BytePath));
    if (typeof sidecar !== "object") return undefined;
    const known = this.relations.get(stored) ?? [];
    this.relations.set(stored, known);
    const before = known.find((one) => one.path === path && one.sidecar === sidecar);
    if (before !== undefined) return before.original;
    const original = openRelationByTheBook(this.book, identity, stored, sidecar);
    known.push({ path, sidecar, original });
    return original;
  }

  private withoutTail(control: Buffer): Buffer {
    const known = this.controls.get(control);
    if (known !== undefined) return known;
    const isZero = control.subarray(CONTROL_DATA_BYTES).every((byte) => byte === 0);
    const whole = isZero ? control : Buffer.from(control).fill(0, CONTROL_DATA_BYTES);
    this.controls.set(control, whole);
    return whole;
  }

  private openContainer(bytes: Buffer): Container {
    if (!this.containers.has(bytes)) {
      this.containers.set(bytes, openContainerByTheBook(this.book, bytes));
    }
    return this.containers.get(bytes);
  }
}

interface Opened {
  readonly path: string;
  readonly sidecar: Buffer;
  readonly original: Buffer | undefined;
}

type Container = ReturnType<typeof openContainerByTheBook>;

/** Whether a file is of tde's making, and no part of the cluster. */
export function isOwn(path: string, image: Image): boolean {
  if (path.startsWith("tde.") || path.startsWith("tde_tdenew.")) return true;
  if (isWorking(path)) return true;
  return isSidecar(path) && image.get(path) !== "folder";
}

export function isSidecar(path: string): boolean {
  return /_tde(\.\d+)?$/.test(path);
}

export function isWorking(path: string): boolean {
  return /_tdenew(_tde)?(\.|$)/.test(path);
}

export function workingPaths(path: string): string[] {
  const working = workingName(path as BytePath);
  return [working, sidecarName(working)];
}

const RELATION =
  /^(?:global|base\/(\d+)|pg_tblspc\/(\d+)\/PG_17_202406281\/(\d+))\/(\d+)(_fsm|_vm|_init)?(?:\.(\d+))?$/;

function identityOf(path: string, systemIdentifier: string): BookIdentity | undefined {
  const match = RELATION.exec(path);
  if (match === null) return undefined;
  const [, base, tablespace, inTablespace, relfilenumber = "", fork, segmentText] = match;
  const segment = Number(segmentText ?? 0);
  return {
    systemIdentifier,
    tablespace: tablespace !== undefined ? Number(tablespace) : base !== undefined ? 1663 : 1664,
    database: Number(inTablespace ?? base ?? 0),
    relfilenumber,
    fork: (fork?.slice(1) ?? "main") as BookIdentity["fork"],
    segment,
    firstBlock: segment * BLOCKS_PER_SEGMENT,
    backend: 0xffffffff,
  };
}

export function manifestFacts(image: Image): ManifestFacts | undefined {
  const bytes = image.get(MANIFEST);
  if (typeof bytes !== "object") return undefined;
  const text = bytes.toString("latin1");
  const directoryId = /^directory ([0-9a-f]{32})$/m.exec(text)?.[1];
  const epoch = /^epoch (\d+)$/m.exec(text)?.[1];
  const root = /^root ([0-9a-f]{64})$/m.exec(text)?.[1];
  if (directoryId === undefined || epoch === undefined || root === undefined) return undefined;
  return { directoryId, epoch: BigInt(epoch), root };
}

export function journalFacts(image: Image): JournalFacts | undefined {
  const bytes = image.get(JOURNAL);
  if (typeof bytes !== "object") return undefined;
  // What is no journal is of no run.
  if (bytes.length < 80) return { runId: "", directoryId: "", operation: 0, isCommitted: false };
  let isCommitted = false;
  for (let at = 80; at + 5 <= bytes.length; at += 4 + bytes.readUInt32LE(at) + 16) {
    isCommitted = bytes.readUInt8(at + 4) === 3;
  }
  return {
    runId: bytes.toString("hex", 8, 24),
    directoryId: bytes.toString("hex", 24, 40),
    operation: bytes.readUInt32LE(52),
    isCommitted,
  };
}

/** @returns the first path at which two trees differ, and how; undefined where they are the same. */
export function difference(
  actual: Tree,
  expected: Tree,
  isExempt: (path: string) => boolean = () => false,
): string | undefined {
  for (const [path, thing] of expected) {
    const found = actual.get(path);
    if (isExempt(path) || found === thing) continue;
    if (found === undefined) return `${path} is missing`;
    if (typeof found !== "object" || typeof thing !== "object")
      return `${path} is a ${String(found)}`;
    if (!found.equals(thing)) return `${path} has another content`;
  }
  for (const path of actual.keys()) {
    if (!expected.has(path) && !isExempt(path)) return `${path} should not be there`;
  }
  return undefined;
}

export function sameThing(a: Thing | undefined, b: Thing | undefined): boolean {
  return a === b || (typeof a === "object" && typeof b === "object" && a.equals(b));
}
