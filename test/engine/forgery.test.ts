/**
 * Swaps by someone who even has the keys and makes checksums, MACs and the manifest anew around them: what then
 * still tells is the tag of each page, which binds it to its cluster, file, block, slot and header.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { derivePageKey } from "../../src/format/file-keys.ts";
import { SLOT } from "../../src/format/slot.ts";
import { wrongOnPurpose } from "../../src/format/page-message.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { TdeError } from "../../src/errors.ts";
import { dekFor } from "../../src/keyring/data-keys.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import {
  edit,
  headOf,
  type HeadChange,
  identityOfFile,
  remakeChecksums,
  remakeManifest,
  remakeSidecar,
  sidecarOf,
  slotAt,
  swapFiles,
  swapPages,
  swapSlots,
} from "../support/forger.ts";
import { testKeys } from "../support/keys.ts";
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

const keys = testKeys();
const small = new SmallEngine({ keys });
let encrypted = "";
let encryptedAgain = "";
let otherCluster = "";

before(async () => {
  encrypted = makeSmallCluster();
  [encryptedAgain, otherCluster] = [copyOf(encrypted), copyOf(encrypted)];
  edit(join(otherCluster, "global/pg_control"), (bytes) => {
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(0) + 1n, 0);
    bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  });
  for (const datadir of [encrypted, encryptedAgain, otherCluster]) await small.encrypt(datadir);
});

test("the forger's manifest and sidecars pass where nothing was moved", async () => {
  const datadir = copyOf(encrypted);
  for (const path of [ORDINARY, LARGE, OTHER]) {
    remakeChecksums(join(datadir, path));
    remakeSidecar(join(datadir, path), keys);
  }
  remakeManifest(datadir, keys);
  assert.deepEqual((await verifyForged(datadir)).problems, []);
});

for (const [a, b] of [
  [2, 5],
  [0, 13],
] as const) {
  test(`pages ${a} and ${b} swapped with their slots are named, and nothing else is`, async () => {
    const datadir = await forged(ORDINARY, (path) => {
      swapPages(path, a, b);
      swapSlots(path, a, b);
    });
    assert.deepEqual(await found(datadir), [
      `swapped ${ORDINARY} ${a}`,
      `swapped ${ORDINARY} ${b}`,
    ]);
  });

  test(`pages ${a} and ${b} swapped without their slots are named, and nothing else is`, async () => {
    const datadir = await forged(ORDINARY, (path) => swapPages(path, a, b));
    assert.deepEqual(await found(datadir), [
      `swapped ${ORDINARY} ${a}`,
      `swapped ${ORDINARY} ${b}`,
    ]);
  });
}

test("pages swapped across sidecar pages are named, and nothing else is", async () => {
  const datadir = await forged(LARGE, (path) => {
    swapPages(path, 62, 63);
    swapSlots(path, 62, 63);
  });
  assert.deepEqual(await found(datadir), [`swapped ${LARGE} 62`, `swapped ${LARGE} 63`]);
});

test("files swapped with their sidecars fail in every block, whatever the sidecars are made to say", async () => {
  const datadir = copyOf(encrypted);
  const [one, other] = [join(datadir, ORDINARY), join(datadir, OTHER)];
  const identities = [identityOfFile(one), identityOfFile(other)] as const;
  swapFiles(one, other);
  swapFiles(sidecarOf(one), sidecarOf(other));
  for (const [path, identity] of [
    [one, identities[0]],
    [other, identities[1]],
  ] as const) {
    remakeSidecar(path, keys, () => ({ identity }));
  }
  remakeManifest(datadir, keys);
  assertEveryBlock(await verifyForged(datadir), "key", datadir, ORDINARY);
  assertEveryBlock(await verifyForged(datadir), "key", datadir, OTHER);
  // With the commitments made anew, too.
  for (const path of [one, other]) remakeCommitments(path);
  remakeManifest(datadir, keys);
  assertEveryBlock(await verifyForged(datadir), "tag", datadir, ORDINARY);
  assertEveryBlock(await verifyForged(datadir), "tag", datadir, OTHER);
});

test("the same relation of another cluster fails in every block, whatever its sidecar is made to say", async () => {
  const datadir = copyOf(encrypted);
  const path = join(datadir, ORDINARY);
  const identity = identityOfFile(path);
  copyFileSync(join(otherCluster, ORDINARY), path);
  copyFileSync(sidecarOf(join(otherCluster, ORDINARY)), sidecarOf(path));
  remakeSidecar(path, keys, () => ({ identity }));
  remakeManifest(datadir, keys);
  assertEveryBlock(await verifyForged(datadir), "key", datadir, ORDINARY);
  remakeCommitments(path);
  remakeManifest(datadir, keys);
  assertEveryBlock(await verifyForged(datadir), "tag", datadir, ORDINARY);
});

test("a page with its slot of another encryption of the same file fails, whatever is made anew around it", async () => {
  const from = join(encryptedAgain, ORDINARY);
  const datadir = await forged(ORDINARY, (path) => {
    copyRange(from, path, 3 * BLOCK_SIZE, BLOCK_SIZE);
    copyRange(sidecarOf(from), sidecarOf(path), slotAt(3), 128);
  });
  assert.deepEqual(await found(datadir), [`key ${ORDINARY} 3`]);
  remakeCommitments(join(datadir, ORDINARY));
  remakeManifest(datadir, keys);
  assert.deepEqual(await found(datadir), [`tag ${ORDINARY} 3`]);
});

const HEADER_FIELDS: readonly (readonly [field: string, offset: number])[] = [
  ["pd_lsn", 3],
  ["pd_flags", 10],
  ["pd_lower", 12],
  ["pd_upper", 14],
  ["pd_special", 16],
  ["pd_pagesize_version", 18],
  ["pd_prune_xid", 21],
];
for (const [field, offset] of HEADER_FIELDS) {
  test(`a changed ${field} fails, though the page's checksum fits`, async () => {
    const datadir = await forged(ORDINARY, (path) =>
      edit(path, (bytes) => {
        const at = BLOCK_SIZE + offset;
        bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      }),
    );
    assert.deepEqual(await found(datadir), [`tag ${ORDINARY} 1`]);
  });
}

const SLOT_FIELDS: readonly (readonly [field: string, offset: number, flip: number])[] = [
  ["flags", SLOT.flags, 2],
  ["epoch", SLOT.epoch, 1],
  ["nonce", SLOT.nonce, 1],
  ["tag", SLOT.tag, 0x80],
  ["commitment", SLOT.commitment, 1],
  ["sealed checksum", SLOT.sealedBytes, 1],
];
for (const [field, offset, flip] of SLOT_FIELDS) {
  test(`a changed ${field} in a slot fails, though the sidecar's MAC holds`, async () => {
    const datadir = await forged(ORDINARY, (path) =>
      edit(sidecarOf(path), (bytes) => {
        const at = slotAt(1) + offset;
        bytes.writeUInt8(bytes.readUInt8(at) ^ flip, at);
      }),
    );
    const [problem, ...more] = (await verifyForged(datadir)).problems;
    assert.deepEqual([problem?.path, problem?.block, more], [ORDINARY, 1, []]);
  });
}

test("a page that was zeroed fails, though its slot says zero page", async () => {
  const datadir = await forged(ORDINARY, (path) => {
    edit(path, (bytes) => void bytes.fill(0, BLOCK_SIZE, 2 * BLOCK_SIZE));
    edit(sidecarOf(path), (bytes) => {
      bytes.writeUInt8(2, slotAt(1));
      bytes.fill(0, slotAt(1) + SLOT.sealedBytes, slotAt(2));
    });
  });
  assert.deepEqual(await found(datadir), [`tag ${ORDINARY} 1`]);
});

test("a checksum that is made right where it was wrong before fails, though the slot says so", async () => {
  const datadir = copyOf(encrypted);
  const path = join(datadir, ODD);
  edit(path, (bytes) => {
    const page = bytes.subarray(2 * BLOCK_SIZE, 3 * BLOCK_SIZE);
    assert.equal(page.readUInt16LE(8), wrongOnPurpose(pageChecksum(page, 2)));
    page.writeUInt16LE(pageChecksum(page, 2), 8);
  });
  edit(sidecarOf(path), (bytes) => void bytes.writeUInt16LE(0, slotAt(2) + SLOT.flags));
  remakeSidecar(path, keys);
  remakeManifest(datadir, keys);
  assert.deepEqual(await found(datadir), [`tag ${ODD} 2`]);
});

test("a slot from a later run than the manifest's fails", async () => {
  const datadir = await forged(ORDINARY, (path) =>
    edit(sidecarOf(path), (bytes) => void bytes.writeBigUInt64LE(2n, slotAt(0) + SLOT.epoch)),
  );
  assert.deepEqual(await found(datadir), [`slot ${ORDINARY} 0`]);
});

const HEADS: readonly (readonly [name: string, change: HeadChange])[] = [
  ["pages that count from 1", (head) => ({ pageNumber: head.pageNumber + 1 })],
  ["no last page", () => ({ last: false })],
  ["only last pages", () => ({ last: true })],
  ["a salt for each page", (head) => ({ fileSalt: Buffer.alloc(16, head.pageNumber) })],
];
for (const [name, change] of HEADS) {
  test(`a sidecar with ${name} fails, though its MACs hold`, async () => {
    const datadir = copyOf(encrypted);
    remakeSidecar(join(datadir, LARGE), keys, change);
    remakeManifest(datadir, keys);
    const kinds = (await verifyForged(datadir)).problems.map(({ kind, path }) => `${kind} ${path}`);
    assert.ok(kinds.includes(`sidecar ${LARGE}`), kinds.join("\n"));
  });
}

test("a manifest of someone who has the keys cannot give a file a class that its path or size does not allow", async () => {
  const sealed = { keys: [{ keyId: 1, count: 128 }], digest: "ab".repeat(32) } as const;
  const segmentBytes = 2 ** 20;
  for (const [path, as, sizeBytes, expected] of [
    [WAL_FILE, "W", undefined, `size ${WAL_FILE}`],
    ["pg_xact/0000", "W", segmentBytes, "manifest pg_xact/0000"],
    ["pg_xact/0000", "P", undefined, "manifest pg_xact/0000"],
    ["pg_hba.conf", "P", undefined, "manifest pg_hba.conf"],
  ] as const) {
    const datadir = copyOf(encrypted);
    if (sizeBytes !== undefined) writeFileSync(join(datadir, path), Buffer.alloc(sizeBytes, "wal"));
    writeFileSync(sidecarOf(join(datadir, path)), Buffer.alloc(BLOCK_SIZE, "sidecar"));
    remakeManifest(datadir, keys, (entry) =>
      entry.path === path
        ? { ...entry, class: as, sizeBytes: statSync(join(datadir, path)).size, ...sealed }
        : entry,
    );
    const { ok, problems } = await verifyForged(datadir);
    assert.equal(ok, false);
    const named = problems.map((problem) => `${problem.kind} ${problem.path}`);
    assert.ok(named.includes(expected), `${as} ${path}: ${named.join(", ")}`);
    await assert.rejects(new SmallEngine({ keys }).decrypt(datadir), TdeError);
  }
});

/** A copy in which `act` changed a relation file or its sidecar, and everything around it fits. */
async function forged(relation: string, act: (path: string) => void): Promise<string> {
  const datadir = copyOf(encrypted);
  const path = join(datadir, relation);
  act(path);
  remakeChecksums(path);
  remakeSidecar(path, keys);
  remakeManifest(datadir, keys);
  return datadir;
}

