/**
 * What is to be said of data under a retired key: it decrypts, but whoever has that key could have made it.
 */
import type { DataKeys } from "../keyring/data-keys.ts";
import type { KeyLoads } from "../keyring/key-load.ts";

/** One line for each retired key that protects something. */
export function retiredKeyNotices(load: KeyLoads, { keys }: DataKeys): string[] {
  return [...load]
    .filter(([keyId]) => keys.get(keyId)?.state === "retired")
    .map(
      ([keyId, { pages }]) =>
        `${pages} pages and files are under key ${keyId}, which is retired: whoever has it could have made them; "tde rotate --from-key ${keyId}" takes them off it`,
    );
}
