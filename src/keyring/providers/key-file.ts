/**
 * A recipient that a key file opens: 32 random bytes, or the same as 64 hex digits with an optional line end.
 * The file's bytes are never a key themselves; HKDF with the recipient's salt and the keyring's id is.
 */
import { type BytePath, displayPath } from "../../bytes/byte-path.ts";
import { KEY_BYTES, type KeyObject, randomBytes, secretKey } from "../../crypto/primitives.ts";
import { KeyError } from "../../errors.ts";
import { createFileDurably } from "../../storage/durable-replace.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import { parseBase64 } from "../base64.ts";
import type { KeyProvider, RecipientType, WrapContext, WrappedKey } from "../key-provider.ts";
import {
  keyFileKek,
  recipientAad,
  SALT_BYTES,
  unwrapKey,
  WRAPPED_KEY_BYTES,
  wrapKey,
} from "../key-wrap.ts";
import { readPrivateFile } from "../private-file.ts";

const TYPE_NAME = "key-file";
/** Enough for 64 hex digits and a line end; more is read only to name the true length. */
const LIMIT_BYTES = 4096;

export const keyFileRecipient: RecipientType = {
  name: TYPE_NAME,
  parameterNames: ["salt"],
  shownParameters: [],
  wrappedLimitBytes: WRAPPED_KEY_BYTES,
  fault(key: WrappedKey): string | undefined {
    if (saltOf(key) === undefined) return `salt does not have ${SALT_BYTES} bytes`;
    if (key.wrapped.length !== WRAPPED_KEY_BYTES) return "the wrapped key has the wrong length";
    return undefined;
  },
};

export class KeyFileProvider implements KeyProvider {
  readonly typeName: string = TYPE_NAME;
  readonly description: string;
  readonly #key: KeyObject;
  readonly #fs: FileSystem;
  readonly #path: BytePath;

  /** @throws {KeyError} when the file is missing, readable by others, or does not hold a key. */
  constructor(fs: FileSystem, path: BytePath) {
    this.description = `key file "${displayPath(path)}"`;
    this.#key = readKeyFile(fs, path);
    this.#fs = fs;
    this.#path = path;
  }

  async wrap(keyringKey: Uint8Array, context: WrapContext): Promise<WrappedKey> {
    const salt = randomBytes(SALT_BYTES);
    const kek = keyFileKek(this.#key, salt, context.keyringId);
    return {
      parameters: new Map([["salt", salt.toString("base64")]]),
      wrapped: wrapKey(kek, recipientAad(context.keyringId, TYPE_NAME), keyringKey),
    };
  }

  async unwrap(key: WrappedKey, context: WrapContext): Promise<Buffer | undefined> {
    const salt = saltOf(key);
    if (salt === undefined) return undefined;
    const kek = keyFileKek(this.#key, salt, context.keyringId);
    return unwrapKey(kek, recipientAad(context.keyringId, TYPE_NAME), key.wrapped);
  }

  reread(): KeyProvider {
    return new KeyFileProvider(this.#fs, this.#path);
  }

  dispose(): void {
    // A KeyObject has no bytes that could be wiped from here.
  }
}

/** Writes a new key file of 32 random bytes, mode 0600. @throws {StateError} when the name is taken. */
export function createKeyFile(fs: FileSystem, path: BytePath): void {
  const key = randomBytes(KEY_BYTES);
  try {
    createFileDurably(fs, path, key, 0o600);
  } finally {
    key.fill(0);
  }
}

function readKeyFile(fs: FileSystem, path: BytePath): KeyObject {
  const content = readPrivateFile(fs, path, "key file", LIMIT_BYTES);
  const bytes = keyBytes(content);
  try {
    if (bytes === undefined) {
      throw new KeyError(
        `key file "${displayPath(path)}" has ${content.length} bytes and is not a key`,
        { hint: `A key file holds ${KEY_BYTES} random bytes, or ${2 * KEY_BYTES} hex digits.` },
      );
    }
    return secretKey(bytes);
  } finally {
    content.fill(0);
    bytes?.fill(0);
  }
}

function keyBytes(content: Buffer): Buffer | undefined {
  if (content.length === KEY_BYTES) return content;
  const digits = content.at(-1) === 0x0a ? content.subarray(0, -1) : content;
  if (digits.length !== 2 * KEY_BYTES) return undefined;
  const bytes = Buffer.alloc(KEY_BYTES);
  for (let i = 0; i < KEY_BYTES; i++) {
    const high = hexDigit(digits[2 * i]);
    const low = hexDigit(digits[2 * i + 1]);
    if (high === undefined || low === undefined) return undefined;
    bytes[i] = 16 * high + low;
  }
  return bytes;
}

/** By hand, because a string made of a key could not be wiped. */
function hexDigit(code: number | undefined): number | undefined {
  if (code === undefined) return undefined;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : undefined;
}

function saltOf(key: WrappedKey): Buffer | undefined {
  const salt = parseBase64(key.parameters.get("salt") ?? "");
  return salt?.length === SALT_BYTES ? salt : undefined;
}
