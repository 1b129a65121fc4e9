/**
 * The second opinion on stored files, by which the oracle reads a disk: what tde sealed opens by the book, and what was
 * changed does not.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sidecarName } from "../../src/datadir/relation-path.ts";
import type { BytePath } from "../../src/bytes/byte-path.ts";
import { SimulatedTde } from "../support/simulated-tde.ts";
import { PART, PLACES } from "./history.ts";
import { type Image, imageOf, install } from "./image.ts";
import { difference, Reader } from "./reading.ts";
import { A, encryptedDisk, plainDisk } from "./stage.ts";
import { AUTO_CONF, CONTROL, contentOf, firstTree, relationsOf } from "./tiny-cluster.ts";

async function readerOf(tde: SimulatedTde): Promise<Reader> {
  const keys = (await tde.openKeyring()).dataKeys();
  return new Reader(keys, contentOf(firstTree(), CONTROL).readBigUInt64LE(0));
}

test("an encrypted directory reads as the plain one, whatever its scope", async () => {
  for (const scope of [undefined, PART]) {
    const disk = await plainDisk();
    const tde = new SimulatedTde(disk);
    await tde.encrypt(A, undefined, scope);
    const { tree, sealed, manifest, journal } = (await readerOf(tde)).read(imageOf(disk, A));
    assert.equal(difference(tree, firstTree()), undefined);
    const files = relationsOf(firstTree()).filter(
      (path) => contentOf(firstTree(), path).length > 0,
    );
    for (const path of [AUTO_CONF, ...files]) {
      const isIn = scope === undefined || path === AUTO_CONF || path.includes("/5/");
      assert.equal(sealed.has(path), isIn, path);
    }
    assert.equal(manifest?.epoch, 1n);
    assert.equal(journal, undefined);
  }
});

test("a plain directory without postgresql.auto.conf reads so behind the guard, too", async () => {
  const disk = await plainDisk();
  const tree = new Map(firstTree());
  tree.delete(AUTO_CONF);
  install(disk, PLACES.a, tree);
  const tde = new SimulatedTde(disk);
  await tde.encrypt(A);
  assert.equal(difference((await readerOf(tde)).read(imageOf(disk, A)).tree, tree), undefined);
});

test("no sealed file opens with a flipped bit in it or in its sidecar", async () => {
  const disk = await encryptedDisk();
  const reader = await readerOf(new SimulatedTde(disk));
  const image = imageOf(disk, A);
  for (const path of [...reader.read(image).sealed].filter((one) => one !== AUTO_CONF)) {
    for (const name of [path, sidecarName(path as BytePath)]) {
      const bytes = image.get(name);
      if (typeof bytes !== "object") continue;
      const bits = 8 * bytes.length;
      for (let bit = 8 * 24 + 3; bit < bits; bit += Math.ceil(bits / 7)) {
        const changed: Image = new Map([...image, [name, flipped(bytes, bit)]]);
        // Unused slots behind the last one count in the sidecar page's MAC alone, and that counts here, too.
        assert.equal(reader.read(changed).sealed.has(path), false, `${name}, bit ${bit}`);
      }
    }
  }
});

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}
