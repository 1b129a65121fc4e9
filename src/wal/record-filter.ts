/**
 * Which records are wanted. Source: bin/pg_waldump/pg_waldump.c.
 */
import { blockAt } from "./decode-record.ts";
import { hasImage } from "./record-lengths.ts";
import type { WalRecord } from "./record.ts";

export interface RelationId {
  readonly tablespaceOid: number;
  readonly databaseOid: number;
  readonly relfilenumber: number;
}

/** What is undefined does not matter; everything else has to hold. */
export interface RecordFilter {
  readonly rmgrs?: ReadonlySet<number> | undefined;
  readonly xid?: number | undefined;
  readonly relation?: RelationId | undefined;
  readonly blockNumber?: number | undefined;
  readonly fork?: number | undefined;
  /** Only records with a full-page image. */
  readonly fullPage?: boolean | undefined;
}

export function matches(record: WalRecord, filter: RecordFilter): boolean {
  if (filter.rmgrs !== undefined && !filter.rmgrs.has(record.rmid)) return false;
  if (filter.xid !== undefined && filter.xid !== record.xid) return false;
  const { relation, blockNumber, fork } = filter;
  if (relation !== undefined || blockNumber !== undefined || fork !== undefined) {
    if (!hasBlock(record, filter)) return false;
  }
  return filter.fullPage !== true || hasImage(record);
}

function hasBlock(record: WalRecord, { relation, blockNumber, fork }: RecordFilter): boolean {
  for (let i = 0; i <= record.maxBlockId; i++) {
    const block = blockAt(record, i);
    if (!block.present) continue;
    if (fork !== undefined && fork !== block.fork) continue;
    if (blockNumber !== undefined && blockNumber !== block.blockNumber) continue;
    if (
      relation === undefined ||
      (relation.relfilenumber === block.relfilenumber &&
        relation.databaseOid === block.databaseOid &&
        relation.tablespaceOid === block.tablespaceOid)
    ) {
      return true;
    }
  }
  return false;
}
