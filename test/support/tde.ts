/**
 * Runs `bin/tde.js` as a process, as a user would. The caller's own TDE_ and PG variables do not reach it, but for the one
 * that says by what to encrypt.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface TdeResult {
  /** Exit code; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TdeOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard input; empty by default. */
  readonly input?: string;
}

/** The launcher, seen from the compiled tests in dist/ and from the sources alike. */
export const TDE_PROGRAM: string = fileURLToPath(
  new URL(
    import.meta.url.endsWith(".js") ? "../../../bin/tde.js" : "../../bin/tde.js",
    import.meta.url,
  ),
);

/**
 * With one job, unless the arguments say how many: threads take longer to start than all the work on a small cluster, and
 * have tests of their own.
 */
export function runTde(args: readonly string[], options: TdeOptions = {}): TdeResult {
  return runTdeThreaded(withJobs(args), options);
}

/** With as many jobs as the command takes by itself. */
export function runTdeThreaded(args: readonly string[], options: TdeOptions = {}): TdeResult {
  const { status, stdout, stderr } = runTdeBytes(args, options);
  return { status, stdout: stdout.toString("utf8"), stderr: stderr.toString("utf8") };
}

const THREADED = /^(encrypt-datadir|decrypt-datadir|verify|rotate|sync|recover)$/;

function withJobs(args: readonly string[]): readonly string[] {
  const [command = ""] = args;
  const isSaid = args.some((arg) => /^(-j|--jobs)/.test(arg));
  return isSaid || !THREADED.test(command) ? args : [...args, "--jobs", "1"];
}

export interface TdeBytes {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** The same for output that need not be text. */
export function runTdeBytes(
  args: readonly string[],
  options: Omit<TdeOptions, "input"> & { readonly input?: string | Buffer } = {},
): TdeBytes {
  const kept = Object.entries(process.env).filter(([name]) => !/^(TDE_(?!CRYPTO$)|PG)/.test(name));
  const { status, stdout, stderr } = spawnSync(process.execPath, [TDE_PROGRAM, ...args], {
    cwd: options.cwd,
    env: { ...Object.fromEntries(kept), ...options.env },
    input: options.input ?? "",
    maxBuffer: 1 << 26,
  });
  return { status, stdout, stderr };
}
