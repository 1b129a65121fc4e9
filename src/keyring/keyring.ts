/**
 * An opened keyring: keys, their states, and who can open it. A Keyring is a value that never changes; each
 * operation writes a new file, one generation higher, and returns the keyring that this file is.
 *
 * The checks on opening have an order, and three different errors: the sum (FormatError: damaged), the
 * recipients (KeyError: wrong key), the MAC and then every DEK's tag and key-check value (IntegrityError:
 * altered). No DEK is handed out before all of them hold.
 *
 * A new keyring key has to be wrapped for every recipient, and a recipient's KEK is not in the file: whoever was
 * removed knows everything that the others could have left there for each other. So the operations that draw one
 * (removing a recipient, destroying a key) take the secrets of all recipients that stay.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import {
  equalInConstantTime,
  KEY_BYTES,
  type KeyObject,
  newSecretKey,
  exportKey,
  randomBytes,
  secretKey,
} from "../crypto/primitives.ts";
import { IntegrityError, KeyError, StateError, UsageError } from "../errors.ts";
import { replaceFileDurably, resolveFile } from "../storage/durable-replace.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { acquireLock } from "../storage/lock.ts";
import type { DataKey, DataKeys } from "./data-keys.ts";
import type { KeyProvider, WrapContext, WrappedKey } from "./key-provider.ts";
import { keyCheckValue, keyringMac, unwrapDek, wrapDek } from "./key-wrap.ts";
import {
  authenticatedBytes,
  formatTime,
  KEYRING_LIMIT_BYTES,
  type KeyringContent,
  type KeyringFile,
  type KeyRecord,
  LABEL_LIMIT_BYTES,
  parseKeyringFile,
  type Recipient,
  RECIPIENT_LIMIT,
  RECIPIENT_NUMBER_LIMIT,
  serializeKeyringFile,
} from "./keyring-file.ts";
import { readPrivateFile } from "./private-file.ts";
import { excessiveWork, requireAffordable, tooMuchWork } from "./recipient-work.ts";
import { ARCHIVE_ROOT, directoriesUsing, requireNewestKeyring, type State } from "./state.ts";

/** Where a keyring is, and what works on it (for the lock's message to others). */
export interface KeyringPlace {
  readonly fs: FileSystem;
  readonly path: BytePath;
  readonly command: string;
}

/** The public part. Needs no key and authenticates nothing. @throws {KeyError | FormatError} */
export function readKeyringFile(fs: FileSystem, path: BytePath): KeyringFile {
  const bytes = readPrivateFile(fs, path, "keyring", KEYRING_LIMIT_BYTES);
  return parseKeyringFile(bytes, nameKeyring(path));
}

/**
 * Makes a keyring with one key and one recipient.
 * @throws {StateError} when the file exists already.
 */
export async function createKeyring(
  place: KeyringPlace,
  provider: KeyProvider,
  label: string,
): Promise<Keyring> {
  requireNoKeyring(place);
  const id = randomBytes(8).toString("hex");
  const keyringKey = newSecretKey();
  const recipient = await wrapFor(provider, keyringKey, 1, label, { keyringId: id });
  const dek = newSecretKey();
  const content = {
    id,
    generation: 1,
    recipients: [recipient],
    keys: [newKeyRecord(keyringKey, id, 1, dek)],
  };
  const file = sealed(content, keyringKey);
  withLock(place, () => {
    requireNoKeyring(place);
    write(place, file);
  });
  return new Keyring(place, file, keyringKey, new Map([[1, dek]]), 1);
}

/**
 * Opens a keyring by the first provider that fits one of its recipients.
 * @throws {FormatError} when the file is damaged.
 * @throws {KeyError} when it is missing, readable by others, or no provider opens it.
 * @throws {IntegrityError} when it was altered by someone without the key.
 */
export async function openKeyring(
  place: KeyringPlace,
  providers: readonly KeyProvider[],
): Promise<Keyring> {
  const file = readKeyringFile(place.fs, place.path);
  const name = nameKeyring(place.path);
  const opened = await findKeyringKey(file, providers, name);
  return new Keyring(
    place,
    file,
    opened.keyringKey,
    unwrapDeks(file, opened.keyringKey, name),
    opened.recipient,
  );
}

export interface RecipientTrials {
  /** By recipient number: the secret that opens it, as messages name it. */
  readonly openers: ReadonlyMap<number, string>;
  /** Secrets that could not be reached. */
  readonly failures: readonly KeyError[];
  /** Secrets that open no recipient. */
  readonly unused: readonly string[];
}

