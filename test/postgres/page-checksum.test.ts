import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import * as fc from "fast-check";
import { isZero, PAGE_HEADER, parsePageHeader, writePageHeader } from "../../src/postgres/page.ts";
import { PageChecksummer } from "../../src/postgres/page-checksum-wasm.ts";
import { pageChecksum } from "../../src/postgres/page-checksum.ts";
import { readFixture } from "../support/fixtures.ts";
import { assertProperty } from "../support/property.ts";

const BLOCK_SIZES = [1024, 2048, 4096, 8192, 16384, 32768] as const;
const REAL_FILES = [
  "13/1260",
  "13/1260_fsm",
  "13/1260_vm",
  "13/2671",
  "17/1260",
  "17/1260_fsm",
].concat(["17/1260_vm", "17/2671", "17/1247"]);
const BLOCK_SIZE = 8192;

for (const name of REAL_FILES) {
  test(`the checksums that a server stored in ${name} are computed by both versions`, () => {
    const file = readFixture(`pages/${name}`);
    const pageCount = file.length / BLOCK_SIZE;
    const checksummer = new PageChecksummer(file.length);
    file.copy(checksummer.pages);
    const checksums = new Uint16Array(pageCount);
    const zero = new Uint8Array(pageCount);
    checksummer.compute(0, pageCount, BLOCK_SIZE, 0, checksums);
    checksummer.findZeroPages(0, pageCount, BLOCK_SIZE, zero);
    let compared = 0;
    for (let block = 0; block < pageCount; block++) {
      const page = file.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
      assert.equal(zero[block], isZero(page) ? 1 : 0);
      assert.equal(checksums[block], pageChecksum(page, block));
      if (isZero(page)) continue;
      const header = parsePageHeader(page);
      assert.equal(header.checksum, checksums[block]);
      assert.equal(header.pageSizeBytes, BLOCK_SIZE);
      assert.equal(header.layoutVersion, 4);
      assert.ok(header.lower <= header.upper && header.upper <= header.special);
      compared++;
    }
    assert.ok(compared > 0);
    assert.ok(file.equals(checksummer.pages));
  });
}

for (const blockSize of BLOCK_SIZES) {
  test(`both versions agree on any pages of ${blockSize} bytes, wherever they begin`, () => {
    const checksummer = new PageChecksummer(4 * 32768);
    const checksums = new Uint16Array(8);
    assertProperty(
      fc.property(
        fc.nat({ max: 0xffffffff }),
        fc.nat(100),
        fc.integer({ min: 0, max: 3 }),
        fc.nat({ max: 0xffffffff }),
        (firstBlock, sixteens, pageCount, seed) => {
          fillFrom(seed, checksummer.pages);
          const before = Buffer.from(checksummer.pages);
          const offset = 16 * sixteens;
          checksummer.compute(offset, pageCount, blockSize, firstBlock, checksums);
          for (let i = 0; i < pageCount; i++) {
            const start = offset + i * blockSize;
            const page = checksummer.pages.subarray(start, start + blockSize);
            assert.equal(checksums[i], pageChecksum(page, (firstBlock + i) >>> 0));
          }
          assert.ok(before.equals(checksummer.pages));
        },
      ),
      30,
    );
  });

  test(`one byte anywhere makes a zero page of ${blockSize} bytes a page`, () => {
    const checksummer = new PageChecksummer(4 * 32768);
    const found = new Uint8Array(3);
    checksummer.pages.fill(0xff);
    const offset = 48;
    checksummer.pages.fill(0, offset, offset + 3 * blockSize);
    checksummer.findZeroPages(offset, 3, blockSize, found);
    assert.deepEqual([...found], [1, 1, 1]);
    const step = blockSize / 1024;
    for (let at = 0; at < blockSize; at += step) {
      const position = offset + blockSize + at;
      checksummer.pages[position] = 1;
      checksummer.findZeroPages(offset, 3, blockSize, found);
      assert.deepEqual([...found], [1, 0, 1]);
      assert.ok(!isZero(checksummer.pages.subarray(offset + blockSize, offset + 2 * blockSize)));
      checksummer.pages[position] = 0;
    }
    assert.ok(isZero(checksummer.pages.subarray(offset, offset + blockSize)));
  });
}

test("the stored checksum does not count, the flags beside it do", () => {
  const page = readFixture("pages/17/1260");
  const checksum = pageChecksum(page, 0);
  page.writeUInt16LE(0xffff, PAGE_HEADER.checksum);
  assert.equal(pageChecksum(page, 0), checksum);
  page.writeUInt16LE(page.readUInt16LE(PAGE_HEADER.flags) ^ 0x8000, PAGE_HEADER.flags);
  assert.notEqual(pageChecksum(page, 0), checksum);
});

test("a page header is written as it is read", () => {
  assertProperty(
    fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), (bytes) => {
      const page = Buffer.alloc(40);
      writePageHeader(parsePageHeader(Buffer.from(bytes)), page, 8);
      assert.deepEqual(page.subarray(8, 32), Buffer.from(bytes));
    }),
  );
});

test("a chunk that does not fit is refused before the module runs", () => {
  const checksummer = new PageChecksummer(8192);
  const into = new Uint16Array(1);
  assert.throws(() => checksummer.compute(0, 2, 8192, 0, new Uint16Array(2)));
  assert.throws(() => checksummer.compute(16, 1, 8192, 0, into));
  assert.throws(() => checksummer.compute(8, 1, 4096, 0, into));
  assert.throws(() => checksummer.compute(0, 1, 3000, 0, into));
  assert.throws(() => checksummer.compute(0, 2, 4096, 0, into));
  assert.throws(() => new PageChecksummer(1000));
});

test("the module loads in a worker thread", async () => {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const url = new URL(`../../src/postgres/page-checksum-wasm.${extension}`, import.meta.url);
  const worker = new Worker(
    `const { parentPort } = require("node:worker_threads");
     import(${JSON.stringify(url.href)}).then(({ PageChecksummer }) => {
       const checksummer = new PageChecksummer(8192);
       const into = new Uint16Array(1);
       checksummer.compute(0, 1, 8192, 5, into);
       parentPort.postMessage(into[0]);
     });`,
    { eval: true },
  );
  const answer = await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  assert.equal(answer, pageChecksum(Buffer.alloc(8192), 5));
});

/** A repeatable noise: xorshift32. */
function fillFrom(seed: number, bytes: Buffer): void {
  let x = seed | 1;
  for (let i = 0; i < bytes.length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes.writeInt32LE(x, i);
  }
}
