/**
 * Files that were made odd by whoever can write to the directory: as large as the file system allows, of another type,
 * or such that the system refuses to read them. Each is a problem of its own; it neither keeps verify from all others nor
 * makes any command read more than there ought to be.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath, type BytePath } from "../../src/bytes/byte-path.ts";
import { WitnessedFiles } from "../../src/catalog/witnessed-files.ts";
import { openDatadir } from "../../src/datadir/datadir.ts";
import type { DirectoryMemory } from "../../src/engine/context.ts";
import { manifestSource } from "../../src/engine/open-manifest.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { StorageError, TdeError } from "../../src/errors.ts";
import { openManifest } from "../../src/format/manifest.ts";
import type { DirectoryEntry, FileStat, OpenFile } from "../../src/storage/file-system.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { CountingFileSystem, DelegatingFileSystem } from "../support/delegating-file-system.ts";
import { testKeys } from "../support/keys.ts";
import {
  copyOf,
  makeSmallCluster,
  ORDINARY,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { addSegments } from "../support/small-wal.ts";
import { Stopped, StoppingFileSystem } from "../support/stopping-file-system.ts";

/** One of each class, with what is wrong in the eyes of verify where it is the sidecar of another. */
let SEGMENT = "";
let plain = "";
let encrypted = "";
let clean: VerifyReport;
let bytesOfClean = 0;

before(async () => {
  const datadir = makeSmallCluster();
  const { paths } = addSegments(datadir);
  SEGMENT = paths[0] ?? "";
  plain = copyOf(datadir);
  await new SmallEngine().encrypt(datadir, { wal: "readable" });
  encrypted = datadir;
  const fs = new CountingFileSystem();
  clean = await new SmallEngine({ fs }).verify(datadir);
  assert.deepEqual(clean.problems, []);
  bytesOfClean = fs.bytesRead;
});

/** Path, and the one that the problem names. */
function targets(): readonly (readonly [path: string, named: string])[] {
  return [
    [ORDINARY, ORDINARY],
    [`${ORDINARY}_tde`, ORDINARY],
    [SEGMENT, SEGMENT],
    [`${SEGMENT}_tde`, SEGMENT],
    [WAL_FILE, WAL_FILE],
    ["pg_hba.conf", "pg_hba.conf"],
    ["pg_xact/0000", "pg_xact/0000"],
    ["PG_VERSION", "PG_VERSION"],
    ["global/pg_control", "global/pg_control"],
    ["postgresql.auto.conf", "postgresql.auto.conf"],
    ["tde.postgresql.auto.conf", "tde.postgresql.auto.conf"],
    ["tde.manifest", "tde.manifest"],
  ];
}

const HUGE_BYTES = 2 ** 40;

const ODDITIES: Readonly<Record<string, (path: string) => void>> = {
  "as large as can be": (path) => truncateSync(path, HUGE_BYTES),
  "a directory": (path) => replace(path, () => mkdirSync(path)),
  "a directory with a file": (path) =>
    replace(path, () => {
      mkdirSync(path);
      writeFileSync(join(path, "x"), "");
    }),
  "a link to nowhere": (path) => replace(path, () => symlinkSync("/nonexistent/x", path)),
  "a link to a device": (path) => replace(path, () => symlinkSync("/dev/zero", path)),
  "a link to itself": (path) => replace(path, () => symlinkSync(path, path)),
  "a pipe": (path) => replace(path, () => execFileSync("mkfifo", [path])),
};

function replace(path: string, make: () => void): void {
  rmSync(path);
  make();
}

for (const [oddity, make] of Object.entries(ODDITIES)) {
  test(`a file that is ${oddity} is a problem of its own, and no other file is passed over for it`, async () => {
    for (const [path, named] of targets()) {
      const datadir = copyOf(encrypted);
      make(join(datadir, path));
      const fs = new CountingFileSystem();
      const report = await new SmallEngine({ fs }).verify(datadir);
      assertNamed(report, named, `${path}: ${oddity}`);
      assert.ok(fs.bytesRead <= bytesOfClean + 2 ** 20, `${path}: ${fs.bytesRead} bytes were read`);
      // Without a key, too.
      const withoutKey = await new SmallEngine().verifyWithoutKey(datadir);
      assertNamed(withoutKey, named, `${path}: ${oddity}, without a key`);
    }
  });
}

/** Refuses every look at one path, or at the content of it. */
class RefusingFileSystem extends DelegatingFileSystem {
  readonly #refused: BytePath;
  readonly #how: "open" | "stat" | "read" | "list";

  constructor(refused: string, how: "open" | "stat" | "read" | "list") {
    super();
    this.#refused = bytePath(refused);
    this.#how = how;
  }

