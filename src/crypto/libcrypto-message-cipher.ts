/**
 * AES-256-GCM through the libcrypto that is in the process already: Node exports OpenSSL's functions, and koffi calls
 * them. The cipher is fetched from the library's default context, which node:crypto uses, too, so that the same
 * configuration and the same providers hold. What node:crypto spends on objects for each message is saved: a context
 * keeps its key from one message to the next, and texts are read and written where they are.
 *
 * A pointer is only ever that of a buffer handed to a call, whose length has been asserted; Node keeps it in its place
 * until the call is back.
 */
import type { KeyObject } from "node:crypto";
import type { ForeignFunctions } from "./foreign-functions.ts";
import {
  assertApart,
  assertApartOrSame,
  assertLengths,
  KEY_BYTES,
  type MessageCipher,
  TAG_BYTES,
} from "./message-cipher.ts";

/**
 * Contexts at one time. Each file has keys of its own, and a file is done before the next one begins: two are in use
 * when one is encrypted anew.
 */
export const MOST_CONTEXTS = 4;

/** What a function of C returns that has done what it was asked for. */
const DONE = 1;
/** From openssl/evp.h. */
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;
const DECRYPT = 0;
const ENCRYPT = 1;
const OPENSSL_VERSION = 0;

/** An address; koffi's own affair. */
type Pointer = bigint | object;
type Bytes = Uint8Array | null;

interface Library {
  readonly version: (what: number) => string;
  readonly fetch: (context: null, algorithm: string, properties: null) => Pointer | null;
  readonly newContext: () => Pointer | null;
  readonly reset: (context: Pointer) => number;
  readonly init: (
    context: Pointer,
    cipher: Pointer | null,
    engine: null,
    key: Bytes,
    nonce: Bytes,
    direction: number,
  ) => number;
  readonly update: (
    context: Pointer,
    output: Bytes,
    written: Int32Array,
    input: Uint8Array,
    inputBytes: number,
  ) => number;
  readonly final: (context: Pointer, output: Uint8Array, written: Int32Array) => number;
  readonly control: (context: Pointer, what: number, bytes: number, data: Uint8Array) => number;
  readonly clearErrors: () => void;
}

/** One EVP_CIPHER_CTX. */
interface Context {
  readonly pointer: Pointer;
  /** Goes up with each key that it gets. */
  generation: number;
  /** Whether it may hold a key. */
  isKeyed: boolean;
}

/** That a context has got a key, which it has as long as the generation is the same. */
interface Hold {
  readonly context: Context;
  readonly generation: number;
}

