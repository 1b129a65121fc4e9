/**
 * Whoever can write a file that tde reads, or call a command, must not be able to keep it busy for hours with a text of
 * some kilobytes: every reader of text takes time in proportion to its length. Each is given texts that grow, made of
 * what its grammar tries in more than one way: blanks, quotes, escapes, names and separators without an end.
 *
 * Files that cannot be large are not here: PG_VERSION, postmaster.pid, locks, and what a key command prints.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytePath, displayPath, joinPath, withoutTrailingSlashes } from "../src/bytes/byte-path.ts";
import { unescapeBytes } from "../src/bytes/percent-escape.ts";
import { editDistance, nearMatches } from "../src/catalog/near-matches.ts";
import { parseRelationPattern, quoteName } from "../src/catalog/name-pattern.ts";
import { getopt } from "../src/cli/getopt.ts";
import { decodeLosslessly, pathArgument } from "../src/cli/raw-arguments.ts";
import { scanSigned, scanUnsigned, strtoul } from "../src/cli/scanf.ts";
import { WALDUMP_OPTIONS } from "../src/cli/waldump-options.ts";
import { sha256 } from "../src/crypto/primitives.ts";
import { classify, isConfiguration } from "../src/datadir/classify.ts";
import { parseRelationPath, sidecarName, workingName } from "../src/datadir/relation-path.ts";
import { parseTablespaceMap } from "../src/datadir/tablespace-map.ts";
import { parentOf } from "../src/engine/output-directory.ts";
import { TdeError } from "../src/errors.ts";
import { openBackupManifest } from "../src/format/backup-manifest.ts";
import { parseEntry } from "../src/format/manifest-entry.ts";
import { unescapePath } from "../src/format/manifest-path.ts";
import { openManifestWithoutKey, readManifestHeader } from "../src/format/manifest.ts";
import {
  isGuardFile,
  secretHbaOptions,
  secretSettings,
  settingsBesideGuard,
} from "../src/format/postgres-conf.ts";
import { parseScope } from "../src/format/scope.ts";
import { parseBase64 } from "../src/keyring/base64.ts";
import { parseKeyringFile } from "../src/keyring/keyring-file.ts";
import { parseStateFile } from "../src/keyring/state-file.ts";
import { parseLsn } from "../src/postgres/lsn.ts";
import { parsePgVersion } from "../src/postgres/version.ts";
import { parsePosixZone } from "../src/wal/posix-zone.ts";
import { parseTimelineHistory } from "../src/wal/timeline-history.ts";
import { archivedKind } from "../src/wal/wal-file-name.ts";
import { assertGrowsWithSize } from "./support/growth.ts";

interface Reader {
  readonly name: string;
  readonly read: (text: string) => void;
  /** What texts begin with ... */
  readonly starts: readonly string[];
  /** ... what they repeat ... */
  readonly units: readonly string[];
  /** ... and how they end. */
  readonly ends: readonly string[];
}

const CLUSTER = { major: 17, catalogVersion: 202406281, blocksPerSegment: 131072 } as const;
const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");
/** In parts, as files are read. */
const source = (text: string) => (): Iterable<Buffer> => [latin1(text)];
const summed = (text: string): Buffer =>
  latin1(`${text}sum ${sha256(latin1(text)).toString("hex")}\n`);
const MAC_LINE = `mac ${"0".repeat(64)}\n`;
const MANIFEST_HEADER = `tde-manifest 1
directory ${"0".repeat(32)}
keyring ${"0".repeat(16)}
system 1
key 1
epoch 1
scope all
wal sealed
control ${"A".repeat(683)}=
`;
const BACKUP_MANIFEST_HEAD = '{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n';

const BLANKS = [" ", "\t", "\v", "\r", "\n", " \n"] as const;

