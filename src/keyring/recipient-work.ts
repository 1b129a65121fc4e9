/**
 * What it takes to try a secret on a keyring. Nothing in the file says whose recipient a passphrase is, so that it is tried
 * on all of them, before the MAC can show whether the file is authentic: a sum that is bounded in no other way. Limits:
 * docs/FORMAT.md, Keyring file.
 */
import { KeyError, StateError } from "../errors.ts";
import type { KeyProvider } from "./key-provider.ts";
import type { Recipient } from "./keyring-file.ts";
import { recipientTypes } from "./recipient-types.ts";

export interface ExcessiveWork {
  readonly recipients: number;
  readonly work: number;
  readonly limit: number;
}

/** What it would take to try one secret on all recipients of its type, where that is more than it may be. */
export function excessiveWork(
  recipients: readonly Recipient[],
  typeName: string,
): ExcessiveWork | undefined {
  const limits = recipientTypes.get(typeName)?.work;
  if (limits === undefined) return undefined;
  const ofType = recipients.filter((recipient) => recipient.typeName === typeName);
  const work = ofType.reduce((sum, recipient) => sum + limits.of(recipient), 0);
  return work > limits.limit ? { recipients: ofType.length, work, limit: limits.limit } : undefined;
}

/** Why a secret is not tried. */
export function tooMuchWork(
  name: string,
  { description, typeName }: KeyProvider,
  { recipients, work, limit }: ExcessiveWork,
): KeyError {
  return new KeyError(
    `${description} is not tried on ${name}: its ${recipients} recipients of type ${typeName} take a work of ${work} (N of all of them) together, more than ${limit}`,
    {
      hint: "tde never writes such a keyring: someone changed it to keep you waiting. Restore it from its backup, or open it with another kind of key.",
    },
  );
}

/** @throws {StateError} for recipients that no reader would try a secret on. */
export function requireAffordable(recipients: readonly Recipient[], name: string): void {
  for (const typeName of new Set(recipients.map((recipient) => recipient.typeName))) {
    const excess = excessiveWork(recipients, typeName);
    if (excess === undefined) continue;
    throw new StateError(
      `recipients of type ${typeName} in ${name} would take a work of ${excess.work} together, more than ${excess.limit}`,
      { hint: "Remove recipients of that type that are no longer needed." },
    );
  }
}
