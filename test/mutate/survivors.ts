/**
 * Edits by rule that no test notices, each with the reason why none does. docs/RELIABILITY.md says the reasons.
 */
export const SURVIVORS: readonly { readonly why: string; readonly edits: readonly string[] }[] = [];

/** Why nothing notices an edit, where that is known and accepted. */
export function reasonFor(id: string): string | undefined {
  return SURVIVORS.find(({ edits }) => edits.includes(id))?.why;
}
