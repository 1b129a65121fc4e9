/**
 * `tde wal archive` and `tde wal restore`: what goes in comes out, nothing else gets in, and nothing that is there is
 * ever overwritten.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { type BytePath, bytePath } from "../../src/bytes/byte-path.ts";
import { compressed } from "../../src/compression/stream.ts";
import { compressesZstd } from "../../src/compression/zstd.ts";
import { SealedFileWriter } from "../../src/datadir/sealed-file.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import { StorageError } from "../../src/errors.ts";
import { type Compression, CONTAINER_HEADER, walContext } from "../../src/format/container.ts";
import type { OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { KEYRING_ID, testKeys } from "../support/keys.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { CLUSTER, MARKER, walSegment, walSegmentName } from "../support/wal-segment.ts";

const NAME = walSegmentName();

class Site {
  readonly wal: string;
  readonly archive: string;
  fs = new NodeFileSystem();
  keys = testKeys(2);
  readonly joined: string[] = [];

  constructor(t: TestContext) {
    const folder = temporaryDirectory(t);
    this.wal = join(folder, "data/pg_wal");
    this.archive = join(folder, "archive");
    mkdirSync(this.wal, { recursive: true });
    mkdirSync(join(folder, "data/global"));
    mkdirSync(this.archive);
  }

  put(name: string, content: Buffer | string): void {
    writeFileSync(join(this.wal, name), content);
  }

  async store(name: string, compression: Compression = "gzip", to = name): Promise<string> {
    const { outcome } = await archiveWal(
      { fs: this.fs, keys: this.keys, joins: (_, id) => void this.joined.push(id) },
      { source: this.path(this.wal, name), destination: this.path(this.archive, to), compression },
    );
    return outcome;
  }

  async fetch(name: string, allowPlain = false): Promise<string> {
    const target = this.path(this.wal, "RECOVERYXLOG");
    const source = this.path(this.archive, name);
    return await restoreWal(this.fs, this.keys, { source, target, allowPlain });
  }

  restored(): Buffer {
    return readFileSync(join(this.wal, "RECOVERYXLOG"));
  }

  archived(name = NAME): Buffer {
    return readFileSync(join(this.archive, name));
  }

  /** Of the archive: all but tde's own folder. */
  names(): string[] {
    return readdirSync(this.archive).filter((name) => name !== "tde.archive");
  }

  setCluster(systemIdentifier: bigint): void {
    const control = Buffer.alloc(8192);
    control.writeBigUInt64LE(systemIdentifier);
    writeFileSync(join(this.wal, "../global/pg_control"), control);
  }

  private path(folder: string, name: string): BytePath {
    return bytePath(join(folder, name));
  }
}

const METHODS: readonly Compression[] = [
  "none",
  "gzip",
  "lz4",
  ...(compressesZstd() ? (["zstd"] as const) : []),
];

for (const compression of METHODS) {
  test(`a segment comes back byte for byte, compression ${compression}`, async (t) => {
    const site = new Site(t);
    const segment = walSegment();
    site.put(NAME, segment);
    assert.equal(await site.store(NAME, compression), "archived");
    const stored = site.archived();
    assert.equal(stored.includes(MARKER), false);
    assert.equal(stored.length < segment.length, compression !== "none");
    assert.equal(await site.fetch(NAME), "restored");
    assert.deepEqual(site.restored(), segment);
    assert.deepEqual(readdirSync(site.wal).sort(), [NAME, "RECOVERYXLOG"]);
  });
}

test("histories, backup histories and partial segments come back, too", async (t) => {
  const site = new Site(t);
  const files: Record<string, Buffer> = {
    "00000002.history": Buffer.from("1\t0/3000000\tno recovery target specified\n"),
    [`${NAME}.00000028.backup`]: Buffer.from("START WAL LOCATION: 0/2000028\n"),
    [`${NAME}.partial`]: walSegment({ seed: 5 }),
  };
  for (const [name, content] of Object.entries(files)) {
    site.put(name, content);
    assert.equal(await site.store(name), "archived");
    assert.equal(await site.fetch(name), "restored");
    assert.deepEqual(site.restored(), content);
  }
});

