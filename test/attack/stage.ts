/**
 * A disk with one small cluster and a keyring, for attacks that are told step by step: what lay there while a command
 * ran, and what has to hold when a victim meets what the attacker made of it.
 */
import assert from "node:assert/strict";
import { type BytePath, joinPath } from "../../src/bytes/byte-path.ts";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import { IntegrityError, TdeError } from "../../src/errors.ts";
import { loadState, type State } from "../../src/keyring/state.ts";
import { CrashDisk } from "../support/crash-disk.ts";
import { KEY_FILE, SimulatedTde, STATE } from "../support/simulated-tde.ts";
import { type PlaceName, PLACES } from "./history.ts";
import { contentAt, type Image, imageOf, inPlace, install, putFile } from "./image.ts";
import { JOURNAL } from "./reading.ts";
import { firstTree, HBA, pages, XACT } from "./tiny-cluster.ts";

// The lock waits for whoever may still be writing an incomplete one. On these disks nobody is.
Atomics.wait = (): "timed-out" => "timed-out";

export const A: BytePath = PLACES.a.root;

/** The plain cluster at `plain` and at `a`, and a keyring. */
export async function plainDisk(): Promise<CrashDisk> {
  const disk = new CrashDisk();
  for (const folder of ["/srv", "/keys"]) disk.makeDirectory(folder as BytePath, 0o700);
  const tde = new SimulatedTde(disk);
  tde.createKeyFile(KEY_FILE);
  await tde.createKeyring();
  for (const name of ["plain", "a"] as const) install(disk, PLACES[name], firstTree());
  return disk.copy();
}

export async function encryptedDisk(): Promise<CrashDisk> {
  const disk = await plainDisk();
  await new SimulatedTde(disk).encrypt(A);
  return disk.copy();
}

/** Where a copied directory comes to lie beside the original. */
export function copyDirectory(disk: CrashDisk, from: PlaceName, to: PlaceName): void {
  install(disk, PLACES[to], imageOf(disk, PLACES[from].root));
}

/** What lay at a place before each step of a run that has a journal there, the last one first. */
export async function spied(
  disk: CrashDisk,
  place: PlaceName,
  run: () => Promise<unknown>,
): Promise<Image[]> {
  const images: Image[] = [];
  disk.watcher = () => {
    const image = imageOf(disk, PLACES[place].root);
    if (image.has(JOURNAL)) images.unshift(image);
  };
  await run();
  disk.watcher = undefined;
  assert.ok(images.length > 10);
  return images;
}

/** The one in the middle. */
export function middleOf<T>(list: readonly T[]): T {
  return list[Math.floor(list.length / 2)] as T;
}

export function put(disk: CrashDisk, path: string, content: Buffer | undefined): void {
  putFile(disk, inPlace(PLACES.a, path), content);
}

export function putJournal(disk: CrashDisk, place: PlaceName, from: Image): void {
  const journal = from.get(JOURNAL);
  assert.ok(typeof journal === "object");
  putFile(disk, inPlace(PLACES[place], JOURNAL), journal);
}

/** A table of somebody's own, without a sidecar. */
export function forgeTable(disk: CrashDisk, path: string): void {
  const { length } = contentAt(disk, joinPath(A, path)) ?? Buffer.alloc(0);
  put(disk, path, pages("forged", 0, Math.ceil(length / 1024)).subarray(0, length));
  put(disk, sidecarName(path as BytePath), undefined);
}

export function forgeConfiguration(disk: CrashDisk): void {
  put(disk, HBA, Buffer.from("host all all all trust\n"));
  put(disk, XACT, Buffer.alloc(256, 0xee));
}

export async function stateOf(disk: CrashDisk): Promise<State> {
  const keyring = await new SimulatedTde(disk.copy()).openKeyring();
  return loadState(disk, STATE, keyring.dataKeys());
}

/**
 * Each of the commands refuses the disk, as not authentic; nothing in the place is changed, nothing that was remembered
 * is gone, and no hint leads to a recovery.
 */
export async function assertHeld(
  disk: CrashDisk,
  commands: Readonly<Record<string, (tde: SimulatedTde) => Promise<unknown>>>,
  place: PlaceName = "a",
): Promise<void> {
  const before = imageOf(disk, PLACES[place].root);
  const remembered = (await stateOf(disk)).directories;
  for (const [name, command] of Object.entries(commands)) {
    const victim = disk.copy();
    let refusal: unknown;
    let outcome: unknown;
    try {
      outcome = await command(new SimulatedTde(victim));
    } catch (error) {
      refusal = error;
    }
    assert.ok(refusal instanceof TdeError, `${name} ended with ${JSON.stringify(outcome)}`);
    assert.ok(refusal instanceof IntegrityError, `${name}: ${refusal.name}: ${refusal.message}`);
    assert.doesNotMatch(refusal.hint ?? "", /recover|same command/, name);
    const after = withoutLocks(imageOf(victim, PLACES[place].root));
    assert.deepEqual(after, withoutLocks(before), `${name} changed the directory`);
    assert.deepEqual((await stateOf(victim)).directories, remembered, `${name} changed the state`);
  }
}

function withoutLocks(image: Image): Image {
  return new Map([...image].filter(([path]) => !path.startsWith("tde.lock")));
}

/** What someone tries on an encrypted directory that may need a recovery. */
export const TRIES: Readonly<Record<string, (tde: SimulatedTde) => Promise<unknown>>> = {
  recover: (tde) => tde.recover(A),
  verify: (tde) => tde.verify(A),
  encrypt: (tde) => tde.encrypt(A),
  decrypt: (tde) => tde.decrypt(A),
  rotate: (tde) => tde.rotate(A, undefined),
};
