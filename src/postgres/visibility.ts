/**
 * Whether a row is there: for a snapshot taken after everything that the files hold, with every prepared transaction
 * still in progress. Each version of a row is judged by itself, so that HOT chains need not be followed. Source:
 * HeapTupleSatisfiesMVCC in access/heap/heapam_visibility.c.
 */
import { INFOMASK, type TupleHeader } from "./heap-tuple.ts";
import { XID, type XactStatus } from "./transaction-status.ts";

/** What the files say of transactions. */
export interface TransactionStates {
  /** Of a normal xid. */
  statusOf(xid: number): XactStatus;
  /** The transaction that changed or deleted a row; undefined where all members of the multixact only locked it. */
  updaterOf(multixactId: number): number | undefined;
  /** Whether a normal xid was given out only after the last moment that the files are of. */
  isInFuture(xid: number): boolean;
}

export function isVisible(header: TupleHeader, transactions: TransactionStates): boolean {
  return isInserted(header, transactions) && !isDeleted(header, transactions);
}

function isInserted({ xmin, field3, infomask }: TupleHeader, states: TransactionStates): boolean {
  const committed = (infomask & INFOMASK.xminCommitted) !== 0;
  const invalid = (infomask & INFOMASK.xminInvalid) !== 0;
  // Both bits together: the row is frozen, its xmin is history.
  if (committed && invalid) return true;
  if (invalid) return false;
  // Servers before 9.0 moved rows when they vacuumed; pg_upgrade can have brought such rows along.
  if (!committed && (infomask & INFOMASK.movedOff) !== 0) return !hasCommitted(field3, states);
  if (!committed && (infomask & INFOMASK.movedIn) !== 0) return hasCommitted(field3, states);
  return committed ? !isInFuture(xmin, states) : hasCommitted(xmin, states);
}

function isDeleted({ xmax, infomask }: TupleHeader, states: TransactionStates): boolean {
  if ((infomask & INFOMASK.xmaxInvalid) !== 0 || isOnlyLocked(infomask)) return false;
  if ((infomask & INFOMASK.xmaxIsMulti) !== 0) {
    const updater = states.updaterOf(xmax);
    return updater !== undefined && hasCommitted(updater, states);
  }
  return (infomask & INFOMASK.xmaxCommitted) === 0
    ? hasCommitted(xmax, states)
    : !isInFuture(xmax, states);
}

/** HEAP_XMAX_IS_LOCKED_ONLY; the second form is of servers before 9.3. */
function isOnlyLocked(infomask: number): boolean {
  const { xmaxLockOnly, xmaxIsMulti, xmaxExclusiveLock, xmaxKeyShareLock } = INFOMASK;
  const lockMask = xmaxExclusiveLock | xmaxKeyShareLock;
  return (
    (infomask & xmaxLockOnly) !== 0 || (infomask & (xmaxIsMulti | lockMask)) === xmaxExclusiveLock
  );
}

function isInFuture(xid: number, states: TransactionStates): boolean {
  return xid >= XID.firstNormal && states.isInFuture(xid);
}

function hasCommitted(xid: number, states: TransactionStates): boolean {
  if (xid < XID.firstNormal) return xid !== XID.invalid;
  return !states.isInFuture(xid) && states.statusOf(xid) === "committed";
}
