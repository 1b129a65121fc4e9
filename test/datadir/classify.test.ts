import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { classify, OWN_FILES } from "../../src/datadir/classify.ts";
import type { FileKind } from "../../src/storage/file-system.ts";
import { describe } from "../support/listings.ts";
import { assertProperty } from "../support/property.ts";

const CONTEXT = {
  major: 17,
  catalogVersion: 202406281,
  blocksPerSegment: 131072,
  unlogged: new Set([777]),
} as const;
const OURS = "pg_tblspc/16400/PG_17_202406281";

/** Class, and the files that have it. */
// prettier-ignore
const FILES: Readonly<Record<string, readonly string[]>> = {
  readable: [
    "PG_VERSION", "postgresql.conf", "pg_hba.conf", "pg_ident.conf", "pg_hosts.conf",
    "conf.d/10-memory.conf", "backup_label", "backup_label.old", "tablespace_map",
    "recovery.signal", "standby.signal", "promote", "00000002.history", "base/5/PG_VERSION",
    "base/5/pg_filenode.map", "global/pg_filenode.map", "global/pg_control",
    `${OURS}/5/PG_VERSION`, `${OURS}/5/pg_filenode.map`, "pg_xact/0000", "pg_xact/0FFF",
    "pg_multixact/offsets/0000", "pg_multixact/members/000000000000000", "pg_commit_ts/00A1",
    "pg_wal/00000002.history", "pg_wal/0000000100000000000000A1.00000028.backup",
    "pg_wal/archive_status/000000010000000000000001.ready",
    "pg_wal/archive_status/00000002.history.done",
    "pg_wal/summaries/0000000100000000010000280000000001000100.summary",
  ],
  "readable expendable": [
    "postmaster.pid", "postmaster.opts", "current_logfiles", "pg_subtrans/0000",
    "pg_serial/0000", "pg_snapshots/00000003-0000001B-1",
  ],
  sealed: [
    "server.key", "root.crt", ".pgpass", "log/postgresql.log", "pg_log/a.csv", "startup.log",
    "recovery.done", "pg_upgrade_output.d/20260101T000000/dump/x.custom", "schema.sql", "core",
    "core.1234", "base/5/INCREMENTAL.16384", "base/5/INCREMENTAL.16384.1", "base/5/hello",
    "base/5/016384", "base/16384", "global/t3_16384", "global/notes.conf", "base/notes.conf",
    "pg_xact/notes", "pg_xact/notes.conf", "pg_twophase/0000039C", "pg_stat/pgstat.stat",
    "pg_stat/pg_stat_statements.stat", "pg_logical/replorigin_checkpoint",
    "pg_logical/snapshots/0-15000F8.snap", "pg_wal/xlogtemp.77", "pg_wal/RECOVERYXLOG",
    "pg_wal/000000010000000000000001.partial", "pg_wal/00000001000000000000000g", "pg_wal/x",
    "pg_wal/archive_status/x", "pg_tblspc/readme", "pg_new_in_20/0000", "bytes\xff\n", "a/b/c",
    "PG_VERSION.old", "global/pg_control.old", "postgresql.conf.bak", "pg_hba.conf/x", "000000010000000000000001",
  ],
  "sealed expendable": [
    "postgresql.auto.conf.tmp", "base/5/pg_internal.init", "base/5/pg_internal.init.123",
    "global/pg_internal.init", "base/pgsql_tmp/pgsql_tmp1.0", "pg_notify/0000",
    "base/pgsql_tmp/pgsql_tmp1.0.fileset/x.0", `${OURS}/pgsql_tmp/pgsql_tmp1.0`,
    "base/5/pgsql_tmp1", "pg_replslot/slot/state", "pg_replslot/slot/xid-1-lsn-0-1.spill",
    "pg_stat_tmp/pgss_query_texts.stat", "pg_dynshmem/mmap.1",
  ],
  "relation main": ["base/5/16384", "global/1260", `${OURS}/5/16384.1`, "base/5/778"],
  "relation main expendable": ["base/5/777", "base/5/777.1", "base/5/t3_16450"],
  "relation fsm expendable": ["base/5/777_fsm", "base/5/t3_16450_fsm"],
  "relation init": ["base/5/777_init"],
  "sidecar of base/5/16384": ["base/5/16384_tde"],
  "sidecar of base/5/16384_fsm.1": ["base/5/16384_fsm_tde.1"],
  "sidecar of base/5/777 expendable": ["base/5/777_tde"],
  "sidecar of base/5/t3_16450 expendable": ["base/5/t3_16450_tde"],
  "sidecar of pg_wal/000000010000000000000001": ["pg_wal/000000010000000000000001_tde"],
  wal: ["pg_wal/000000010000000000000001", "pg_wal/00000002000000FF000000FE"],
  "auto-conf": ["postgresql.auto.conf"],
  "backup-manifest": ["backup_manifest"],
  "working of base/5/16384.1": ["base/5/16384_tdenew.1"],
  "working of base/5/16384_tde.1": ["base/5/16384_tdenew_tde.1"],
  "working of postgresql.auto.conf": ["postgresql_tdenew.auto.conf"],
  "working of pg_tblspc/16400": ["pg_tblspc/16400/tde.claim"],
  "working of tde.manifest": ["tde_tdenew.manifest"],
  foreign: [
    "pg_tblspc/16400/PG_16_202307071/5/16384", "pg_tblspc/16400/PG_17_202406282/5/16384",
    "pg_tblspc/16400/notes", "pg_tblspc/16400/PG_17_202406281x",
  ],
};

