/**
 * Which process holds a lock, and whether it still runs. A process id alone is not enough: ids are used again,
 * mean nothing on another host or in another container, and nothing after a reboot. So an identity also has the
 * start time, the boot, the process-id namespace and the host name, from Linux's /proc (proc(5)); where there is
 * no /proc these are empty and the process id decides.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process: field 22 of /proc/<pid>/stat. Empty where unknown. */
  readonly start: string;
  /** /proc/sys/kernel/random/boot_id. Empty where unknown. */
  readonly boot: string;
  /** The process-id namespace, such as `pid:[4026531836]`. Empty where unknown. */
  readonly namespace: string;
  readonly host: string;
}

/** self: this very process; foreign: cannot be judged from here. */
export type ProcessFate = "self" | "alive" | "dead" | "foreign";

export interface ProcessTable {
  self(): ProcessIdentity;
  judge(other: ProcessIdentity): ProcessFate;
}

export const realProcesses: ProcessTable = {
  self(): ProcessIdentity {
    return {
      pid: process.pid,
      start: startTimeOf(process.pid),
      boot: readText("/proc/sys/kernel/random/boot_id"),
      namespace: readLinkText("/proc/self/ns/pid"),
      host: hostname(),
    };
  },

  judge(other: ProcessIdentity): ProcessFate {
    const self = realProcesses.self();
    if (other.host !== self.host) return "foreign";
    // The same host name and another boot: this machine was started again since, and nothing survived that.
    if (other.boot !== self.boot) return "dead";
    if (other.namespace !== self.namespace) return "foreign";
    if (other.pid === self.pid) return other.start === self.start ? "self" : "dead";
    if (!exists(other.pid) || hasEnded(other.pid)) return "dead";
    return startTimeOf(other.pid) === other.start ? "alive" : "dead";
  },
};

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it exists and belongs to someone else.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}

/**
 * Whether a process is only an entry that its parent has not asked for: in a container whose first process asks for
 * none it would hold its lock for ever. One whose threads are still on their way out has not ended.
 */
function hasEnded(pid: number): boolean {
  if (!/^[ZX]$/.test(statOf(pid)[0] ?? "")) return false;
  try {
    return readdirSync(`/proc/${pid}/task`).length <= 1;
  } catch {
    return true;
  }
}

function startTimeOf(pid: number): string {
  return statOf(pid)[19] ?? "";
}

/** Fields of /proc/<pid>/stat from the third on, its state. */
function statOf(pid: number): string[] {
  const stat = readText(`/proc/${pid}/stat`);
  // Field 2 is the command in parentheses and may hold blanks and parentheses itself; field 3 follows the last.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return "";
  }
}

function readLinkText(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
