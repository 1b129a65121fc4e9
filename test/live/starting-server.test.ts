/**
 * A real server that starts at the very moment when an encryption or decryption begins, many times at many distances.
 * Exactly one of two things may come of it: tde refuses, the server runs, and nothing was changed; or the server stops
 * at the guard, and tde comes to its end. After a decryption the server may run as soon as the guard is gone.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { randomFrom } from "../support/crash-nodes.ts";
import {
  type Cluster,
  makeCluster,
  type PostgresServer,
  type TableChecksum,
  tableChecksums,
  treeOf,
} from "../support/cluster.ts";
import { type Ended, KEYS, startTde } from "../support/running-tde.ts";

const full = process.env["TDE_CRASH"] === "full";
const seed = Number(process.env["TDE_TEST_SEED"] ?? Date.now() % 2 ** 31);
const rounds = full ? 200 : 2;
/** The server is started where the last races were decided, and so much earlier or later. */
const SPREAD_MS = 15;

type Command = "encrypt-datadir" | "decrypt-datadir";
type Rows = ReadonlyMap<string, TableChecksum>;

interface Race {
  readonly ended: Ended;
  /** The running server, or why it did not start. */
  readonly server: PostgresServer | Error;
}

test("of tde and a server that starts at the same moment one goes on and the other refuses", async (t) => {
  const random = randomFrom(seed);
  const cluster = await makeCluster({
    major: 17,
    checksums: true,
    walSegsizeMb: 1,
    content: "small",
  });
  t.after(() => cluster.remove());
  await tde(cluster, "keyring", "create", "--new-key-file");
  const rows = await rowsOf(await cluster.start());
  const lockMs = await untilLocked(cluster, "encrypt-datadir");
  const { durationMs } = await tde(cluster, "decrypt-datadir", "-D", "data");
  const outcomes = { refusedTde: 0, refusedServer: 0, serverAfterDecryption: 0 };

  let decidedMs = lockMs;
  for (let round = 0; round < rounds; round++) {
    const near = decidedMs + SPREAD_MS * (2 * random() - 1);
    const afterMs = random() < 0.2 ? 2 * lockMs * random() : near;
    await labelled(`seed ${seed}, round ${round}: a server ${afterMs} ms later`, async () => {
      const isEncrypted = await encryptBeside(cluster, afterMs, rows, outcomes);
      decidedMs += (isEncrypted ? -1 : 1) * SPREAD_MS;
      if (isEncrypted) await decryptBeside(cluster, 1.2 * durationMs * random(), rows, outcomes);
    });
  }
  t.diagnostic(`seed ${seed}: ${JSON.stringify(outcomes)}`);
});

/** @returns whether the cluster is encrypted now. */
async function encryptBeside(
  cluster: Cluster,
  afterMs: number,
  rows: Rows,
  outcomes: { refusedTde: number; refusedServer: number },
): Promise<boolean> {
  const configuration = treeOf(cluster.datadir).get("postgresql.auto.conf");
  const { ended, server } = await race(cluster, "encrypt-datadir", afterMs);
  if (server instanceof Error) {
    assert.match(server.message, /data_directory_is_encrypted_by_tde/);
    assert.equal(ended.status, 0, ended.stderr);
    await tde(cluster, "verify", "-D", "data");
    outcomes.refusedServer++;
    return true;
  }
  const after = treeOf(cluster.datadir);
  assert.deepEqual(await rowsOf(server), rows);
  assert.equal(ended.status, 5, `tde: ${ended.stdout}${ended.stderr}`);
  assert.match(ended.stderr, /a server (is running|was started) on|names no server process/);
  assert.deepEqual(leftBy(after), []);
  assert.deepEqual(after.get("postgresql.auto.conf"), configuration);
  outcomes.refusedTde++;
  return false;
}

async function decryptBeside(
  cluster: Cluster,
  afterMs: number,
  rows: Rows,
  outcomes: { serverAfterDecryption: number },
): Promise<void> {
  const { ended, server } = await race(cluster, "decrypt-datadir", afterMs);
  if (server instanceof Error) assert.match(server.message, /data_directory_is_encrypted_by_tde/);
  else outcomes.serverAfterDecryption++;
  assert.equal(ended.status, 0, ended.stderr);
  assert.deepEqual(leftBy(treeOf(cluster.datadir)), []);
  assert.deepEqual(await rowsOf(server instanceof Error ? await cluster.start() : server), rows);
}

async function race(cluster: Cluster, command: Command, afterMs: number): Promise<Race> {
  const running = startTde([command, "-D", "data", ...KEYS, "-j", "2"], cluster.folder);
  await sleep(afterMs);
  const server = await cluster.start().catch((error: unknown) => {
    assert.ok(error instanceof Error);
    return error;
  });
  return { ended: await running, server };
}

/** How long after its start tde takes its lock. */
async function untilLocked(cluster: Cluster, command: Command): Promise<number> {
  const started = performance.now();
  const running = startTde([command, "-D", "data", ...KEYS, "-j", "2"], cluster.folder);
  const lock = join(cluster.datadir, "tde.lock");
  while (!existsSync(lock) && performance.now() - started < 10_000) await sleep(1);
  const lockMs = performance.now() - started;
  const { status, stderr } = await running;
  assert.equal(status, 0, stderr);
  return lockMs;
}

/** Stops the server, too. */
async function rowsOf(server: PostgresServer): Promise<Rows> {
  try {
    return await tableChecksums(server);
  } finally {
    await server.stop();
  }
}

function leftBy(tree: ReturnType<typeof treeOf>): string[] {
  return [...tree.keys()].filter((path) => /tde/.test(path));
}

async function tde(cluster: Cluster, ...args: readonly string[]): Promise<Ended> {
  const ended = await startTde([...args, ...KEYS], cluster.folder);
  assert.equal(ended.status, 0, ended.stdout + ended.stderr);
  return ended;
}

async function labelled(label: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof Error) error.message = `${label}\n${error.message}`;
    throw error;
  }
}
