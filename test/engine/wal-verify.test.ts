/**
 * `tde wal verify` on archives of real WAL: what is whole passes, and each way to be not whole is named.
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { containerHeaderOf, sealBytes } from "../../src/datadir/sealed-file.ts";
import { archiveWal } from "../../src/engine/wal-archive/archive-wal.ts";
import { restoreWal } from "../../src/engine/wal-archive/restore-wal.ts";
import { rotateArchive } from "../../src/engine/wal-archive/rotate-archive.ts";
import {
  type VerifiedArchive,
  verifyArchive,
} from "../../src/engine/wal-archive/verify-archive.ts";
import { IntegrityError } from "../../src/errors.ts";
import { fileContext } from "../../src/format/container.ts";
import type { DataKeys } from "../../src/keyring/data-keys.ts";
import { NodeFileSystem } from "../../src/storage/node-file-system.ts";
import { testKeys } from "../support/keys.ts";
import { makeSmallCluster, SmallEngine } from "../support/small-cluster.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { SMALL_SET_MAJORS, unpackSmallSet } from "../support/waldump-cases.ts";

const fs = new NodeFileSystem();
/** Of the promoted standby: the last segment of timeline 1 ends where it was promoted. */
const [FIRST, SECOND, LAST_OF_1, OF_2] = [
  "000000010000000300000009",
  "00000001000000030000000A",
  "00000001000000030000000B",
  "00000002000000030000000B",
] as const;
const HISTORY = "00000002.history";

interface Site {
  /** Plain. */
  readonly source: string;
  readonly archive: string;
}

async function put(site: Site, from: string, name: string, keys = testKeys(2)): Promise<void> {
  const source = bytePath(from);
  const destination = bytePath(join(site.archive, name));
  await archiveWal(
    { fs, keys, joins: () => undefined },
    { source, destination, compression: "gzip" },
  );
}

/** An archive as the standby's server would have made it after its promotion. */
async function promotedArchive(
  t: TestContext,
  major: (typeof SMALL_SET_MAJORS)[number] = 17,
): Promise<Site> {
  const folder = temporaryDirectory(t);
  unpackSmallSet(major, folder);
  const site = { source: join(folder, "tl2"), archive: join(folder, "archive") };
  mkdirSync(site.archive);
  renameSync(join(site.source, LAST_OF_1), join(site.source, `${LAST_OF_1}.partial`));
  for (const name of [FIRST, SECOND, `${LAST_OF_1}.partial`, HISTORY]) {
    await put(site, join(site.source, name), name);
  }
  return site;
}

async function verify(
  site: Site,
  options: { allowPlain?: boolean; keys?: DataKeys } = {},
): Promise<VerifiedArchive> {
  const { allowPlain = false, keys = testKeys(2) } = options;
  const archive = bytePath(site.archive);
  return await verifyArchive({ fs, keys, signal: undefined }, { archive, allowPlain });
}

function kindsOf({ problems }: VerifiedArchive): string[] {
  return problems.map(({ kind, name }) => `${kind} ${name}`);
}

for (const major of SMALL_SET_MAJORS) {
  test(`an archive of ${major} with a switch of timelines is verified, record by record`, async (t) => {
    const site = await promotedArchive(t, major);
    const report = await verify(site);
    assert.deepEqual(report.problems, []);
    assert.ok(report.ok);
    assert.ok(report.records > 100);
    assert.deepEqual(report.files, {
      segments: 2,
      partial: 1,
      histories: 1,
      backups: 0,
      plain: 0,
      spare: 0,
      others: 0,
    });
    const [{ recordsTo, ...timeline } = assert.fail(), ...others] = report.timelines;
    assert.deepEqual(timeline, { timeline: 1, first: FIRST, last: SECOND, segments: 2 });
    // In the partial segment, where the standby was promoted.
    assert.match(recordsTo ?? "", /^3\/(00)?B[0-9A-F]{5}$/);
    assert.deepEqual(others, []);
    assert.equal(report.keys.get(2)?.pages, 4);
  });
}

