/**
 * What a process asks of the file system, in order: a script that is loaded before the program and notes the calls of
 * node:fs that change something, in worker threads, too; and the rules that such a list is held against. It is what
 * reaches the system, and not what tde's own interface was asked for.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export type FileCall =
  /** "write" also where owner, mode, times or size are set. */
  | { readonly what: "create" | "write" | "sync" | "unlink" | "mkdir"; readonly path: string }
  | { readonly what: "rename" | "link"; readonly from: string; readonly path: string };

/** Notes a call when it has succeeded; a write before it is made, for then nothing is synced any more. */
const PRELOAD = `
"use strict";
const fs = require("node:fs");
const { constants, openSync, readlinkSync, writeSync, realpathSync } = fs;
const { syncBuiltinESMExports } = require("node:module");
const { dirname, basename, join } = require("node:path");
const log = openSync(process.env.TDE_TEST_FILE_CALLS, "a");
const note = (call) => writeSync(log, JSON.stringify(call) + "\\n");
const opened = (descriptor) => readlinkSync("/proc/self/fd/" + descriptor);
const named = (path) => {
  const text = Buffer.isBuffer(path) ? path.toString("latin1") : String(path);
  return join(realpathSync(dirname(text)), basename(text));
};
const after = (name, describe) => {
  const real = fs[name];
  fs[name] = (...args) => {
    const result = real(...args);
    const call = describe(...args, result);
    if (call !== undefined) note(call);
    return result;
  };
};
for (const name of ["writeSync", "ftruncateSync", "fchmodSync", "fchownSync", "futimesSync"]) {
  const real = fs[name];
  fs[name] = (descriptor, ...args) => {
    note({ what: "write", path: opened(descriptor) });
    return real(descriptor, ...args);
  };
}
after("openSync", (path, flags) => {
  const isNew = typeof flags === "number" && (flags & constants.O_CREAT) !== 0;
  return isNew ? { what: "create", path: named(path) } : undefined;
});
after("fsyncSync", (descriptor) => ({ what: "sync", path: opened(descriptor) }));
after("unlinkSync", (path) => ({ what: "unlink", path: named(path) }));
after("rmdirSync", (path) => ({ what: "unlink", path: named(path) }));
after("mkdirSync", (path) => ({ what: "mkdir", path: named(path) }));
after("symlinkSync", (target, path) => ({ what: "mkdir", path: named(path) }));
after("linkSync", (from, path) => ({ what: "link", from: named(from), path: named(path) }));
after("renameSync", (from, path) => ({ what: "rename", from: named(from), path: named(path) }));
const fsync = fs.fsync;
fs.fsync = (descriptor, done) => {
  const path = opened(descriptor);
  fsync(descriptor, (error) => {
    if (!error) note({ what: "sync", path });
    done(error);
  });
};
syncBuiltinESMExports();
`;

export interface CallLog {
  /** Arguments for Node, before the program's. */
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Since the last time. */
  take(): FileCall[];
}

/** @param folder - for the script and its notes. */
export function fileCallLog(folder: string): CallLog {
  const script = join(folder, "file-calls.cjs");
  const path = join(folder, "file-calls.jsonl");
  writeFileSync(script, PRELOAD);
  return {
    execArgv: ["--require", script],
    env: { TDE_TEST_FILE_CALLS: path },
    take(): FileCall[] {
      const text = readFileSync(path, "utf8");
      writeFileSync(path, "");
      return text
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as FileCall);
    },
  };
}

export interface Audit {
  /** What should have been synced before something else happened, or before the end. */
  readonly problems: readonly string[];
  readonly fileSyncs: number;
  readonly directorySyncs: number;
}

/** Locks come and go, and nobody needs them after a power cut. */
const isLock = (path: string): boolean => /(\.lock|tde\.lock\.[0-9a-f]{16})$/.test(path);

/**
 * Holds a list of calls against the protocol (docs/RELIABILITY.md): no file gets another name, or a second one, before its
 * content is synced; the journal goes only when everything else is durable; and at the end everything is.
 */
export function auditSyncs(calls: readonly FileCall[]): Audit {
  const problems: string[] = [];
  /** Whose content, owner, mode or times are not durable. */
  const files = new Set<string>();
  /** Names that came or went since their directory was synced. */
  const [born, gone] = [new Set<string>(), new Set<string>()];
  const created = new Set<string>();
  let [fileSyncs, directorySyncs] = [0, 0];
  const dirty = (): string => [...files, ...born, ...gone].join(", ");
  const goes = (path: string): void => {
    files.delete(path);
    // What was never durable need not go durably.
    if (!born.delete(path)) gone.add(path);
  };
  for (const call of calls.filter(({ path }) => !isLock(path))) {
    const { what, path } = call;
    switch (what) {
      case "sync":
        if (files.has(path) || created.has(path)) fileSyncs++;
        else directorySyncs++;
        files.delete(path);
        for (const names of [born, gone])
          for (const name of names) if (dirname(name) === path) names.delete(name);
        break;
      case "write":
        files.add(path);
        break;
      case "create":
        files.add(path);
        created.add(path);
        born.add(path);
        break;
      case "mkdir":
        born.add(path);
        break;
      case "rename":
      case "link":
        if (files.has(call.from)) problems.push(`${call.from} got its name before it was synced`);
        if (what === "rename") goes(call.from);
        born.add(path);
        break;
      case "unlink":
        if (path.endsWith("/tde.journal") && dirty() !== "")
          problems.push(`the journal went before this was durable: ${dirty()}`);
        goes(path);
        break;
    }
  }
  if (dirty() !== "") problems.push(`not durable at the end: ${dirty()}`);
  return { problems, fileSyncs, directorySyncs };
}
