/** A sealed original of postgresql.auto.conf that cannot be opened: damage like another, where damage may be done without. */
import type { Datadir } from "../datadir/datadir.ts";
import { KeyError, TdeError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type Damage, type DamagePolicy, losesAutoConf } from "./damage.ts";
import { LOST_AUTO_CONF, openOriginalAutoConf, type OriginalAutoConf } from "./guard.ts";

/**
 * @returns why it cannot be opened; undefined where it can.
 * @throws {KeyError} that reason, where it is the keys; and any, where nothing is done without.
 */
export function whyAutoConfIsLost(
  fs: FileSystem,
  { root, control }: Datadir,
  keys: DataKeys,
  policy: DamagePolicy,
): TdeError | undefined {
  try {
    openOriginalAutoConf(fs, root, { keys, systemIdentifier: control.systemIdentifier });
    return undefined;
  } catch (error) {
    if (!(error instanceof TdeError) || error instanceof KeyError || policy === "fail") throw error;
    return error;
  }
}

/** What takes the guard's place. @throws as openOriginalAutoConf, where it is not among what is done without. */
export function originalAutoConf(
  fs: FileSystem,
  { root, control }: Datadir,
  keys: DataKeys,
  damage: Damage | undefined,
): OriginalAutoConf {
  return losesAutoConf(damage)
    ? LOST_AUTO_CONF
    : openOriginalAutoConf(fs, root, { keys, systemIdentifier: control.systemIdentifier });
}
