/**
 * Names rest on the catalog's files, and those on the manifest: whoever puts older ones back, or forges those that
 * have no tags, must not lead a command to other files than the name means. Each attack here goes unseen by the
 * pages' tags.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { NOTHING_SELECTED, type ScopeSelection } from "../../src/engine/scope-request.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { TdeError } from "../../src/errors.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { makeSmallCatalogCluster } from "../support/fixture-catalog.ts";
import { edit, flipBit, sidecarOf } from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
import { BLOCK_SIZE, copyOf, SmallEngine } from "../support/small-cluster.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const PG_CLASS = "base/1/1259";
/** By the relfilenumber that initdb gives; its indexes are not in the small cluster. */
const PG_TYPE = "base/1/1247";
const TYPES = named("template1.pg_catalog.pg_type");
const MAP = "base/1/pg_filenode.map";

const NORMAL_POINTER = 1;
const FIRST_NORMAL_XID = 3;
/** HEAP_XMIN_COMMITTED and HEAP_XMIN_INVALID, together HEAP_XMIN_FROZEN */
const XMIN_HINTS = 0x0300;

let encrypted = "";
/** Where only pg_type is sealed: the catalogs are plain, and held by their content. */
let partly = "";

before(async () => {
  encrypted = makeSmallCatalogCluster();
  forgetHints(join(encrypted, PG_CLASS));
  partly = copyOf(encrypted);
  await new SmallEngine().encrypt(encrypted);
  await new SmallEngine().encrypt(partly, { scope: named(PG_TYPE) });
});

/** By name or path. */
function named(relation: string): ScopeSelection {
  return { ...NOTHING_SELECTED, relations: [bytePath(relation)] };
}

/** Rows whose transactions pg_xact alone can tell about, as before anybody has read them. */
function forgetHints(path: string): void {
  edit(path, (bytes) => {
    for (let block = 0; block * BLOCK_SIZE < bytes.length; block++) {
      const page = bytes.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
      for (let at = 24; at < page.readUInt16LE(12); at += 4) {
        const pointer = page.readUInt32LE(at);
        if (((pointer >>> 15) & 3) !== NORMAL_POINTER) continue;
        const tuple = pointer & 0x7fff;
        page.writeUInt32LE(FIRST_NORMAL_XID, tuple);
        page.writeUInt16LE(page.readUInt16LE(tuple + 20) & ~XMIN_HINTS, tuple + 20);
      }
      page.writeUInt16LE(pageChecksum(page, block), 8);
    }
  });
}

function keyOf(datadir: string, path: string): number {
  return readFileSync(sidecarOf(join(datadir, path))).readUInt32LE(24 + 4);
}

test("with the catalog that the manifest names, a name leads rotate and verify to its files", async () => {
  for (const master of [encrypted, partly]) {
    const datadir = copyOf(master);
    const engine = new SmallEngine({ keys: testKeys(2) });
    await engine.rotate(datadir, { kind: "relations", named: TYPES });
    assert.equal(keyOf(datadir, PG_TYPE), 2);
    assert.deepEqual((await engine.verify(datadir, { scope: TYPES })).problems, []);
  }
});

interface Attack {
  readonly what: string;
  readonly on: () => string;
  readonly change: (datadir: string) => Promise<void> | void;
  readonly message: RegExp;
}

const ATTACKS: readonly Attack[] = [
  {
    what: "an older pg_class that came back with its older sidecar",
    on: () => encrypted,
    change: async (datadir) => {
      const older = copyOf(datadir);
      await new SmallEngine().rotate(datadir, { kind: "relations", named: named(PG_CLASS) });
      for (const file of [PG_CLASS, sidecarOf(PG_CLASS)])
        copyFileSync(join(older, file), join(datadir, file));
    },
    message: /"base\/1\/1259": it is another than the manifest names/,
  },
  {
    what: "a pg_class out of scope whose content is another, with right checksums",
    on: () => partly,
    change: (datadir) =>
      edit(join(datadir, PG_CLASS), (bytes) => {
        const page = bytes.subarray(0, BLOCK_SIZE);
        page.writeUInt16LE(page.readUInt16LE(12) - 4, 12);
        page.writeUInt16LE(pageChecksum(page, 0), 8);
      }),
    message: /"base\/1\/1259": its content was changed/,
  },
  {
    what: "a forged pg_filenode.map, whose CRC is right",
    on: () => encrypted,
    change: (datadir) =>
      edit(join(datadir, MAP), (bytes) => {
        const [first, second] = [bytes.readUInt32LE(8 + 4), bytes.readUInt32LE(16 + 4)];
        bytes.writeUInt32LE(second, 8 + 4);
        bytes.writeUInt32LE(first, 16 + 4);
        bytes.writeUInt32LE(crc32c(bytes, 0, bytes.length - 4), bytes.length - 4);
      }),
    message: /"base\/1\/pg_filenode.map": its content was changed/,
  },
  {
    what: "a pg_filenode.map that is gone",
    on: () => partly,
    change: (datadir) => rmSync(join(datadir, MAP)),
    message: /"base\/1\/pg_filenode.map": it is missing/,
  },
  {
    what: "a forged bit of pg_xact, by which other rows are taken for committed",
    on: () => encrypted,
    change: (datadir) => flipBit(join(datadir, "pg_xact/0000"), 1600),
    message: /"pg_xact\/0000": its content was changed/,
  },
  {
    what: "a forged pg_control, whose CRC is right",
    on: () => encrypted,
    change: (datadir) =>
      edit(join(datadir, "global/pg_control"), (bytes) => {
        bytes.writeUInt32LE(bytes.readUInt32LE(64) + 1, 64);
        bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
      }),
    message: /pg_control": it was changed|pg_control was changed since/,
  },
];

for (const { what, on, change, message } of ATTACKS) {
  test(`${what}: a name is refused, and nothing is changed`, async () => {
    const datadir = copyOf(on());
    await change(datadir);
    const before = treeOf(datadir);
    const small = new SmallEngine({ keys: testKeys(2) });
    const writing = [
      () => small.rotate(datadir, { kind: "relations", named: TYPES }),
      () => small.encrypt(datadir, { scope: TYPES }),
    ];
    const verify = (): Promise<VerifyReport> => small.verify(datadir, { scope: TYPES });
    // Verifying goes by the manifest's copy of pg_control, which is authentic.
    const isOfControl = what.includes("pg_control");
    if (isOfControl) assert.deepEqual((await verify()).problems, []);
    const commands = isOfControl ? writing : [...writing, verify];
    for (const command of commands) {
      await assert.rejects(command, (error) => {
        assert.ok(error instanceof TdeError);
        assert.match(error.message, message);
        // Commands that write look at pg_control before any name.
        assert.ok(error.code === "integrity" || isOfControl);
        return true;
      });
    }
    assertSameTree(treeOf(datadir), before);
  });
}
