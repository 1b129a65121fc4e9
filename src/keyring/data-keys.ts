/**
 * The data-encryption keys of an opened keyring, as everything outside this folder sees them: plain data with
 * KeyObjects, which a structured clone carries to worker threads without turning a key into bytes.
 */
import type { KeyObject } from "../crypto/primitives.ts";
import { KeyError } from "../errors.ts";

/** current: encrypts; readable: decrypts; retired: decrypts, but its MACs prove nothing; destroyed: gone. */
export type KeyState = "current" | "readable" | "retired" | "destroyed";

export interface DataKey {
  readonly state: KeyState;
  /** Absent once destroyed. */
  readonly dek: KeyObject | undefined;
}

export interface DataKeys {
  /** 16 hex digits. */
  readonly keyringId: string;
  readonly currentKeyId: number;
  readonly keys: ReadonlyMap<number, DataKey>;
}

/**
 * The DEK of one key id.
 * @param where - what needs the key, for the message: `base/16384/16397`.
 * @param keyringId - the keyring that the data names, 16 hex digits.
 * @throws {KeyError} when the keyring is another one, lacks the key or has destroyed it.
 */
export function dekFor(keys: DataKeys, keyringId: string, keyId: number, where: string): KeyObject {
  const needed = `${where} needs key ${keyId} of keyring ${keyringId}`;
  const held = [...keys.keys].filter(([, key]) => key.dek !== undefined).map(([id]) => id);
  if (keys.keyringId !== keyringId) {
    throw new KeyError(`${needed}, yours is keyring ${keys.keyringId} with ${listOfKeys(held)}`, {
      hint: "Give the keyring that this directory was encrypted with (--keyring or TDE_KEYRING).",
    });
  }
  const key = keys.keys.get(keyId);
  if (key?.state === "destroyed") {
    throw new KeyError(`${needed}, which has been destroyed`, {
      hint: "An older copy of the keyring still opens it, if one was kept.",
    });
  }
  if (key?.dek === undefined) {
    throw new KeyError(`${needed}, yours holds ${listOfKeys(held)}`, {
      hint: "This keyring is older than the data. Give its newest copy.",
    });
  }
  return key.dek;
}

function listOfKeys(ids: readonly number[]): string {
  return ids.length === 0 ? "no key" : `${ids.length === 1 ? "key" : "keys"} ${ids.join(", ")}`;
}
