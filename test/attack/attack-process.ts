/**
 * A process of `npm run attack`: makes one history after the other, and the attacks on it that it is told to. No worker
 * thread, because tde takes locks in the main thread alone.
 */
import { describe } from "./describe.ts";
import { type Figures, newFigures } from "./figures.ts";
import { arenaOf, attack } from "./run-attack.ts";
import { shrink } from "./shrink.ts";

export interface AttackOrder {
  readonly seed: number;
  readonly history: number;
  /** Numbers of attacks, the last one not included. */
  readonly first: number;
  readonly last: number;
  /** Signatures of what is not to be made smaller once more. */
  readonly known: readonly string[];
}

export interface AttackReport {
  readonly figures: Figures;
  readonly found: readonly {
    readonly signature: string;
    readonly count: number;
    readonly text: string;
  }[];
}

async function carryOut({ seed, history, first, last, known }: AttackOrder): Promise<AttackReport> {
  const figures = newFigures();
  const arena = await arenaOf(seed, history);
  figures.histories = 1;
  figures.moments = arena.history.moments.length;
  const found = new Map<string, { signature: string; count: number; text: string }>();
  for (let number = first; number < last; number++) {
    for (const finding of await attack(arena, seed, number, figures)) {
      const { signature } = finding;
      const before = found.get(signature);
      if (before !== undefined) before.count++;
      else {
        const text = known.includes(signature)
          ? ""
          : describe(arena.history, await shrink(arena, finding));
        found.set(signature, { signature, count: 1, text });
      }
    }
  }
  return { figures, found: [...found.values()] };
}

process.on("message", (order: AttackOrder) => {
  void carryOut(order).then((report) => process.send?.(report));
});