for (const [expected, paths] of Object.entries(FILES)) {
  test(`classified as ${expected}`, () => {
    for (const path of paths) assert.equal(describe(of(path, "file")), expected, path);
  });
}

test("tde's own files are told from the user's, and nothing else may stand in their place", () => {
  for (const [name, path] of Object.entries(OWN_FILES)) {
    assert.equal(describe(classify(path, "file", CONTEXT)), `own ${name}`);
    assert.equal(describe(classify(path, "directory", CONTEXT)), "refused");
    assert.equal(describe(classify(path, "link", CONTEXT)), "refused");
    assert.equal(describe(of(`base/5/${path}`, "file")), "sealed");
  }
});

test("sockets, pipes and devices are not carried, and neither is lost+found", () => {
  for (const path of [".s.PGSQL.5432", "base/5/16384", "pg_wal/000000010000000000000001"]) {
    assert.equal(describe(of(path, "other")), "excluded");
  }
  for (const path of ["lost+found", "pg_wal/lost+found", "pg_tblspc/16400/lost+found"]) {
    assert.equal(describe(of(path, "directory")), "excluded");
  }
  assert.equal(describe(of("lost+found", "file")), "sealed");
});

test("folders are expendable where everything in them is left out of backups", () => {
  for (const path of ["base", "base/5", "global", "pg_wal", "pg_replslot", "pg_stat_tmp", "log"]) {
    assert.equal(describe(of(path, "directory")), "directory", path);
  }
  for (const path of ["base/pgsql_tmp", `${OURS}/pgsql_tmp`, "pg_replslot/slot"]) {
    assert.equal(describe(of(path, "directory")), "directory expendable", path);
  }
  assert.equal(describe(of("pg_tblspc/16400/PG_16_202307071", "directory")), "foreign");
  assert.equal(describe(of(OURS, "directory")), "directory");
  // A folder may have the name of a file: it is a folder.
  assert.equal(describe(of("base/5/16384", "directory")), "directory");
});

test("links are followed to WAL and tablespaces, kept elsewhere, and refused among relations", () => {
  for (const path of ["pg_wal", "pg_tblspc/16400"]) {
    assert.equal(describe(of(path, "link")), "link followed");
  }
  const refused = ["base", "base/5", "base/5/16384", "global", "global/1260", "pg_tblspc", OURS];
  for (const path of [...refused, `${OURS}/5`]) {
    assert.equal(describe(of(path, "link")), "refused", path);
  }
  for (const path of ["log", "postgresql.conf", "pg_xact", "pg_tblspc/x", "pg_tblspc/1664"]) {
    assert.equal(describe(of(path, "link")), "link", path);
  }
  assert.equal(describe(of("pg_tblspc/16400/other", "link")), "foreign");
  assert.equal(describe(of("postgresql.auto.conf", "link")), "auto-conf");
});

test("a link that is not followed says whether content may be behind it", () => {
  const leadsToContent = (path: string): boolean => {
    const classification = of(path, "link");
    assert.ok(classification.class === "link");
    return classification.leadsToContent;
  };
  for (const path of ["log", "pg_log", "pg_stat", "pg_twophase", "notes"]) {
    assert.ok(leadsToContent(path), path);
  }
  for (const path of ["postgresql.conf", "pg_hba.conf", "pg_xact", "pg_subtrans"]) {
    assert.ok(!leadsToContent(path), path);
  }
});

test("a WAL segment's name is taken apart", () => {
  const classification = of("pg_wal/00000002000000FF000000FE", "file");
  assert.deepEqual(classification, {
    class: "wal",
    segment: { timeline: 2, high: 0xff, low: 0xfe },
  });
});

test("every path has a class, and only the listed names are readable", () => {
  const names = [
    "base",
    "5",
    "16384",
    "PG_VERSION",
    "pg_xact",
    "0000",
    "_tde",
    "_tdenew",
    ".1",
    ".",
  ];
  names.push(
    "pg_wal",
    "000000010000000000000001",
    "pg_tblspc",
    "PG_17_202406281",
    "x",
    "\xff",
    "\n",
  );
  const segment = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 });
  const path = fc.array(segment, { minLength: 1, maxLength: 5 });
  const kind = fc.constantFrom<FileKind>("file", "directory", "link", "other");
  assertProperty(
    fc.property(path, kind, (segments, kind) => {
      const text = segments.map((parts) => parts.join("")).join("/");
      const classification = of(text, kind);
      assert.notEqual(describe(classification), "");
      if (classification.class !== "readable") return;
      assert.match(text, /(?:PG_VERSION|pg_xact\/[0-9A-F]+)$/);
    }),
    1000,
  );
});

function of(path: string, kind: FileKind): ReturnType<typeof classify> {
  const bytes = /[^\0-\xff]/.test(path) ? bytePath(path) : (path as BytePath);
  return classify(bytes, kind, CONTEXT);
}