test("the same content once more is success, other content an error that changes nothing", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  const before = site.archived();
  assert.equal(await site.store(NAME, "lz4"), "already-archived");
  site.put(NAME, walSegment({ seed: 2 }));
  await assert.rejects(site.store(NAME), { name: "StateError", message: /with other content/ });
  assert.deepEqual(site.archived(), before);
});

test("a file that is not sealed is never taken for the archived one, whatever it holds", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  writeFileSync(join(site.archive, NAME), walSegment());
  await assert.rejects(site.store(NAME), { name: "StateError", message: /is no sealed file/ });
  assert.deepEqual(site.archived(), walSegment());
});

const ODD: Readonly<Record<string, readonly [Buffer, string, RegExp]>> = {
  zeros: [Buffer.alloc(2 ** 20), "FormatError", /begins with zeros/],
  "a segment that is cut": [
    walSegment().subarray(0, 2 ** 19),
    "FormatError",
    /524288 bytes of 1048576/,
  ],
  "an empty file": [Buffer.alloc(0), "FormatError", /it has 0 bytes/],
  "a segment that has grown": [
    Buffer.concat([walSegment(), Buffer.alloc(1)]),
    "FormatError",
    /1048577/,
  ],
  "another segment": [walSegment({ number: 7 }), "IntegrityError", /begins at 0\/700000/],
  "a segment of a later timeline": [walSegment({ timeline: 2 }), "IntegrityError", /timeline 2/],
  text: [Buffer.alloc(2 ** 20, "no WAL "), "FormatError", /unknown magic/],
};

test("what is not a whole segment of this name is refused, and nothing gets into the archive", async (t) => {
  const site = new Site(t);
  for (const [what, [content, name, message]] of Object.entries(ODD)) {
    site.put(NAME, content);
    await assert.rejects(site.store(NAME), { name, message }, what);
  }
  site.put("postgresql.conf", "x");
  await assert.rejects(site.store("postgresql.conf"), { name: "UsageError" });
  site.put(NAME, walSegment());
  await assert.rejects(site.store(NAME, "none", walSegmentName({ number: 2 })), {
    name: "UsageError",
    message: /does not end with the file's own name/,
  });
  assert.deepEqual(readdirSync(site.archive), []);
});

test("an archive takes the WAL of one cluster only", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  const other = walSegmentName({ number: 2 });
  site.put(other, walSegment({ number: 2, systemIdentifier: 5n }));
  await assert.rejects(site.store(other), {
    name: "IntegrityError",
    message: `archive "${site.archive}" is of another cluster: its system identifier is ${CLUSTER}, not 5`,
  });
  assert.deepEqual(site.names(), [NAME]);
});

test("a segment that is not of the cluster in whose pg_wal it stands is refused, and not restored there", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  site.setCluster(5n);
  await assert.rejects(site.fetch(NAME), { name: "IntegrityError", message: /another cluster/ });
  rmSync(join(site.archive, NAME));
  await assert.rejects(site.store(NAME), { name: "IntegrityError", message: /another cluster/ });
  site.setCluster(CLUSTER);
  assert.equal(await site.store(NAME), "archived");
});

test("the keyring is told once of an archive, and again when another key is current", async (t) => {
  const site = new Site(t);
  for (const number of [1, 2]) {
    const name = walSegmentName({ number });
    site.put(name, walSegment({ number }));
    await site.store(name);
  }
  assert.equal(site.joined.length, 1);
  site.keys = testKeys(3);
  site.put(walSegmentName({ number: 3 }), walSegment({ number: 3 }));
  await site.store(walSegmentName({ number: 3 }));
  assert.deepEqual(site.joined, [site.joined[0], site.joined[0]]);
  assert.equal(await site.fetch(NAME), "restored");
});

