/**
 * The built program, ended at random moments while it encrypts and decrypts a real directory with several workers: by
 * kill -9, and by Ctrl-C and SIGTERM. After each, `tde recover` or the same command brings it to its end, itself ended
 * now and then. Every round ends with verify, or with every byte compared.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { randomFrom, type Random } from "../support/crash-nodes.ts";
import {
  type Ended,
  KEYS,
  type RealCluster,
  realCluster,
  startTde,
} from "../support/running-tde.ts";
import { assertSameTree, type Tree, treeOf } from "../support/tree.ts";

const full = process.env["TDE_CRASH"] === "full";
const seed = Number(process.env["TDE_TEST_SEED"] ?? Date.now() % 2 ** 31);
/** How many processes are killed. */
const kills = full ? 300 : Number(process.env["TDE_TEST_RUNS"] ?? 10);
const MOST_ENDED_IN_A_ROW = 3;

type Command = "encrypt-datadir" | "decrypt-datadir" | "recover";

interface Scene {
  readonly cluster: RealCluster;
  readonly original: Tree;
  readonly random: Random;
  readonly signal: () => NodeJS.Signals;
  /** How long a whole run of each command takes. */
  readonly durations: Map<Command, number>;
  ended: number;
}

test("a kill at any moment, again and again, loses nothing", async (t) => {
  const scene = await openScene(t, () => "SIGKILL");
  while (scene.ended < kills) await round(scene);
  t.diagnostic(`seed ${seed}: ${scene.ended} processes killed, each round ended whole`);
});

test("an interrupt at any moment ends with code 130 and leaves what can be taken up", async (t) => {
  const random = randomFrom(seed + 1);
  const scene = await openScene(t, () => (random() < 0.5 ? "SIGINT" : "SIGTERM"));
  // What is interrupted near its end may still come to it: rounds are counted, not interrupts.
  for (let i = 0; i < Math.ceil(kills / 5); i++) await round(scene);
  t.diagnostic(`seed ${seed}: ${scene.ended} processes interrupted, each round ended whole`);
});

async function openScene(t: TestContext, signal: () => NodeJS.Signals): Promise<Scene> {
  const cluster = realCluster(t);
  const durations = new Map<Command, number>([["recover", 200]]);
  const original = treeOf(cluster.datadir);
  const scene = { cluster, original, random: randomFrom(seed), signal, durations, ended: 0 };
  for (const command of ["encrypt-datadir", "decrypt-datadir"] as const) {
    durations.set(command, (await run(scene, command)).durationMs);
    await check(scene, command);
  }
  return scene;
}

/** There and back. */
async function round(scene: Scene): Promise<void> {
  for (const command of ["encrypt-datadir", "decrypt-datadir"] as const) {
    let next: Command = command;
    for (let i = 0; i < MOST_ENDED_IN_A_ROW; i++) {
      const wasEnded = await endOnTheWay(scene, next, command);
      if (!wasEnded || scene.random() < 0.4) break;
      next = scene.random() < 0.5 ? "recover" : command;
    }
    if (scene.random() < 0.5) await run(scene, "recover");
    await run(scene, command);
    await check(scene, command);
  }
}

/** @returns whether the command was ended before it came to its end. */
async function endOnTheWay(scene: Scene, command: Command, wanted: Command): Promise<boolean> {
  const { cluster, random, durations } = scene;
  const longest = durations.get(command === "recover" ? wanted : command) ?? 0;
  // The first part of it is Node's start: most are ended later.
  const share = random() < 0.2 ? random() : 0.4 + 0.6 * random();
  const stop = { signal: scene.signal(), afterMs: share * longest };
  const ended = await startTde(argsOf(command), cluster.folder, stop);
  // Before the handler stands a signal ends the process like any other; nothing has begun by then.
  const interrupted = stop.signal !== "SIGKILL" && ended.status === 130;
  if (ended.signal === stop.signal || interrupted) {
    scene.ended++;
    return true;
  }
  assertDone(ended, command);
  return false;
}

async function run({ cluster }: Scene, command: Command): Promise<Ended> {
  const ended = await startTde(argsOf(command), cluster.folder);
  assertDone(ended, command);
  return ended;
}

/** Recovery may have finished the work before: then there is nothing to decrypt any more. */
function assertDone({ status, stderr }: Ended, command: Command): void {
  if (command === "decrypt-datadir" && status === 5 && stderr.includes("is not encrypted")) return;
  assert.equal(status, 0, `seed ${seed}: ${command}: ${stderr}`);
}

async function check({ cluster, original }: Scene, command: Command): Promise<void> {
  if (command === "decrypt-datadir") {
    assertSameTree(treeOf(cluster.datadir), original);
    return;
  }
  const litter = readdirSync(cluster.datadir, { recursive: true, encoding: "utf8" }).filter(
    (path) => /_tdenew|tde\.(journal|lock)/.test(path),
  );
  assert.deepEqual(litter, []);
  const { status, stderr, stdout } = await startTde(
    ["verify", "-D", "data", ...KEYS],
    cluster.folder,
  );
  assert.equal(status, 0, `seed ${seed}: verify: ${stdout}${stderr}`);
}

function argsOf(command: Command): string[] {
  return [command, "-D", "data", ...KEYS, "-j", "2"];
}
