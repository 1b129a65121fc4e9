/**
 * The keys of one file, derived from a DEK by the file's salt and identity. A DEK is used for nothing but HKDF,
 * and each derived key for one file and one purpose.
 * docs/FORMAT.md, "Derived keys".
 */
import { type KeyObject, deriveKey, hkdf, KEY_BYTES, secretKey } from "../crypto/primitives.ts";
import { type FileIdentity, serializeIdentity } from "./identity.ts";
import { SUITE_AES_256_GCM } from "./slot.ts";

export interface PageKey {
  readonly key: KeyObject;
  /** 32 bytes; stands in every slot under this key, because GCM does not commit to its key. */
  readonly commitment: Buffer;
}

/** key || commitment = HKDF(DEK, file salt, "tde/v1/page" || u8 suite || u32 key id || identity, 64). */
export function derivePageKey(
  dek: KeyObject,
  fileSalt: Buffer,
  keyId: number,
  identity: FileIdentity,
): PageKey {
  const suiteAndKey = Buffer.alloc(5);
  suiteAndKey.writeUInt8(SUITE_AES_256_GCM, 0);
  suiteAndKey.writeUInt32LE(keyId, 1);
  const info = Buffer.concat([
    Buffer.from("tde/v1/page"),
    suiteAndKey,
    serializeIdentity(identity),
  ]);
  const bytes = hkdf(dek, fileSalt, info, 2 * KEY_BYTES);
  const key = secretKey(bytes.subarray(0, KEY_BYTES));
  const commitment = Buffer.from(bytes.subarray(KEY_BYTES));
  bytes.fill(0);
  return { key, commitment };
}

/** HKDF(DEK of the MAC key id, file salt, "tde/v1/sidecar-mac" || identity, 32). */
export function deriveSidecarMacKey(
  dek: KeyObject,
  fileSalt: Buffer,
  identity: FileIdentity,
): KeyObject {
  const info = Buffer.concat([Buffer.from("tde/v1/sidecar-mac"), serializeIdentity(identity)]);
  return deriveKey(dek, fileSalt, info);
}
