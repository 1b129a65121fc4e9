/** Names and descriptions of records, held against what the real pg_waldump printed of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { resourceManagersOf } from "../../src/wal/rmgr/index.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { GOLDEN_MAJORS, goldenRecords } from "../support/golden-records.ts";
import { recordOf, textOf } from "./record-text-of.ts";

const MARK = "<record too short>";
for (const major of GOLDEN_MAJORS) {
  test(`records of ${major} print as its pg_waldump prints them`, () => {
    const format = walFormatOf(major);
    for (const { bytes, text } of goldenRecords(major)) assert.equal(textOf(bytes, format), text);
  });

  test(`records of ${major} that lack the end of their main data are described without it`, () => {
    const format = walFormatOf(major);
    let marked = 0;
    for (const { bytes, text } of goldenRecords(major)) {
      for (const cut of [1, 2, 3, 4, 7, 8, 12, 16, 24, 60, 1 << 30]) {
        const short = textOf(bytes, format, cut);
        if (short.includes(MARK)) marked++;
        // A mark takes the place of what is not there; a line is never much longer for it.
        assert.ok(short.length <= text.length + 2 * MARK.length, short);
      }
    }
    assert.ok(marked > 500);
  });
}

test("a count that the record has no room for ends in a mark, not in a long loop", () => {
  const format = walFormatOf(17);
  const locks = "xid 7 db 5 rel 16384 ";
  assert.equal(
    textOf(recordOf(8, 0x00, "ffffff7f 07000000 05000000 00400000"), format),
    `LOCK ${locks}${MARK}`,
  );
  assert.equal(textOf(recordOf(8, 0x00, "ffffffff"), format), "LOCK ");
  assert.equal(
    textOf(recordOf(1, 0x80, `${"00".repeat(8)} 02000000 ffffff7f`), format),
    `COMMIT ${MARK}`,
  );
  assert.equal(textOf(recordOf(4, 0x20, "05000000 ffff0000"), format), `DROP dir${MARK}`);
  assert.equal(
    textOf(recordOf(0, 0x70, `${"00".repeat(8)} 6162`), format),
    `RESTORE_POINT ab${MARK}`,
  );
});

test("14 prints what it does not share with its neighbours", () => {
  const format = walFormatOf(14);
  const of = (rmid: number, info: number, main: string): string =>
    textOf(recordOf(rmid, info, main), format);
  assert.equal(
    of(9, 0x10, "d2040000 0300 0400"),
    "PRUNE latestRemovedXid 1234 nredirected 3 ndead 4",
  );
  assert.equal(of(9, 0x20, "0500"), "VACUUM nunused 5");
  assert.equal(of(9, 0x30, "d2040000 0700"), "FREEZE_PAGE cutoff xid 1234 ntuples 7");
  assert.equal(of(4, 0x10, "05000000 01000000 7f060000"), "DROP dir 1663/5");
  assert.equal(
    of(21, 0x00, "05000000 01000000 0300000000000000 0200000000000000 706600 0aff"),
    'MESSAGE transactional, prefix "pf"; payload (2 bytes): 0A FF',
  );
  assert.equal(
    of(1, 0x60, "01000000 fe000000 05000000 eb040000 00000000"),
    "INVALIDATION ; inval msgs: relcache 1259",
  );
  // XACT_COMPLETION_APPLY_FEEDBACK | XACT_COMPLETION_FORCE_SYNC_COMMIT: 15 names both.
  const commit = recordOf(1, 0x80, `${"00".repeat(8)} 000000a0`);
  assert.equal(textOf(commit, format), "COMMIT 2000-01-01 00:00:00.000000 UTC; sync");
  assert.equal(
    textOf(commit, walFormatOf(15)),
    "COMMIT 2000-01-01 00:00:00.000000 UTC; apply_feedback; sync",
  );
});

test("a type of record is known in the majors that have it", () => {
  assert.equal(
    textOf(recordOf(18, 0x20, `${"00".repeat(8)} 0100 0000 07000000 08000000`), walFormatOf(13)),
    "SETTS set 2000-01-01 00:00:00.000000 UTC/1 for: 7, 8",
  );
  assert.equal(textOf(recordOf(18, 0x20, ""), walFormatOf(14)), "UNKNOWN (20) ");
  assert.equal(textOf(recordOf(14, 0x70, ""), walFormatOf(18)), "ASSIGN_LSN ");
  assert.equal(textOf(recordOf(14, 0x70, ""), walFormatOf(19)), "UNKNOWN (70) ");
  assert.equal(textOf(recordOf(0, 0xc0, ""), walFormatOf(19)), "ASSIGN_LSN ");
  assert.equal(textOf(recordOf(0, 0x20, ""), walFormatOf(17)), "NOOP ");
});

test("messages of id -6 have a name from 18 on", () => {
  const message = recordOf(1, 0x60, "01000000 fa000000 05000000 07000000 00000000");
  assert.equal(textOf(message, walFormatOf(17)), "INVALIDATION ; inval msgs: unrecognized id -6");
  assert.equal(textOf(message, walFormatOf(18)), "INVALIDATION ; inval msgs: relsync 7");
});

test("an undefined info value of a heap record is described like the one without its highest bit", () => {
  assert.equal(
    textOf(recordOf(10, 0x90, "07000000 0200 10 00"), walFormatOf(17)),
    "UNKNOWN (90) xmax: 7, off: 2, infobits: [KEYS_UPDATED], flags: 0x00",
  );
});

test("resource managers of extensions are known by number from 15 on", () => {
  assert.equal(textOf(recordOf(200, 0x30, "00"), walFormatOf(15)), "UNKNOWN (30) rmid: 200");
  assert.equal(resourceManagersOf(15)[200]?.name, "custom200");
  assert.equal(resourceManagersOf(14)[200], undefined);
});
