/**
 * Stops an operation everywhere. For power cuts: before every step of it, with each kind of survivors, followed by each
 * way to go on, which is itself cut again and again. For errors: at every call of it, followed by the same. Whatever
 * comes of it is held against what the operation promises.
 */
import assert from "node:assert/strict";
import { TdeError } from "../../src/errors.ts";
import { BAD_WRITES } from "./bad-writes.ts";
import { CrashDisk, type Faults, PowerCut } from "./crash-disk.ts";
import { type Errno, ERRNOS_OF } from "./crash-errnos.ts";
import { type Random, randomFrom, type Survivors } from "./crash-nodes.ts";
import type { Operation, Repair } from "./crash-operations.ts";
import { SimulatedTde } from "./simulated-tde.ts";

const SURVIVORS: readonly Survivors[] = ["synced-only", "everything", "random"];
/** A repair is cut at most so often before it is let go. */
const MAX_CUTS_OF_REPAIR = 3;

export interface Figures {
  /** Steps before which the power went, in the operation and in its repairs. */
  cuts: number;
  /** Disks that were repaired and held against the promise. */
  recovered: number;
  /** Calls that were made to fail. */
  errors: number;
  /** Writes that did something else than they said, and those after which the operation ended with an error. */
  badWrites?: number;
  noticed?: number;
}

export interface Sampling {
  /** Cut before every n-th step, fail every n-th call. 1: all of them, with every combination. */
  readonly stride: number;
  readonly seed: number;
}

// The lock waits a second for whoever may still be writing an incomplete one. On these disks nobody is.
Atomics.wait = (): "timed-out" => "timed-out";

/** Cuts the power before steps of `operation`. */
export async function cutEverywhere(
  operation: Operation,
  { stride, seed }: Sampling,
  figures: Figures,
): Promise<void> {
  const before = await operation.prepare();
  const { steps } = await measure(operation, before);
  const random = randomFrom(seed);
  for (let step = firstOf(stride, random); step <= steps + 1; step += stride) {
    const disk = before.copy({ crashAt: step });
    await cutDown(() => operation.run(new SimulatedTde(disk)), step > steps);
    figures.cuts++;
    const where = `step ${step} of ${steps}: ${disk.struck ?? "after its end"}`;
    for (const survivors of SURVIVORS) {
      const rounds = stride === 1 && survivors === "random" ? 3 : 1;
      for (let round = 0; round < rounds; round++) {
        const diskSeed = Math.floor(random() * 2 ** 32);
        const left = disk.reboot({ survivors, seed: diskSeed });
        const repairs = stride === 1 ? operation.repairs : [pick(operation.repairs, random)];
        for (const repair of repairs) {
          const label = `${where}; ${survivors}, seed ${diskSeed}, then ${repair}`;
          await labelled(label, async () => {
            await operation.always(left.copy());
            await repairUnderCuts(operation, repair, left, random, figures);
          });
        }
      }
    }
  }
}

/**
 * Makes calls of `operation` fail, once or from there on, and goes on after the trouble is over. With a stride of 1
 * every call fails with each error that it can fail with, one after the other; a sample takes one of them.
 */
export async function failEverywhere(
  operation: Operation,
  { stride, seed }: Sampling,
  figures: Figures,
): Promise<void> {
  const before = await operation.prepare();
  const { calls, callKinds } = await measure(operation, before);
  const random = randomFrom(seed);
  for (let call = firstOf(stride, random); call <= calls; call += stride) {
    const kind = callKinds[call - 1];
    assert.ok(kind !== undefined);
    const errnos = stride === 1 ? ERRNOS_OF[kind] : [pick(ERRNOS_OF[kind], random)];
    for (const errno of errnos) {
      const failForEver = random() < 0.5;
      const label = `call ${call} of ${calls}: ${errno} at ${kind}${failForEver ? " from there on" : ""}`;
      const disk = before.copy({ failAt: call, errno, failForEver });
      await labelled(label, () => failOnce(operation, disk, errno, random, figures));
    }
  }
}

async function failOnce(
  operation: Operation,
  disk: CrashDisk,
  errno: Errno,
  random: Random,
  figures: Figures,
): Promise<void> {
  if (errno === "EINTR") await operation.run(new SimulatedTde(disk));
  else await failOrEnd(operation, disk);
  assert.ok(disk.struck !== undefined, "nothing failed");
  figures.errors++;
  assert.equal(disk.openFiles.size, 0, `${[...disk.openFiles][0]?.path} was left open`);
  disk.heal();
  // An interrupted call is no error: the operation has come to its end.
  if (errno === "EINTR") return operation.check(disk, true);
  // Without a restart, and with one: what could not be synced is then gone.
  const survivors = pick(SURVIVORS, random);
  const seed = Math.floor(random() * 2 ** 32);
  const live = random() < 0.5 ? disk : disk.reboot({ survivors, seed });
  await operation.always(live.copy());
  await repairUnderCuts(operation, pick(operation.repairs, random), live, random, figures);
}

/**
 * Lets single reads return a flipped bit. Either the operation notices, and goes on once reads are good again, or its
 * result is right all the same.
 */
