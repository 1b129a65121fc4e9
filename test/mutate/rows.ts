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
];
