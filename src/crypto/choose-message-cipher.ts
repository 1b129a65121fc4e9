/**
 * Which implementation of AES-256-GCM a thread has. It begins with node:crypto; once there is so much to do that the
 * time to load koffi comes back, libcrypto takes over, if it can be called and agrees with node:crypto. That is decided
 * once in each thread.
 */
import { UsageError } from "../errors.ts";
import { type ForeignFunctions, loadKoffi } from "./foreign-functions.ts";
import { LibcryptoMessageCipher } from "./libcrypto-message-cipher.ts";
import type { MessageCipher } from "./message-cipher.ts";
import { nodeMessageCipher } from "./node-message-cipher.ts";
import { defectOf } from "./prove-message-cipher.ts";

/** "node" or "libcrypto" (then from the first message on, or not at all). */
const VARIABLE = "TDE_CRYPTO";

/**
 * What node:crypto costs more for so many messages is what loading koffi costs. Neither a WAL segment of 16 MB nor a
 * cluster that was just made has as many.
 */
export const MESSAGES_BEFORE_LOADING = 2560;

export interface Choice {
  readonly cipher: MessageCipher;
  /** Why it is not libcrypto, where that was tried. */
  readonly reason?: string;
}

let ofThisThread: ThreadCipher | undefined;

/** For one message; the next may be another one's. @throws {UsageError} as chooseMessageCipher. */
export function messageCipher(): MessageCipher {
  return threadCipher().forMessage();
}

/** What a thread with much to do works with, and why, in a few words. @throws {UsageError} as chooseMessageCipher. */
export function describeMessageCipher(): string {
  const { cipher, reason } = threadCipher().choice;
  return reason === undefined ? cipher.name : `${cipher.name} (not libcrypto: ${reason})`;
}

function threadCipher(): ThreadCipher {
  ofThisThread ??= new ThreadCipher(process.env[VARIABLE], loadKoffi);
  return ofThisThread;
}

export class ThreadCipher {
  readonly #wanted: string | undefined;
  readonly #load: () => ForeignFunctions;
  #chosen: Choice | undefined;
  /** That are done before there is a choice to make. */
  #messagesLeft: number;

  constructor(variable: string | undefined, load: () => ForeignFunctions) {
    this.#wanted = variable === "" ? undefined : variable;
    this.#load = load;
    this.#messagesLeft = this.#wanted === undefined ? MESSAGES_BEFORE_LOADING : 0;
  }

  forMessage(): MessageCipher {
    if (this.#messagesLeft === 0) return this.choice.cipher;
    this.#messagesLeft--;
    return nodeMessageCipher;
  }

  get choice(): Choice {
    this.#chosen ??= chooseMessageCipher(this.#wanted, this.#load);
    return this.#chosen;
  }
}

/**
 * @param wanted - the value of TDE_CRYPTO.
 * @throws {UsageError} where that is unknown, or asks for what is not to be had.
 */
export function chooseMessageCipher(
  wanted: string | undefined,
  load: () => ForeignFunctions,
): Choice {
  if (wanted === "node") return { cipher: nodeMessageCipher };
  if (wanted !== undefined && wanted !== "libcrypto") {
    throw new UsageError(`${VARIABLE} is "${wanted}"`, {
      hint: 'It is "node" or "libcrypto", or not set.',
    });
  }
  const found = tryLibcrypto(load);
  if (typeof found !== "string") return { cipher: found };
  if (wanted === undefined) return { cipher: nodeMessageCipher, reason: found };
  throw new UsageError(`${VARIABLE} asks for libcrypto, which cannot be used: ${found}`, {
    hint: `Install the optional dependency koffi, or unset ${VARIABLE}.`,
  });
}

/** @returns why not, where it cannot be used. */
function tryLibcrypto(load: () => ForeignFunctions): MessageCipher | string {
  try {
    const cipher = new LibcryptoMessageCipher(load());
    return defectOf(cipher, nodeMessageCipher) ?? cipher;
  } catch (error) {
    const [firstLine = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    return firstLine;
  }
}
