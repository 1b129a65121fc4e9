/**
 * What the workers of a run over a folder of WAL are told. Such a folder has no manifest, and so no epochs.
 */
import type { DataKeys } from "../../keyring/data-keys.ts";
import { WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import type { RunContext } from "../../workers/perform.ts";

export function walRunContext(keys: DataKeys, systemIdentifier: bigint): RunContext {
  return {
    keys,
    keyringId: keys.keyringId,
    epoch: 0n,
    systemIdentifier,
    blockSizeBytes: WAL_PAGE_BYTES,
    dataChecksums: false,
  };
}
