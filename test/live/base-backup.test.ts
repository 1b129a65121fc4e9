/**
 * Base backups that PostgreSQL's own pg_basebackup made: stock pg_verifybackup must accept them before they are
 * encrypted, while they are, and after they are decrypted, and must see a changed byte all the while.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { extract } from "tar";
import { giveTree, serverUser } from "../../src/demo/server-user.ts";
import {
  assertSameTree,
  type Cluster,
  makeCluster,
  startServer,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
import { keyIdsOnDisk, keysOf } from "../support/key-ids-on-disk.ts";
import { requireStockTools, type StockTools, type ToolResult } from "../support/stock-tools.ts";
import { runTdeThreaded, type TdeResult } from "../support/tde.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];

test("a base backup is accepted by pg_verifybackup while it is encrypted, and starts after it was decrypted", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools, "varied");
  try {
    const rows = await takeBackup(tools, cluster, "backup");
    const backup = join(cluster.folder, "backup");
    const original = treeOf(backup);
    assertAccepts(tools, backup);

    // In two steps: with a wider scope backup_manifest is rewritten once more, from its original.
    tde(cluster, "encrypt-datadir", "-D", "backup", "--database", "1", ...KEYS);
    assertAccepts(tools, backup);
    tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    assertAccepts(tools, backup);
    tde(cluster, "verify", "-D", "backup", ...KEYS);
    assertRewrittenListsEverything(backup);
    const again = tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    assert.match(again.stdout, /^already encrypted/);

    tde(cluster, "decrypt-datadir", "-D", "backup", ...KEYS);
    assertSameTree(treeOf(backup), original);
    assertAccepts(tools, backup);
    const server = await startServer(tools.major, backup);
    try {
      // A backup leaves out what unlogged tables hold.
      const recovered = new Map(rows).set("shop.public.sessions", { rows: 0, checksum: "0" });
      assert.deepEqual(await tableChecksums(server), recovered);
    } finally {
      await server.stop();
    }
  } finally {
    cluster.remove();
  }
});

test("a base backup whose keys are rotated stays one for pg_verifybackup, and comes back", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools);
  try {
    await takeBackup(tools, cluster, "backup");
    const backup = join(cluster.folder, "backup");
    const original = treeOf(backup);
    tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    tde(cluster, "keyring", "new-key", ...KEYS);
    for (const what of [
      ["--relation", "global/1262"],
      ["--from-key", "1"],
    ]) {
      tde(cluster, "rotate", "-D", "backup", ...what, ...KEYS);
      assertAccepts(tools, backup);
      tde(cluster, "verify", "-D", "backup", ...KEYS);
    }
    assert.deepEqual(keysOf(keyIdsOnDisk(backup)), [2]);
    assertRewrittenListsEverything(backup);
    // Of what was not sealed anew the list goes on saying what it said: a changed byte shows.
    const restore = flipByte(join(backup, "global/1260"));
    tde(cluster, "rotate", "-D", "backup", "--relation", "global/1262", ...KEYS);
    assert.match(verifyBackup(tools, backup).stderr, /global\/1260/);
    restore();
    tde(cluster, "decrypt-datadir", "-D", "backup", ...KEYS);
    const except = (path: string): boolean => path === "./global/1260";
    assertSameTree(treeOf(backup), original, { except });
    assertAccepts(tools, backup);
  } finally {
    cluster.remove();
  }
});

test("a base backup encrypted into a new directory with plain WAL is accepted in full, and comes back", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools, "varied");
  const mapping = (from: string, to: string): string =>
    `--tablespace-mapping=${join(cluster.folder, from)}=${join(cluster.folder, to)}`;
  try {
    await takeBackup(tools, cluster, "backup", ["--manifest-checksums=SHA512"]);
    const backup = join(cluster.folder, "backup");
    const original = treeOf(backup);

    const encryptInto = ["--output", "sealed", mapping("backup.ext", "sealed.ext"), "--wal=skip"];
    tde(cluster, "encrypt-datadir", "-D", "backup", ...encryptInto, ...KEYS);
    assertSameTree(treeOf(backup), original, { directoryTimes: true });
    assertAccepts(tools, join(cluster.folder, "sealed"));
    tde(cluster, "verify", "-D", "sealed", ...KEYS);

    const decryptInto = ["--output", "opened", mapping("sealed.ext", "opened.ext")];
    tde(cluster, "decrypt-datadir", "-D", "sealed", ...decryptInto, ...KEYS);
    const opened = treeOf(join(cluster.folder, "opened"));
    // The link leads to where the mapping says.
    const except = (path: string): boolean => original.get(path)?.kind === "link";
    assertSameTree(opened, original, { except });
    assertAccepts(tools, join(cluster.folder, "opened"));
  } finally {
    cluster.remove();
  }
});

test("the base backup of a standby, whose manifest has no checksums, is listed by size and keeps its signal", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools);
  try {
    const options = ["--manifest-checksums=NONE", "--write-recovery-conf"];
    await takeBackup(tools, cluster, "backup", options);
    const backup = join(cluster.folder, "backup");
    const original = treeOf(backup);
    const settings = (): string => readFileSync(join(backup, "postgresql.auto.conf"), "latin1");
    assert.ok(original.has("./standby.signal"));
    assert.match(settings(), /primary_conninfo/);
    tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    assert.ok(treeOf(backup).has("./standby.signal"));
    assert.doesNotMatch(settings(), /primary_conninfo/);
    assertAccepts(tools, backup);
    assert.doesNotMatch(readFileSync(join(backup, "backup_manifest"), "latin1"), /"Checksum"/);
    tde(cluster, "decrypt-datadir", "-D", "backup", ...KEYS);
    assertSameTree(treeOf(backup), original);
  } finally {
    cluster.remove();
  }
});

test("pg_verifybackup and verify find one changed byte in every kind of file of an encrypted backup", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools);
  try {
    await takeBackup(tools, cluster, "backup");
    const backup = join(cluster.folder, "backup");
    tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    const table = largestFile(backup, /^\.\/base\/[0-9]+\/[0-9]+$/);
    const paths = [
      table,
      `${table}_tde`,
      "backup_label",
      "backup_manifest",
      "pg_xact/0000",
      "tde.backup_manifest",
      "tde.postgresql.auto.conf",
    ];
    for (const path of paths) {
      const restore = flipByte(join(backup, path));
      assert.equal(verifyBackup(tools, backup).status, 1, path);
      const { status, stdout, stderr } = runTdeThreaded(["verify", "-D", "backup", ...KEYS], {
        cwd: cluster.folder,
      });
      assert.equal(status, 3, `${path}: ${stderr}`);
      assert.match(stdout + stderr, new RegExp(path.replace(/_tde$/, "").replaceAll(".", "\\.")));
      restore();
    }
    assertAccepts(tools, backup);
    tde(cluster, "verify", "-D", "backup", ...KEYS);
  } finally {
    cluster.remove();
  }
});

test("what pg_verifybackup said of missing, unlisted and readable files it still says of the encrypted backup", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools);
  try {
    await takeBackup(tools, cluster, "backup");
    const backup = join(cluster.folder, "backup");
    const lost = largestFile(backup, /^\.\/base\/[0-9]+\/[0-9]+$/);
    rmSync(join(backup, lost));
    writeFileSync(join(backup, "added.txt"), "not of the backup");
    writeFileSync(join(backup, "pg_hba.conf"), "local all all trust\n");
    const said = verifyBackup(tools, backup);
    assert.equal(said.status, 1);
    tde(cluster, "encrypt-datadir", "-D", "backup", ...KEYS);
    const says = verifyBackup(tools, backup);
    assert.deepEqual(linesOf(says.stderr), linesOf(said.stderr));
    assert.equal(linesOf(says.stderr).length, 3);
  } finally {
    cluster.remove();
  }
});

test("a base backup in tar format is refused by name, and when unpacked as long as a tablespace is not linked", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const cluster = await clusterWithKeys(tools, "varied");
  const refused = (datadir: string): string => {
    const before = treeOf(join(cluster.folder, datadir));
    const args = ["encrypt-datadir", "-D", datadir, ...KEYS];
    const { status, stderr } = runTdeThreaded(args, { cwd: cluster.folder });
    assert.equal(status, 5, stderr);
    assertSameTree(treeOf(join(cluster.folder, datadir)), before);
    return stderr;
  };
  try {
    await takeBackup(tools, cluster, "backup", ["--format=tar"]);
    assert.match(refused("backup"), /is a base backup in tar format: it has base\.tar$/m);

    const [map, tablespace] = unpackTar(cluster, "backup", "unpacked");
    const original = treeOf(tablespace);
    assert.match(refused("unpacked"), /tablespace \d+ is not in "unpacked\/pg_tblspc"/);
    symlinkSync(tablespace, join(cluster.folder, "unpacked/pg_tblspc", map));
    tde(cluster, "encrypt-datadir", "-D", "unpacked", ...KEYS);
    assert.notDeepEqual(treeOf(tablespace), original);
    assertAccepts(tools, join(cluster.folder, "unpacked"));
    tde(cluster, "decrypt-datadir", "-D", "unpacked", ...KEYS);
    assertSameTree(treeOf(tablespace), original);
  } finally {
    cluster.remove();
  }
});

/** Unpacks a backup's tars. @returns the OID of the tablespace in tablespace_map, and where its files are now. */
function unpackTar(cluster: Cluster, backup: string, name: string): [oid: string, folder: string] {
  const datadir = join(cluster.folder, name);
  const unpack = (tar: string, to: string): void => {
    mkdirSync(to, { recursive: true, mode: 0o700 });
    extract({ sync: true, file: join(cluster.folder, backup, tar), cwd: to });
  };
  unpack("base.tar", datadir);
  unpack("pg_wal.tar", join(datadir, "pg_wal"));
  copyFileSync(join(cluster.folder, backup, "backup_manifest"), join(datadir, "backup_manifest"));
  const oid = /^\d+/.exec(readFileSync(join(datadir, "tablespace_map"), "latin1"))?.[0] ?? "";
  const inPlace = readdirSync(join(cluster.folder, backup))
    .map((file) => /^(\d+)\.tar$/.exec(file)?.[1] ?? oid)
    .filter((other) => other !== oid);
  for (const other of inPlace) unpack(`${other}.tar`, join(datadir, "pg_tblspc", other));
  unpack(`${oid}.tar`, `${datadir}.ext`);
  for (const folder of [datadir, `${datadir}.ext`]) giveTree(folder, serverUser());
  return [oid, `${datadir}.ext`];
}

