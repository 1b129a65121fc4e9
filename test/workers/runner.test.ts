/**
 * The order of writing tasks: what they wrote is taken only after it was read back, and that begins only when nobody
 * writes to the same files any more.
 */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { StorageError } from "../../src/errors.ts";
import { runWriting, type TaskRunner, type Writing } from "../../src/workers/runner.ts";
import type { ItemResult, Task } from "../../src/workers/tasks.ts";

/** Tasks end in any order, each after a few turns. */
class FakeRunner implements TaskRunner {
  readonly width: number;
  readonly log: string[];
  underWay = 0;
  mostUnderWay = 0;
  private readonly failing: string | undefined;

  constructor(width: number, log: string[], failing?: string) {
    this.width = width;
    this.log = log;
    this.failing = failing;
  }

  async run(task: Task): Promise<ItemResult[]> {
    const name = nameOf(task);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    this.log.push(`begin ${name}`);
    for (let turns = (name.length * 7 + this.log.length * 5) % 11; turns > 0; turns--)
      await setImmediate();
    this.underWay--;
    this.log.push(`end ${name}`);
    if (name === this.failing) throw new StorageError(`${name} failed`);
    const [item] = task.items;
    assert.ok(item !== undefined);
    return [{ path: name as BytePath, plainDigest: `digest of ${name}` }];
  }

  async close(): Promise<void> {}
}

function nameOf(task: Task): string {
  const [first] = task.items;
  assert.ok(first !== undefined);
  const item = "item" in first ? first.item : first;
  assert.ok("to" in item);
  if (task.kind !== "read-back") return `${task.kind} ${item.to}`;
  assert.equal("plainDigest" in first && first.plainDigest, `digest of reseal ${item.to}`);
  return `read-back ${item.to}`;
}

/** @param goesOn - whether the next task writes to the same file. */
function writing(name: string, goesOn = false): Writing<string> {
  const path = name as BytePath;
  const item = { kind: "readable", path, from: path, to: path, sizeBytes: 1 } as const;
  return { task: { kind: "reseal", items: [item] }, context: name, goesOn };
}

const TASKS = [
  writing("a"),
  writing("b1", true),
  writing("b2", true),
  writing("b3"),
  ...["c", "d", "e", "f", "g", "h"].map((name) => writing(name)),
];

async function run(
  width: number,
  failing?: string,
): Promise<{ log: string[]; runner: FakeRunner; error: unknown }> {
  const log: string[] = [];
  const runner = new FakeRunner(width, log, failing);
  let error: unknown;
  try {
    await runWriting(runner, TASKS, {
      complete: async (_results, name) => void log.push(`complete ${name}`),
      take: (_results, name) => void log.push(`take ${name}`),
    });
  } catch (caught) {
    error = caught;
  }
  assert.equal(runner.underWay, 0, "a task was left under way");
  return { log, runner, error };
}

for (const width of [0, 1, 5]) {
  test(`with ${width} tasks at a time each file is written, completed, read back and taken in this order`, async () => {
    const { log, runner, error } = await run(width);
    assert.equal(error, undefined);
    const names = TASKS.map(({ context }) => context);
    const at = (what: string): number => {
      assert.equal(log.filter((line) => line === what).length, 1, what);
      return log.indexOf(what);
    };
    for (const name of names) {
      assert.ok(at(`end reseal ${name}`) < at(`complete ${name}`));
      assert.ok(at(`complete ${name}`) < at(`begin read-back ${name}`));
      assert.ok(at(`end read-back ${name}`) < at(`take ${name}`));
    }
    for (const [i, name] of names.entries()) {
      const next = names[i + 1];
      if (next === undefined) continue;
      assert.ok(at(`complete ${name}`) < at(`complete ${next}`));
      assert.ok(at(`take ${name}`) < at(`take ${next}`));
    }
    for (const range of ["b1", "b2"])
      assert.ok(at("complete b3") < at(`begin read-back ${range}`), range);
    assert.ok(runner.mostUnderWay <= 2 * (width + 1) + 3);
    if (width === 5) assert.ok(runner.mostUnderWay > 4);
  });

  test(`with ${width} tasks at a time nothing is taken of what fails, or of what comes after it`, async () => {
    for (const failing of ["read-back a", "read-back b2", "read-back d", "reseal c", "reseal b1"]) {
      const { log, error } = await run(width, failing);
      assert.ok(error instanceof StorageError);
      assert.equal(error.message, `${failing} failed`);
      const names = TASKS.map(({ context }) => context);
      const failed = names.indexOf(failing.split(" ")[1] ?? "");
      for (const name of names.slice(failed)) assert.ok(!log.includes(`take ${name}`), name);
    }
  });
}