const READERS: readonly Reader[] = [
  {
    name: "postgresql.conf and postgresql.auto.conf",
    read(text): void {
      const bytes = latin1(text);
      secretSettings(bytes);
      isGuardFile(bytes);
      settingsBesideGuard(bytes);
    },
    starts: ["", "#", "a =", "a = '", "a = 'b' ", "x_secret = ", "secret=", "://"],
    units: [
      ...BLANKS,
      "#",
      " #",
      "a ",
      "a=",
      "''",
      "\\",
      "\\1",
      "0",
      "pwd",
      "secret ",
      "secret=",
      "://a:",
    ],
    ends: ["", "'", "!"],
  },
  {
    name: "pg_hba.conf, pg_ident.conf and pg_hosts.conf",
    read: (text) => void secretHbaOptions(latin1(text)),
    starts: ["", "#", "host all ", "ldapbindpasswd", "radiussecrets ="],
    units: [
      ...BLANKS,
      "#",
      "=",
      "= ",
      "a ",
      "ldapbindpasswd",
      "ldapbindpasswd ",
      "radiussecrets=",
      "_",
    ],
    ends: ["", "!", "=", "a"],
  },
  {
    name: "tablespace_map",
    read: (text) => void parseTablespaceMap(latin1(text)),
    starts: ["", "16400", "16400 /"],
    units: [...BLANKS, "1", "1 ", "\\", "\\\n", "/a\\\\", "1 /a\n"],
    ends: ["", "\\", "\n", "x"],
  },
  {
    name: "a manifest",
    read(text): void {
      refusing(() => void openManifestWithoutKey(source(text), "a manifest"));
      refusing(() => void readManifestHeader(source(text), "a manifest"));
    },
    starts: ["", "tde-manifest 1\n", MANIFEST_HEADER],
    units: [...BLANKS, "a", "0", "file\t", "file\ta\tD\t-\t0\t-\t-\n", "count 0\n"],
    ends: ["", "\n", MAC_LINE],
  },
  {
    name: "a line of a manifest",
    read(text): void {
      refusing(() => void parseEntry(text, "a line"));
      refusing(() => void unescapePath(text, "a line"));
    },
    starts: ["", "file\t", "file\ta\tP\t-\t1\t", "file\ta\tP\t-\t1\t1:1"],
    units: ["a", "a/", "/", "%", "%41", "%4", "0", "1:1,", ",1:1", ":", "\t"],
    ends: ["", "\t-\t0\t-\t-", `\t${"0".repeat(64)}`, "!"],
  },
  {
    name: "a scope",
    read: (text) => refusing(() => void parseScope(text, "a scope")),
    starts: ["", "all except ", "database:1", "database:1 except database:1"],
    units: ["database:1,", ",database:1", "relation:1/1/1,", "1", " except ", "all", ","],
    ends: ["", "database:2", "!"],
  },
  {
    name: "backup_manifest",
    read: (text) => refusing(() => void openBackupManifest(source(text), "backup_manifest")),
    starts: ["", BACKUP_MANIFEST_HEAD, `${BACKUP_MANIFEST_HEAD}{ "Path": "`],
    units: [
      ...BLANKS,
      "a",
      "\\",
      '\\"',
      "\\u0041",
      '"',
      '{ "Path": "a", "Size": 1, "Last-Modified": "x" },\n',
      '"],\n',
    ],
    ends: ["", '"', '", "Size": 1', '"Manifest-Checksum": "0"}\n'],
  },
  {
    name: "a keyring file, whose sum anybody can make",
    read: (text) => refusing(() => void parseKeyringFile(summed(text), "a keyring")),
    starts: ["tde-keyring 1\n", `tde-keyring 1\nid ${"0".repeat(16)}\ngeneration 1\n`],
    units: [
      ...BLANKS,
      "a",
      "%",
      "%c3%a4",
      "recipient ",
      "recipient 1 key-file salt= wrapped= label=\n",
      "key 1 ",
      "key 1 state=current\n",
      "key 1 state=destroyed created=x check=00\n",
    ],
    ends: ["", MAC_LINE],
  },
  {
    name: "a state file, whose sum anybody can make",
    read: (text) => refusing(() => void parseStateFile(summed(text + MAC_LINE))),
    starts: ["tde-state 1\nkey 1\n", 'tde-state 1\nkey 1\n{"keyring":"', "tde-state 1\nkey 1\n[["],
    units: [
      ...BLANKS,
      "a",
      "\\",
      '\\"',
      '"',
      "[",
      "{",
      '{"key":1,"pages":1,"bytes":1}\n',
      "%41",
      "1",
    ],
    ends: ["\n", '"}\n'],
  },
  {
    name: "a timeline history",
    read: (text) => refusing(() => void parseTimelineHistory(latin1(text), 2 ** 31, "a history")),
    starts: ["", "1", "1\t", "1\t0/3000000"],
    units: [...BLANKS, "#", "0", "1\t", "1\t0/3000000\n", "/", "\u00a0"],
    ends: ["", "!", "\n", "0/1"],
  },
  {
    name: "names and patterns of relations",
    read(text): void {
      refusing(() => {
        const { name } = parseRelationPattern(text);
        // NAMEDATALEN: no name of a catalog is longer.
        name.fits("a".repeat(63));
        name.fits("ab".repeat(31));
      });
      quoteName(text);
      nearMatches(text, [{ name: "a".repeat(63), shown: () => "" }]);
      editDistance(text, "a".repeat(63), 21);
    },
    starts: ["", '"', "*", "a.", "a*"],
    units: ["a", "*", "?", "*a", "a*", "*?", "*a*b", '""', '"', ".", "a.", "\\", "("],
    ends: ["", "b", '"', "*", "*b"],
  },
  {
    name: "LSNs, numbers and options",
    read(text): void {
      parseLsn(text);
      scanUnsigned(text, 10);
      scanUnsigned(text, 16);
      scanSigned(text);
      strtoul(text);
      parsePosixZone(text);
      parseBase64(text);
      archivedKind(text);
      getopt([text, `-${text}`, `--${text}`], WALDUMP_OPTIONS);
      refusing(() => void parsePgVersion(latin1(text), "PG_VERSION"));
    },
    starts: ["", "0/", "-", "0x", "17.", "EST"],
    units: [" ", "\n", "0", "7", "9", "a", "=", "/", ",M1.1.0", "<", "+"],
    ends: ["", "!", ">"],
  },
  {
    name: "paths",
    read(text): void {
      const path = bytePath(text);
      joinPath("a", text, "b");
      parentOf(path);
      withoutTrailingSlashes(path);
      displayPath(path);
      pathArgument(text);
      decodeLosslessly(latin1(text));
      parseRelationPath(path, CLUSTER);
      classify(path, "file", CLUSTER);
      isConfiguration(path);
      sidecarName(path);
      workingName(path);
      refusing(() => void unescapeBytes(text));
    },
    starts: ["", "/", "base/5/", "pg_tblspc/1/", "t3_"],
    units: ["/", "a/", "0", "_", ".", "../", "*", "\u00e4", "\udc80", "%41", ".conf", "\x1b"],
    ends: ["", "x", ".1", ".conf"],
  },
];

/** Characters: the largest text has sixteen thousand, whose square can still be waited for. */
const SMALLEST = 512;

for (const { name, read, starts, units, ends } of READERS) {
  test(`the time to read grows no faster than the text: ${name}`, () => {
    for (const start of starts) {
      for (const unit of units) {
        for (const end of ends) {
          const textOf = (size: number): string => start + unit.repeat(size / unit.length) + end;
          const what = JSON.stringify(`${start}${unit}${unit}${unit} ... ${end}`);
          assertGrowsWithSize(what, SMALLEST, (size) => {
            const text = textOf(size);
            return () => read(text);
          });
        }
      }
    }
  });
}

/** What a text of this kind cannot be is said by an error; how long it took is the question. */
function refusing(action: () => void): void {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof TdeError, String(error));
  }
}
