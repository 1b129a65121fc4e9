/** Files of the system's time zones, which are no user's data. */
import { readFileSync } from "node:fs";

/** @returns undefined where it cannot be read: the C library does without it then, too. */
export function readZoneFile(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
