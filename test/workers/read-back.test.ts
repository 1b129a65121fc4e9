/**
 * Reading back what writing tasks wrote: in whole operations on a disk in memory, each new file of each kind is damaged
 * in many ways before it is read back. Nothing of it goes unnoticed, and what is as it was written passes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { encryptIntoOutput } from "../../src/engine/encrypt-output.ts";
import type { OutputOptions } from "../../src/engine/output-directory.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { decryptWal } from "../../src/engine/wal-readable/decrypt-wal.ts";
import { rotateWal } from "../../src/engine/wal-readable/rotate-wal.ts";
import { StorageError } from "../../src/errors.ts";
import { readExactly, readWholeFile, writeAll } from "../../src/storage/file-io.ts";
import { slotsPerPage } from "../../src/format/sidecar-page.ts";
import { readSlotFields, SLOT_BYTES } from "../../src/format/slot.ts";
import { PAGE_HEADER_BYTES } from "../../src/postgres/page.ts";
import { InlineRunner } from "../../src/workers/inline-runner.ts";
import type { Item, ItemResult, PatchItem, Task, WritingTask } from "../../src/workers/tasks.ts";
import { crashCluster, ROOT, TABLESPACE } from "../support/crash-cluster.ts";
import { CrashDisk } from "../support/crash-disk.ts";
import { beforeWork, nightOfWork } from "../support/crash-source.ts";
import { slotAt } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { crossing } from "../support/wal-folders.ts";

const LIMITS = { files: 5, bytes: 2 ** 20, largeFileBytes: 2 ** 20, rangeBytes: 2 ** 18 };
const BLOCK = 8192;
const PER_PAGE = slotsPerPage(BLOCK);

/** @param start - of the part that is read back, and `end`. */
type Damage = (content: Buffer, start: number, end: number) => Buffer;

const DAMAGES: Readonly<Record<string, Damage>> = {
  "its first bit": (content, start) => flipped(content, start),
  "a bit of a page header": (content, start, end) => flipped(content, Math.min(start + 3, end - 1)),
  "a bit of a body": (content, start, end) => flipped(content, Math.min(start + 100, end - 1)),
  "a bit in its middle": (content, start, end) => flipped(content, (start + end) >> 1),
  "its last bit": (content, _start, end) => flipped(content, end - 1),
  "a byte less": (content) => content.subarray(0, -1),
  "a byte more": (content) => Buffer.concat([content, Buffer.alloc(1)]),
  "a page more": (content) => Buffer.concat([content, content.subarray(0, BLOCK)]),
  "zeros at its end": (content, start, end) => {
    const copy = Buffer.from(content);
    return copy.fill(0, Math.max(start, end - BLOCK), end);
  },
  nothing: () => Buffer.alloc(0),
  "its first page twice": (content, start, end) => {
    const copy = Buffer.from(content);
    content.copy(copy, Math.min(end, start + BLOCK), start, Math.min(end, start + BLOCK));
    return copy.subarray(0, content.length);
  },
};

