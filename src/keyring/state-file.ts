/**
 * The state file as text: what moves with every run and so is kept beside the keyring instead of in it. JSON
 * lines in a fixed order between a heading and the MAC, with exactly one spelling of every state. Nothing in it
 * is secret. Format: docs/FORMAT.md, State file.
 */
import { escapeBytes, unescapeBytes } from "../bytes/percent-escape.ts";
import type { BytePath } from "../bytes/byte-path.ts";
import { equalInConstantTime, sha256 } from "../crypto/primitives.ts";
import { FormatError } from "../errors.ts";
import { isJournalOperation, type JournalOperation } from "../storage/journal-header.ts";
import type { KeyLoad, KeyLoads } from "./key-load.ts";
import { isTime } from "./keyring-file.ts";

export const STATE_LIMIT_BYTES: number = 16 * 2 ** 20;

/** Version 1, of tde 0.1.0, knew no runs; it is read, and written as version 2 with the next change. */
const VERSIONS = [1, 2] as const;
export type StateVersion = (typeof VERSIONS)[number];
export const STATE_VERSION: StateVersion = 2;
const SUM_LINE_BYTES = "sum ".length + 64 + 1;
const MAC_LINE_BYTES = "mac ".length + 64 + 1;
const KEY_ID_LIMIT = 0xffffffff;

/** What is remembered of one encrypted directory. */
export interface DirectoryMemory {
  /** The directory id, 32 hex digits. */
  readonly id: string;
  /** The highest epoch seen; at most 2^53 − 1. */
  readonly epoch: bigint;
  /** The manifest's root at that epoch, 64 hex digits. */
  readonly root: string;
  /** When that was, RFC 3339 in UTC. */
  readonly time: string;
  /** Where it was then. */
  readonly path: BytePath;
  /** Where it, or copies of it, were before, the newest first; at most OTHER_PLACES. */
  readonly others: readonly BytePath[];
  /** What each key protects in it. */
  readonly load: KeyLoads;
}

export const OTHER_PLACES = 8;

/** A run that changes a directory, from before its first write until after its journal is gone. */
export interface OpenRun {
  /** 32 hex digits. */
  readonly runId: string;
  /** Of the directory that is changed, or of the one that comes to be. */
  readonly directoryId: string;
  readonly operation: JournalOperation;
  readonly epoch: bigint;
  /** When it began, RFC 3339 in UTC. */
  readonly time: string;
  /** The directory that has its journal, without a link in it. */
  readonly place: BytePath;
  /** All is in its place: nothing but the journal is left of it. */
  readonly ended: boolean;
}

export interface StateContent {
  /** 16 hex digits. */
  readonly keyringId: string;
  /** The highest generation of the keyring that a command saw. */
  readonly highestGeneration: number;
  /** When this memory began, RFC 3339 in UTC; undefined: with the keyring, so that it knows all that is under it. */
  readonly since: string | undefined;
  readonly directories: ReadonlyMap<string, DirectoryMemory>;
  /** By run id. */
  readonly runs: ReadonlyMap<string, OpenRun>;
  /** What was ever written under each key id. */
  readonly keyLoad: KeyLoads;
  /** Pages under one key past which writing more warns; undefined: no limit was set. */
  readonly keyLimitPages: number | undefined;
}

export interface StateFile {
  readonly version: StateVersion;
  /** The key whose DEK made the MAC. */
  readonly keyId: number;
  readonly content: StateContent;
  readonly mac: Buffer;
}

/** @throws {FormatError} when the file is damaged or not in its canonical form. Proves nothing more. */
export function parseStateFile(bytes: Buffer): StateFile {
  const text = bytes.toString("latin1");
  const version = VERSIONS.find((known) => text.startsWith(`${heading(known)}\n`));
  if (version === undefined)
    throw new FormatError(`it is not a state file of version ${VERSIONS.join(" or ")}`);
  const sumStart = bytes.length - SUM_LINE_BYTES;
  const sum = /^sum ([0-9a-f]{64})\n$/.exec(text.slice(Math.max(0, sumStart)))?.[1] ?? "";
  if (
    !equalInConstantTime(sha256(bytes.subarray(0, Math.max(0, sumStart))), Buffer.from(sum, "hex"))
  ) {
    throw new FormatError("its checksum is wrong");
  }
  const macStart = sumStart - MAC_LINE_BYTES;
  const mac = /^mac ([0-9a-f]{64})\n$/.exec(text.slice(Math.max(0, macStart), sumStart))?.[1];
  const lines = text.slice(0, Math.max(0, macStart)).split("\n");
  const keyId = Number(/^key ([1-9][0-9]{0,9})$/.exec(lines[1] ?? "")?.[1]);
  if (mac === undefined || !isKeyId(keyId) || lines.pop() !== "") throw malformed();
  const content = parseLines(lines.slice(2));
  if (version === 1 && content.runs.size > 0) throw malformed();
  const file = { version, keyId, content, mac: Buffer.from(mac, "hex") };
  if (!serializeStateFile(file).equals(bytes)) throw malformed();
  return file;
}

export function serializeStateFile(file: StateFile): Buffer {
  const text = Buffer.concat([
    stateBytes(file.keyId, file.content, file.version),
    Buffer.from(`mac ${file.mac.toString("hex")}\n`),
  ]);
  return Buffer.concat([text, Buffer.from(`sum ${sha256(text).toString("hex")}\n`)]);
}

