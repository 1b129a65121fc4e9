/**
 * The keyring file as text: one record a line, and exactly one spelling of every keyring, so that
 * `parse(serialize(x)) = x` and `serialize(parse(b)) = b`. Parsing needs no key and proves nothing but that the
 * file is whole; keyring.ts authenticates it. Format: docs/FORMAT.md, Keyring file.
 */
import { equalInConstantTime, sha256 } from "../crypto/primitives.ts";
import { escapeBytes, unescapeBytes } from "../bytes/percent-escape.ts";
import { FormatError } from "../errors.ts";
import { parseBase64 } from "./base64.ts";
import type { KeyState } from "./data-keys.ts";
import type { WrappedKey } from "./key-provider.ts";
import { KEY_CHECK_BYTES, WRAPPED_KEY_BYTES } from "./key-wrap.ts";
import { recipientTypes } from "./recipient-types.ts";

export const KEYRING_LIMIT_BYTES: number = 2 ** 20;
export const RECIPIENT_LIMIT = 32;
export const RECIPIENT_NUMBER_LIMIT = 65535;
/** In UTF-8. */
export const LABEL_LIMIT_BYTES = 255;

const MAGIC = "tde-keyring";
const VERSION = "1";
const MAC_BYTES = 32;
const KEY_STATES: ReadonlySet<string> = new Set<KeyState>([
  "current",
  "readable",
  "retired",
  "destroyed",
]);

export interface Recipient extends WrappedKey {
  /** Stays the same as long as the recipient does; ascending in the file. */
  readonly number: number;
  readonly typeName: string;
  /** For people. */
  readonly label: string;
}

export interface KeyRecord {
  readonly keyId: number;
  readonly state: KeyState;
  /** RFC 3339 in UTC, to the second: `2026-11-20T11:28:31Z`. */
  readonly created: string;
  /** Key-check value, 8 bytes. */
  readonly check: Buffer;
  /** 60 bytes; absent when destroyed. */
  readonly wrapped: Buffer | undefined;
}

/** Everything that the MAC covers. */
export interface KeyringContent {
  /** 16 hex digits. */
  readonly id: string;
  readonly generation: number;
  readonly recipients: readonly Recipient[];
  /** Key id i at index i − 1. */
  readonly keys: readonly KeyRecord[];
}

export interface KeyringFile extends KeyringContent {
  readonly mac: Buffer;
}

/**
 * @param name - the file, for messages: `keyring "app.keyring"`.
 * @throws {FormatError} when the file is damaged, of another version, or not in its canonical form.
 */
export function parseKeyringFile(bytes: Buffer, name: string): KeyringFile {
  if (bytes.length > KEYRING_LIMIT_BYTES) throw new FormatError(`${name} is too large`);
  // One byte, one character: what is not ASCII survives to the comparison at the end and fails there.
  const text = bytes.toString("latin1");
  requireMagic(text, name);
  const reader = new LineReader(splitSum(text, bytes, name), name);
  reader.next(`${MAGIC} ${VERSION}`);
  const id = reader.field("id", /^[0-9a-f]{16}$/);
  const generation = parseNumber(reader.field("generation", /^[1-9][0-9]{0,15}$/), reader);
  const recipients: Recipient[] = [];
  while (reader.startsWith("recipient ")) recipients.push(parseRecipient(reader));
  const keys: KeyRecord[] = [];
  while (reader.startsWith("key ")) keys.push(parseKey(reader));
  const mac = Buffer.from(reader.field("mac", /^[0-9a-f]{64}$/), "hex");
  reader.end();
  const file = { id, generation, recipients, keys, mac };
  requireSense(file, name);
  if (!serializeKeyringFile(file).equals(bytes)) {
    throw new FormatError(`${name} is not in its canonical form`, { hint: RESTORE_HINT });
  }
  return file;
}

/** The whole file. */
export function serializeKeyringFile(file: KeyringFile): Buffer {
  const text = `${serializeContent(file)}mac ${file.mac.toString("hex")}\n`;
  return Buffer.from(
    `${text}sum ${sha256(Buffer.from(text, "latin1")).toString("hex")}\n`,
    "latin1",
  );
}

