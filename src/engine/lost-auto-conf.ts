/** A sealed original of postgresql.auto.conf that cannot be opened: damage like another, where damage may be done without. */
import type { BytePath } from "../bytes/byte-path.ts";
import { KeyError, TdeError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import type { DamagePolicy } from "./damage.ts";
import { type GuardKeys, openOriginalAutoConf } from "./guard.ts";

/**
 * @returns why it cannot be opened; undefined where it can.
 * @throws {KeyError} that reason, where it is the keys; and any, where nothing is done without.
 */
export function whyAutoConfIsLost(
  fs: FileSystem,
  root: BytePath,
  keys: GuardKeys,
  policy: DamagePolicy = "fail",
): TdeError | undefined {
  try {
    openOriginalAutoConf(fs, root, keys);
    return undefined;
  } catch (error) {
    if (!(error instanceof TdeError) || error instanceof KeyError || policy === "fail") throw error;
    return error;
  }
}