async function clusterWithKeys(
  tools: StockTools,
  content: "small" | "varied" = "small",
): Promise<Cluster> {
  const cluster = await makeCluster({
    major: tools.major,
    checksums: true,
    walSegsizeMb: 1,
    content,
  });
  tde(cluster, "keyring", "create", ...KEYS, "--new-key-file");
  return cluster;
}

/**
 * Takes a backup of the running cluster into `name`, its tablespace into `name.ext`.
 * @returns what the tables hold.
 */
async function takeBackup(
  tools: StockTools,
  cluster: Cluster,
  name: string,
  options: readonly string[] = [],
): ReturnType<typeof tableChecksums> {
  const server = await cluster.start();
  try {
    const [row] = await server.query("postgres", "SHOW unix_socket_directories");
    const target = join(cluster.folder, name);
    const maps = cluster.tablespaces.map((from) => `--tablespace-mapping=${from}=${target}.ext`);
    const connection = ["--host", row?.[0] ?? "", "--username=postgres", "--no-password"];
    const args = [...connection, "--checkpoint=fast", "--pgdata", target, ...maps, ...options];
    const { status, stderr } = tools.run("pg_basebackup", args, { asServerUser: true });
    assert.equal(status, 0, stderr);
    return await tableChecksums(server);
  } finally {
    await server.stop();
  }
}

