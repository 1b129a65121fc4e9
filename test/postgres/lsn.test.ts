import assert from "node:assert/strict";
import { test } from "node:test";
import { formatLsn, lsn, parseLsn } from "../../src/postgres/lsn.ts";

test("an LSN prints as PostgreSQL prints it, up to 18 and from 19 on", () => {
  assert.equal(formatLsn(lsn(0n)), "0/0");
  assert.equal(formatLsn(lsn(0x1_0000_00afn)), "1/AF");
  assert.equal(formatLsn(lsn(0x1_0000_00afn), 8), "1/000000AF");
  assert.equal(formatLsn(lsn(0xffff_ffff_ffff_ffffn)), "FFFFFFFF/FFFFFFFF");
});

test("an LSN reads back from its text, and other text gives none", () => {
  for (const value of [0n, 1n, 0x15000f8n, 0xabcd_ef01_2345_6789n]) {
    assert.equal(parseLsn(formatLsn(lsn(value))), value);
    assert.equal(parseLsn(formatLsn(lsn(value), 8).toLowerCase()), value);
  }
  for (const text of ["", "0", "/", "0/", "/0", "0/0/0", "g/0", " 0/0", "0/0\n", "123456789/0"]) {
    assert.equal(parseLsn(text), undefined);
  }
});
