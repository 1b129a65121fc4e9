/** The tablespace_map of an unpacked backup, held against what pg_tblspc has. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import {
  assertMappedTablespacesAreThere,
  parseTablespaceMap,
} from "../../src/datadir/tablespace-map.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { makeSmallDatadir } from "../support/small-datadir.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("a tablespace that tablespace_map names must be in pg_tblspc, whatever its path is", (t) => {
  const folder = temporaryDirectory(t);
  const root = join(folder, "data");
  makeSmallDatadir(root);
  const fs = new NodeFileSystem();
  const check = (): void => assertMappedTablespacesAreThere(fs, openDatadir(fs, bytePath(root)));
  check();
  // The second path has a line feed and a backslash in it, which PostgreSQL writes behind a backslash.
  writeFileSync(join(root, "tablespace_map"), "16400 /srv/one\n16401 /srv/t\\\no\\\\16402 x\n");
  assert.throws(check, { code: "state", message: /tablespace 16400 .*"\/srv\/one"$/ });
  mkdirSync(join(folder, "one"));
  symlinkSync(join(folder, "one"), join(root, "pg_tblspc/16400"));
  assert.throws(check, { code: "state", message: /tablespace 16401 .*"\/srv\/t.*o.*16402 x"$/s });
  mkdirSync(join(root, "pg_tblspc/16401"));
  check();
});

test("tablespace_map is read as a server reads it: what a backslash takes is no line end and no escape", () => {
  const read = (text: string): string[] =>
    parseTablespaceMap(Buffer.from(text, "latin1")).map(
      ({ oid, location }) => `${oid} ${location}`,
    );
  // A carriage return ends a line, too; the other way round a second tablespace would hide in the path of the first.
  assert.deepEqual(read("16400 /a\r16401 /b\r\n"), ["16400 /a", "16401 /b"]);
  assert.deepEqual(read("16400 /a\\\r16401 \\\\b"), ["16400 /a\r16401 \\b"]);
  assert.deepEqual(read("1\\6400 /a\n\n/b\nx /c\n16401\n"), ["16400 /a"]);
});

test("a path of megabytes in tablespace_map is read to its end", () => {
  const path = "/a\\\\b".repeat(2 ** 21);
  const [found] = parseTablespaceMap(Buffer.from(`16400 ${path}\n`, "latin1"));
  assert.equal(found?.location.length, 4 * 2 ** 21);
});