  #refuse(path: BytePath, how: "open" | "stat" | "read" | "list"): void {
    if (path !== this.#refused || how !== this.#how) return;
    throw new StorageError(`could not ${how} "${path}"`, { errno: "EIO" });
  }

  override open(path: BytePath): OpenFile {
    this.#refuse(path, "open");
    return super.open(path);
  }

  override stat(path: BytePath): FileStat | undefined {
    this.#refuse(path, "stat");
    return super.stat(path);
  }

  override readDirectory(path: BytePath): DirectoryEntry[] {
    this.#refuse(path, "list");
    return super.readDirectory(path);
  }

  protected override opened(file: OpenFile): OpenFile {
    return {
      path: file.path,
      read: (...a) => {
        this.#refuse(file.path, "read");
        return file.read(...a);
      },
      write: (...a) => file.write(...a),
      truncate: (size) => file.truncate(size),
      stat: () => file.stat(),
      attributes: () => file.attributes(),
      setAttributes: (attributes) => file.setAttributes(attributes),
      sync: () => file.sync(),
      close: () => file.close(),
    };
  }
}

for (const how of ["open", "stat", "read"] as const) {
  test(`a file that the system refuses to ${how} is a problem of its own, and no other file is passed over for it`, async () => {
    for (const [path, named] of targets()) {
      // What is asked of these first, it is asked for by every command: whether the directory is one.
      if (how === "stat" && ["tde.manifest"].includes(path)) continue;
      const fs = new RefusingFileSystem(join(encrypted, path), how);
      const report = await new SmallEngine({ fs }).verify(encrypted);
      assertNamed(report, named, `${path}: ${how}`);
    }
  });
}

test("a folder that cannot be listed is a problem of its own, and what is in it is not said to be missing", async () => {
  for (const folder of ["base", "base/1", "pg_xact", "pg_wal"]) {
    const fs = new RefusingFileSystem(join(encrypted, folder), "list");
    const { problems, ok } = await new SmallEngine({ fs }).verify(encrypted);
    assert.ok(!ok);
    assert.deepEqual(
      problems.map(({ kind, path }) => `${kind} ${path}`),
      [`unreadable ${folder}`],
    );
  }
});

test("no command reads of a file what it cannot have, before it refuses the directory", async () => {
  const changes = [
    [ORDINARY, /bytes where the manifest says/],
    [`${ORDINARY}_tde`, /the sidecar has 1099511627776 bytes/],
    [SEGMENT, /bytes where the manifest says|not a whole WAL segment/],
    [`${SEGMENT}_tde`, /more than the 67108864/],
    [WAL_FILE, /bytes where the manifest says/],
    ["pg_hba.conf", /bytes where the manifest says/],
  ] as const;
  for (const [path, message] of changes) {
    const datadir = copyOf(encrypted);
    truncateSync(join(datadir, path), HUGE_BYTES);
    const source = copyOf(plain);
    const commands: ((engine: SmallEngine) => Promise<unknown>)[] = [
      (engine) => engine.decrypt(datadir),
      (engine) => engine.decrypt(datadir, { dryRun: true }),
      (engine) => engine.sync(source, datadir),
    ];
    // A rotation leaves plain files alone, and takes over what the manifest says of them.
    if (path !== "pg_hba.conf") commands.push((engine) => engine.rotate(datadir));
    for (const run of commands) {
      const fs = new CountingFileSystem();
      const error = await run(new SmallEngine({ fs })).catch((thrown: unknown) => thrown);
      if (!(error instanceof TdeError)) assert.fail(`${path}: ${String(error)}`);
      assert.match(error.message, message, path);
      assert.ok(fs.bytesRead <= 2 * bytesOfClean + 2 ** 20, `${path}: ${fs.bytesRead} bytes`);
    }
  }
});

test("configuration that is accepted as changed is read only as far as it can be one", async () => {
  for (const [path, exists] of [
    ["pg_hba.conf", true],
    ["conf.d/new.conf", false],
  ] as const) {
    const datadir = copyOf(encrypted);
    if (!exists) {
      mkdirSync(join(datadir, "conf.d"));
      writeFileSync(join(datadir, path), "");
    }
    const accepting = { acceptChanged: [bytePath(path)] };
    writeFileSync(join(datadir, path), "port = 1\n");
    assert.ok((await new SmallEngine().verify(datadir, accepting)).ok, path);
    truncateSync(join(datadir, path), HUGE_BYTES);
    const fs = new CountingFileSystem();
    const engine = new SmallEngine({ fs });
    const { problems } = await engine.verify(datadir, accepting);
    assert.deepEqual(
      problems.map((problem) => `${problem.kind} ${problem.path}`),
      [`size ${path}`],
    );
    await assert.rejects(engine.decrypt(datadir, accepting), /more than the 16777216/);
    assert.ok(fs.bytesRead <= 2 * bytesOfClean + 2 ** 20);
  }
});

