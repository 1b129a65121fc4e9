/**
 * A private temporary folder that is gone when this process is gone, however that happens: with it go the
 * servers that were started in it. A small shell process, the keeper, waits for the end of a pipe; the kernel
 * closes that pipe even where this process was killed and could clean up nothing.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StateError } from "../errors.ts";

export interface TemporaryFolder {
  /** Absolute; others can pass through it (mode 0711) to reach what belongs to them. */
  readonly path: string;
  /** Ends this process, too, should the present one end first. */
  watch(pid: number): void;
  /** The process has ended by itself. */
  forget(pid: number): void;
  /** Leaves the folder where it is. */
  keep(): void;
  /** Removes the folder with everything in it. The processes in it must have ended. */
  remove(): void;
}

/** A socket in such a folder must fit into sun_path: 107 bytes on Linux, 103 on others, with its own name. */
const LONGEST_PATH_BYTES = 70;

/**
 * Makes the folder in TMPDIR, or in /tmp where TMPDIR is too long for the path of a socket.
 * @param name - begins the folder's name: letters, digits, hyphens.
 */
export function makeTemporaryFolder(name: string): TemporaryFolder {
  const roots = [tmpdir(), "/tmp"];
  const root = roots.find((path) => Buffer.byteLength(join(path, name)) < LONGEST_PATH_BYTES);
  if (root === undefined || !existsSync(root)) {
    throw new StateError("no folder for temporary files has a short enough path", {
      hint: "Set TMPDIR to a folder with a short path, such as /tmp.",
    });
  }
  const path = mkdtempSync(join(root, `${name}-`));
  chmodSync(path, 0o711);
  const keeper = startKeeper(path);
  const tell = (line: string): void => void keeper.stdin?.write(`${line}\n`);
  return {
    path,
    watch: (pid) => tell(`watch ${pid}`),
    forget: (pid) => tell(`forget ${pid}`),
    keep: () => tell("keep -"),
    remove: () => {
      rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
      keeper.stdin?.end("keep -\n");
    },
  };
}

/** First SIGQUIT, which PostgreSQL takes as "end at once"; after five seconds SIGKILL. */
const KEEPER = `
pids= keep=
while read -r verb pid; do
  case $verb in
    watch) pids="$pids $pid" ;;
    forget) kept=; for p in $pids; do [ "$p" = "$pid" ] || kept="$kept $p"; done; pids=$kept ;;
    keep) keep=yes ;;
  esac
done
if [ -n "$pids" ]; then
  kill -QUIT $pids
  for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pids || break; sleep 0.5; done
  kill -KILL $pids
fi
if [ -z "$keep" ]; then
  rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
fi
`;

function startKeeper(path: string): ChildProcess {
  // Detached: an interrupt at the terminal goes to every process of the group and must not reach this one.
  const keeper = spawn("/bin/sh", ["-c", KEEPER, "keeper", path], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  keeper.on("error", () => undefined);
  keeper.stdin?.on("error", () => undefined);
  keeper.unref();
  if (keeper.stdin instanceof Socket) keeper.stdin.unref();
  return keeper;
}