test("missing segments are named: in a timeline, and between two", async (t) => {
  const site = await promotedArchive(t);
  await put(site, join(site.source, OF_2), OF_2);
  assert.deepEqual(kindsOf(await verify(site)), []);
  rmSync(join(site.archive, SECOND));
  assert.deepEqual(kindsOf(await verify(site)), [`gap ${SECOND}`]);
});

test("a timeline without its history, or with a damaged one, is named", async (t) => {
  const site = await promotedArchive(t);
  await put(site, join(site.source, OF_2), OF_2);
  rmSync(join(site.archive, HISTORY));
  assert.deepEqual(kindsOf(await verify(site)), [`history ${HISTORY}`]);
  // As it may have been archived before tde was used.
  writeFileSync(join(site.archive, HISTORY), "2\t0/3000000\tfrom itself\n");
  assert.deepEqual(kindsOf(await verify(site, { allowPlain: true })), [`history ${HISTORY}`]);
});

test("a genuine segment with other records than its neighbours expect is named", async (t) => {
  const site = await promotedArchive(t);
  const bytes = readFileSync(join(site.source, SECOND));
  // One row that was written otherwise in another life of the cluster: checksums tell, tags do not.
  bytes[3000] = (bytes[3000] ?? 0) ^ 1;
  writeFileSync(join(site.source, SECOND), bytes);
  rmSync(join(site.archive, SECOND));
  await put(site, join(site.source, SECOND), SECOND);
  const { problems } = await verify(site);
  assert.deepEqual(
    problems.map(({ kind, name }) => [kind, name]),
    [["chain", SECOND]],
  );
  assert.match(
    problems[0]?.message ?? "",
    /^after the record at 3\/A[0-9A-F]+: incorrect resource manager data checksum/,
  );
});

test("a damaged, a renamed and a plain file are told apart", async (t) => {
  const site = await promotedArchive(t);
  const damaged = readFileSync(join(site.archive, FIRST));
  damaged[damaged.length - 20] = (damaged.at(-20) ?? 0) ^ 1;
  writeFileSync(join(site.archive, FIRST), damaged);
  copyFileSync(join(site.archive, SECOND), join(site.archive, LAST_OF_1));
  copyFileSync(join(site.source, OF_2), join(site.archive, OF_2));
  const { problems, files } = await verify(site);
  assert.equal(files.plain, 1);
  assert.deepEqual(
    problems
      .filter(({ kind }) => kind !== "chain")
      .map(({ kind, name, message }) => [
        kind,
        name,
        /failed|another file|not encrypted/.exec(message)?.[0],
      ]),
    [
      ["tag", FIRST, "failed"],
      ["tag", LAST_OF_1, "another file"],
      ["plain", OF_2, "not encrypted"],
    ],
  );
});

test("a segment of an encrypted data directory in an archive is named, as it is refused when it is restored", async (t) => {
  const site = await promotedArchive(t);
  const source = bytePath(join(site.archive, FIRST));
  const { systemIdentifier } = containerHeaderOf(fs, source) ?? assert.fail();
  const context = fileContext(`pg_wal/${FIRST}`);
  rmSync(source);
  const file = fs.create(source, 0o600);
  const content = readFileSync(join(site.source, FIRST));
  sealBytes(content, file, { keys: testKeys(2), systemIdentifier, context });
  file.close();
  const { problems } = await verify(site);
  assert.deepEqual(
    problems.filter(({ kind }) => kind !== "chain").map(({ kind, name }) => `${kind} ${name}`),
    [`tag ${FIRST}`],
  );
  const target = bytePath(join(site.source, "RECOVERYXLOG"));
  const error = await restoreWal(fs, testKeys(2), { source, target, allowPlain: false }).catch(
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof IntegrityError);
  // One rule, and so one sentence.
  assert.equal(error.message, problems[0]?.message);
});