/** Lets another archiver come first, or has no hard links. */
class OtherFileSystem extends NodeFileSystem {
  readonly #link: (link: () => void) => void;

  constructor(link: (link: () => void) => void) {
    super();
    this.#link = link;
  }

  override makeHardLink(file: BytePath, path: BytePath): void {
    if (path.endsWith(NAME)) this.#link(() => super.makeHardLink(file, path));
    else super.makeHardLink(file, path);
  }
}

test("of two archivers at one name the second finds the first one's file, and says what it is", async (t) => {
  for (const [seed, outcome] of [
    [1, "already-archived"],
    [2, "StateError"],
  ] as const) {
    const site = new Site(t);
    const first = new Site(t);
    first.put(NAME, walSegment({ seed }));
    await first.store(NAME);
    site.put(NAME, walSegment());
    site.fs = new OtherFileSystem((link) => {
      writeFileSync(join(site.archive, NAME), first.archived());
      link();
    });
    const told = await site.store(NAME).catch((error: Error) => error.name);
    assert.equal(told, outcome);
    assert.deepEqual(site.archived(), first.archived());
    assert.deepEqual(readdirSync(join(site.archive, "tde.archive")), ["identity"]);
  }
});

test("a file system without hard links takes files, too, and keeps what is there", async (t) => {
  const site = new Site(t);
  site.fs = new OtherFileSystem(() => {
    throw new StorageError("no links here", { errno: "EPERM" });
  });
  site.put(NAME, walSegment());
  assert.equal(await site.store(NAME), "archived");
  assert.equal(await site.store(NAME), "already-archived");
  assert.deepEqual(readdirSync(join(site.archive, "tde.archive")), ["identity"]);
});

test("what a killed archiver left goes after ten minutes, not before: it may be alive elsewhere", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  const folder = join(site.archive, "tde.archive");
  const old = join(folder, `${NAME}.00.new`);
  const young = join(folder, `${NAME}.01.new`);
  for (const path of [old, young]) writeFileSync(path, "half");
  utimesSync(old, Date.now() / 1000 - 700, Date.now() / 1000 - 700);
  await site.store(NAME);
  assert.deepEqual(readdirSync(folder).sort(), [`${NAME}.01.new`, "identity"]);
});

test("a missing file is told from a missing archive", async (t) => {
  const site = new Site(t);
  assert.equal(await site.fetch("00000002.history"), "missing");
  rmSync(site.archive, { recursive: true });
  await assert.rejects(site.fetch("00000002.history"), {
    name: "StateError",
    message: /does not exist/,
  });
});

async function lz4(bytes: Buffer): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of compressed("lz4", [bytes])) parts.push(Uint8Array.from(part));
  return Buffer.concat(parts);
}

/** What lies in an archive that was filled before tde was used, and what a server that asks for NAME gets of it. */
const PLAIN_FILES: Readonly<
  Record<
    string,
    readonly [file: string, content: () => Promise<Buffer> | Buffer, says: RegExp | "restored"]
  >
> = {
  "the segment": [NAME, () => walSegment(), "restored"],
  "the segment, compressed under its own name": [NAME, () => gzipSync(walSegment()), "restored"],
  "the segment with gzip's suffix": [`${NAME}.gz`, () => gzipSync(walSegment()), "restored"],
  "the segment with LZ4's suffix": [`${NAME}.lz4`, () => lz4(walSegment()), "restored"],
  "a segment that is cut": [
    NAME,
    () => walSegment().subarray(0, 100_000),
    /is not a whole WAL segment/,
  ],
  "a cut segment, compressed": [
    `${NAME}.gz`,
    () => gzipSync(walSegment().subarray(0, 100_000)),
    /is not a whole WAL segment/,
  ],
  "a compressed segment that is cut": [
    `${NAME}.gz`,
    () => gzipSync(walSegment()).subarray(0, -5000),
    /could not be decompressed: unexpected end of file/,
  ],
  noise: [NAME, () => randomBytes(2 ** 20), /is not a whole WAL segment/],
  nothing: [NAME, () => Buffer.alloc(0), /is not a whole WAL segment/],
  "another segment": [NAME, () => walSegment({ number: 7 }), /holds another segment/],
  "a segment of another cluster": [
    NAME,
    () => walSegment({ systemIdentifier: CLUSTER + 1n }),
    /is from another cluster/,
  ],
};

