/** Keyrings for tests: fixed keys, already open. */
import { type KeyObject, secretKey } from "../../src/crypto/primitives.ts";
import type { DataKey, DataKeys, KeyState } from "../../src/keyring/data-keys.ts";

export const KEYRING_ID = "7f3a000000000001";

/** 32 bytes that all have one value. */
export function testDek(fill: number): KeyObject {
  return secretKey(Buffer.alloc(32, fill));
}

/** Key i (from 1) is 32 bytes of that value; the last one is current unless states say otherwise. */
export function testKeys(
  count = 1,
  { keyringId = KEYRING_ID, fill = 0 }: { keyringId?: string; fill?: number } = {},
  states: Readonly<Record<number, KeyState>> = {},
): DataKeys {
  const keys = new Map<number, DataKey>();
  for (let id = 1; id <= count; id++) {
    const state = states[id] ?? (id === count ? "current" : "readable");
    keys.set(id, { state, dek: state === "destroyed" ? undefined : testDek(id + fill) });
  }
  return { keyringId, currentKeyId: count, keys };
}
