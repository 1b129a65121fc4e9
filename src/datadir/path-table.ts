/**
 * What lives in a data directory besides relations and WAL, and what becomes of it: the first row whose pattern fits
 * a path decides. A path that no row knows counts as content. Sources: PostgreSQL's documentation ("Database File
 * Layout"), its headers, basebackup.c for what backups leave out, and directories that servers of 13 to 19 wrote.
 */
import type { BytePath } from "../bytes/byte-path.ts";

export interface Treatment {
  /** sealed: it has or may have users' data, and is encrypted whole. readable: kept as it is, authenticated. */
  readonly treatment: "sealed" | "readable";
  /** Backup tools leave it out by design: a missing one is no error. */
  readonly expendable: boolean;
  /** Settings that an administrator may edit while the directory is encrypted; the server reads none of it as data. */
  readonly configuration: boolean;
  /** A short phrase for the listing of what stays readable and why. */
  readonly why: string;
}

type Row = readonly [
  patterns: string,
  treatment: Treatment["treatment"],
  why: string,
  mark?: "expendable" | "configuration",
];

/**
 * Patterns, several to a row: `*` is any text within one name, `**` any text; `<hex>` hexadecimal digits as PostgreSQL
 * writes them, `<hex8>` eight of them; `<db>` the folder of a database in base/ or a tablespace; `<spc>` base/ or this
 * cluster's folder in a tablespace.
 */
// prettier-ignore
const ROWS: readonly Row[] = [
  // The top level.
  ["PG_VERSION", "readable", "every tool reads the major version here"],
  ["postgresql.auto.conf.tmp", "sealed", "settings of an unfinished ALTER SYSTEM", "expendable"],
  ["*.conf", "readable", "configuration: the server must reach the guard's message", "configuration"],
  ["postmaster.pid", "readable", "tells whether a server is running", "expendable"],
  ["postmaster.opts", "readable", "the server's last command line", "expendable"],
  ["current_logfiles", "readable", "names of the log files", "expendable"],
  ["backup_label backup_label.old", "readable", "where recovery of a backup begins"],
  ["tablespace_map tablespace_map.old", "readable", "where a backup's tablespaces were"],
  ["recovery.signal standby.signal promote", "readable", "empty: how the server is to start"],
  ["<hex8>.history", "readable", "history of a timeline"],
  ["recovery.done", "sealed", "old settings, with passwords"],
  ["log/** pg_log/** *.log", "sealed", "server log: statements with their values"],
  ["pg_upgrade_output.d/** *.sql", "sealed", "logs and dumps of pg_upgrade"],
  ["core*", "sealed", "memory of a crashed process"],

  // Folders of relations; relation files themselves are told by their names, in relation-path.ts.
  ["<db>/PG_VERSION", "readable", "every tool reads the major version here"],
  ["<db>/pg_filenode.map global/pg_filenode.map", "readable", "file numbers of system catalogs"],
  ["<db>/pg_internal.init* global/pg_internal.init*", "sealed", "cached system catalogs", "expendable"],
  ["<spc>/pgsql_tmp* <spc>/pgsql_tmp*/** <db>/pgsql_tmp* global/pgsql_tmp*",
    "sealed", "spilled sorts and hashes", "expendable"],
  ["<db>/INCREMENTAL.* global/INCREMENTAL.*", "sealed", "changed blocks of an incremental backup"],
  ["global/pg_control", "readable", "every tool reads the cluster's state here"],

  // The pg_* folders.
  ["pg_xact/<hex> pg_multixact/offsets/<hex> pg_multixact/members/<hex> pg_commit_ts/<hex>",
    "readable", "states and times of transactions"],
  ["pg_subtrans/<hex> pg_serial/<hex> pg_snapshots/*-*-*",
    "readable", "numbers of transactions", "expendable"],
  ["pg_notify/**", "sealed", "payloads of NOTIFY", "expendable"],
  ["pg_twophase/**", "sealed", "state of prepared transactions"],
  ["pg_replslot/**", "sealed", "replication slots and their spilled rows", "expendable"],
  ["pg_logical/**", "sealed", "state of logical decoding"],
  ["pg_stat/**", "sealed", "statistics, which can hold query texts"],
  ["pg_stat_tmp/**", "sealed", "statistics, which can hold query texts", "expendable"],
  ["pg_dynshmem/**", "sealed", "shared memory of parallel queries", "expendable"],
  ["pg_wal/<hex8>.history", "readable", "history of a timeline"],
  ["pg_wal/<hex24>.<hex8>.backup", "readable", "where a backup began and ended"],
  ["pg_wal/archive_status/*.ready pg_wal/archive_status/*.done",
    "readable", "empty: the archiver needs the names"],
  ["pg_wal/summaries/<hex>.summary", "readable", "which blocks changed"],
  ["pg_wal/<hex24>.partial pg_wal/xlogtemp.* pg_wal/RECOVERYXLOG", "sealed", "unfinished WAL segment"],

  // Whatever else is in PostgreSQL's own folders is unknown; a folder of configuration stands beside them.
  ["base/** global/** pg_*/**", "sealed", "not known to tde"],
  ["*/*.conf", "readable", "configuration: the server must reach the guard's message", "configuration"],
];

const UNKNOWN: Treatment = {
  treatment: "sealed",
  expendable: false,
  configuration: false,
  why: "not known to tde",
};

/** @param path - relative to the data directory; not of a relation file or WAL segment. */
export function treatmentOf(path: BytePath): Treatment {
  return TABLE.find(({ pattern }) => pattern.test(path))?.treatment ?? UNKNOWN;
}

function compile(patterns: string): RegExp {
  const alternatives = patterns.split(" ").map((pattern) =>
    pattern.replace(/\*\*|\*|<\w+>|[^\w/]/g, (token) => {
      const hex = /^<hex(\d*)>$/.exec(token);
      if (hex !== null) return hex[1] === "" ? "[0-9A-F]{4,}" : `[0-9A-F]{${hex[1]}}`;
      return TOKENS[token] ?? `\\${token}`;
    }),
  );
  return new RegExp(`^(?:${alternatives.join("|")})$`, "s");
}

const TABLESPACE = "pg_tblspc/[0-9]+/PG_[0-9]+_[0-9]+"; // another cluster's folder never comes here
const TOKENS: Readonly<Record<string, string>> = {
  "*": "[^/]*",
  "**": ".*",
  "<spc>": `(?:base|${TABLESPACE})`,
  "<db>": `(?:base|${TABLESPACE})/[0-9]+`,
};

const TABLE = ROWS.map(([patterns, treatment, why, mark]) => ({
  pattern: compile(patterns),
  treatment: {
    treatment,
    expendable: mark === "expendable",
    configuration: mark === "configuration",
    why,
  },
}));