export class Keyring {
  readonly place: KeyringPlace;
  readonly file: KeyringFile;
  /** The number of the recipient whose secret opened it. */
  readonly openedBy: number;
  readonly #keyringKey: KeyObject;
  readonly #deks: ReadonlyMap<number, KeyObject>;

  /** Use `createKeyring` and `openKeyring`. */
  constructor(
    place: KeyringPlace,
    file: KeyringFile,
    keyringKey: KeyObject,
    deks: ReadonlyMap<number, KeyObject>,
    openedBy: number,
  ) {
    this.place = place;
    this.file = file;
    this.#keyringKey = keyringKey;
    this.#deks = deks;
    this.openedBy = openedBy;
  }

  /** `keyring "app.keyring"`. */
  get name(): string {
    return nameKeyring(this.place.path);
  }

  get currentKeyId(): number {
    const current = this.file.keys.find(({ state }) => state === "current");
    if (current === undefined) throw new Error("a parsed keyring has a current key");
    return current.keyId;
  }

  /** The keys for everything outside this folder; plain data that may go to worker threads. */
  dataKeys(): DataKeys {
    const keys = new Map<number, DataKey>();
    for (const { keyId, state } of this.file.keys) {
      keys.set(keyId, { state, dek: this.#deks.get(keyId) });
    }
    return { keyringId: this.file.id, currentKeyId: this.currentKeyId, keys };
  }

  /**
   * Adds a key and makes it the current one; the one before stays readable. Writes no page.
   * @param state - what is remembered of this keyring: an old copy must not get a second key of the same id.
   * @throws {StateError} when the keyring is older than the state remembers.
   */
  newKey(state: State): Keyring {
    requireNewestKeyring(this.file.generation, state, this.name);
    const keyId = this.file.keys.length + 1;
    const dek = newSecretKey();
    const keys = this.file.keys.map((key) =>
      key.state === "current" ? { ...key, state: "readable" as const } : key,
    );
    keys.push(newKeyRecord(this.#keyringKey, this.file.id, keyId, dek));
    return this.#replace({ keys }, this.#keyringKey, new Map([...this.#deks, [keyId, dek]]));
  }

  /** Lets another secret open the keyring. Data stays as it is. */
  async addRecipient(provider: KeyProvider, label: string): Promise<Keyring> {
    const { recipients, id } = this.file;
    if (recipients.length >= RECIPIENT_LIMIT) {
      throw new StateError(
        `${this.name} has ${RECIPIENT_LIMIT} recipients, the most there can be`,
        {
          hint: "Remove one that is no longer needed.",
        },
      );
    }
    const used = new Set(recipients.map(({ number }) => number));
    const highest = recipients.at(-1)?.number ?? 0;
    let number = highest + 1;
    if (number > RECIPIENT_NUMBER_LIMIT) for (number = 1; used.has(number);) number++;
    const added = await wrapFor(provider, this.#keyringKey, number, label, { keyringId: id });
    const all = [...recipients, added].sort((a, b) => a.number - b.number);
    return this.#replace({ recipients: all });
  }

  /**
   * Removes recipients, draws a new keyring key and wraps every DEK again. Whoever was removed may have kept the
   * DEKs of the day: only rotation takes these away.
   * @param providers - the secrets of all recipients that stay.
   * @throws {KeyError} when one is missing; its message names whose.
   */
  async removeRecipients(
    numbers: readonly number[],
    providers: readonly KeyProvider[],
  ): Promise<Keyring> {
    for (const number of numbers) this.#recipient(number);
    const staying = this.file.recipients.filter(({ number }) => !numbers.includes(number));
    if (staying.length === 0) {
      throw new StateError(`${this.name} would be left without a recipient`, {
        hint: "Add another recipient first: a keyring that nobody opens is lost.",
      });
    }
    return await this.#withNewKeyringKey(staying, this.file.keys, providers);
  }

  /** Another KEK for one recipient, which keeps its number. Data stays as it is. */
  async rewrap(number: number, provider: KeyProvider, label?: string): Promise<Keyring> {
    const old = this.#recipient(number);
    const context = { keyringId: this.file.id };
    const next = await wrapFor(provider, this.#keyringKey, number, label ?? old.label, context);
    const recipients = this.file.recipients.map((one) => (one.number === number ? next : one));
    return this.#replace({ recipients });
  }

  /**
   * Drops a DEK for ever, keeps its record, and draws a new keyring key, so that the wrapped DEK in older copies
   * of the file does not open with what is in the new one.
   * @param providers - the secrets of all recipients.
   * @param isRehearsal - all of it is tried, and nothing is written.
   * @throws {StateError} when it is the current key, destroyed already, or protects pages that the state knows.
   */
  async destroyKey(
    keyId: number,
    state: State,
    providers: readonly KeyProvider[],
    isRehearsal: boolean = false,
  ): Promise<Keyring> {
    this.requireDestroyable(keyId, state);
    const keys = this.file.keys.map((key) =>
      key.keyId === keyId ? { ...key, state: "destroyed" as const, wrapped: undefined } : key,
    );
    return await this.#withNewKeyringKey(this.file.recipients, keys, providers, isRehearsal);
  }

  /** All that stands against destroying a key. @throws {StateError} */
  requireDestroyable(keyId: number, state: State): void {
    requireNewestKeyring(this.file.generation, state, this.name);
    const key = this.#key(keyId);
    if (key.state === "destroyed") throw new StateError(`key ${keyId} has been destroyed already`);
    if (key.state === "current") {
      throw new StateError(`key ${keyId} is the current key of ${this.name}`, {
        hint: `Make a new one with "tde keyring new-key", move every directory to it with "tde rotate --from-key ${keyId}", then destroy this one.`,
      });
    }
    const users = directoriesUsing(state, keyId);
    const [first] = users;
    if (first !== undefined) {
      const named = users.map(({ id, path }) => `${id}, last seen at "${displayPath(path)}"`);
      const what = users.length === 1 ? "directory" : `${users.length} directories:`;
      throw new StateError(`key ${keyId} is used by ${what} ${named.join("; ")}`, {
        hint: `Run "tde rotate --from-key ${keyId} ${first.root === ARCHIVE_ROOT ? "--wal" : "-D"} ${displayPath(first.path)}" first, on each of them; "tde keyring forget-directory" takes one off the list that is gone for good.`,
      });
    }
  }

  /**
   * Tries each secret on each recipient that it could be of.
   * @returns which of them open the keyring, and what stood in the way of the others.
   */
  async tryRecipients(providers: readonly KeyProvider[]): Promise<RecipientTrials> {
    const openers = new Map<number, string>();
    const failures: KeyError[] = [];
    const used = new Set<KeyProvider>();
    for (const recipient of this.file.recipients) {
      for (const provider of providers) {
        let owner: KeyProvider | undefined;
        try {
          owner = await this.#ownerOf(recipient, [provider]);
        } catch (error) {
          if (!(error instanceof KeyError)) throw error;
          failures.push(error);
        }
        if (owner === undefined) continue;
        openers.set(recipient.number, owner.description);
        used.add(owner);
        break;
      }
    }
    const unused = providers.filter((provider) => !used.has(provider));
    return { openers, failures, unused: unused.map(({ description }) => description) };
  }

  /** Keeps a key for reading, with a warning; what its MACs say is no longer believed. */
  retire(keyId: number): Keyring {
    const { state } = this.#key(keyId);
    if (state !== "readable") {
      const hint =
        state === "current" ? 'Make a new key first with "tde keyring new-key".' : undefined;
      throw new StateError(`key ${keyId} is ${state}, only a readable key can be retired`, {
        hint,
      });
    }
    const keys = this.file.keys.map((key) =>
      key.keyId === keyId ? { ...key, state: "retired" as const } : key,
    );
    return this.#replace({ keys });
  }

  #recipient(number: number): Recipient {
    const found = this.file.recipients.find((recipient) => recipient.number === number);
    if (found !== undefined) return found;
    throw new UsageError(`${this.name} has no recipient ${number}`, {
      hint: 'See "tde keyring list-recipients".',
    });
  }

  #key(keyId: number): KeyRecord {
    const found = this.file.keys[keyId - 1];
    if (found !== undefined) return found;
    throw new UsageError(`${this.name} has no key ${keyId}`, { hint: 'See "tde keyring show".' });
  }

  async #withNewKeyringKey(
    recipients: readonly Recipient[],
    keys: readonly KeyRecord[],
    providers: readonly KeyProvider[],
    isRehearsal: boolean = false,
  ): Promise<Keyring> {
    const { id } = this.file;
    const keyringKey = newSecretKey();
    const owners = await this.#ownersOf(recipients, providers);
    const wrapped: Recipient[] = [];
    for (const { recipient, provider } of owners) {
      const { number, label } = recipient;
      wrapped.push(await wrapFor(provider, keyringKey, number, label, { keyringId: id }));
    }
    const deks = new Map<number, KeyObject>();
    const wrappedKeys = keys.map((key) => {
      const dek = key.state === "destroyed" ? undefined : this.#deks.get(key.keyId);
      if (dek === undefined) return key;
      deks.set(key.keyId, dek);
      return { ...key, wrapped: wrapDek(keyringKey, id, key.keyId, dek) };
    });
    const changes = { recipients: wrapped, keys: wrappedKeys };
    return this.#replace(changes, keyringKey, deks, isRehearsal);
  }

  /** For each recipient the provider that opens it now, and so can wrap for it. */
  async #ownersOf(
    recipients: readonly Recipient[],
    providers: readonly KeyProvider[],
  ): Promise<{ recipient: Recipient; provider: KeyProvider }[]> {
    const owners: { recipient: Recipient; provider: KeyProvider }[] = [];
    const missing: string[] = [];
    for (const recipient of recipients) {
      const provider = await this.#ownerOf(recipient, providers);
      if (provider === undefined) missing.push(describeRecipient(recipient));
      else owners.push({ recipient, provider });
    }
    if (missing.length > 0) {
      throw new KeyError(
        `the secret of every recipient that stays is needed, and is missing of: ${missing.join(", ")}`,
        {
          hint: "The keyring gets a new key, which is wrapped for each of them. Give --key-file, --passphrase-file or --passphrase once for each, or remove these recipients too and add them again later.",
        },
      );
    }
    return owners;
  }

  async #ownerOf(
    recipient: Recipient,
    providers: readonly KeyProvider[],
  ): Promise<KeyProvider | undefined> {
    const expected = exportKey(this.#keyringKey);
    try {
      for (const provider of providers) {
        if (provider.typeName !== recipient.typeName) continue;
        const bytes = await provider.unwrap(recipient, { keyringId: this.file.id });
        const same = bytes !== undefined && equalInConstantTime(bytes, expected);
        bytes?.fill(0);
        if (same) return provider;
      }
      return undefined;
    } finally {
      expected.fill(0);
    }
  }

  /** Writes the next generation, unless someone else changed the file since it was opened. */
  #replace(
    changes: Partial<Pick<KeyringContent, "recipients" | "keys">>,
    keyringKey: KeyObject = this.#keyringKey,
    deks: ReadonlyMap<number, KeyObject> = this.#deks,
    isRehearsal: boolean = false,
  ): Keyring {
    const { id, generation, recipients, keys } = { ...this.file, ...changes };
    const content = { id, generation: generation + 1, recipients, keys };
    requireAffordable(recipients, this.name);
    const file = sealed(content, keyringKey);
    withLock(this.place, () => {
      const now = readKeyringFile(this.place.fs, this.place.path);
      if (!serializeKeyringFile(now).equals(serializeKeyringFile(this.file))) {
        throw new StateError(`${this.name} was changed while this command worked on it`, {
          hint: "Run the command again.",
        });
      }
      if (!isRehearsal) write(this.place, file);
    });
    return new Keyring(this.place, file, keyringKey, deks, this.openedBy);
  }
}

/** `recipient 2 (key-file, "safe")`. */
export function describeRecipient({ number, typeName, label }: Recipient): string {
  const shown = displayPath(Buffer.from(label, "utf8").toString("latin1"));
  return `recipient ${number} (${typeName}${label === "" ? "" : `, "${shown}"`})`;
}

function nameKeyring(path: BytePath): string {
  return `keyring "${displayPath(path)}"`;
}

async function findKeyringKey(
  file: KeyringFile,
  providers: readonly KeyProvider[],
  name: string,
): Promise<{ keyringKey: KeyObject; recipient: number }> {
  const text = authenticatedBytes(file);
  let altered = false;
  const failures: KeyError[] = [];
  for (const provider of providers) {
    const excess = excessiveWork(file.recipients, provider.typeName);
    if (excess !== undefined) {
      failures.push(tooMuchWork(name, provider, excess));
      continue;
    }
    for (const recipient of file.recipients) {
      if (recipient.typeName !== provider.typeName) continue;
      const bytes = await attemptUnwrap(provider, recipient, file.id, failures);
      if (bytes === undefined) continue;
      const keyringKey = bytes.length === KEY_BYTES ? secretKey(bytes) : undefined;
      bytes.fill(0);
      if (keyringKey !== undefined && equalInConstantTime(keyringMac(keyringKey, text), file.mac)) {
        return { keyringKey, recipient: recipient.number };
      }
      altered = true;
    }
  }
  if (altered) throw alteredError(name);
  const [failure] = failures;
  if (failure !== undefined) throw failure;
  throw wrongKey(file, providers, name);
}

/** A provider out of reach is not the end while another one may open the keyring. */
async function attemptUnwrap(
  provider: KeyProvider,
  recipient: Recipient,
  keyringId: string,
  failures: KeyError[],
): Promise<Buffer | undefined> {
  try {
    return await provider.unwrap(recipient, { keyringId });
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    failures.push(error);
    return undefined;
  }
}

function wrongKey(file: KeyringFile, providers: readonly KeyProvider[], name: string): KeyError {
  const recipients = file.recipients.map(describeRecipient).join(", ");
  const hint = `It can be opened by ${recipients}.`;
  if (providers.length === 0) return new KeyError(`no key was given for ${name}`, { hint });
  const tried = providers.map(({ description }) => description).join(", ");
  return new KeyError(`wrong key: ${tried} does not open ${name} (id ${file.id})`, { hint });
}

function alteredError(name: string): IntegrityError {
  return new IntegrityError(
    `${name} was altered: its key opens it, but what it says is not authentic`,
    {
      hint: "Restore the keyring from its backup and find out who can write to it.",
    },
  );
}

function unwrapDeks(
  file: KeyringFile,
  keyringKey: KeyObject,
  name: string,
): Map<number, KeyObject> {
  const deks = new Map<number, KeyObject>();
  for (const { keyId, wrapped, check } of file.keys) {
    if (wrapped === undefined) continue;
    const dek = unwrapDek(keyringKey, file.id, keyId, wrapped);
    if (dek === undefined || !equalInConstantTime(keyCheckValue(dek), check)) {
      throw alteredError(name);
    }
    deks.set(keyId, dek);
  }
  return deks;
}

async function wrapFor(
  provider: KeyProvider,
  keyringKey: KeyObject,
  number: number,
  label: string,
  context: WrapContext,
): Promise<Recipient> {
  const labelBytes = Buffer.from(label, "utf8");
  if (labelBytes.length > LABEL_LIMIT_BYTES || labelBytes.toString("utf8") !== label) {
    throw new UsageError(`a label is UTF-8 text of at most ${LABEL_LIMIT_BYTES} bytes`);
  }
  const bytes = exportKey(keyringKey);
  try {
    const { parameters, wrapped } = await provider.wrap(bytes, context);
    await proveWrapped(provider, { parameters, wrapped }, bytes, context);
    return { number, typeName: provider.typeName, parameters, wrapped, label };
  } finally {
    bytes.fill(0);
  }
}

/** The only recipient of a keyring must not depend on a secret that was read wrongly, once. */
async function proveWrapped(
  provider: KeyProvider,
  key: WrappedKey,
  expected: Uint8Array,
  context: WrapContext,
): Promise<void> {
  const again = provider.reread();
  if (again === undefined) return;
  try {
    const bytes = await again.unwrap(key, context);
    const same = bytes !== undefined && equalInConstantTime(bytes, expected);
    bytes?.fill(0);
    if (same) return;
  } finally {
    again.dispose();
  }
  throw new KeyError(`${provider.description} reads differently a second time`, {
    hint: "The keyring is as it was. See what is wrong with the disk, or what changes the file, and run the command again.",
  });
}

function newKeyRecord(keyringKey: KeyObject, id: string, keyId: number, dek: KeyObject): KeyRecord {
  return {
    keyId,
    state: "current",
    created: formatTime(new Date()),
    check: keyCheckValue(dek),
    wrapped: wrapDek(keyringKey, id, keyId, dek),
  };
}

function sealed(content: KeyringContent, keyringKey: KeyObject): KeyringFile {
  return { ...content, mac: keyringMac(keyringKey, authenticatedBytes(content)) };
}

function withLock(place: KeyringPlace, action: () => void): void {
  const lockPath = `${resolveFile(place.fs, place.path)}.lock` as BytePath;
  const purpose = { what: nameKeyring(place.path), command: place.command };
  const lock = acquireLock(place.fs, lockPath, purpose);
  try {
    action();
  } finally {
    lock.release();
  }
}

/** @throws {StateError} when something stands at the keyring's path. */
export function requireNoKeyring(place: KeyringPlace): void {
  if (place.fs.stat(place.path) === undefined) return;
  throw new StateError(`${nameKeyring(place.path)} exists already`, {
    hint: "A keyring is never overwritten: without it nothing can be decrypted. Choose another name.",
  });
}

/** Writes what reads back: a file that could not be opened again must not replace one that can. */
function write(place: KeyringPlace, file: KeyringFile): void {
  const bytes = serializeKeyringFile(file);
  if (bytes.length > KEYRING_LIMIT_BYTES) {
    throw new StateError(
      `${nameKeyring(place.path)} would grow over ${KEYRING_LIMIT_BYTES} bytes`,
      {
        hint: "Encrypt into a new directory with a new keyring.",
      },
    );
  }
  parseKeyringFile(bytes, nameKeyring(place.path));
  replaceFileDurably(place.fs, place.path, bytes, 0o600);
}
