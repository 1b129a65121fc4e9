/**
 * `tde waldump` of encrypted WAL wherever it comes from: folders read by several threads, tar archives, pipes and
 * compressed files print with the keys what the plain WAL prints; a missing or wrong key, a missing sidecar and damage
 * are told apart.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { create } from "tar";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { ChunkThreads } from "../../src/engine/waldump/chunk-threads.ts";
import type { WaldumpRequest } from "../../src/engine/waldump/request.ts";
import { openWaldump } from "../../src/engine/waldump/waldump.ts";
import { IntegrityError, KeyError } from "../../src/errors.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { encrypt, writeFolder } from "../support/wal-folders.ts";
import { message, SEGMENT, WalWriter } from "../support/written-wal.ts";

const fs = new NodeFileSystem();
const KEYS = testKeys(2);

interface Source {
  readonly path?: string | undefined;
  readonly segments?: readonly string[];
  readonly input?: AsyncIterable<Uint8Array>;
  readonly jobs?: number;
}

interface Dumped {
  readonly text: string;
  readonly notes: readonly string[];
  readonly threads: number;
}

const START = 5 * SEGMENT;

/** The WAL from its beginning on, for so many segments. */
async function dump(
  { path, segments = [], input, jobs = 1 }: Source,
  count: number,
  keys?: DataKeys,
): Promise<Dumped> {
  const places = {
    path: path === undefined ? undefined : bytePath(path),
    segments: segments.map(bytePath),
  };
  let threads = 0;
  const waldump = await openWaldump(fs, {
    ...places,
    pgdata: undefined,
    keys: async () => keys,
    standardInput: () => input ?? assert.fail(),
    startThreads: async (wanted, context, walKeys) => {
      threads = wanted;
      return new ChunkThreads(wanted, context, walKeys);
    },
  });
  const pieces: Buffer[] = [];
  const notes: string[] = [];
  const request: WaldumpRequest = {
    ...places,
    start: { high: 0, low: START },
    end: { high: 0, low: START + count * SEGMENT },
    timeline: 1,
    filter: {},
    limit: 0,
    follow: false,
    quiet: false,
    statistics: "none",
    details: true,
    json: false,
    saveImages: undefined,
    jobs,
    timeZone: { name: "", file: undefined },
  };
  try {
    await waldump.run(request, {
      stopped: () => false,
      note: (line) => notes.push(line),
      write: (bytes) => pieces.push(Buffer.from(bytes)) > 0,
    });
  } finally {
    await waldump.close();
  }
  return { text: Buffer.concat(pieces).toString("latin1"), notes, threads };
}

/** Segments that are full, with messages in each. */
function wal(count: number): WalWriter {
  const writer = new WalWriter(17);
  for (let i = 0; i < count; i++) {
    writer.append(message("prefix", Buffer.from(`what segment ${i} says`)));
    writer.fillTo(i === count - 1 ? 0 : 400);
    if (i < count - 1) writer.append(message("crossing", Buffer.alloc(900, "text ")));
  }
  return writer;
}

async function* bytes(...parts: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 100_000) yield part.subarray(at, at + 100_000);
  }
}

/** What three segments print, plain; and they in each form. */
interface Site {
  readonly plain: string;
  readonly stored: string;
  readonly sealed: string;
  readonly names: readonly string[];
  readonly expected: string;
}

async function siteOf(t: TestContext): Promise<Site> {
  const writer = wal(3);
  const names = writer.segments.map((_, i) => writer.name(i));
  const [plain, stored] = [writeFolder(t, writer), writeFolder(t, writer)];
  await encrypt(stored);
  const sealed = temporaryDirectory(t);
  for (const [i, name] of names.entries()) {
    const [source, destination] = [bytePath(join(plain, name)), bytePath(join(sealed, name))];
    const compression = i === 0 ? "none" : "gzip";
    await archiveWal(
      { fs, keys: KEYS, joins: () => undefined },
      { source, destination, compression },
    );
  }
  const { text } = await dump({ path: plain }, 3);
  return { plain, stored, sealed, names, expected: text };
}

function tarOf(folder: string, members: readonly string[], name = "wal.tar"): string {
  const tar = Buffer.concat([...create({ sync: true, cwd: folder }, [...members])]);
  const path = join(folder, name);
  writeFileSync(path, name.endsWith("gz") ? gzipSync(tar) : tar);
  return path;
}

const WRONG_KEYS = [testKeys(2, { fill: 7 }), testKeys(2, { keyringId: "00000000000000aa" })];

/** What a source of encrypted WAL gets: wrong keys are errors of their own, and so is none where nothing is readable. */
async function assertTold(
  source: () => Source,
  { isReadable, damaged }: { isReadable: boolean; damaged: () => Source },
): Promise<void> {
  for (const keys of WRONG_KEYS) await assert.rejects(dump(source(), 1, keys), KeyError);
  await assert.rejects(dump(damaged(), 1, KEYS), IntegrityError);
  if (isReadable) {
    const { text, notes } = await dump(source(), 1);
    assert.match(text, /desc: MESSAGE/);
    assert.ok(!text.includes("what segment"));
    assert.match(notes.join(), /the WAL is encrypted/);
  } else await assert.rejects(dump(source(), 1), /no keyring is named/);
}