test("names are not read from a file that is larger than a catalog's can be", () => {
  const datadir = makeSmallCluster();
  truncateSync(join(datadir, "global/1262"), 2 ** 31);
  const fs = new NodeFileSystem();
  const files = new WitnessedFiles(fs, openDatadir(fs, bytePath(datadir)));
  assert.throws(() => files.open(bytePath(join(datadir, "global/1262"))), {
    code: "integrity",
    message: /has 2147483648 bytes, more than the 1073741824 it can have/,
  });
});

test("one added file that pg_upgrade is known by does not end verify", async () => {
  const datadir = copyOf(encrypted);
  renameSync(join(datadir, "global/pg_control"), join(datadir, "global/pg_control.old"));
  const { problems } = await new SmallEngine().verify(datadir);
  assert.deepEqual(
    problems.map(({ kind, path }) => `${kind} ${path}`),
    ["missing global/pg_control", "extra global/pg_control.old"],
  );
});

test("a decryption that goes on reads of files what they can have, whatever was made of them meanwhile", async () => {
  const limits = { files: 3, bytes: 2 ** 20, largeFileBytes: 2 ** 20, rangeBytes: 2 ** 18 };
  const whole = new StoppingFileSystem();
  await new SmallEngine({ fs: whole, limits }).decrypt(copyOf(encrypted));
  const lastOpened = whole.log.findLastIndex(
    (what, i) => what === "rename" && whole.paths[i]?.endsWith(`/${WAL_FILE}`) === true,
  );
  const interrupted = async (): Promise<{ datadir: string; memory: DirectoryMemory }> => {
    const begun = new SmallEngine({ fs: new StoppingFileSystem(lastOpened + 2), limits });
    const datadir = copyOf(encrypted);
    await assert.rejects(begun.decrypt(datadir), Stopped);
    return { datadir, memory: begun.keyContext.memory };
  };
  const goOn = async (
    change: (datadir: string) => void = () => {},
  ): Promise<{ error: unknown; bytesRead: number }> => {
    const { datadir, memory } = await interrupted();
    change(datadir);
    const fs = new CountingFileSystem();
    const error: unknown = await new SmallEngine({ fs, memory, limits }).recover(datadir).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return { error, bytesRead: fs.bytesRead };
  };
  const usual = await goOn();
  assert.equal(usual.error, undefined);
  const most = usual.bytesRead + 2 ** 20;

  const withHole = await goOn((datadir) => truncateSync(join(datadir, "tde.tags"), HUGE_BYTES));
  assert.equal(withHole.error, undefined);
  assert.ok(withHole.bytesRead <= most, `${withHole.bytesRead} bytes`);
  const { datadir } = await interrupted();
  const source = manifestSource(new NodeFileSystem(), bytePath(datadir));
  const manifest = openManifest(source, testKeys(), "a manifest");
  const opened = [...manifest.entries()].filter(
    ({ path, sizeBytes }) =>
      sizeBytes > 0 &&
      existsSync(join(plain, path)) &&
      readFileSync(join(datadir, path)).equals(readFileSync(join(plain, path))),
  );
  for (const kind of ["P", "S"]) {
    const path = opened.find((entry) => entry.class === kind)?.path;
    assert.ok(path !== undefined, `no file of class ${kind} is plain`);
    const { error, bytesRead } = await goOn((changed) =>
      truncateSync(join(changed, path), HUGE_BYTES),
    );
    assert.ok(error instanceof TdeError, String(error));
    assert.match(error.message, /is neither the sealed file that|where the manifest says/);
    assert.ok(error.message.includes(path), error.message);
    assert.ok(bytesRead <= most, `${path}: ${bytesRead} bytes`);
  }
});

function assertNamed(report: VerifyReport, named: string, what: string): void {
  const { problems, ok, files } = report;
  assert.ok(!ok, what);
  const found = problems.map(({ path, kind, message }) => `${kind} ${path}: ${message}`).join("\n");
  assert.ok(
    problems.some(({ path }) => path === named || path === `${named}_tde`),
    `${what}: nothing is said of ${named}, but:\n${found}`,
  );
  const others = new Set(problems.map(({ path }) => path.replace(/_tde$/, "")));
  // What a directory in its place holds is a problem, too.
  for (const path of others) assert.ok(path.startsWith(named), `${what}: ${found}`);
  if (named !== "tde.manifest") assert.ok(files >= clean.files - 1, `${what}: ${files} files`);
}
