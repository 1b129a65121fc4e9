/**
 * Measures whole processes: wall time and peak memory. Two commands are run in turn, A B A B, so that a machine that
 * gets slower or faster meanwhile does so for both; what counts is the ratio.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

export interface Step {
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Exit codes that count as success. */
  readonly success?: readonly number[];
}

export interface Side {
  readonly name: string;
  /** Not measured: puts everything into the state in which the measured step begins. */
  readonly prepare?: () => void;
  readonly run: Step;
}

export interface Sample {
  readonly seconds: number;
  readonly peakMib: number;
}

export interface Comparison {
  readonly title: string;
  readonly a: string;
  readonly b: string;
  readonly secondsA: number;
  readonly secondsB: number;
  /** Median of the ratios A / B, pair by pair. */
  readonly ratio: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
  readonly peakMibA: number;
  readonly runs: number;
}

/** Runs A and B in turn, one pair more than counted, to warm up. */
export async function compare(title: string, a: Side, b: Side, runs: number): Promise<Comparison> {
  const pairs: [Sample, Sample][] = [];
  for (let i = 0; i <= runs; i++) {
    const pair: [Sample, Sample] = [await sample(a), await sample(b)];
    if (i > 0) pairs.push(pair);
  }
  const ratios = pairs.map(([one, other]) => one.seconds / other.seconds);
  return {
    title,
    a: a.name,
    b: b.name,
    secondsA: median(pairs.map(([one]) => one.seconds)),
    secondsB: median(pairs.map(([, other]) => other.seconds)),
    ratio: median(ratios),
    ratioMin: Math.min(...ratios),
    ratioMax: Math.max(...ratios),
    peakMibA: Math.max(...pairs.map(([one]) => one.peakMib)),
    runs,
  };
}

async function sample(side: Side): Promise<Sample> {
  side.prepare?.();
  return measure(side.run);
}

/** Runs one command to its end. @throws {Error} when it fails. */
export async function measure({ command, success = [0] }: Step): Promise<Sample> {
  const [program = "", ...args] = command;
  const started = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  let peakMib = 0;
  const timer = setInterval(() => (peakMib = Math.max(peakMib, peakMibOf(child.pid))), 10);
  try {
    const [code] = (await once(child, "exit")) as [number | null];
    const seconds = (performance.now() - started) / 1000;
    if (code === null || !success.includes(code))
      throw new Error(`${command.join(" ")}: exit ${code}`);
    return { seconds, peakMib };
  } finally {
    clearInterval(timer);
  }
}

/** The kernel's own high-water mark of a living process; 0 where there is none to read. */
function peakMibOf(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((x, y) => x - y);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
