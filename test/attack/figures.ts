/**
 * What was tried, so that a run which found nothing can be told from one that did nothing.
 */
export interface Figures {
  histories: number;
  moments: number;
  attacks: number;
  withJournal: number;
  withOpenRun: number;
  commands: number;
  advised: number;
  /** By command and how it ended. */
  readonly outcomes: Map<string, number>;
}

export function newFigures(): Figures {
  return {
    histories: 0,
    moments: 0,
    attacks: 0,
    withJournal: 0,
    withOpenRun: 0,
    commands: 0,
    advised: 0,
    outcomes: new Map(),
  };
}

export function addFigures(sum: Figures, more: Figures): void {
  sum.histories += more.histories;
  sum.moments += more.moments;
  sum.attacks += more.attacks;
  sum.withJournal += more.withJournal;
  sum.withOpenRun += more.withOpenRun;
  sum.commands += more.commands;
  sum.advised += more.advised;
  for (const [outcome, count] of more.outcomes) countOutcome(sum, outcome, count);
}

export function countOutcome(figures: Figures, outcome: string, count = 1): void {
  figures.outcomes.set(outcome, (figures.outcomes.get(outcome) ?? 0) + count);
}
