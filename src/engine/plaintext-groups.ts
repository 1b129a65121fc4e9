/**
 * What of a directory stays readable, gathered by the reason why.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";

/** What stays readable for one reason. */
export interface PlaintextGroup {
  readonly why: string;
  /** By the user's choice, or because tde must not touch it, and not because nothing in it is secret. */
  readonly exposed: boolean;
  readonly files: number;
  readonly bytes: number;
  readonly example: string;
}

export class PlaintextGroups {
  private readonly groups: Map<
    string,
    { -readonly [K in keyof PlaintextGroup]: PlaintextGroup[K] }
  > = new Map();

  add(why: string, exposed: boolean, path: BytePath, sizeBytes: number): void {
    const group = this.groups.get(why) ?? {
      why,
      exposed,
      files: 0,
      bytes: 0,
      example: displayPath(path),
    };
    group.files++;
    group.bytes += sizeBytes;
    this.groups.set(why, group);
  }

  /** In the order in which the reasons came up. */
  list(): PlaintextGroup[] {
    return [...this.groups.values()];
  }
}