function tde(cluster: Cluster, ...args: readonly string[]): TdeResult {
  const result = runTdeThreaded(args, { cwd: cluster.folder });
  assert.equal(result.status, 0, result.stderr);
  return result;
}

function verifyBackup(tools: StockTools, backup: string, ...options: string[]): ToolResult {
  return tools.run("pg_verifybackup", [...options, backup]);
}

function assertAccepts(tools: StockTools, backup: string, ...options: string[]): void {
  const { status, stdout, stderr } = verifyBackup(tools, backup, ...options);
  assert.equal(status, 0, stderr);
  assert.equal(stdout, "backup successfully verified\n");
}

/** Every file that pg_verifybackup does not ignore; tde's own by name. */
function assertRewrittenListsEverything(backup: string): void {
  const text = readFileSync(join(backup, "backup_manifest"), "latin1");
  const files = [...treeOf(backup)].filter(([, { kind }]) => kind === "file");
  const unlisted = files
    .map(([path]) => path.slice("./".length))
    .filter((path) => !text.includes(`"Path": "${path}"`) && !path.startsWith("pg_wal/"));
  assert.deepEqual(unlisted, ["backup_manifest"]);
  assert.match(text, /"Path": "tde\.manifest", "Size": [0-9]+, "Last-Modified": "[^"]+" \}/);
}

function largestFile(folder: string, pattern: RegExp): string {
  const [found] = [...treeOf(folder)]
    .filter(([path, { kind }]) => kind === "file" && pattern.test(path))
    .sort(([, a], [, b]) => b.sizeBytes - a.sizeBytes);
  assert.ok(found !== undefined, `no file is like ${pattern}`);
  return found[0].slice("./".length);
}

/** Changes one bit in the middle. @returns what puts it back. */
function flipByte(path: string): () => void {
  const bytes = readFileSync(path);
  const changed = Buffer.from(bytes);
  const at = Math.floor(bytes.length / 2);
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  writeFileSync(path, changed);
  return () => writeFileSync(path, bytes);
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}
