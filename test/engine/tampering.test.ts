/**
 * What someone who can write to an encrypted directory, but has no key, may try: each is found by verify, which
 * names file and block, and decryption refuses it; where no page has to be read to know, before it writes anything.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { decryptIntoOutput } from "../../src/engine/decrypt-output.ts";
import { TdeError } from "../../src/errors.ts";
import type { ProblemKind } from "../../src/format/problem.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import {
  edit,
  flipBit,
  sidecarOf,
  slotAt,
  swapFiles,
  swapPages,
  swapSlots,
} from "../support/forger.ts";
import {
  BLOCK_SIZE,
  copyOf,
  LARGE,
  makeSmallCluster,
  ODD,
  ORDINARY,
  OTHER,
  SmallEngine,
  WAL_FILE,
} from "../support/small-cluster.ts";
import { assertSameTree, copyTree, treeOf } from "../support/tree.ts";

const small = new SmallEngine();
/** Encrypted with the same keys: this directory, the same once more, and another cluster of the same files. */
let plain = "";
let encrypted = "";
let encryptedAgain = "";
let otherCluster = "";

before(async () => {
  plain = makeSmallCluster();
  symlinkSync("/etc/hostname", join(plain, "server.log"));
  [encrypted, encryptedAgain, otherCluster] = [copyOf(plain), copyOf(plain), copyOf(plain)];
  edit(join(otherCluster, "global/pg_control"), (bytes) => {
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(0) + 1n, 0);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
  for (const datadir of [encrypted, encryptedAgain, otherCluster]) await small.encrypt(datadir);
});

type Found = readonly [kind: ProblemKind, path: string, block?: number];

interface Attack {
  readonly name: string;
  readonly act: (datadir: string) => void;
  /** Problems that verify must report, among others. */
  readonly found: readonly Found[];
  /** Only the tag of a page or chunk tells, so that decryption may have begun to write. */
  readonly onlyByTags?: boolean;
}

const EMPTY = "base/1/90002";
const LAST_FLAG = BLOCK_SIZE - 104 + 7;

const ATTACKS: readonly Attack[] = [
  {
    name: "two pages swapped with their slots",
    act: (datadir) => {
      swapPages(join(datadir, ORDINARY), 2, 5);
      swapSlots(join(datadir, ORDINARY), 2, 5);
    },
    found: [
      ["swapped", ORDINARY, 2],
      ["swapped", ORDINARY, 5],
      ["sidecar", ORDINARY],
    ],
  },
  {
    name: "two pages swapped without their slots",
    act: (datadir) => swapPages(join(datadir, ORDINARY), 2, 5),
    found: [
      ["swapped", ORDINARY, 2],
      ["swapped", ORDINARY, 5],
    ],
    onlyByTags: true,
  },
  {
    name: "the slots of two pages swapped",
    act: (datadir) => swapSlots(join(datadir, ORDINARY), 2, 5),
    found: [
      ["swapped", ORDINARY, 2],
      ["swapped", ORDINARY, 5],
      ["sidecar", ORDINARY],
    ],
  },
  {
    name: "two pages of different sidecar pages swapped with their slots",
    act: (datadir) => {
      swapPages(join(datadir, LARGE), 3, 70);
      swapSlots(join(datadir, LARGE), 3, 70);
    },
    found: [
      ["swapped", LARGE, 3],
      ["swapped", LARGE, 70],
    ],
  },
  {
    name: "a page of another file",
    act: (datadir) => {
      const page = readFileSync(join(datadir, OTHER)).subarray(0, BLOCK_SIZE);
      edit(join(datadir, ORDINARY), (bytes) => void page.copy(bytes, 0));
    },
    found: [["tag", ORDINARY, 0]],
    onlyByTags: true,
  },
  {
    name: "a page that was zeroed",
    act: (datadir) =>
      edit(join(datadir, ORDINARY), (bytes) => void bytes.fill(0, BLOCK_SIZE, 2 * BLOCK_SIZE)),
    found: [["mark", ORDINARY, 1]],
    onlyByTags: true,
  },
  {
    name: "a slot that was emptied",
    act: (datadir) =>
      edit(sidecarOf(join(datadir, ORDINARY)), (bytes) => void bytes.fill(0, slotAt(4), slotAt(5))),
    found: [
      ["slot", ORDINARY, 4],
      ["sidecar", ORDINARY],
    ],
  },
  {
    name: "a bit in the odd tail of a file",
    act: (datadir) => flipBit(join(datadir, ODD), (5 * BLOCK_SIZE + 3) * 8),
    found: [["tag", ODD, 5]],
    onlyByTags: true,
  },
  {
    name: "a bit in a page whose checksum was wrong before",
    act: (datadir) => flipBit(join(datadir, ODD), (2 * BLOCK_SIZE + 100) * 8),
    found: [["tag", ODD, 2]],
    onlyByTags: true,
  },
  {
    name: "two relation files swapped with their sidecars",
    act: (datadir) => {
      swapFiles(join(datadir, ORDINARY), join(datadir, OTHER));
      swapFiles(sidecarOf(join(datadir, ORDINARY)), sidecarOf(join(datadir, OTHER)));
    },
    found: [
      ["identity", ORDINARY],
      ["identity", OTHER],
    ],
  },
  {
    name: "two forks swapped with their sidecars",
    act: (datadir) => {
      const [fsm, vm] = [`${ORDINARY}_fsm`, `${ORDINARY}_vm`];
      swapFiles(join(datadir, fsm), join(datadir, vm));
      swapFiles(sidecarOf(join(datadir, fsm)), sidecarOf(join(datadir, vm)));
    },
    found: [
      ["identity", `${ORDINARY}_fsm`],
      ["identity", `${ORDINARY}_vm`],
    ],
  },
  {
    name: "the same relation of another cluster under the same keyring",
    act: (datadir) => takeWithSidecar(otherCluster, datadir, ORDINARY),
    found: [["identity", ORDINARY]],
  },
  {
    name: "another copy of one file with its sidecar",
    act: (datadir) => takeWithSidecar(encryptedAgain, datadir, ORDINARY),
    found: [["replaced", ORDINARY]],
  },
  {
    name: "the sidecar alone of another copy of the file",
    act: (datadir) => take(encryptedAgain, datadir, sidecarOf(ORDINARY)),
    found: [["tag", ORDINARY, 0]],
  },
  {
    name: "a file that is gone",
    act: (datadir) => unlinkSync(join(datadir, ORDINARY)),
    found: [["missing", ORDINARY]],
  },
  {
    name: "a file that is gone with its sidecar",
    act: (datadir) => {
      unlinkSync(join(datadir, ORDINARY));
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
    },
    found: [["missing", ORDINARY]],
  },
  {
    name: "a sidecar that is gone",
    act: (datadir) => unlinkSync(sidecarOf(join(datadir, ORDINARY))),
    found: [["sidecar", ORDINARY]],
  },
  {
    name: "plain content in the place of a file, without a sidecar",
    act: (datadir) => {
      take(plain, datadir, ORDINARY);
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
    },
    found: [["sidecar", ORDINARY]],
  },
  {
    name: "plain content in the place of a container",
    act: (datadir) => take(plain, datadir, WAL_FILE),
    found: [["content", WAL_FILE]],
  },
  {
    name: "a file that was cut by a page",
    act: (datadir) =>
      edit(join(datadir, ORDINARY), (bytes) => bytes.subarray(0, bytes.length - BLOCK_SIZE)),
    found: [["size", ORDINARY]],
  },
  {
    name: "a large file that was cut with its sidecar at a page of that",
    act: (datadir) => {
      truncateSync(join(datadir, LARGE), 63 * BLOCK_SIZE);
      truncateSync(sidecarOf(join(datadir, LARGE)), BLOCK_SIZE);
    },
    found: [
      ["size", LARGE],
      ["sidecar", LARGE],
    ],
  },
  {
    name: "a file that has grown by a page",
    act: (datadir) => appendFileSync(join(datadir, ORDINARY), Buffer.alloc(BLOCK_SIZE)),
    found: [["size", ORDINARY]],
  },
  {
    name: "a file that has grown by a byte",
    act: (datadir) => appendFileSync(join(datadir, ORDINARY), "x"),
    found: [["size", ORDINARY]],
  },
  {
    name: "a file that was emptied",
    act: (datadir) => truncateSync(join(datadir, ORDINARY), 0),
    found: [["size", ORDINARY]],
  },
  {
    name: "a file that was emptied, and its sidecar gone",
    act: (datadir) => {
      truncateSync(join(datadir, ORDINARY), 0);
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
    },
    found: [["size", ORDINARY]],
  },
  {
    name: "an empty file that was filled",
    act: (datadir) => take(plain, datadir, ORDINARY, EMPTY),
    found: [["size", EMPTY]],
  },
  {
    name: "a sidecar that was cut to nothing",
    act: (datadir) => truncateSync(sidecarOf(join(datadir, ORDINARY)), 0),
    found: [["sidecar", ORDINARY]],
  },
  {
    name: "a sidecar that lost its last page",
    act: (datadir) => truncateSync(sidecarOf(join(datadir, LARGE)), BLOCK_SIZE),
    found: [["sidecar", LARGE]],
  },
  {
    name: "a sidecar that has grown",
    act: (datadir) => appendFileSync(sidecarOf(join(datadir, ORDINARY)), Buffer.alloc(BLOCK_SIZE)),
    found: [["sidecar", ORDINARY]],
  },
  {
    name: "a sidecar page that says it is the last, and is not",
    act: (datadir) => flipBit(sidecarOf(join(datadir, LARGE)), LAST_FLAG * 8),
    found: [["sidecar", LARGE]],
  },
  {
    name: "a last sidecar page that no longer says so",
    act: (datadir) => flipBit(sidecarOf(join(datadir, ORDINARY)), LAST_FLAG * 8),
    found: [["sidecar", ORDINARY]],
  },
  {
    name: "a sidecar of a file that does not exist",
    act: (datadir) => take(encrypted, datadir, sidecarOf(ORDINARY), "base/1/77777_tde"),
    found: [["extra", "base/1/77777_tde"]],
  },
  {
    name: "a sidecar of an empty file",
    act: (datadir) => take(encrypted, datadir, sidecarOf(ORDINARY), sidecarOf(EMPTY)),
    found: [["extra", sidecarOf(EMPTY)]],
  },
  ...[
    `${ORDINARY}_tdenew`,
    `${ORDINARY}_tdenew_tde`,
    "tde_tdenew.manifest",
    `${WAL_FILE}_tdenew`,
    "pg_xact/0000_tdenew",
  ].map((path): Attack => ({
    name: `a working file that no run has left, ${path}`,
    act: (datadir) => take(encrypted, datadir, ORDINARY, path),
    found: [["extra", path]],
  })),
  {
    name: "a relation that was added with its sidecar",
    act: (datadir) => {
      take(encrypted, datadir, ORDINARY, "base/1/77777");
      take(encrypted, datadir, sidecarOf(ORDINARY), "base/1/77777_tde");
    },
    found: [["extra", "base/1/77777"]],
  },
  {
    name: "a file that was added",
    act: (datadir) => writeFileSync(join(datadir, "pg_xact/0001"), "committed"),
    found: [["extra", "pg_xact/0001"]],
  },
  {
    name: "a link that was added among relations",
    act: (datadir) => symlinkSync(join(encrypted, ORDINARY), join(datadir, "base/1/77777")),
    found: [["extra", "base/1/77777"]],
  },
  {
    name: "a folder that was added",
    act: (datadir) => mkdirSync(join(datadir, "base/2")),
    found: [["extra", "base/2"]],
  },
  {
    name: "a folder that is gone",
    act: (datadir) => rmSync(join(datadir, "pg_twophase"), { recursive: true }),
    found: [["missing", "pg_twophase"]],
  },
  {
    name: "a link that leads elsewhere",
    act: (datadir) => {
      unlinkSync(join(datadir, "server.log"));
      symlinkSync("/etc/passwd", join(datadir, "server.log"));
    },
    found: [["content", "server.log"]],
  },
  {
    name: "a link in the place of a folder",
    act: (datadir) => {
      rmSync(join(datadir, "pg_xact"), { recursive: true });
      symlinkSync(join(encrypted, "pg_xact"), join(datadir, "pg_xact"));
    },
    found: [["content", "pg_xact"]],
  },
  {
    name: "a link in the place of a relation file",
    act: (datadir) => {
      unlinkSync(join(datadir, ORDINARY));
      symlinkSync(join(encrypted, ORDINARY), join(datadir, ORDINARY));
    },
    found: [["extra", ORDINARY]],
  },
  {
    name: "a link in the place of a sidecar",
    act: (datadir) => {
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
      symlinkSync(sidecarOf(join(encrypted, ORDINARY)), sidecarOf(join(datadir, ORDINARY)));
    },
    found: [["extra", sidecarOf(ORDINARY)]],
  },
  {
    name: "a folder in the place of a sidecar",
    act: (datadir) => {
      unlinkSync(sidecarOf(join(datadir, ORDINARY)));
      mkdirSync(sidecarOf(join(datadir, ORDINARY)));
    },
    found: [["extra", sidecarOf(ORDINARY)]],
  },
  {
    name: "a readable file whose content was changed",
    act: (datadir) => appendFileSync(join(datadir, "pg_hba.conf"), "host all all all trust\n"),
    found: [["content", "pg_hba.conf"]],
  },
  {
    name: "a readable file that is gone",
    act: (datadir) => unlinkSync(join(datadir, "pg_xact/0000")),
    found: [["missing", "pg_xact/0000"]],
  },
  {
    name: "a container that was cut after a chunk",
    act: (datadir) => truncateSync(join(datadir, WAL_FILE), 70_000),
    found: [["size", WAL_FILE]],
  },
  {
    name: "a container of another copy",
    act: (datadir) => take(encryptedAgain, datadir, WAL_FILE),
    found: [["replaced", WAL_FILE]],
  },
  {
    name: "a container of another cluster",
    act: (datadir) => take(otherCluster, datadir, WAL_FILE),
    found: [["tag", WAL_FILE]],
  },
  {
    name: "a bit in a chunk of a container",
    act: (datadir) => flipBit(join(datadir, WAL_FILE), 100_000 * 8),
    found: [["tag", WAL_FILE]],
    onlyByTags: true,
  },
  {
    name: "a guard that was replaced by a configuration of someone's own",
    act: (datadir) => writeFileSync(join(datadir, "postgresql.auto.conf"), "port = 1\n"),
    found: [["content", "postgresql.auto.conf"]],
  },
  {
    name: "a guard that is gone",
    act: (datadir) => unlinkSync(join(datadir, "postgresql.auto.conf")),
    found: [["missing", "postgresql.auto.conf"]],
  },
  {
    name: "the sealed original behind the guard of another copy",
    act: (datadir) => take(encryptedAgain, datadir, "tde.postgresql.auto.conf"),
    found: [["replaced", "tde.postgresql.auto.conf"]],
  },
  {
    name: "a manifest that is gone",
    act: (datadir) => unlinkSync(join(datadir, "tde.manifest")),
    found: [["manifest", "tde.manifest"]],
  },
  {
    name: "a manifest that was cut",
    act: (datadir) => truncateSync(join(datadir, "tde.manifest"), 2000),
    found: [["manifest", "tde.manifest"]],
  },
  {
    name: "a manifest of another cluster",
    act: (datadir) => take(otherCluster, datadir, "tde.manifest"),
    found: [["manifest", "tde.manifest"]],
  },
  {
    name: "a manifest of another copy",
    act: (datadir) => take(encryptedAgain, datadir, "tde.manifest"),
    found: [["replaced", ORDINARY]],
  },
  {
    name: "a link in the place of the manifest",
    act: (datadir) => {
      unlinkSync(join(datadir, "tde.manifest"));
      symlinkSync(join(encrypted, "tde.manifest"), join(datadir, "tde.manifest"));
    },
    found: [["extra", "tde.manifest"]],
  },
];

for (const { name, act, found, onlyByTags = false } of ATTACKS) {
  test(`found by verify and refused by decryption: ${name}`, async () => {
    const datadir = copyOf(encrypted);
    act(datadir);
    const tampered = treeOf(datadir);
    const report = await small.verify(datadir);
    assert.equal(report.ok, false);
    const problems = report.problems.map(({ kind, path, block }) => `${kind} ${path} ${block}`);
    for (const [kind, path, block] of found) {
      assert.ok(problems.includes(`${kind} ${path} ${block}`), problems.join("\n"));
    }
    assertSameTree(treeOf(datadir), tampered, { directoryTimes: true });

    const output = join(dirname(datadir), "output");
    await assert.rejects(
      decryptIntoOutput(small.engine, small.keyContext, small.decryptOptions(datadir), {
        output: bytePath(output),
        tablespaceMapping: new Map(),
      }),
      TdeError,
    );
    assertSameTree(treeOf(datadir), tampered, { directoryTimes: true });

    await assert.rejects(small.decrypt(datadir), TdeError);
    assertSameTree(treeOf(datadir), tampered);
    await assert.rejects(small.decrypt(datadir, { preflight: false }), TdeError);
    if (!onlyByTags) assertSameTree(treeOf(datadir), tampered);
    else {
      // Every file is as it was left by the attack or as it was before encryption: nothing in between came to be.
      const before = treeOf(plain);
      const suspect = [...treeOf(datadir)].filter(([path, entry]) => {
        const known = [tampered.get(path), before.get(path)].map((other) => other?.sha256);
        return !path.startsWith("./tde.") && !known.includes(entry.sha256);
      });
      assert.deepEqual(suspect, []);
      const path = `./${found[0]?.[1] ?? ""}`;
      assert.equal(treeOf(datadir).get(path)?.sha256, tampered.get(path)?.sha256);
    }
  });
}

test("without a preflight, a decryption that a damaged page stopped goes on once the file is restored", async () => {
  const datadir = copyOf(encrypted);
  flipBit(join(datadir, ORDINARY), 30_000);
  await assert.rejects(small.decrypt(datadir, { preflight: false }), /base\/1\/1259 block 0/);
  takeWithSidecar(encrypted, datadir, ORDINARY);
  await small.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

test("an untouched copy verifies and decrypts to the plain directory", async () => {
  const datadir = copyOf(encrypted);
  assert.deepEqual((await small.verify(datadir)).problems, []);
  await small.decrypt(datadir);
  assertSameTree(treeOf(datadir), treeOf(plain));
});

/** Copies a file from another directory, with its times. */
function take(from: string, to: string, path: string, as: string = path): void {
  rmSync(join(to, as), { force: true });
  copyTree(join(from, path), join(to, as));
}

function takeWithSidecar(from: string, to: string, path: string): void {
  take(from, to, path);
  take(from, to, sidecarOf(path));
}
