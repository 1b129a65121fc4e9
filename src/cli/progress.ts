/**
 * Progress on a terminal: a bar with bytes, rate and time left for long work, a spinner for short waits. Neither
 * appears where standard error is no terminal, and neither library is loaded then.
 */
import { type ProgressSink, silentProgress } from "../engine/progress-sink.ts";

export interface ProgressOptions {
  readonly progress?: boolean | undefined;
  readonly quiet?: boolean | undefined;
}

/** A bar under -P/--progress, else nothing. */
export async function openProgress(options: ProgressOptions): Promise<ProgressSink> {
  if (options.progress !== true || !canDraw(options)) return silentProgress;
  const { default: cliProgress } = await import("cli-progress");
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    fps: 10,
    hideCursor: true,
    etaBuffer: 100,
    clearOnComplete: false,
    format: "{label} [{bar}] {percentage}%  {done} of {all}  {rate}/s  {left} left",
  });
  let doneBytes = 0;
  let allBytes = 0;
  let startedMs = 0;
  const payload = (): Readonly<Record<string, string>> => {
    const seconds = Math.max(0.001, (Date.now() - startedMs) / 1000);
    const rate = doneBytes / seconds;
    const left = rate > 0 ? formatSeconds((allBytes - doneBytes) / rate) : "?";
    return {
      done: formatBytes(doneBytes),
      all: formatBytes(allBytes),
      rate: formatBytes(rate),
      left,
    };
  };
  return {
    begin(label: string, totalBytes: number): void {
      doneBytes = 0;
      allBytes = totalBytes;
      startedMs = Date.now();
      bar.start(Math.max(1, totalBytes), 0, { label, ...payload() });
    },
    advance(bytes: number): void {
      doneBytes += bytes;
      bar.update(doneBytes, payload());
    },
    end(): void {
      bar.stop();
    },
  };
}

/** Shows a spinner while a short wait lasts. */
export async function withSpinner<T>(
  text: string,
  options: ProgressOptions,
  wait: () => Promise<T>,
): Promise<T> {
  if (!canDraw(options)) return await wait();
  const { default: ora } = await import("ora");
  // Standard input is left alone: a passphrase may come from there.
  const spinner = ora({ text, stream: process.stderr, discardStdin: false }).start();
  try {
    return await wait();
  } finally {
    spinner.stop();
  }
}

/** A pseudo-terminal whose size nobody set has 0 columns; ora divides by them and never returns. */
function canDraw(options: ProgressOptions): boolean {
  return options.quiet !== true && process.stderr.isTTY && process.stderr.columns > 0;
}

export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}