export class LibcryptoMessageCipher implements MessageCipher {
  readonly name: string;
  readonly #library: Library;
  readonly #cipher: Pointer;
  readonly #contexts: Context[] = [];
  /** Keys are told apart as objects, and none is kept from being collected. */
  readonly #holds: WeakMap<KeyObject, Hold> = new WeakMap();
  readonly #collected: FinalizationRegistry<Hold> = new FinalizationRegistry((hold) => {
    if (hold.generation === hold.context.generation) this.#forgetKey(hold.context);
  });
  #nextContext = 0;
  readonly #written: Int32Array = new Int32Array(1);
  /** GCM's last call writes nothing, but wants a place for it. */
  readonly #rest: Buffer = Buffer.alloc(TAG_BYTES);

  /** @throws where a function is missing or the library is not the one that node:crypto uses. */
  constructor(koffi: ForeignFunctions) {
    this.#library = bind(koffi);
    const version = this.#library.version(OPENSSL_VERSION);
    if (!version.includes(process.versions.openssl)) {
      throw new Error(`found ${version}, not OpenSSL ${process.versions.openssl}`);
    }
    const cipher = this.#library.fetch(null, "AES-256-GCM", null);
    if (cipher === null) throw this.#failure("EVP_CIPHER_fetch");
    this.#cipher = cipher;
    this.name = `libcrypto, OpenSSL ${process.versions.openssl}`;
  }

  /** That hold a key. */
  get keyedContexts(): number {
    return this.#contexts.filter(({ isKeyed }) => isKeyed).length;
  }

  encrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    plaintext: Uint8Array,
    tag: Uint8Array,
    output: Buffer = Buffer.allocUnsafeSlow(plaintext.byteLength),
  ): Buffer {
    assertLengths(nonce, aad, plaintext, tag, output);
    assertApartOrSame(plaintext, output);
    const context = this.#contextOf(key);
    try {
      this.#process(context, ENCRYPT, nonce, aad, plaintext, output);
      if (this.#library.final(context, this.#rest, this.#written) !== DONE)
        throw this.#failure("EVP_CipherFinal_ex");
      if (this.#library.control(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, tag) !== DONE)
        throw this.#failure("EVP_CIPHER_CTX_ctrl");
    } catch (error) {
      output.fill(0);
      throw error;
    }
    return output;
  }

  decrypt(
    key: KeyObject,
    nonce: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
    tag: Uint8Array,
    output: Buffer = Buffer.allocUnsafeSlow(ciphertext.byteLength),
  ): Buffer | undefined {
    assertLengths(nonce, aad, ciphertext, tag, output);
    assertApart(ciphertext, output);
    const context = this.#contextOf(key);
    let holds = false;
    try {
      this.#process(context, DECRYPT, nonce, aad, ciphertext, output);
      if (this.#library.control(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) !== DONE)
        throw this.#failure("EVP_CIPHER_CTX_ctrl");
      holds = this.#library.final(context, this.#rest, this.#written) === DONE;
    } finally {
      if (!holds) {
        output.fill(0);
        this.#library.clearErrors();
      }
    }
    return holds ? output : undefined;
  }

  #process(
    context: Pointer,
    direction: number,
    nonce: Uint8Array,
    aad: Uint8Array,
    input: Uint8Array,
    output: Uint8Array,
  ): void {
    const { init } = this.#library;
    if (init(context, null, null, null, nonce, direction) !== DONE)
      throw this.#failure("EVP_CipherInit_ex");
    this.#update(context, null, aad);
    this.#update(context, output, input);
  }

  #update(context: Pointer, output: Uint8Array | null, input: Uint8Array): void {
    const { byteLength } = input;
    // An empty buffer may have no address.
    if (byteLength === 0) return;
    const done = this.#library.update(context, output, this.#written, input, byteLength);
    if (done !== DONE || this.#written[0] !== byteLength) throw this.#failure("EVP_CipherUpdate");
  }

  #contextOf(key: KeyObject): Pointer {
    const hold = this.#holds.get(key);
    if (hold !== undefined && hold.generation === hold.context.generation)
      return hold.context.pointer;
    const context = this.#freeContext();
    context.generation++;
    context.isKeyed = true;
    const bytes = key.export();
    try {
      if (bytes.length !== KEY_BYTES) throw new Error(`a key of ${bytes.length} bytes`);
      const { init } = this.#library;
      const done = init(context.pointer, this.#cipher, null, bytes, null, ENCRYPT);
      if (done !== DONE) throw this.#failure("EVP_CipherInit_ex");
    } finally {
      bytes.fill(0);
    }
    const taken = { context, generation: context.generation };
    this.#holds.set(key, taken);
    this.#collected.register(key, taken);
    return context.pointer;
  }

  /** One without a key: a new one while there are few, else the one that has had its key for longest loses it. */
  #freeContext(): Context {
    if (this.#contexts.length < MOST_CONTEXTS) {
      const pointer = this.#library.newContext();
      if (pointer === null) throw this.#failure("EVP_CIPHER_CTX_new");
      const context = { pointer, generation: 0, isKeyed: false };
      this.#contexts.push(context);
      return context;
    }
    const context = this.#contexts[this.#nextContext];
    if (context === undefined) throw new Error("no context");
    this.#nextContext = (this.#nextContext + 1) % MOST_CONTEXTS;
    this.#forgetKey(context);
    return context;
  }

  /** OpenSSL overwrites what a context holds before it lets go of it. */
  #forgetKey(context: Context): void {
    if (this.#library.reset(context.pointer) !== DONE) throw this.#failure("EVP_CIPHER_CTX_reset");
    context.isKeyed = false;
  }

  /** What node:crypto does next must not find OpenSSL's messages about this. */
  #failure(name: string): Error {
    this.#library.clearErrors();
    return new Error(`${name} of libcrypto failed`);
  }
}

function bind(koffi: ForeignFunctions): Library {
  const program = koffi.load(null);
  const find = (prototype: string): unknown => program.func(prototype);
  return {
    version: find("const char *OpenSSL_version(int what)") as Library["version"],
    fetch: find(
      "void *EVP_CIPHER_fetch(void *context, const char *name, const char *properties)",
    ) as Library["fetch"],
    newContext: find("void *EVP_CIPHER_CTX_new()") as Library["newContext"],
    reset: find("int EVP_CIPHER_CTX_reset(void *context)") as Library["reset"],
    init: find(
      "int EVP_CipherInit_ex(void *context, void *cipher, void *engine, void *key, void *iv, int direction)",
    ) as Library["init"],
    update: find(
      "int EVP_CipherUpdate(void *context, void *out, void *written, void *in, int bytes)",
    ) as Library["update"],
    final: find(
      "int EVP_CipherFinal_ex(void *context, void *out, void *written)",
    ) as Library["final"],
    control: find(
      "int EVP_CIPHER_CTX_ctrl(void *context, int what, int bytes, void *data)",
    ) as Library["control"],
    clearErrors: find("void ERR_clear_error()") as Library["clearErrors"],
  };
}