for (const [what, [file, content, says]] of Object.entries(PLAIN_FILES)) {
  test(`of a plain archive a server gets what it asked for or nothing: ${what}`, async (t) => {
    const site = new Site(t);
    site.setCluster(CLUSTER);
    writeFileSync(join(site.archive, file), await content());
    await assert.rejects(site.fetch(NAME), /is not encrypted/);
    if (says === "restored") {
      assert.equal(await site.fetch(NAME, true), "restored-plain");
      assert.deepEqual(site.restored(), walSegment());
    } else {
      await assert.rejects(site.fetch(NAME, true), says);
      assert.deepEqual(readdirSync(site.wal), []);
    }
  });
}

test("what is no history is neither archived nor restored as one", async (t) => {
  const site = new Site(t);
  const backup = `${NAME}.00000028.backup`;
  for (const [name, says] of [
    ["00000002.history", /is no timeline history/],
    [backup, /is no history of a backup/],
  ] as const) {
    site.put(name, "garbage\n");
    await assert.rejects(site.store(name), says);
    writeFileSync(join(site.archive, name), "garbage\n");
    await assert.rejects(site.fetch(name, true), says);
  }
});

test("a plain file is restored only where that is allowed", async (t) => {
  const site = new Site(t);
  writeFileSync(join(site.archive, NAME), walSegment());
  await assert.rejects(site.fetch(NAME), { name: "IntegrityError", message: /is not encrypted/ });
  assert.equal(existsSync(join(site.wal, "RECOVERYXLOG")), false);
  assert.equal(await site.fetch(NAME, true), "restored-plain");
  assert.deepEqual(site.restored(), walSegment());
});

test("a file that was renamed, cut, extended or flipped anywhere is not restored, and the target stays as it was", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME, "gzip");
  const good = site.archived();
  const other = walSegmentName({ number: 2 });
  writeFileSync(join(site.archive, other), good);
  site.put("RECOVERYXLOG", "before");
  await assert.rejects(site.fetch(other), {
    name: "IntegrityError",
    message: /holds another file/,
  });
  const spoilt: Buffer[] = [good.subarray(0, -1), Buffer.concat([good, Buffer.alloc(1)])];
  for (let at = 0; at < good.length; at += 1 + Math.floor(good.length / 200)) {
    const copy = Buffer.from(good);
    copy[at] = (copy[at] ?? 0) ^ 1;
    spoilt.push(copy);
  }
  for (const bytes of spoilt) {
    writeFileSync(join(site.archive, NAME), bytes);
    await assert.rejects(site.fetch(NAME), { name: /^(FormatError|KeyError|IntegrityError)$/ });
  }
  assert.deepEqual(site.restored(), Buffer.from("before"));
  assert.equal(existsSync(join(site.wal, "RECOVERYXLOG.tdenew")), false);
});

test("a keyring that lacks the key, or has another under its id, restores and archives nothing", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  for (const keys of [
    testKeys(1),
    testKeys(2, { fill: 9 }),
    testKeys(2, { keyringId: "00".repeat(8) }),
  ]) {
    site.keys = keys;
    await assert.rejects(site.fetch(NAME), { name: "KeyError" });
    site.put(walSegmentName({ number: 2 }), walSegment({ number: 2 }));
    await assert.rejects(site.store(walSegmentName({ number: 2 })), { name: "KeyError" });
  }
  assert.deepEqual(site.names(), [NAME]);
});

