/**
 * The first lines of the manifest: which directory this is, under which keyring and key, at which epoch, and the
 * original pg_control. As for entries, a value has exactly one text, and every other text is refused.
 * Specified in docs/FORMAT.md, "Manifest".
 */
import assert from "node:assert/strict";
import { FormatError } from "../errors.ts";
import { parseScope, type Scope, SCOPE_FORM, serializeScope } from "./scope.ts";

export const MANIFEST_NAME = "tde.manifest";
/** How much of pg_control the manifest keeps; the rest of the original's 8192 bytes is zero. */
export const CONTROL_BYTES = 512;

export type WalMode = "skip" | "sealed" | "readable";

export interface ManifestHeader {
  /** 32 hex digits, random at each encryption. */
  readonly directoryId: string;
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly systemIdentifier: bigint;
  /** Of the manifest's MAC. */
  readonly keyId: number;
  /** At least 1; each completed command raises it. */
  readonly epoch: bigint;
  /** Relations outside of it are plain, and have entries of class O. */
  readonly scope: Scope;
  readonly wal: WalMode;
  /** The first 512 bytes of the original global/pg_control. */
  readonly control: Buffer;
}

const U64_LIMIT = 2n ** 64n;
const DECIMAL = "0|[1-9]\\d{0,19}";

/** Each line's name, and the only form that its value may have. */
const LINES = [
  { name: "tde-manifest", form: /^1$/ },
  { name: "directory", form: /^[0-9a-f]{32}$/ },
  { name: "keyring", form: /^[0-9a-f]{16}$/ },
  { name: "system", form: new RegExp(`^(?:${DECIMAL})$`) },
  { name: "key", form: /^[1-9]\d{0,9}$/ },
  { name: "epoch", form: /^[1-9]\d{0,19}$/ },
  { name: "scope", form: SCOPE_FORM },
  { name: "wal", form: /^(?:skip|sealed|readable)$/ },
  { name: "control", form: /^[A-Za-z0-9+/]{683}=$/ },
] as const;

export const HEADER_LINE_COUNT: number = LINES.length;

/** All header lines, each with its LF. */
export function serializeManifestHeader(header: ManifestHeader): string {
  const values = [
    "1",
    header.directoryId,
    header.keyringId,
    String(header.systemIdentifier),
    String(header.keyId),
    String(header.epoch),
    serializeScope(header.scope),
    header.wal,
    header.control.toString("base64"),
  ];
  const lines = LINES.map(({ name }, i) => `${name} ${values[i]}`);
  // A header that its own reader would refuse is a bug of ours, found before it is on disk.
  assert.doesNotThrow(() => parseManifestHeader(lines, "a new manifest"));
  return lines.map((line) => `${line}\n`).join("");
}

/**
 * @param lines - the first HEADER_LINE_COUNT lines, or those that are there, without their LF.
 * @param where - the file, for messages.
 * @throws {FormatError} when a line is missing or not in canonical form.
 */
export function parseManifestHeader(lines: readonly string[], where: string): ManifestHeader {
  const first = lines[0] ?? "";
  const version = /^tde-manifest ([1-9]\d{0,9})$/.exec(first)?.[1];
  if (version === undefined) {
    throw new FormatError(`${where} is not a manifest: it does not begin with "tde-manifest"`);
  }
  if (version !== "1") {
    throw new FormatError(`${where} is a manifest of version ${version}, not 1`, {
      hint: "A newer tde wrote it. Use the newest tde.",
    });
  }
  const value = (name: (typeof LINES)[number]["name"]): string => {
    const index = LINES.findIndex((line) => line.name === name);
    const text = lines[index] ?? "";
    const rest = text.startsWith(`${name} `) ? text.slice(name.length + 1) : undefined;
    if (rest === undefined || LINES[index]?.form.test(rest) !== true) {
      throw invalid(where, index + 1, name);
    }
    return rest;
  };
  const u64 = (name: "system" | "epoch"): bigint => {
    const number = BigInt(value(name));
    if (number >= U64_LIMIT) throw new FormatError(`${where} has a ${name} number of over 64 bits`);
    return number;
  };
  const keyId = Number(value("key"));
  if (keyId > 0xffffffff) throw new FormatError(`${where} has a key id of over 32 bits`);
  const control = Buffer.from(value("control"), "base64");
  if (control.toString("base64") !== value("control")) throw invalid(where, 9, "control");
  return {
    directoryId: value("directory"),
    keyringId: value("keyring"),
    systemIdentifier: u64("system"),
    keyId,
    epoch: u64("epoch"),
    scope: parseScope(value("scope"), where),
    wal: value("wal") as WalMode,
    control,
  };
}

function invalid(where: string, line: number, name: string): FormatError {
  return new FormatError(`${where} is damaged: line ${line} is not a valid "${name}" line`, {
    hint: "Restore the manifest from a backup of this directory.",
  });
}
