/**
 * A sample of `npm run attack`: TDE_TEST_RUNS is the number of attacks, TDE_TEST_SEED the seed.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe } from "./describe.ts";
import { newFigures } from "./figures.ts";
import { type Arena, arenaOf, attack } from "./run-attack.ts";
import { shrink } from "./shrink.ts";

const seed = Number(process.env["TDE_TEST_SEED"] ?? 1);
const attacks = Number(process.env["TDE_TEST_RUNS"] ?? 240);
const ATTACKS_IN_A_HISTORY = 80;

test("whoever has kept files of a directory leads no command to a forgery, a rollback or a loss", async (t) => {
  const figures = newFigures();
  let arena: Arena | undefined;
  for (let number = 0; number < attacks; number++) {
    if (arena === undefined || number % ATTACKS_IN_A_HISTORY === 0) {
      arena = await arenaOf(seed, number / ATTACKS_IN_A_HISTORY);
    }
    const [finding] = await attack(arena, seed, number, figures);
    if (finding !== undefined) {
      assert.fail(describe(arena.history, await shrink(arena, finding)));
    }
  }
  const { commands, withJournal, withOpenRun, outcomes } = figures;
  t.diagnostic(
    `seed ${seed}: ${attacks} attacks, ${withJournal} with a journal, ${withOpenRun} of them of an open run, ${commands} commands`,
  );
  // Nothing found must not mean nothing tried.
  for (const outcome of [
    "verify: verified",
    "verify: not verified",
    "recover: recovered",
    "recover: refused",
  ]) {
    assert.ok((outcomes.get(outcome) ?? 0) > attacks / 100, `${outcome}: ${outcomes.get(outcome)}`);
  }
  assert.ok(withOpenRun > attacks / 50);
});