function flipped(bytes_: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes_);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

test("a tar archive with sealed segments, or stored ones and their sidecars in any order, prints as before", async (t) => {
  const { stored, sealed, plain, names, expected } = await siteOf(t);
  const sidecars = names.map((name) => `${name}_tde`);
  const orders = [
    tarOf(sealed, names),
    tarOf(sealed, names.toReversed(), "reversed.tar.gz"),
    tarOf(
      stored,
      names.flatMap((name) => [name, `${name}_tde`]),
    ),
    tarOf(stored, [...sidecars, ...names], "before.tar"),
    tarOf(stored, [...names, ...sidecars.toReversed()], "behind.tgz"),
  ];
  for (const path of orders) assert.equal((await dump({ path }, 3, KEYS)).text, expected, path);
  const [first = "", second = "", third = ""] = names;
  const mixed = temporaryDirectory(t);
  copyFileSync(join(sealed, first), join(mixed, first));
  for (const name of [second, `${second}_tde`]) copyFileSync(join(stored, name), join(mixed, name));
  copyFileSync(join(plain, third), join(mixed, third));
  const path = tarOf(mixed, [third, `${second}_tde`, first, second]);
  assert.equal((await dump({ path }, 3, KEYS)).text, expected);
});

test("sealed segments through a pipe print as before, one behind the other, compressed or not", async (t) => {
  const { sealed, names, expected } = await siteOf(t);
  const contents = names.map((name) => readFileSync(join(sealed, name)));
  const run = (...parts: Buffer[]): Promise<Dumped> =>
    dump({ segments: ["-"], input: bytes(...parts) }, 3, KEYS);
  assert.equal((await run(...contents)).text, expected);
  assert.equal((await run(gzipSync(Buffer.concat(contents)))).text, expected);
});

test("of each kind of source a missing key, a wrong one and damage are told apart", async (t) => {
  const { stored, sealed, names } = await siteOf(t);
  const [name = ""] = names;
  const container = readFileSync(join(sealed, name));
  const pipe = (content: Buffer): Source => ({ segments: ["-"], input: bytes(content) });
  await assertTold(() => pipe(container), {
    isReadable: false,
    damaged: () => pipe(flipped(container, 50_000)),
  });
  const tars = temporaryDirectory(t);
  const tar = (folder: string, members: readonly string[], change: string): Source => {
    for (const member of members) {
      const content = readFileSync(join(folder, member));
      writeFileSync(join(tars, member), member === change ? flipped(content, 50_000) : content);
    }
    return { path: tarOf(tars, members) };
  };
  await assertTold(() => tar(sealed, [name], ""), {
    isReadable: false,
    damaged: () => tar(sealed, [name], name),
  });
  const both = [name, `${name}_tde`];
  await assertTold(() => tar(stored, both, ""), {
    isReadable: true,
    damaged: () => tar(stored, both, name),
  });
  // A folder; in a file that was compressed afterwards.
  const folder = temporaryDirectory(t);
  const zipped = (content: Buffer): Source => {
    writeFileSync(join(folder, `${name}.gz`), gzipSync(content));
    copyFileSync(join(stored, `${name}_tde`), join(folder, `${name}_tde`));
    return { path: folder, segments: [name] };
  };
  const segment = readFileSync(join(stored, name));
  await assertTold(() => zipped(segment), {
    isReadable: true,
    damaged: () => zipped(flipped(segment, 50_000)),
  });
});

test("a segment in readable mode without its sidecar prints its structure without keys, and with them says what is missing", async (t) => {
  const { stored, names } = await siteOf(t);
  const [name = ""] = names;
  const segment = readFileSync(join(stored, name));
  rmSync(join(stored, `${name}_tde`));
  const sources: (() => Source)[] = [
    () => ({ path: stored, segments: [name] }),
    () => ({ path: tarOf(stored, [name]) }),
    () => ({ segments: ["-"], input: bytes(segment) }),
  ];
  for (const source of sources) {
    const { text, notes } = await dump(source(), 1);
    assert.match(text, /desc: MESSAGE/);
    assert.match(notes.join(), /the WAL is encrypted/);
    await assert.rejects(
      dump(source(), 1, KEYS),
      (error) => error instanceof IntegrityError && /sidecar/.test(error.message),
    );
  }
});

test("several threads read segments in readable mode as one does, and tell a wrong key from damage", async (t) => {
  const count = 33;
  const writer = wal(count);
  const [plain, stored] = [writeFolder(t, writer), writeFolder(t, writer)];
  const { text } = await dump({ path: plain }, count);
  await encrypt(stored);
  const inThreads = await dump({ path: stored, jobs: 2 }, count, KEYS);
  assert.equal(inThreads.threads, 2);
  assert.ok(inThreads.text === text);
  for (const keys of WRONG_KEYS) {
    await assert.rejects(dump({ path: stored, jobs: 2 }, count, keys), KeyError);
  }
  const path = join(stored, writer.name(20));
  writeFileSync(path, flipped(readFileSync(path), 50_000));
  await assert.rejects(dump({ path: stored, jobs: 2 }, count, KEYS), IntegrityError);
});
