/** Stock tools on encrypted base backups, whole and incremental, that pg_basebackup took of a running server. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { serverUser } from "../../src/demo/server-user.ts";
import { makeOwnFolder } from "../../src/demo/postgres-server.ts";
import {
  LIVE_MAJORS,
  makeCluster,
  type PostgresServer,
  tableChecksums,
} from "../support/cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";
import type { Row } from "./rows.ts";
import type { Site } from "./site.ts";

/** Incremental backups came with 17. */
const INCREMENTAL = 17;

export const BACKUP_ROWS: readonly Row[] = [
  {
    tool: "pg_verifybackup",
    situation: "encrypted backup, with its WAL",
    run: async (site) => {
      const { encrypted } = await chain(site);
      assertAccepted(site, encrypted[0] ?? "");
      return "passes";
    },
  },
  {
    tool: "pg_verifybackup",
    situation: "one byte of a sealed file changed",
    run: async (site) => {
      const { encrypted } = await chain(site);
      const backup = site.copy(encrypted[0] ?? "");
      const path = join(backup, "base/1/1259_tde");
      const bytes = readFileSync(path);
      bytes.writeUInt8(bytes.readUInt8(300) ^ 1, 300);
      writeFileSync(path, bytes);
      const { status, stderr } = verifyBackup(site, backup);
      assert.equal(status, 1);
      assert.match(stderr, /checksum mismatch for file "base\/1\/1259_tde"/);
      return "finds it";
    },
  },
  {
    tool: "pg_verifybackup",
    situation: "backup decrypted again",
    run: async (site) => {
      const { plain, decrypted } = await chain(site);
      assertSameTree(treeOf(decrypted[0] ?? ""), treeOf(plain[0] ?? ""), { except: isLink });
      assertAccepted(site, decrypted[0] ?? "");
      return "passes";
    },
  },
  {
    tool: "postgres",
    situation: "encrypted standby (`pg_basebackup -R`)",
    run: async (site) => {
      const { standby } = await chain(site);
      const backup = site.copy(standby);
      assert.ok(existsSync(join(backup, "standby.signal")));
      const plain = treeOf(backup);
      site.encrypt(backup);
      site.assertVerified(backup);
      assert.doesNotMatch(
        readFileSync(join(backup, "postgresql.auto.conf"), "latin1"),
        /primary_conninfo/,
      );
      const { status, stderr } = site.run("postgres", ["-D", backup]);
      assert.notEqual(status, 0);
      assert.match(stderr, /data_directory_is_encrypted_by_tde/);
      site.decrypt(backup);
      assertSameTree(treeOf(backup), plain);
      return "refuses it";
    },
  },
  {
    tool: "pg_verifybackup",
    situation: "encrypted incremental backup",
    since: INCREMENTAL,
    run: async (site) => {
      const { encrypted } = await chain(site);
      for (const backup of encrypted.slice(1)) assertAccepted(site, backup);
      return "passes";
    },
  },
  {
    tool: "pg_combinebackup",
    situation: "full and incremental backups, each decrypted again",
    since: INCREMENTAL,
    run: async (site) => {
      const { plain, decrypted } = await chain(site);
      for (const [i, backup] of decrypted.entries()) {
        assertSameTree(treeOf(backup), treeOf(plain[i] ?? ""), { except: isLink });
      }
      const rows = [];
      for (const backups of [plain, decrypted]) {
        const { combined, status, stderr } = combine(site, backups);
        assert.equal(status, 0, stderr);
        const server = await site.start(combined);
        rows.push(await tableChecksums(server));
        await server.stop();
      }
      assert.ok((rows[0]?.get("shop.public.between")?.rows ?? 0) > 700);
      assert.deepEqual(rows[1], rows[0]);
      return "starts, same rows";
    },
  },
  {
    tool: "pg_combinebackup",
    situation: "full backup plain, an incremental one encrypted",
    since: INCREMENTAL,
    run: async (site) => {
      const { plain, encrypted } = await chain(site);
      const [full = "", first = ""] = plain;
      const { status, stderr, combined } = combine(site, [full, first, encrypted[2] ?? ""]);
      assert.equal(status, 1);
      assert.match(stderr, /bad incremental magic number/);
      assert.ok(!existsSync(combined));
      return "stops";
    },
  },
  {
    tool: "pg_combinebackup",
    situation: "full backup encrypted, incremental ones plain",
    since: INCREMENTAL,
    run: async (site) => {
      const { plain, encrypted } = await chain(site);
      const { status, stderr, combined } = combine(site, [encrypted[0] ?? "", ...plain.slice(1)]);
      assert.equal(status, 0, stderr);
      site.assertTraced(combined, "pg_combinebackup");
      return "destroys, named";
    },
  },
  {
    tool: "pg_combinebackup",
    situation: "one encrypted full backup alone",
    since: INCREMENTAL,
    run: async (site) => {
      const { plain, encrypted } = await chain(site);
      const { status, stderr, combined } = combine(site, [encrypted[0] ?? ""]);
      assert.equal(status, 0, stderr);
      site.assertTraced(combined, "pg_combinebackup");
      rmSync(join(combined, "backup_manifest"));
      site.assertVerified(combined);
      site.decrypt(combined);
      assertSameTree(contentOf(combined), contentOf(plain[0] ?? ""));
      return "named, undone";
    },
  },
];

