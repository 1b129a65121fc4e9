/**
 * Every kind of recipient that this version knows. A keyring with another kind is rejected: its line could not be
 * checked, and a key that opens it could not be named.
 */
import type { RecipientType } from "./key-provider.ts";
import { commandRecipient } from "./providers/command.ts";
import { keyFileRecipient } from "./providers/key-file.ts";
import { scryptRecipient } from "./providers/passphrase.ts";

export const recipientTypes: ReadonlyMap<string, RecipientType> = new Map(
  [scryptRecipient, keyFileRecipient, commandRecipient].map((type) => [type.name, type]),
);
