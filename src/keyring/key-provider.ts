/**
 * The interface between the keyring and whatever holds a key-encryption key: a passphrase, a key file, a
 * command, later a key service or a hardware token. The keyring asks for two things only, wrap and unwrap 32
 * bytes; what a provider needs to find its key again (a salt, a key name, an address) it keeps as parameters in
 * the recipient's line, which the keyring stores without understanding it.
 *
 * To add one: a file in providers/ with a RecipientType and a KeyProvider, and its type in recipient-types.ts.
 */

/** The 32 bytes that open a keyring, as one recipient keeps them. */
export interface WrappedKey {
  /** In the order of the type's `parameterNames`; values are text without blanks. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly wrapped: Buffer;
}

/** What the keyring file has to know about a kind of recipient to read and write its line. */
export interface RecipientType {
  /** The word in the file: `scrypt`, `key-file`, `command`. Part of the AAD. */
  readonly name: string;
  /** All of them are present in the line, in this order. */
  readonly parameterNames: readonly string[];
  /**
   * What it costs to try a secret on such a recipient, and how much all of a keyring may cost together: whoever can write
   * the file could else keep for hours whoever wants to open it. Undefined where it costs nothing worth counting.
   */
  readonly work?: { readonly of: (key: WrappedKey) => number; readonly limit: number } | undefined;
  /** At most this many bytes in `wrapped`. */
  readonly wrappedLimitBytes: number;
  /**
   * Says what is wrong with parameters or length, or undefined. Values must have one spelling only; what can
   * cost time or memory (a work factor) must be bounded here, because it is checked before any key is.
   */
  readonly fault: (key: WrappedKey) => string | undefined;
  /** Names of parameters worth showing to a person. */
  readonly shownParameters: readonly string[];
}

export interface WrapContext {
  /** 16 hex digits; bound into what is wrapped. */
  readonly keyringId: string;
}

/** One secret, or access to one. */
export interface KeyProvider {
  /** The recipients that it can open: a RecipientType's name. */
  readonly typeName: string;
  /** For messages: `key file "kek.key"`. Never a secret. */
  readonly description: string;
  /**
   * Wraps the keyring key for a new line.
   * @param keyringKey - 32 bytes; not kept.
   * @throws {KeyError} when the KEK cannot be reached.
   */
  wrap(keyringKey: Uint8Array, context: WrapContext): Promise<WrappedKey>;
  /**
   * @returns the 32 bytes, which the caller wipes; undefined when this is not the recipient's KEK. Whether the
   * bytes are the right ones is shown by the keyring's MAC alone.
   * @throws {KeyError} when the KEK cannot be reached.
   */
  unwrap(key: WrappedKey, context: WrapContext): Promise<Buffer | undefined>;
  /**
   * The same secret, taken once more from where it lies: what was wrapped with it is proved by that, since a bit that
   * flips while a key file is read makes a key that nobody has. Undefined where it cannot be had again, as from a
   * prompt, and where `wrap` itself proves what it made. The caller disposes of it.
   * @throws {KeyError} {StorageError} as the first time.
   */
  reread(): KeyProvider | undefined;
  /** Wipes the secret. The provider is not used after it. */
  dispose(): void;
}