/** The bytes that the MAC covers. Directories, runs and keys are sorted, fields have a fixed order. */
export function stateBytes(
  keyId: number,
  content: StateContent,
  version: StateVersion = STATE_VERSION,
): Buffer {
  const records: unknown[] = [
    {
      keyring: content.keyringId,
      generation: content.highestGeneration,
      ...(content.keyLimitPages === undefined ? {} : { limit: content.keyLimitPages }),
      ...(content.since === undefined ? {} : { since: content.since }),
    },
  ];
  for (const [, { id, epoch, root, time, path, others, load }] of sorted(content.directories)) {
    records.push({
      directory: id,
      epoch: Number(epoch),
      root,
      time,
      path: escapeBytes(path),
      ...(others.length === 0 ? {} : { others: others.map(escapeBytes) }),
      load: sortedByNumber(load).map(([key, { pages, bytes }]) => [key, pages, bytes]),
    });
  }
  for (const [, run] of sorted(content.runs)) {
    records.push({
      run: run.runId,
      directory: run.directoryId,
      operation: run.operation,
      epoch: Number(run.epoch),
      time: run.time,
      path: escapeBytes(run.place),
      ...(run.ended ? { ended: true } : {}),
    });
  }
  for (const [key, { pages, bytes }] of sortedByNumber(content.keyLoad)) {
    records.push({ key, pages, bytes });
  }
  const lines = records.map((record) => `${JSON.stringify(record)}\n`);
  return Buffer.from(`${heading(version)}\nkey ${keyId}\n${lines.join("")}`, "latin1");
}

function parseLines(lines: readonly string[]): StateContent {
  const [head, ...rest] = lines.map(parseObject);
  if (head === undefined) throw malformed();
  const directories = new Map<string, DirectoryMemory>();
  const runs = new Map<string, OpenRun>();
  const keyLoad = new Map<number, KeyLoad>();
  for (const record of rest) {
    if ("run" in record) {
      const run = parseRun(record);
      runs.set(run.runId, run);
    } else if ("directory" in record) {
      const memory = parseDirectory(record);
      directories.set(memory.id, memory);
    } else {
      const load = { pages: countIn(record["pages"]), bytes: countIn(record["bytes"]) };
      keyLoad.set(keyIdIn(record["key"]), load);
    }
  }
  return {
    keyringId: textIn(head["keyring"], /^[0-9a-f]{16}$/),
    highestGeneration: countIn(head["generation"]),
    since: head["since"] === undefined ? undefined : timeIn(head["since"]),
    directories,
    runs,
    keyLoad,
    keyLimitPages: head["limit"] === undefined ? undefined : limitIn(head["limit"]),
  };
}

function parseDirectory(record: Readonly<Record<string, unknown>>): DirectoryMemory {
  if (!Array.isArray(record["load"])) throw malformed();
  const load = new Map<number, KeyLoad>();
  for (const item of record["load"] as readonly unknown[]) {
    if (!Array.isArray(item)) throw malformed();
    const [key, pages, bytes] = item as readonly unknown[];
    load.set(keyIdIn(key), { pages: countIn(pages), bytes: countIn(bytes) });
  }
  return {
    id: textIn(record["directory"], /^[0-9a-f]{32}$/),
    epoch: BigInt(countIn(record["epoch"])),
    root: textIn(record["root"], /^[0-9a-f]{64}$/),
    time: timeIn(record["time"]),
    path: unescapeBytes(textIn(record["path"], /^/)) as BytePath,
    others: othersIn(record["others"]),
    load,
  };
}

function othersIn(value: unknown): BytePath[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length === 0 || value.length > OTHER_PLACES) throw malformed();
  return value.map((path) => unescapeBytes(textIn(path, /^/)) as BytePath);
}

function parseRun(record: Readonly<Record<string, unknown>>): OpenRun {
  const { operation, ended } = record;
  if (!isJournalOperation(operation) || (ended !== undefined && ended !== true)) throw malformed();
  return {
    runId: textIn(record["run"], /^[0-9a-f]{32}$/),
    directoryId: textIn(record["directory"], /^[0-9a-f]{32}$/),
    operation,
    epoch: BigInt(countIn(record["epoch"])),
    time: timeIn(record["time"]),
    place: unescapeBytes(textIn(record["path"], /^/)) as BytePath,
    ended: ended === true,
  };
}

function heading(version: StateVersion): string {
  return `tde-state ${version}`;
}

function parseObject(line: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw malformed();
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed();
  return value as Readonly<Record<string, unknown>>;
}

function textIn(value: unknown, pattern: RegExp): string {
  if (typeof value !== "string" || !pattern.test(value)) throw malformed();
  return value;
}

function countIn(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw malformed();
  return value;
}

function timeIn(value: unknown): string {
  const time = textIn(value, /^/);
  if (!isTime(time)) throw malformed();
  return time;
}

function limitIn(value: unknown): number {
  const limit = countIn(value);
  if (limit === 0) throw malformed();
  return limit;
}

function keyIdIn(value: unknown): number {
  if (typeof value !== "number" || !isKeyId(value)) throw malformed();
  return value;
}

function isKeyId(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= KEY_ID_LIMIT;
}

function sorted<T>(map: ReadonlyMap<string, T>): [string, T][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

function sortedByNumber<T>(map: ReadonlyMap<number, T>): [number, T][] {
  return [...map].sort(([a], [b]) => a - b);
}

function malformed(): FormatError {
  return new FormatError("it is not in its canonical form");
}
