/**
 * Which PostgreSQL servers run on this machine, as far as this user may see, and where their links lead: from Linux's
 * /proc (proc(5)). A server's working directory is its data directory (ChangeToDataDir of utils/init/miscinit.c), and all
 * its processes are named postgres. Where there is no /proc, or it tells nothing, no server is known.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import {
  type BytePath,
  bytePath,
  bytePathFromBytes,
  joinPath,
  toNativePath,
} from "../bytes/byte-path.ts";

/** What tells one directory from all others, whatever it is called: device and inode. */
export type PlaceId = string;

export interface RunningServer {
  readonly pid: number;
  /** Its data directory, as the server sees it: in a container that may be another name than here. */
  readonly directory: BytePath;
  readonly place: PlaceId;
  /** What PG_VERSION says. */
  readonly version: string;
  /** `pg_wal` and `pg_tblspc/<oid>`, where they are links, and the places at their ends. */
  readonly links: readonly { readonly path: string; readonly place: PlaceId }[];
}

const NAMES: ReadonlySet<string> = new Set(["postgres", "postmaster", "edb-postgres"]);

/** Each once, although it has many processes; none that is down, or has taken its postmaster.pid away. */
export function runningServers(): RunningServer[] {
  const servers = new Map<PlaceId, RunningServer>();
  const pids = namesIn(bytePath("/proc")).filter((name) => /^[1-9][0-9]*$/.test(name));
  for (const pid of pids.map(Number).sort((a, b) => a - b)) {
    const server = serverOf(pid);
    if (server !== undefined && !servers.has(server.place)) servers.set(server.place, server);
  }
  return [...servers.values()];
}

/** Of the directory at the end of a path; undefined where there is none. */
export function placeIdOf(path: BytePath): PlaceId | undefined {
  return tried(() => {
    const { dev, ino } = statSync(toNativePath(path), { bigint: true });
    return `${dev}:${ino}`;
  });
}

function serverOf(pid: number): RunningServer | undefined {
  const name = textOf(bytePath(`/proc/${pid}/comm`));
  if (name === undefined || !NAMES.has(name)) return undefined;
  const cwd = bytePath(`/proc/${pid}/cwd`);
  const version = textOf(joinPath(cwd, "PG_VERSION"));
  if (version === undefined || placeIdOf(joinPath(cwd, "postmaster.pid")) === undefined)
    return undefined;
  const directory = linkTarget(cwd);
  const place = placeIdOf(cwd);
  if (directory === undefined || place === undefined) return undefined;
  const names = namesIn(joinPath(cwd, "pg_tblspc")).map((one) => joinPath("pg_tblspc", one));
  const links = ["pg_wal", ...names].flatMap((path) => {
    const end = placeBehind(pid, joinPath(cwd, path));
    return end === undefined ? [] : [{ path, place: end }];
  });
  return { pid, directory, place, version, links };
}

/** Of where a process's link leads; undefined for what is no link. What it says is of the process's own file system. */
function placeBehind(pid: number, link: BytePath): PlaceId | undefined {
  const target = linkTarget(link);
  if (target === undefined) return undefined;
  return placeIdOf(target.startsWith("/") ? joinPath(`/proc/${pid}/root`, target) : link);
}

function linkTarget(path: BytePath): BytePath | undefined {
  return tried(() => bytePathFromBytes(readlinkSync(toNativePath(path), "buffer")));
}

function namesIn(path: BytePath): BytePath[] {
  return tried(() => readdirSync(toNativePath(path), "buffer").map(bytePathFromBytes)) ?? [];
}

function textOf(path: BytePath): string | undefined {
  return tried(() => readFileSync(toNativePath(path), "latin1").trim());
}

/** Processes end while they are looked at, and those of others are nobody's business. */
function tried<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
