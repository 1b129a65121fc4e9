/**
 * One attack after the other: a disk composed, a victim on it, every command judged.
 */
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import { type Random, randomFrom } from "../support/crash-nodes.ts";
import { SimulatedTde } from "../support/simulated-tde.ts";
import { compose, type Composition, diskOf } from "./attacker.ts";
import { countOutcome, type Figures } from "./figures.ts";
import { type History, makeHistory, PLACES } from "./history.ts";
import { imageOf } from "./image.ts";
import { Oracle, type Violation } from "./oracle.ts";
import { journalFacts } from "./reading.ts";
import { advised, anyCommand, type Command, COMMANDS, run } from "./victim.ts";

// The lock waits for whoever may still be writing an incomplete one. On these disks nobody is.
Atomics.wait = (): "timed-out" => "timed-out";

/** So many attacks are made out of one history. */
export const ATTACKS_IN_A_HISTORY = 400;
/** Victims that each find the same disk. */
const VICTIMS = 3;
const MOST_COMMANDS = 4;

export interface Finding {
  readonly attack: number;
  readonly historySeed: number;
  readonly composition: Composition;
  readonly commands: readonly Command[];
  readonly violations: readonly Violation[];
  /** What findings of one cause share. */
  readonly signature: string;
}

/** Everything that attacks on one history share. */
export interface Arena {
  readonly history: History;
  readonly keys: DataKeys;
}

/** @param number - of the history, under that seed. */
export async function arenaOf(seed: number, number: number): Promise<Arena> {
  const history = await makeHistory(seed * 10_007 + number);
  const last = history.moments.at(-1);
  if (last === undefined) throw new Error("nothing happened");
  const disk = diskOf(history, {
    present: last.index,
    target: "a",
    base: { moment: last.index, place: "a" },
    edits: [],
    state: { kind: "kept" },
  });
  return { history, keys: (await new SimulatedTde(disk).openKeyring()).dataKeys() };
}

/** @param attack - its number; with the seed it says all about it. */
export async function attack(
  arena: Arena,
  seed: number,
  attackNumber: number,
  figures: Figures,
): Promise<Finding[]> {
  const random = randomFrom(seed * 1_000_003 + attackNumber);
  const composition = compose(arena.history, random);
  const disk = diskOf(arena.history, composition);
  const { isJournal, isOpen } = lookAt(arena, composition, disk);
  figures.attacks++;
  if (isJournal) figures.withJournal++;
  if (isOpen) figures.withOpenRun++;
  const findings: Finding[] = [];
  for (let victim = 0; victim < VICTIMS; victim++) {
    // Each attack begins with other commands, so that over all of them each disk meets each command.
    const first = COMMANDS[(attackNumber * VICTIMS + victim) % COMMANDS.length] ?? "verify";
    const plan = planFrom({ ...anyCommand(random), name: victim === 0 ? "verify" : first });
    const { commands, violations, signature } = await suffer(
      arena,
      composition,
      disk,
      plan,
      random,
      figures,
    );
    if (violations.length > 0) {
      const historySeed = arena.history.seed;
      findings.push({
        attack: attackNumber,
        historySeed,
        composition,
        commands,
        violations,
        signature,
      });
    }
  }
  return findings;
}

function lookAt(
  { history, keys }: Arena,
  composition: Composition,
  disk: CrashDisk,
): { readonly isJournal: boolean; readonly isOpen: boolean } {
  const oracle = new Oracle(history, keys, composition);
  const journal = journalFacts(imageOf(disk, PLACES[composition.target].root));
  return { isJournal: journal !== undefined, isOpen: oracle.isOpen(journal) };
}

/** Says what comes next; undefined ends it. */
type Plan = (last: Parameters<typeof advised> | undefined, random: Random) => Command | undefined;

function planFrom(first: Command): Plan {
  return (last, random) => {
    if (last === undefined) return first;
    const next = advised(...last);
    return next ?? (random() < 0.4 ? anyCommand(random) : undefined);
  };
}

export function planOf(commands: readonly Command[]): Plan {
  let next = 0;
  return () => commands[next++];
}

export interface Suffered {
  readonly commands: readonly Command[];
  readonly violations: readonly Violation[];
  readonly signature: string;
}

/** A victim on a copy of a disk, until the first violation or the end. */
export async function suffer(
  { history, keys }: Arena,
  composition: Composition,
  composed: CrashDisk,
  plan: Plan,
  random: Random,
  figures?: Figures,
): Promise<Suffered> {
  const disk = composed.copy();
  const oracle = new Oracle(history, keys, composition);
  const commands: Command[] = [];
  const found: Violation[] = [];
  let signature = "";
  let view = oracle.view(disk);
  let last: Parameters<typeof advised> | undefined;
  while (commands.length < MOST_COMMANDS) {
    const command = plan(last, random);
    if (command === undefined) break;
    const outcome = await run(disk, composition.target, command);
    commands.push(command);
    const after = oracle.view(disk);
    const violations = oracle.judge(command, outcome, view, after);
    if (figures !== undefined) {
      figures.commands++;
      if (command.isAdvised) figures.advised++;
      countOutcome(figures, `${command.name}: ${outcome.kind}`);
    }
    if (violations.length > 0) {
      const lying = journalFacts(view.images.get(composition.target) ?? new Map());
      const journal = `${Oracle.journalName(lying)}${oracle.wasOpen ? " (open)" : ""}`;
      const kinds = violations.map(({ kind }) => kind).join("+");
      found.push(...violations);
      signature = `${kinds} | ${command.name} | journal: ${journal} | state: ${composition.state.kind}`;
      // Bad advice is followed, to see where it leads.
      if (violations.some(({ kind }) => kind !== "advice")) break;
    }
    view = after;
    last = [command, outcome, random];
  }
  return { commands, violations: found, signature };
}