function flipped(content: Buffer, at: number): Buffer {
  const copy = Buffer.from(content);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

/** What an item has had written. */
function newFilesOf(written: WritingTask["kind"], item: Item): BytePath[] {
  switch (item.kind) {
    case "relation": {
      const { files, target = files } = item;
      return written === "open" ? [files.plain] : [target.sealed, target.sidecar];
    }
    case "wal": {
      assert.ok(item.target !== undefined);
      const { segment, sidecar } = item.target;
      return written === "open" ? [segment] : [segment, sidecar];
    }
    case "content":
      if (written === "open") return [item.plain];
      return [item.target ?? item.sealed];
    case "readable":
      return [item.to];
  }
}

/** The part of a new file that is read back with an item: all of it but for ranges. */
function partOf(item: Item, path: BytePath, sizeBytes: number): [start: number, end: number] {
  if (item.kind !== "relation" || item.range === undefined) return [0, sizeBytes];
  const { firstSlot, slotCount } = item.range;
  const { sidecar } = item.target ?? item.files;
  const perBlock = path === sidecar ? BLOCK / PER_PAGE : BLOCK;
  const end = Math.ceil(((firstSlot + slotCount) * perBlock) / BLOCK) * BLOCK;
  return [firstSlot * perBlock, Math.min(sizeBytes, end)];
}

/** Damages each new file in every way before it is read back, and then puts it right. */
class DamagingRunner extends InlineRunner {
  readonly limits = LIMITS;
  /** How often damage was noticed, by what was read back. */
  readonly noticed: Map<string, number>;
  private readonly disk: CrashDisk;
  private readonly epoch: bigint;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    disk: CrashDisk,
    noticed: Map<string, number>,
    ...[context, onBytes]: Parameters<SmallEngine["engine"]["startRunner"]>
  ) {
    super(disk, context, onBytes);
    this.disk = disk;
    this.epoch = context.epoch;
    this.noticed = noticed;
  }

  /** One at a time: ranges of one file are read back at once. */
  override run(task: Task): Promise<ItemResult[]> {
    const result = this.last.then(() => this.runNext(task));
    this.last = result.catch(() => {});
    return result;
  }

  private async runNext(task: Task): Promise<ItemResult[]> {
    if (task.kind === "read-back") {
      for (const one of task.items) {
        const what = `${task.written} ${one.item.kind}`;
        for (const path of newFilesOf(task.written, one.item))
          await this.damage(what, path, one.item, { ...task, items: [one] });
      }
    }
    if (task.kind === "read-back-patches") {
      for (const item of task.items) await this.damagePatched(item);
    }
    return super.run(task);
  }

  private async damage(what: string, path: BytePath, item: Item, task: Task): Promise<void> {
    const content = readWholeFile(this.disk, path, 2 ** 24);
    const [start, end] = partOf(item, path, content.length);
    for (const [name, damage] of Object.entries(DAMAGES)) {
      const damaged =
        content.length === 0 && name !== "a byte more" ? content : damage(content, start, end);
      if (damaged.equals(content)) continue;
      await this.with(path, content, damaged, () =>
        assert.rejects(super.run(task), isNotAsWritten, `${what} ${path}: ${name}`),
      );
      this.noticed.set(what, (this.noticed.get(what) ?? 0) + 1);
    }
  }

  /**
   * Of a file that was written in place: any byte of a page of this run and of its slot, of slots beside it that stay as
   * they are, and of the rest of a sidecar page. The file's other pages are for the proof: engine/self-proof.test.ts.
   */
  private async damagePatched(item: PatchItem): Promise<void> {
    const { files, range, sizeAfterBytes } = item;
    const slots = Math.min(range.firstSlot + range.slotCount, Math.ceil(sizeAfterBytes / BLOCK));
    const sidecar = readWholeFile(this.disk, files.sidecar, 2 ** 24);
    const isNew = (slot: number): boolean =>
      readSlotFields(sidecar, slotAt(slot)).epoch === this.epoch;
    const inRange = numbers(range.firstSlot, slots);
    const written = inRange.filter(isNew);
    const sample = [0, written.length >> 1, written.length - 1].map((i) => written[i]);
    for (const slot of new Set(sample)) {
      if (slot === undefined) continue;
      const length = Math.min(BLOCK, sizeAfterBytes - slot * BLOCK);
      const page = numbers(0, length).filter(
        (at) => at < 32 || at % 501 === 0 || at === length - 1,
      );
      await this.damageBytes("a page", item, files.sealed, slot * BLOCK, page);
      await this.damageBytes("its slot", item, files.sidecar, slotAt(slot), numbers(0, SLOT_BYTES));
      const first = Math.floor(slot / PER_PAGE) * PER_PAGE;
      const beside = inRange.filter(
        (other) => other >= first && other < first + PER_PAGE && !isNew(other),
      );
      for (const other of [beside[0], beside.at(-1)]) {
        if (other === undefined) continue;
        const at = slotAt(other);
        await this.damageBytes("a slot beside it", item, files.sidecar, at, numbers(0, SLOT_BYTES));
      }
      const pageAt = (first / PER_PAGE) * BLOCK;
      const behindSlots = PAGE_HEADER_BYTES + PER_PAGE * SLOT_BYTES;
      const rest = [...numbers(0, PAGE_HEADER_BYTES), ...numbers(behindSlots, BLOCK)];
      await this.damageBytes("the rest of a sidecar page", item, files.sidecar, pageAt, rest);
    }
  }

  private async damageBytes(
    what: string,
    item: PatchItem,
    path: BytePath,
    position: number,
    offsets: readonly number[],
  ): Promise<void> {
    const task: Task = { kind: "read-back-patches", items: [item] };
    for (const offset of offsets) {
      const at = position + offset;
      const mask = 1 << (offset & 7);
      this.flip(path, at, mask);
      await assert.rejects(super.run(task), isNotAsWritten, `${what}: ${path} at ${at}`);
      this.flip(path, at, mask);
      this.noticed.set(what, (this.noticed.get(what) ?? 0) + 1);
    }
  }

  private flip(path: BytePath, at: number, mask: number): void {
    const file = this.disk.openForWriting(path);
    const byte = Buffer.alloc(1);
    readExactly(file, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ mask;
    writeAll(file, byte, 0, 1, at);
    file.close();
  }

  private async with(
    path: BytePath,
    content: Buffer,
    damaged: Buffer,
    action: () => Promise<void>,
  ): Promise<void> {
    put(this.disk, path, damaged);
    await action();
    put(this.disk, path, content);
  }
}

/** From the first to below the second. */
function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

function isNotAsWritten(error: unknown): true {
  assert.ok(error instanceof StorageError, String(error));
  assert.match(error.message, /does not read as it was written|ended at/);
  return true;
}

function put(disk: CrashDisk, path: BytePath, content: Buffer): void {
  const file = disk.openForWriting(path);
  file.truncate(0);
  if (content.length > 0) writeAll(file, content, 0, content.length, 0);
  file.sync();
  file.close();
}

function damaging(
  disk: CrashDisk,
  keyCount = 1,
): { small: SmallEngine; noticed: Map<string, number> } {
  const noticed = new Map<string, number>();
  const small = new SmallEngine({ fs: disk, keys: testKeys(keyCount) });
  const startRunner: SmallEngine["engine"]["startRunner"] = (...run) =>
    new DamagingRunner(disk, noticed, ...run);
  Object.assign(small.engine, { startRunner });
  return { small, noticed };
}

function assertNoticed(noticed: ReadonlyMap<string, number>, ...kinds: readonly string[]): void {
  assert.deepEqual([...noticed.keys()].toSorted(), kinds.toSorted());
  for (const [kind, count] of noticed) assert.ok(count >= 2, `${kind}: ${count}`);
}

test("whatever of new files of an encryption, rotation or decryption is damaged, it is noticed", async () => {
  const disk = crashCluster();
  const encryption = damaging(disk);
  await encryption.small.encrypt(ROOT, { wal: "readable" });
  assertNoticed(encryption.noticed, "seal relation", "seal content", "seal wal");
  const rotation = damaging(disk, 2);
  await rotation.small.rotate(ROOT);
  assertNoticed(rotation.noticed, "reseal relation", "reseal content", "reseal wal");
  const decryption = damaging(disk, 2);
  await decryption.small.decrypt(ROOT);
  assertNoticed(decryption.noticed, "open relation", "open content", "open wal");
});

test("so is what is damaged of a new directory, and of pages that a sync writes in place", async () => {
  const disk = crashCluster();
  const copy = "/srv/copy" as BytePath;
  const into = (output: string): OutputOptions => ({
    output: output as BytePath,
    tablespaceMapping: new Map([[TABLESPACE, `${output}_ts` as BytePath]]),
  });
  beforeWork(disk);
  const encryption = damaging(disk);
  const { engine, keyContext } = encryption.small;
  const options = encryption.small.encryptOptions(ROOT, { wal: "readable" });
  await encryptIntoOutput(engine, keyContext, options, into(copy));
  const sealed = ["seal content", "seal readable", "seal relation", "seal wal"];
  assertNoticed(encryption.noticed, ...sealed);
  nightOfWork(disk);
  const sync = damaging(disk);
  await sync.small.sync(ROOT, copy);
  const patches = ["a page", "its slot", "a slot beside it", "the rest of a sidecar page"];
  assertNoticed(sync.noticed, ...patches, ...sealed);
  const decryption = damaging(disk);
  await decryptIntoOutput(
    decryption.small.engine,
    keyContext,
    decryption.small.decryptOptions(copy),
    {
      output: "/srv/plain" as BytePath,
      tablespaceMapping: new Map([["/srv/copy_ts" as BytePath, "/srv/plain_ts" as BytePath]]),
    },
  );
  assertNoticed(decryption.noticed, "open content", "open readable", "open relation", "open wal");
});

test("so is what is damaged of segments in a folder of their own", async () => {
  const disk = new CrashDisk();
  const folder = "/wal" as BytePath;
  disk.makeDirectory(folder, 0o700);
  const writer = crossing();
  for (const [i, bytes] of writer.segments.entries()) {
    const file = disk.create(`${folder}/${writer.name(i)}` as BytePath, 0o600);
    writeAll(file, bytes, 0, bytes.length, 0);
    file.close();
  }
  const encryption = damaging(disk);
  await encryptWal(encryption.small.engine, testKeys(1), { folder });
  assertNoticed(encryption.noticed, "seal wal");
  const rotation = damaging(disk);
  const request = { archive: folder, fromKey: undefined, dryRun: false };
  await rotateWal(rotation.small.engine, testKeys(2), request);
  assertNoticed(rotation.noticed, "reseal wal");
  const decryption = damaging(disk);
  await decryptWal(decryption.small.engine, testKeys(2), { folder });
  assertNoticed(decryption.noticed, "open wal");
});