/** Makes the key commitment of every slot anew, for the identity and salt that the sidecar names. */
function remakeCommitments(path: string): void {
  const { identity, fileSalt, keyringId } = headOf(path);
  const blockCount = statSync(path).size / BLOCK_SIZE;
  edit(sidecarOf(path), (bytes) => {
    for (let block = 0; block < blockCount; block++) {
      const at = slotAt(block);
      const keyId = bytes.readUInt32LE(at + SLOT.keyId);
      const dek = dekFor(keys, keyringId, keyId, path);
      derivePageKey(dek, fileSalt, keyId, identity).commitment.copy(bytes, at + SLOT.commitment);
    }
  });
  remakeSidecar(path, keys);
}

function copyRange(from: string, to: string, at: number, length: number): void {
  const bytes = readFileSync(from).subarray(at, at + length);
  edit(to, (target) => void bytes.copy(target, at));
}

/** Without memory of the directory's root, which alone would tell that something was changed. */
async function verifyForged(datadir: string): Promise<VerifyReport> {
  return new SmallEngine({ keys }).verify(datadir);
}

async function found(datadir: string): Promise<string[]> {
  const { problems } = await verifyForged(datadir);
  return problems.map(({ kind, path, block }) => `${kind} ${path} ${block}`).sort();
}

/** Every block of the relation has a problem of that kind, and the file has no other. */
function assertEveryBlock(
  { problems }: VerifyReport,
  kind: string,
  datadir: string,
  relation: string,
): void {
  const blocks = problems
    .filter(({ path }) => path === relation)
    .map((problem) => `${problem.kind} ${problem.block}`);
  const blockCount = statSync(join(datadir, relation)).size / BLOCK_SIZE;
  const all = Array.from({ length: blockCount }, (_, block) => `${kind} ${block}`);
  assert.deepEqual(new Set(blocks), new Set(all));
}
