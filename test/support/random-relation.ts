/** Relation files as they may be: pages as a server writes them, and everything else that a disk may hold. */
import * as fc from "fast-check";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import type { BookIdentity } from "./sealed-by-the-book.ts";

/** How a block comes to be: pages as a server writes them, and everything else that a disk may hold. */
export type Recipe =
  "valid" | "wrong" | "unchecked" | "marked" | "zero" | "zero header" | "garbage";

export function pageOf(recipe: Recipe, blockSize: number, block: number, seed: number): Buffer {
  const page = Buffer.alloc(blockSize);
  if (recipe === "zero") return page;
  for (let i = 0; i < blockSize; i++) page[i] = (i * (seed | 1) + (seed >> 8)) & 0xff;
  if (recipe === "garbage") return page;
  page.fill(0, 0, 24);
  page[blockSize - 1] = 1;
  if (recipe === "zero header") return page;
  page.writeUInt32LE(seed, 4);
  page.writeUInt16LE(seed & 7, 10);
  page.writeUInt16LE(24 + 4 * (seed % 50), 12);
  page.writeUInt16LE(blockSize - 200, 14);
  page.writeUInt16LE(blockSize & 0xffff, 16);
  page.writeUInt16LE(blockSize + 4, 18);
  if (recipe === "marked") page.writeUInt16LE(0x8000 | (seed & 7), 10);
  const valid = pageChecksum(page, block);
  if (recipe === "valid") page.writeUInt16LE(valid, 8);
  // Never by chance the valid one: a marked page with that is refused.
  if (recipe === "wrong" || recipe === "marked") page.writeUInt16LE(valid ^ 0x0f00, 8);
  return page;
}

const recipes: fc.Arbitrary<Recipe> = fc.constantFrom(
  "valid",
  "wrong",
  "unchecked",
  "marked",
  "zero",
  "zero header",
  "garbage",
);

const identities: fc.Arbitrary<BookIdentity> = fc.record(
  {
    systemIdentifier: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
    tablespace: fc.nat(0xffffffff),
    database: fc.nat(0xffffffff),
    relfilenumber: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }).map(String),
    fork: fc.constantFrom("main", "fsm", "vm", "init"),
    segment: fc.nat(20),
    firstBlock: fc.nat(0xfffffff0),
    backend: fc.oneof(fc.constant(0xffffffff), fc.nat(1000)),
  },
  { noNullPrototype: true },
);

export interface RandomFile {
  readonly identity: BookIdentity;
  readonly dataChecksums: boolean;
  readonly originals: readonly Buffer[];
}

export function randomFile(blockSize: number, maxBlocks: number): fc.Arbitrary<RandomFile> {
  const block = fc.tuple(recipes, fc.nat(0xffffff));
  const blocks = fc.array(block, { minLength: 0, maxLength: maxBlocks });
  const tail = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: blockSize - 1 }));
  return fc
    .tuple(identities, fc.boolean(), blocks, tail, fc.nat(255))
    .filter(([, , parts, tailBytes]) => parts.length > 0 || tailBytes > 0)
    .map(([identity, dataChecksums, parts, tailBytes, fill]) => {
      const originals = parts.map(([recipe, seed], i) =>
        pageOf(recipe, blockSize, identity.firstBlock + i, seed),
      );
      if (tailBytes > 0) originals.push(Buffer.alloc(tailBytes, fill));
      return { identity, dataChecksums, originals };
    });
}