test("the pg_wal of a data directory that was encrypted with --wal=sealed is verified where it stands, link or not", async (t) => {
  const datadir = makeSmallCluster();
  const folder = temporaryDirectory(t);
  unpackSmallSet(17, folder);
  for (const name of readdirSync(join(datadir, "pg_wal"))) {
    if (/^[0-9A-F]{24}$/.test(name)) rmSync(join(datadir, "pg_wal", name));
  }
  const segment = readFileSync(join(folder, "tl2", FIRST));
  readFileSync(join(datadir, "global/pg_control")).copy(segment, 24, 0, 8);
  writeFileSync(join(datadir, "pg_wal", FIRST), segment, { mode: 0o600 });
  await new SmallEngine({ keys: testKeys(2) }).encrypt(datadir, { wal: "sealed" });
  const pgWal = join(datadir, "pg_wal");
  assert.deepEqual(kindsOf(await verify({ source: "", archive: pgWal })), []);
  renameSync(pgWal, join(folder, "elsewhere"));
  symlinkSync(join(folder, "elsewhere"), pgWal);
  assert.deepEqual(kindsOf(await verify({ source: "", archive: pgWal })), []);
  // Nothing says there that it is a data directory's, but what its files were sealed as.
  const copy = { source: "", archive: join(folder, "elsewhere") };
  assert.deepEqual(kindsOf(await verify(copy)), []);
  const archived = await promotedArchive(t);
  renameSync(join(archived.archive, SECOND), join(copy.archive, SECOND));
  const { problems } = await verify(copy);
  assert.match(
    problems.find(({ name }) => name === FIRST)?.message ?? "",
    /holds another file: it is "datadir:pg_wal/,
  );
});

test("plain files that are allowed are counted, and checked as far as they can be", async (t) => {
  const site = await promotedArchive(t);
  copyFileSync(join(site.source, FIRST), join(site.archive, FIRST));
  assert.deepEqual(kindsOf(await verify(site)), [`plain ${FIRST}`]);
  const allowed = await verify(site, { allowPlain: true });
  assert.ok(allowed.ok);
  assert.equal(allowed.files.plain, 1);
});

test("a file that was sealed for another cluster is named", async (t) => {
  const site = await promotedArchive(t, 17);
  const other = await promotedArchive(t, 18);
  copyFileSync(join(other.archive, FIRST), join(site.archive, FIRST));
  assert.deepEqual(kindsOf(await verify(site)), [`cluster ${FIRST}`]);
});

test("re-keying leaves the content as it is, and only files that are not under the current key are written", async (t) => {
  const site = await promotedArchive(t);
  const keys = testKeys(3);
  await put(site, join(site.source, OF_2), OF_2, keys);
  const archive = bytePath(site.archive);
  const context = { fs, keys, signal: undefined };
  const dry = await rotateArchive(context, { archive, fromKey: undefined, dryRun: true });
  assert.deepEqual([dry.outcome, dry.files], ["dry-run", 4]);
  const before = readdirSync(site.archive).map((name) => name);
  const { outcome, files, load } = await rotateArchive(context, {
    archive,
    fromKey: 2,
    dryRun: false,
  });
  assert.deepEqual([outcome, files, [...load.keys()]], ["rotated", 4, [3]]);
  assert.deepEqual(readdirSync(site.archive), before);
  assert.deepEqual(kindsOf(await verify(site, { keys })), []);
  // Without key 2 nothing would open that is still under it.
  const onlyKey3 = testKeys(3, {}, { 1: "destroyed", 2: "destroyed" });
  assert.equal((await verify(site, { keys: onlyKey3 })).keys.get(3)?.pages, 5);
  const again = await rotateArchive(context, { archive, fromKey: undefined, dryRun: false });
  assert.equal(again.outcome, "nothing-to-do");
});
