/**
 * `npm run attack`: someone who has kept files of a directory, without any key, against every command.
 *
 *   npm run attack -- [--seed 1] [--attacks 100000] [--from 0] [--jobs 2]
 *
 * Prints how much was tried. Exit code 1: something that must never be; the smallest way to it is printed for each kind,
 * and `--seed N --from A --attacks 1` makes attack A again. So a run can be cut into ranges, and taken up at any of them.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { AttackOrder, AttackReport } from "./attack-process.ts";
import { ATTACKS_IN_A_HISTORY } from "./run-attack.ts";
import { addFigures, type Figures, newFigures } from "./figures.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    attacks: { type: "string", default: "100000" },
    from: { type: "string", default: "0" },
    jobs: { type: "string", default: "2" },
  },
});
const seed = Number(values.seed);
const from = Number(values.from);
const end = from + Number(values.attacks);
const started = performance.now();

const figures: Figures = newFigures();
const known = new Map<string, number>();
let nextHistory = Math.floor(from / ATTACKS_IN_A_HISTORY);
await Promise.all(Array.from({ length: Number(values.jobs) }, () => work()));
process.stdout.write(`${summary()}\n`);
if (known.size > 0) process.exitCode = 1;

/** Takes one history after the other until none is left. */
async function work(): Promise<void> {
  const extension = import.meta.url.endsWith(".js") ? "js" : "ts";
  const program = fileURLToPath(new URL(`./attack-process.${extension}`, import.meta.url));
  const child = fork(program, { serialization: "advanced" });
  for (;;) {
    const history = nextHistory++;
    const first = Math.max(from, history * ATTACKS_IN_A_HISTORY);
    const last = Math.min(end, (history + 1) * ATTACKS_IN_A_HISTORY);
    if (first >= end) break;
    take(await ask(child, { seed, history, first, last, known: [...known.keys()] }));
  }
  child.disconnect();
}

function ask(child: ChildProcess, order: AttackOrder): Promise<AttackReport> {
  return new Promise((resolve, reject) => {
    const died = (code: number | null): void => {
      reject(new Error(`the process with history ${order.history} ended with ${code}`));
    };
    child.once("exit", died);
    child.once("message", (report: AttackReport) => {
      child.off("exit", died);
      resolve(report);
    });
    child.send(order);
  });
}

function take({ figures: more, found }: AttackReport): void {
  addFigures(figures, more);
  for (const { signature, count, text } of found) {
    const before = known.get(signature);
    known.set(signature, (before ?? 0) + count);
    if (before === undefined) process.stdout.write(`${text}\n\n`);
  }
  process.stderr.write(`${figures.attacks} attacks, ${figures.commands} commands\n`);
}

function summary(): string {
  const seconds = Math.round((performance.now() - started) / 1000);
  const outcomes = [...figures.outcomes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([outcome, count]) => `  ${outcome}: ${count}`);
  const violations = [...known].map(([signature, count]) => `  ${count} x ${signature}`);
  return [
    `seed ${seed}, attacks ${from} to ${end - 1}, ${seconds} s`,
    `${figures.histories} histories of ${figures.moments} moments; ${figures.attacks} disks composed, ${figures.withJournal} of them with a journal, ${figures.withOpenRun} of them of a run that is open`,
    `${figures.commands} commands, ${figures.advised} of them advised by a message:`,
    ...outcomes,
    known.size === 0 ? "nothing that must never be" : "NOT ALLOWED:",
    ...violations,
  ].join("\n");
}
