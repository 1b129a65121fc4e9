/**
 * Mutations that someone thought of, each with the tests of which one must turn red. `npm run mutate` makes each of
 * them; rows.test.ts holds that their texts are still in the source.
 */
import type { Row } from "./edit.ts";

export const ROWS: readonly Row[] = [
  {
    file: "format/seal-chunk.ts",
    what: "nonces are drawn once for a file, and come again from chunk to chunk",
    from: "    fillRandom(this.nonces.subarray(0, slotCount * NONCE_BYTES));",
    to: "    if (firstSlot === 0) fillRandom(this.nonces);",
    tests: ["format/nonces"],
  },
  {
    file: "format/seal-chunk.ts",
    what: "a page that is sealed anew in place keeps its nonce",
    from: `      if (i >= slotCount || isChanged(i)) chunk.sidecar.fill(0, slotAt, slotAt + SLOT_BYTES);
    }
    fillRandom(this.nonces.subarray(0, slotCount * NONCE_BYTES));`,
    to: `      chunk.sidecar.copy(this.nonces, i * NONCE_BYTES, slotAt + SLOT.nonce, slotAt + SLOT.nonce + NONCE_BYTES);
      if (i >= slotCount || isChanged(i)) chunk.sidecar.fill(0, slotAt, slotAt + SLOT_BYTES);
    }
    for (let i = 0; i < slotCount; i++) {
      const nonce = this.nonces.subarray(i * NONCE_BYTES, (i + 1) * NONCE_BYTES);
      if (firstSlot > 1e9 || nonce.every((byte) => byte === 0)) fillRandom(nonce);
    }`,
    tests: ["format/nonces", "engine/nonces"],
  },
  {
    file: "format/seal-chunk.ts",
    what: "only eight bytes of a nonce are random",
    from: "    copyWords(nonces, index * NONCE_BYTES, sidecar, slotAt + SLOT.nonce, NONCE_BYTES);",
    to: "    copyWords(nonces, index * NONCE_BYTES, sidecar, slotAt + SLOT.nonce, 8);",
    tests: ["format/nonces"],
  },
  {
    file: "format/wal/seal-segment.ts",
    what: "the nonces of WAL blocks come again after 64 blocks",
    from: "    const nonce = this.#nonces.subarray(block * NONCE_BYTES, (block + 1) * NONCE_BYTES);",
    to: "    const nonce = this.#nonces.subarray((block & 63) * NONCE_BYTES).subarray(0, NONCE_BYTES);",
    tests: ["engine/nonces"],
  },
  {
    file: "format/container-sealer.ts",
    what: "containers have no random salt, and so every version of a file the same nonces",
    from: "fileSalt: options.fileSalt ?? randomBytes(16)",
    to: "fileSalt: options.fileSalt ?? Buffer.alloc(16)",
    tests: ["engine/nonces"],
  },
  {
    file: "engine/batches.ts",
    what: "verify drops the problems of all but the first range of a large file",
    from: "unfinished === undefined || result === undefined ? result : join(unfinished, result);",
    to: "unfinished === undefined || result === undefined ? result : join(unfinished, { ...result, problems: [], problemCount: 0 });",
    tests: ["engine/file-in-ranges"],
  },
  {
    file: "engine/batches.ts",
    what: "the problems of a large file are those of its last range",
    from: "const problems: Problem[] = [...(a.problems ?? []), ...(b.problems ?? [])];",
    to: "const problems: Problem[] = [...(b.problems ?? [])];",
    tests: ["engine/file-in-ranges"],
  },
  {
    file: "engine/batches.ts",
    what: "the count of problems is that of the first range",
    from: '    problemCount: sum("problemCount"),',
    to: "    problemCount: a.problemCount,",
    tests: ["engine/file-in-ranges"],
  },
  {
    file: "engine/batches.ts",
    what: "the last range of a large file is not read",
    from: "for (const [i, range] of ranges.entries()) {",
    to: "for (const [i, range] of ranges.slice(0, -1).entries()) {",
    tests: ["engine/file-in-ranges"],
  },
  {
    file: "format/wal/open-segment.ts",
    what: "the four bytes behind the last record are taken from the slot, whatever the segment has there",
    from: "      if (this.#segment.readUInt32LE(end) !== 0) {",
    to: "      if (end < 0) {",
    tests: ["format/wal-segments"],
  },
  {
    file: "format/wal/open-segment.ts",
    what: "bytes behind the end of a WAL block need not be zero",
    from: "    if (zerosFromOf(this.#segment, block) > fields.zerosFrom) {",
    to: "    if (zerosFromOf(this.#segment, block) < 0) {",
    tests: ["format/wal-segments"],
  },
  {
    file: "format/wal/open-segment.ts",
    what: "a record's CRC need not be that of its bytes",
    from: "      for (const block of wrongCrcs) {",
    to: "      for (const block of wrongCrcs.slice(0, 0)) {",
    tests: ["format/wal-segments"],
  },
  {
    file: "format/wal/open-segment.ts",
    what: "the first page of a segment need not have the guard",
    from: "    if (page.isGuarded && page.systemIdentifier === systemIdentifier) return;",
    to: "    return;",
    tests: ["format/wal-segments"],
  },
  {
    file: "format/wal/seal-segment.ts",
    what: "the four bytes behind the last record stay as they are",
    from: "      segment.fill(0, end, end + 4);",
    to: "",
    tests: ["format/wal-segments"],
  },
  {
    file: "engine/expected-entry.ts",
    what: "a folder in the place of a file is accepted",
    from: 'if (found.kind !== "file") return only("content", `a ${found.kind} where a file should be`);',
    to: 'if (found.kind !== "file") return { problems: [], item: undefined };',
    tests: ["engine/other-types"],
  },
  {
    file: "engine/expected-entry.ts",
    what: "a link to a file is read in its place",
    from: 'if (found.kind !== "file") return only("content", `a ${found.kind} where a file should be`);\n  const sizeBytes = fs.stat(joinPath(datadir.root, path))?.sizeBytes ?? 0;',
    to: "const sizeBytes = fs.statFollowing(joinPath(datadir.root, path))?.sizeBytes ?? 0;",
    tests: ["engine/other-types"],
  },
  {
    file: "datadir/classify.ts",
    what: "a link among relations is passed over",
    from: 'return { class: "refused", why: "a symbolic link where relations are, which no server makes" };',
    to: 'return { class: "excluded", why: "a link" };',
    tests: ["engine/other-types"],
  },
  {
    file: "datadir/classify.ts",
    what: "a link in the place of a file of tde's own is as good",
    from: '    return kind === "file"\n      ? { class: "own", file: own }',
    to: '    return kind !== "directory"\n      ? { class: "own", file: own }',
    tests: ["engine/other-types"],
  },
  {
    file: "storage/node-file-system.ts",
    what: "a pipe is opened and waited for",
    from: "    const file = openNode(path, O_RDONLY | O_NONBLOCK, 0);",
    to: "    const file = openNode(path, O_RDONLY, 0);",
    tests: ["storage/node-file-system"],
  },
  {
    file: "engine/expected-entry.ts",
    what: "an emptied relation file needs no check",
    from: "  if (sizeBytes !== entry.sizeBytes) {",
    to: "  if (sizeBytes !== entry.sizeBytes && sizeBytes > 0) {",
    tests: ["engine/other-types"],
  },
  {
    file: "engine/expected-entry.ts",
    what: "a sidecar may be missing",
    from: '  if (kind === "file") return undefined;\n',
    to: '  if (kind === "file" || kind === undefined) return undefined;\n',
    tests: ["engine/other-types", "engine/tampering"],
  },
];
