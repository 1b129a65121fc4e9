/**
 * A recipient that a passphrase opens, through scrypt (RFC 7914) with r = 8 and p = 1. The work factor is chosen
 * when wrapping; one read from a file is bounded before any work is done.
 */
import { KeyError } from "../../errors.ts";
import { randomBytes } from "../../crypto/primitives.ts";
import { parseBase64 } from "../base64.ts";
import type { KeyProvider, RecipientType, WrapContext, WrappedKey } from "../key-provider.ts";
import {
  passphraseKek,
  recipientAad,
  SALT_BYTES,
  unwrapKey,
  WRAPPED_KEY_BYTES,
  wrapKey,
} from "../key-wrap.ts";

export const MIN_LOG_N = 14;
export const MAX_LOG_N = 20;
/** 128 MiB and about half a second. */
export const DEFAULT_LOG_N = 17;
export const MAX_PASSPHRASE_BYTES = 1024;

/**
 * Of the N of all passphrases of a keyring together: as many recipients as there can be, at the work factor that they are
 * wrapped with, and less than half a minute.
 */
export const WORK_LIMIT: number = 2 ** 22;

const TYPE_NAME = "scrypt";

export const scryptRecipient: RecipientType = {
  name: TYPE_NAME,
  parameterNames: ["logN", "salt"],
  shownParameters: ["logN"],
  wrappedLimitBytes: WRAPPED_KEY_BYTES,
  work: { of: (key) => 2 ** (logNOf(key) ?? 0), limit: WORK_LIMIT },
  fault(key: WrappedKey): string | undefined {
    if (logNOf(key) === undefined) return `logN is not between ${MIN_LOG_N} and ${MAX_LOG_N}`;
    if (saltOf(key) === undefined) return `salt does not have ${SALT_BYTES} bytes`;
    if (key.wrapped.length !== WRAPPED_KEY_BYTES) return "the wrapped key has the wrong length";
    return undefined;
  },
};

export class PassphraseProvider implements KeyProvider {
  readonly typeName: string = TYPE_NAME;
  readonly description: string;
  readonly reread: () => KeyProvider | undefined;
  readonly #passphrase: Buffer;
  readonly #logN: number;

  /**
   * @param passphrase - its bytes without a line end; copied, so the caller wipes its own.
   * @param logN - the work factor for wrapping; unwrapping takes the recipient's.
   * @param reread - takes it once more from where it came from, where that can be done.
   * @throws {KeyError} when it is empty, too long, or has a NUL byte.
   */
  constructor(
    passphrase: Uint8Array,
    description: string,
    logN: number = DEFAULT_LOG_N,
    reread: () => KeyProvider | undefined = () => undefined,
  ) {
    if (passphrase.length === 0) {
      throw new KeyError(`${description} is empty`, { hint: "Give at least one character." });
    }
    if (passphrase.length > MAX_PASSPHRASE_BYTES) {
      throw new KeyError(`${description} is longer than ${MAX_PASSPHRASE_BYTES} bytes`, {
        hint: "Is this the right file? A passphrase is one line of text.",
      });
    }
    // scrypt begins with HMAC, which pads its key with zeros: "x" and "x\0" would open the same recipient.
    if (passphrase.includes(0)) {
      throw new KeyError(`${description} has a NUL byte in it`, {
        hint: "A passphrase is one line of text. For random bytes use --key-file.",
      });
    }
    this.#passphrase = Buffer.from(passphrase);
    this.description = description;
    this.#logN = logN;
    this.reread = reread;
  }

  async wrap(keyringKey: Uint8Array, context: WrapContext): Promise<WrappedKey> {
    const salt = randomBytes(SALT_BYTES);
    const kek = await passphraseKek(this.#passphrase, salt, this.#logN);
    return {
      parameters: new Map([
        ["logN", String(this.#logN)],
        ["salt", salt.toString("base64")],
      ]),
      wrapped: wrapKey(kek, recipientAad(context.keyringId, TYPE_NAME), keyringKey),
    };
  }

  async unwrap(key: WrappedKey, context: WrapContext): Promise<Buffer | undefined> {
    const logN = logNOf(key);
    const salt = saltOf(key);
    if (logN === undefined || salt === undefined) return undefined;
    const kek = await passphraseKek(this.#passphrase, salt, logN);
    return unwrapKey(kek, recipientAad(context.keyringId, TYPE_NAME), key.wrapped);
  }

  dispose(): void {
    this.#passphrase.fill(0);
  }
}

/** The passphrase in bytes that were read or typed: without one trailing line end. A view, not a copy. */
export function withoutLineEnd(bytes: Buffer): Buffer {
  if (bytes.at(-1) !== 0x0a) return bytes;
  return bytes.subarray(0, bytes.at(-2) === 0x0d ? -2 : -1);
}

function logNOf(key: WrappedKey): number | undefined {
  const text = key.parameters.get("logN") ?? "";
  const logN = Number(text);
  return /^[1-9][0-9]$/.test(text) && logN >= MIN_LOG_N && logN <= MAX_LOG_N ? logN : undefined;
}

function saltOf(key: WrappedKey): Buffer | undefined {
  const salt = parseBase64(key.parameters.get("salt") ?? "");
  return salt?.length === SALT_BYTES ? salt : undefined;
}
