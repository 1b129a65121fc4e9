/**
 * Which versions of a row are there, case by case. Real rows of all kinds are in test/catalog; what no server of today
 * writes, or only in a moment that a fixture cannot hold, is made here.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { INFOMASK, type TupleHeader } from "../../src/postgres/heap-tuple.ts";
import type { XactStatus } from "../../src/postgres/transaction-status.ts";
import { isVisible, type TransactionStates } from "../../src/postgres/visibility.ts";

const COMMITTED = 100;
const ABORTED = 101;
/** Prepared, or ended by a crash. */
const IN_PROGRESS = 102;
const SUB_COMMITTED = 103;
const FUTURE = 200;

/** Multixacts by their id: who updated the row, where someone did. */
const UPDATERS: Readonly<Record<number, number>> = { 7: COMMITTED, 8: ABORTED, 9: IN_PROGRESS };
const STATUS: Readonly<Record<number, XactStatus>> = {
  [COMMITTED]: "committed",
  [ABORTED]: "aborted",
  [IN_PROGRESS]: "in-progress",
  [SUB_COMMITTED]: "sub-committed",
  [FUTURE]: "committed",
};
const states: TransactionStates = {
  statusOf: (xid) => STATUS[xid] ?? assert.fail(`asked for ${xid}`),
  updaterOf: (id) => UPDATERS[id],
  isInFuture: (xid) => xid >= FUTURE,
};
const { xminCommitted, xminInvalid, xmaxCommitted, xmaxInvalid, xmaxIsMulti } = INFOMASK;
const { xmaxLockOnly, xmaxExclusiveLock, movedOff, movedIn } = INFOMASK;
const FROZEN = xminCommitted | xminInvalid;

type Case = readonly [what: string, visible: boolean, header: Partial<TupleHeader>];

// prettier-ignore
const CASES: readonly Case[] = [
  ["inserted by a transaction that committed, as pg_xact says", true, { xmin: COMMITTED }],
  ["inserted by one that committed, as the hint says", true, { xmin: ABORTED, infomask: xminCommitted | xmaxInvalid }],
  ["inserted by one that aborted", false, { xmin: ABORTED }],
  ["inserted by one that aborted, as the hint says", false, { xmin: COMMITTED, infomask: xminInvalid | xmaxInvalid }],
  ["inserted by a prepared one", false, { xmin: IN_PROGRESS }],
  ["inserted by a subtransaction whose parent never committed", false, { xmin: SUB_COMMITTED }],
  ["inserted after the files' last moment", false, { xmin: FUTURE, infomask: xminCommitted | xmaxInvalid }],
  ["inserted by a speculative insertion that was taken back", false, { xmin: 0 }],
  ["made at bootstrap", true, { xmin: 1 }],
  ["frozen, its xmin long forgotten", true, { xmin: 55, infomask: FROZEN | xmaxInvalid }],
  ["frozen, with an xmin that is in use again", true, { xmin: FUTURE, infomask: FROZEN | xmaxInvalid }],
  ["deleted by one that committed", false, { xmin: COMMITTED, xmax: COMMITTED, infomask: 0 }],
  ["deleted by one that committed, as the hint says", false, { xmin: COMMITTED, xmax: ABORTED, infomask: xmaxCommitted }],
  ["deleted by one that aborted", true, { xmin: COMMITTED, xmax: ABORTED, infomask: 0 }],
  ["deleted by a prepared one", true, { xmin: COMMITTED, xmax: IN_PROGRESS, infomask: 0 }],
  ["deleted after the files' last moment", true, { xmin: COMMITTED, xmax: FUTURE, infomask: xmaxCommitted }],
  ["frozen and deleted", false, { xmin: 55, xmax: COMMITTED, infomask: FROZEN }],
  ["locked by one that committed", true, { xmin: COMMITTED, xmax: COMMITTED, infomask: xmaxLockOnly | xmaxExclusiveLock }],
  ["locked by a server before 9.3", true, { xmin: COMMITTED, xmax: COMMITTED, infomask: xmaxExclusiveLock }],
  ["locked by several", true, { xmin: COMMITTED, xmax: 7, infomask: xmaxIsMulti | xmaxLockOnly }],
  ["locked by several and updated by one that committed", false, { xmin: COMMITTED, xmax: 7, infomask: xmaxIsMulti }],
  ["locked by several and updated by one that aborted", true, { xmin: COMMITTED, xmax: 8, infomask: xmaxIsMulti }],
  ["locked by several and updated by a prepared one", true, { xmin: COMMITTED, xmax: 9, infomask: xmaxIsMulti }],
  ["locked by several, none of whom updated it", true, { xmin: COMMITTED, xmax: 10, infomask: xmaxIsMulti }],
  ["moved away by an old VACUUM that committed", false, { xmin: COMMITTED, field3: COMMITTED, infomask: movedOff | xmaxInvalid }],
  ["moved away by an old VACUUM that aborted", true, { xmin: COMMITTED, field3: ABORTED, infomask: movedOff | xmaxInvalid }],
  ["moved here by an old VACUUM that committed", true, { xmin: COMMITTED, field3: COMMITTED, infomask: movedIn | xmaxInvalid }],
  ["moved here by an old VACUUM that aborted", false, { xmin: COMMITTED, field3: ABORTED, infomask: movedIn | xmaxInvalid }],
];

for (const [what, visible, header] of CASES) {
  test(`a row ${what} is ${visible ? "there" : "not there"}`, () => {
    const whole = {
      xmin: 0,
      xmax: 0,
      field3: 0,
      ctid: { block: 0, offsetNumber: 1 },
      infomask: xmaxInvalid,
      infomask2: 0,
      attributeCount: 0,
      dataOffset: 24,
      ...header,
    };
    assert.equal(isVisible(whole, states), visible);
  });
}