/** The bytes that the MAC covers: every line before its own. */
export function authenticatedBytes(content: KeyringContent): Buffer {
  return Buffer.from(serializeContent(content), "latin1");
}

const RESTORE_HINT =
  "Restore the keyring from its backup. Nothing can be decrypted without it; keep the damaged file.";

function serializeContent(content: KeyringContent): string {
  const lines = [`${MAGIC} ${VERSION}`, `id ${content.id}`, `generation ${content.generation}`];
  for (const { number, typeName, parameters, wrapped, label } of content.recipients) {
    const fields = [...parameters].map(([name, value]) => ` ${name}=${value}`).join("");
    const shownLabel = escapeBytes(Buffer.from(label, "utf8").toString("latin1"));
    lines.push(
      `recipient ${number} ${typeName}${fields} wrapped=${wrapped.toString("base64")} label=${shownLabel}`,
    );
  }
  for (const { keyId, state, created, check, wrapped } of content.keys) {
    const tail = wrapped === undefined ? "" : ` wrapped=${wrapped.toString("base64")}`;
    lines.push(
      `key ${keyId} state=${state} created=${created} check=${check.toString("hex")}${tail}`,
    );
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** Says what a file is that is no keyring of this version, before its sum could only say that it is damaged. */
function requireMagic(text: string, name: string): void {
  const firstLine = /^tde-keyring ([0-9]{1,9})\n/.exec(text);
  if (firstLine === null) {
    throw new FormatError(`${name} is not a keyring`, {
      hint: 'A keyring begins with the line "tde-keyring 1". Check the path.',
    });
  }
  if (firstLine[1] !== VERSION) {
    throw new FormatError(
      `${name} has version ${firstLine[1]}, this tde reads version ${VERSION}`,
      {
        hint: "Use a newer tde.",
      },
    );
  }
}

/** The text before the sum's line, after checking the sum. */
function splitSum(text: string, bytes: Buffer, name: string): string {
  const sum = /(?:^|\n)sum ([0-9a-f]{64})\n$/.exec(text);
  const start = text.length - "sum ".length - 2 * MAC_BYTES - 1;
  const expected = sum?.[1] === undefined ? undefined : Buffer.from(sum[1], "hex");
  if (expected === undefined || !equalInConstantTime(sha256(bytes.subarray(0, start)), expected)) {
    throw new FormatError(`${name} is damaged: its checksum is wrong`, { hint: RESTORE_HINT });
  }
  return text.slice(0, start);
}

function parseRecipient(reader: LineReader): Recipient {
  const words = reader.next().split(" ");
  const [, number = "", typeName = ""] = words;
  const type = recipientTypes.get(typeName);
  if (type === undefined) throw reader.fault("a kind of recipient that this version does not know");
  const names = [...type.parameterNames, "wrapped", "label"];
  const fields = reader.assignments(words.slice(3), names);
  const wrapped = parseBase64(fields.get("wrapped") ?? "");
  if (wrapped === undefined || wrapped.length > type.wrappedLimitBytes) {
    throw reader.fault("a wrapped key that cannot be read");
  }
  const parameters = new Map(type.parameterNames.map((name) => [name, fields.get(name) ?? ""]));
  const fault = type.fault({ parameters, wrapped });
  if (fault !== undefined) throw reader.fault(fault);
  const label = parseLabel(fields.get("label") ?? "", reader);
  return { number: parseNumber(number, reader), typeName, parameters, wrapped, label };
}

function parseLabel(escaped: string, reader: LineReader): string {
  let bytes: Buffer;
  try {
    bytes = Buffer.from(unescapeBytes(escaped), "latin1");
  } catch {
    throw reader.fault("a label that cannot be read");
  }
  const label = bytes.toString("utf8");
  if (bytes.length > LABEL_LIMIT_BYTES || !Buffer.from(label, "utf8").equals(bytes)) {
    throw reader.fault("a label that cannot be read");
  }
  return label;
}

function parseKey(reader: LineReader): KeyRecord {
  const words = reader.next().split(" ");
  const destroyed = words[2] === "state=destroyed";
  const names = ["state", "created", "check", ...(destroyed ? [] : ["wrapped"])];
  const fields = reader.assignments(words.slice(2), names);
  const state = fields.get("state") ?? "";
  if (!isKeyState(state)) throw reader.fault("a key state that this version does not know");
  const created = fields.get("created") ?? "";
  if (!isTime(created)) throw reader.fault("a time that cannot be read");
  const check = Buffer.from(fields.get("check") ?? "", "hex");
  if (check.length !== KEY_CHECK_BYTES) throw reader.fault("a key-check value that cannot be read");
  const wrapped = destroyed ? undefined : parseBase64(fields.get("wrapped") ?? "");
  if (!destroyed && wrapped?.length !== WRAPPED_KEY_BYTES) {
    throw reader.fault("a wrapped key that cannot be read");
  }
  return { keyId: parseNumber(words[1] ?? "", reader), state, created, check, wrapped };
}

/** What no single line can show. */
function requireSense(file: KeyringFile, name: string): void {
  const fault = (what: string): FormatError =>
    new FormatError(`${name} has ${what}`, { hint: RESTORE_HINT });
  const { recipients, keys } = file;
  if (recipients.length === 0 || recipients.length > RECIPIENT_LIMIT) {
    throw fault(`${recipients.length} recipients instead of 1 to ${RECIPIENT_LIMIT}`);
  }
  let last = 0;
  for (const { number } of recipients) {
    if (number <= last || number > RECIPIENT_NUMBER_LIMIT) throw fault("recipients out of order");
    last = number;
  }
  if (keys.some(({ keyId }, i) => keyId !== i + 1)) throw fault("key ids with gaps");
  const current = keys.filter(({ state }) => state === "current").length;
  if (current !== 1) throw fault(`${current} current keys instead of one`);
}

function isKeyState(text: string): text is KeyState {
  return KEY_STATES.has(text);
}

/** A time as `formatTime` gives it. */
export function isTime(text: string): boolean {
  if (!/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/.test(text)) return false;
  const date = new Date(text);
  return !Number.isNaN(date.getTime()) && formatTime(date) === text;
}

/** RFC 3339 in UTC, to the second. */
export function formatTime(date: Date): string {
  return date.toISOString().replace(/\.[0-9]{3}Z$/, "Z");
}

function parseNumber(text: string, reader: LineReader): number {
  const number = Number(text);
  if (!/^[1-9][0-9]{0,15}$/.test(text) || !Number.isSafeInteger(number)) {
    throw reader.fault("a number that cannot be read");
  }
  return number;
}

/** Goes through the lines; its errors name the line. */
class LineReader {
  readonly #lines: readonly string[];
  readonly #name: string;
  #index = 0;

  constructor(text: string, name: string) {
    this.#lines = text.split("\n");
    this.#name = name;
  }

  startsWith(prefix: string): boolean {
    return this.#lines[this.#index]?.startsWith(prefix) === true;
  }

  /** The next line, which must be `expected` where that is given. */
  next(expected?: string): string {
    const line = this.#lines[this.#index++];
    if (line === undefined || (expected !== undefined && line !== expected)) {
      throw this.fault("something unexpected");
    }
    return line;
  }

  /** The value of a line `name value`. */
  field(name: string, pattern: RegExp): string {
    const line = this.next();
    const value = line.slice(name.length + 1);
    if (!line.startsWith(`${name} `) || !pattern.test(value)) {
      throw this.fault(`something else than "${name}"`);
    }
    return value;
  }

  /** The values of `name=value` words, which are exactly those named, in this order. */
  assignments(words: readonly string[], names: readonly string[]): Map<string, string> {
    const values = new Map<string, string>();
    if (words.length !== names.length) throw this.fault("missing or unknown fields");
    for (const [i, name] of names.entries()) {
      const word = words[i] ?? "";
      if (!word.startsWith(`${name}=`)) throw this.fault("missing or unknown fields");
      values.set(name, word.slice(name.length + 1));
    }
    return values;
  }

  end(): void {
    if (this.next() !== "" || this.#index !== this.#lines.length) {
      throw this.fault("something unexpected");
    }
  }

  fault(what: string): FormatError {
    return new FormatError(`${this.#name} has ${what} in line ${this.#index}`, {
      hint: RESTORE_HINT,
    });
  }
}