interface Chain {
  /** Data directories of a full backup and, from 17 on, two incremental ones; never changed. */
  readonly plain: readonly string[];
  readonly encrypted: readonly string[];
  readonly decrypted: readonly string[];
  /** Of a full backup that is to be a standby. */
  readonly standby: string;
}

async function chain(site: Site): Promise<Chain> {
  const folder = await site.once("backups", () => takeBackups(site));
  const names = readdirSync(folder).filter((name) => /^\d$/.test(name));
  const plain = names.sort().map((name) => join(folder, name, "data"));
  const treated = async (what: string, from: readonly string[], treat: (one: string) => void) => {
    const made: string[] = [];
    for (const [i, one] of from.entries()) {
      const make = async (): Promise<string> => {
        const copy = site.copy(one);
        treat(copy);
        return copy;
      };
      made.push(await site.once(`${what}-${i}`, make));
    }
    return made;
  };
  const encrypted = await treated("encrypted-backup", plain, (one) => {
    site.encrypt(one);
    site.assertVerified(one);
  });
  const decrypted = await treated("decrypted-backup", encrypted, (one) => site.decrypt(one));
  return { plain, encrypted, decrypted, standby: join(folder, "standby/data") };
}

/** A varied cluster of a server from npm, or the fixture where there is none. */
async function takeBackups(site: Site): Promise<string> {
  const live = LIVE_MAJORS.includes(site.major)
    ? await makeCluster({ major: site.major, checksums: true, content: "varied" })
    : undefined;
  const datadir = live?.datadir ?? (await site.copyWithAbsoluteLinks());
  const folder = join(site.folder, "backups");
  makeOwnFolder(folder, serverUser());
  const incremental = site.major >= INCREMENTAL;
  const server = await site.start(datadir, incremental ? ["summarize_wal=on"] : []);
  try {
    const take = (name: string, ...options: string[]): Promise<string> =>
      takeBackup(site, server, join(folder, name), options);
    await server.run("shop", "CREATE TABLE between AS SELECT 1 AS i", "CHECKPOINT");
    const full = await take("0");
    await take("standby", "--write-recovery-conf");
    if (!incremental) return folder;
    await server.run("shop", ROWS, "CHECKPOINT");
    const first = await take("1", `--incremental=${full}/backup_manifest`);
    await server.run("shop", ROWS, "DELETE FROM between WHERE i = 5");
    await take("2", `--incremental=${first}/backup_manifest`);
    return folder;
  } finally {
    await server.stop();
  }
}

const ROWS = "INSERT INTO between SELECT i FROM generate_series(1, 700) AS i";

/** @returns the backup's data directory; tablespaces lie beside it. */
async function takeBackup(
  site: Site,
  server: PostgresServer,
  folder: string,
  options: readonly string[],
): Promise<string> {
  makeOwnFolder(folder, serverUser());
  const [socket] = (await server.query("postgres", "SHOW unix_socket_directories"))[0] ?? [];
  const locations = await server.query(
    "postgres",
    "SELECT pg_tablespace_location(oid) FROM pg_tablespace",
  );
  const maps = locations
    .map(([location]) => location ?? "")
    .filter((location) => location.startsWith("/"))
    .map((location) => `--tablespace-mapping=${location}=${folder}/ext`);
  const connection = ["--host", socket ?? "", "--username=postgres", "--no-password"];
  const target = ["--checkpoint=fast", `--pgdata=${folder}/data`, ...maps];
  const { status, stderr } = site.run("pg_basebackup", [...connection, ...target, ...options]);
  assert.equal(status, 0, stderr);
  return join(folder, "data");
}

function combine(
  site: Site,
  backups: readonly string[],
): { combined: string; status: number | null; stderr: string } {
  const folder = join(site.folder, `combined-${++combinations}`);
  makeOwnFolder(folder, serverUser());
  const combined = join(folder, "data");
  const last = join(backups.at(-1) ?? "", "..", "ext");
  const maps = existsSync(last) ? [`--tablespace-mapping=${last}=${folder}/ext`] : [];
  const args = [...backups, "--no-sync", `--output=${combined}`, ...maps];
  const { status, stderr } = site.run("pg_combinebackup", args);
  return { combined, status, stderr };
}

let combinations = 0;

function verifyBackup(site: Site, backup: string): ReturnType<Site["run"]> {
  return site.run("pg_verifybackup", [backup]);
}

function assertAccepted(site: Site, backup: string): void {
  const { status, stdout, stderr } = verifyBackup(site, backup);
  assert.equal(status, 0, stderr);
  assert.equal(stdout, "backup successfully verified\n");
}

/** The link of a tablespace leads beside the copy. */
function isLink(path: string): boolean {
  return /^\.\/pg_tblspc\/\d+$/.test(path);
}

/** Content alone: pg_combinebackup gives new times. Links lead elsewhere. */
function contentOf(datadir: string): ReturnType<typeof treeOf> {
  const files = [...treeOf(datadir)].filter(([path]) => !isLink(path) && path !== ".");
  return new Map(files.map(([path, entry]) => [path, { ...entry, mtimeMs: 0 }]));
}