/** A container that a holder of the key made wrong. */
function sealWrong(site: Site, compressed: Buffer, contentSizeBytes: number): void {
  const path = bytePath(join(site.archive, NAME));
  site.fs.remove(path);
  const file = site.fs.create(path, 0o600);
  const writer = new SealedFileWriter(file, {
    keys: site.keys,
    systemIdentifier: CLUSTER,
    context: walContext(NAME),
    contentSizeBytes,
    compression: "gzip",
  });
  writer.take(compressed);
  writer.finish();
  file.close();
}

test("content that decompresses to more or less than its header says is refused", async (t) => {
  const site = new Site(t);
  const bomb = gzipSync(Buffer.alloc(2 ** 26));
  sealWrong(site, bomb, 2 ** 20);
  await assert.rejects(site.fetch(NAME), {
    name: "IntegrityError",
    message: /more content than the 1048576 bytes/,
  });
  sealWrong(site, gzipSync(Buffer.alloc(100)), 101);
  await assert.rejects(site.fetch(NAME), { name: "IntegrityError", message: /less content/ });
  sealWrong(site, gzipSync(Buffer.alloc(100)).subarray(0, -9), 100);
  await assert.rejects(site.fetch(NAME), {
    name: "IntegrityError",
    message: /does not decompress/,
  });
  sealWrong(site, bomb, 2 ** 31);
  await assert.rejects(site.fetch(NAME), {
    name: "IntegrityError",
    message: /names a content of 2147483648/,
  });
  assert.equal(existsSync(join(site.wal, "RECOVERYXLOG")), false);
});

test("the header of an archived file names method, size, cluster and the current key", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME, "lz4");
  const stored = site.archived();
  assert.equal(stored.readUInt8(CONTAINER_HEADER.compression), 3);
  assert.equal(stored.readBigUInt64LE(CONTAINER_HEADER.contentSize), 2n ** 20n);
  assert.equal(stored.readBigUInt64LE(CONTAINER_HEADER.systemIdentifier), CLUSTER);
  assert.equal(stored.readUInt32LE(CONTAINER_HEADER.keyId), 2);
  assert.equal(stored.toString("hex", CONTAINER_HEADER.keyringId, 24), KEYRING_ID);
});

test("a file that is in the archive already is synced before the server is told so", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  const fs = new StoppingFileSystem();
  const path = join(site.archive, NAME);
  const { outcome } = await archiveWal(
    { fs, keys: site.keys, joins: () => {} },
    {
      source: bytePath(join(site.wal, NAME)),
      destination: bytePath(path),
      compression: "gzip",
    },
  );
  assert.equal(outcome, "already-archived");
  // Its content, whoever wrote it may have been killed before; then its name.
  const done = fs.log.map((what, i) => `${what} ${fs.paths[i]}`);
  assert.deepEqual(done, [`sync ${path}`, `syncDirectory ${site.archive}`]);
});

test("a file in the archive that cannot be synced is not archived", async (t) => {
  const site = new Site(t);
  site.put(NAME, walSegment());
  await site.store(NAME);
  class FailingFileSystem extends NodeFileSystem {
    readonly #what: string;
    constructor(what: string) {
      super();
      this.#what = what;
    }
    override syncDirectory(path: BytePath): void {
      if (this.#what === "directory") throw new StorageError("could not sync directory");
      super.syncDirectory(path);
    }
    override open(path: BytePath): OpenFile {
      const file = super.open(path);
      if (this.#what !== "file") return file;
      return Object.assign(file, {
        sync(): void {
          throw new StorageError("could not sync");
        },
      });
    }
  }
  for (const what of ["file", "directory"]) {
    site.fs = new FailingFileSystem(what);
    await assert.rejects(site.store(NAME), StorageError, what);
  }
});