export async function spoilEverywhere(
  operation: Operation,
  { stride, seed }: Sampling,
  figures: Figures,
): Promise<void> {
  const before = await operation.prepare();
  const { reads } = await measure(operation, before);
  const random = randomFrom(seed);
  for (let flipRead = firstOf(stride, random); flipRead <= reads; flipRead += stride) {
    const disk = before.copy({ flipRead });
    await labelled(`read ${flipRead} of ${reads}`, async () => {
      await failOrEnd(operation, disk);
      figures.errors++;
      disk.heal();
      await operation.always(disk.copy());
      await repairUnderCuts(operation, pick(operation.repairs, random), disk, random, figures);
      await operation.run(new SimulatedTde(disk));
      await operation.check(disk, true);
    });
  }
}

/**
 * Lets single writes do something else than they say. Either the operation notices, has destroyed nothing, and goes on
 * once the disk is good again, or its result is right all the same.
 */
export async function writeBadly(
  operation: Operation,
  { stride, seed }: Sampling,
  figures: Figures,
): Promise<void> {
  const before = await operation.prepare();
  const { head } = await measure(operation, before);
  const random = randomFrom(seed);
  for (let at = firstOf(stride, random); at <= head.kinds.length; at += stride) {
    const kind = head.kinds[at - 1];
    assert.ok(kind !== undefined);
    const kinds = stride === 1 ? BAD_WRITES[kind] : [pick(BAD_WRITES[kind], random)];
    for (const how of kinds) {
      const disk = before.copy({ badWrite: { at, how, random } });
      await labelled(`${kind} ${at} of ${head.kinds.length}: ${how}`, () =>
        writeOnceBadly(operation, disk, random, figures),
      );
    }
  }
}

async function writeOnceBadly(
  operation: Operation,
  disk: CrashDisk,
  random: Random,
  figures: Figures,
): Promise<void> {
  const hasEnded = await failOrEnd(operation, disk);
  assert.ok(disk.struck !== undefined, "no write was bad");
  figures.badWrites = (figures.badWrites ?? 0) + 1;
  assert.equal(disk.openFiles.size, 0, `${[...disk.openFiles][0]?.path} was left open`);
  disk.heal();
  await operation.always(disk.copy());
  if (hasEnded) return await operation.check(disk, true);
  figures.noticed = (figures.noticed ?? 0) + 1;
  const survivors = pick(SURVIVORS, random);
  const live = random() < 0.5 ? disk : disk.reboot({ survivors, seed: diskSeed(random) });
  await operation.always(live.copy());
  await repairUnderCuts(operation, pick(operation.repairs, random), live, random, figures);
}

function diskSeed(random: Random): number {
  return Math.floor(random() * 2 ** 32);
}

/** Runs the operation with faults that it must come through. */
export async function passWith(operation: Operation, faults: Faults): Promise<void> {
  const disk = (await operation.prepare()).copy(faults);
  await operation.run(new SimulatedTde(disk));
  assert.equal(disk.openFiles.size, 0);
  disk.heal();
  await operation.check(disk, true);
}

export async function measure(operation: Operation, before: CrashDisk): Promise<CrashDisk> {
  const disk = before.copy();
  await operation.run(new SimulatedTde(disk));
  assert.equal(disk.openFiles.size, 0);
  await operation.check(disk.copy(), true);
  return disk;
}

/** Repairs, where the power may go again during the repair. */
async function repairUnderCuts(
  operation: Operation,
  repair: Repair,
  left: CrashDisk,
  random: Random,
  figures: Figures,
): Promise<void> {
  let disk = left.copy();
  for (let cut = 0; cut < MAX_CUTS_OF_REPAIR && random() < 0.5; cut++) {
    const trial = disk.copy();
    await repairOnce(operation, repair, trial);
    const crashAt = 1 + Math.floor(random() * (trial.steps + 1));
    const stopped = disk.copy({ crashAt });
    await cutDown(() => repairOnce(operation, repair, stopped), crashAt > trial.steps);
    figures.cuts++;
    disk = stopped.reboot({ survivors: pick(SURVIVORS, random), seed: crashAt });
    await labelled(`cut again: ${stopped.struck ?? "after its end"}`, () =>
      operation.always(disk.copy()),
    );
  }
  await repairOnce(operation, repair, disk);
  assert.equal(disk.openFiles.size, 0);
  await operation.check(disk.copy(), repair === "again");
  figures.recovered++;
}

async function repairOnce(operation: Operation, repair: Repair, disk: CrashDisk): Promise<void> {
  const tde = new SimulatedTde(disk);
  if (repair === "recover") await operation.recover?.(tde);
  else await operation.run(tde);
}

/** The power cut must end it, unless the power goes only after its end. */
async function cutDown(run: () => Promise<unknown>, afterEnd: boolean): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof PowerCut) return;
    throw error;
  }
  assert.ok(afterEnd, "the run went on without power");
}

/** An error must be one that tells what happened, or be of no consequence. @returns whether it came to its end. */
async function failOrEnd(operation: Operation, disk: CrashDisk): Promise<boolean> {
  try {
    await operation.run(new SimulatedTde(disk));
    return true;
  } catch (error) {
    assert.ok(error instanceof TdeError, `not an error that tde expects: ${String(error)}`);
    assert.match(error.message, /^.{10,}$/);
    return false;
  }
}

async function labelled(label: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof Error) error.message = `${label}\n${error.message}`;
    throw error;
  }
}

function firstOf(stride: number, random: Random): number {
  return 1 + Math.floor(random() * stride);
}

function pick<T>(choices: readonly T[], random: Random): T {
  const choice = choices[Math.floor(random() * choices.length)];
  assert.ok(choice !== undefined);
  return choice;
}
