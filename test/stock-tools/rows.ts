/** A row of the matrix: one tool in one situation, tried on every major. */
import type { Site } from "./site.ts";

export interface Row {
  readonly tool: string;
  readonly situation: string;
  /** The first major that has what the row is about. */
  readonly since?: number;
  /**
   * Tries it.
   * @returns what happened, in a word or two; docs/STOCK-TOOLS.md says what it means.
   * @throws when something else happened than what is documented.
   */
  readonly run: (site: Site) => Promise<string>;
}
