/**
 * The one place where errors get the names of the relations that they are about: around the engine's work, when its
 * locks are released and the keys are still at hand.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import type { EngineContext } from "../engine/context.ts";
import { nameRelationIn } from "../engine/relation-names.ts";
import { TdeError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";

/** @param root - of the data directory that the work is about. */
export async function namingRelations<T>(
  engine: EngineContext,
  keys: DataKeys | undefined,
  root: BytePath,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TdeError) nameRelationIn(error, engine, keys, root);
    throw error;
  }
}
