import assert from "node:assert/strict";
import { test } from "node:test";
import { FormatError } from "../../src/errors.ts";
import {
  majorsOfControlVersion,
  parsePgVersion,
  SUPPORTED_MAJORS,
} from "../../src/postgres/version.ts";

test("PG_VERSION of every supported major is read", () => {
  for (const major of SUPPORTED_MAJORS) {
    assert.equal(parsePgVersion(Buffer.from(`${major}\n`), "PG_VERSION"), major);
  }
});

test("PG_VERSION that is no number, or of another major, is rejected by name", () => {
  for (const text of [
    "",
    "\n",
    "seventeen",
    "17 17",
    "017",
    "-17",
    "17\0",
    "9.6",
    "12\n",
    "20\n",
  ]) {
    assert.throws(() => parsePgVersion(Buffer.from(text), "base/1/PG_VERSION"), {
      name: FormatError.name,
      message: /base\/1\/PG_VERSION/,
    });
  }
  assert.throws(() => parsePgVersion(Buffer.from("9.6\n"), "PG_VERSION"), /PostgreSQL 9\.6 is not/);
});

test("one version of pg_control can belong to several majors", () => {
  assert.deepEqual(majorsOfControlVersion(1300), [13, 14, 15, 16]);
  assert.deepEqual(majorsOfControlVersion(1800), [18]);
  assert.deepEqual(majorsOfControlVersion(1201), []);
});
