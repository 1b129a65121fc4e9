/**
 * Makes a finding smaller: leaves out whatever is not needed for a violation of the same kind.
 */
import { randomFrom } from "../support/crash-nodes.ts";
import { type Composition, diskOf, type Edit } from "./attacker.ts";
import { type Arena, type Finding, planOf, suffer } from "./run-attack.ts";
import type { Command } from "./victim.ts";

type Candidate = Pick<Finding, "composition" | "commands">;

export async function shrink(arena: Arena, finding: Finding): Promise<Finding> {
  let best = finding;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const candidate of candidates(best)) {
      const found = await tried(arena, candidate);
      if (found === undefined || !isSame(found, finding)) continue;
      best = { ...best, ...found };
      isSmaller = true;
      break;
    }
  }
  return best;
}

async function tried(
  arena: Arena,
  { composition, commands }: Candidate,
): Promise<(Candidate & Pick<Finding, "violations" | "signature">) | undefined> {
  const disk = diskOf(arena.history, composition);
  const plan = planOf(commands);
  const suffered = await suffer(arena, composition, disk, plan, randomFrom(1));
  return suffered.violations.length === 0 ? undefined : { composition, ...suffered };
}

function isSame(found: Pick<Finding, "violations">, finding: Finding): boolean {
  const kinds = ({ violations }: Pick<Finding, "violations">): string =>
    [...new Set(violations.map(({ kind }) => kind))].sort().join();
  return kinds(found) === kinds(finding);
}

function* candidates({ composition, commands }: Candidate): Generator<Candidate> {
  for (const i of commands.keys()) {
    yield { composition, commands: without(commands, i) };
  }
  const { edits, state, base, present, target } = composition;
  for (const i of edits.keys()) {
    yield { composition: { ...composition, edits: without(edits, i) }, commands };
  }
  if (state.kind !== "kept") {
    yield { composition: { ...composition, state: { kind: "kept" } }, commands };
  }
  if (base.moment !== present || base.place !== target) {
    const here: Composition = { ...composition, base: { moment: present, place: target } };
    yield { composition: here, commands };
  }
  for (const [i, edit] of edits.entries()) {
    for (const smaller of smallerEdits(edit)) {
      yield { composition: { ...composition, edits: edits.with(i, smaller) }, commands };
    }
  }
  for (const [i, command] of commands.entries()) {
    if (Object.keys(command.consents).length === 0) continue;
    const plain: Command = { ...command, consents: {} };
    yield { composition, commands: commands.with(i, plain) };
  }
}

function* smallerEdits(edit: Edit): Generator<Edit> {
  if (edit.do === "put back" && typeof edit.what === "object" && edit.what.length > 1) {
    for (const i of edit.what.keys()) yield { ...edit, what: without(edit.what, i) };
  }
  if (edit.do === "put back" && typeof edit.what === "string" && edit.what !== "journal") {
    yield { ...edit, what: "journal" };
  }
}

function without<T>(list: readonly T[], index: number): T[] {
  return list.filter((_, i) => i !== index);
}
