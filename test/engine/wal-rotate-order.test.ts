/**
 * The order in which `rotate --wal` puts new segments in readable mode in the place of the old ones: a sidecar and a segment
 * cannot be renamed at once, so what opens with the new sidecar must not be lost when that has its name.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { bytePath, nameOf } from "../../src/bytes/byte-path.ts";
import { rotateWal } from "../../src/engine/wal-readable/rotate-wal.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { StoppingFileSystem } from "../support/stopping-file-system.ts";
import { crossing, encrypt, isSegment, writeFolder } from "../support/wal-folders.ts";

test("a rotation makes the working names durable before the first of them goes, segment by segment", async (t) => {
  const folder = writeFolder(t, crossing());
  await encrypt(folder, { keys: testKeys(1) });
  const fs = new StoppingFileSystem();
  const request = { archive: bytePath(folder), fromKey: undefined, dryRun: false };
  await rotateWal(new SmallEngine({ fs }).engine, testKeys(2), request);
  const done = fs.log.map((what, i) => `${what} ${nameOf(fs.paths[i] ?? assert.fail())}`);
  const segments = readdirSync(folder).filter(isSegment).sort();
  assert.equal(segments.length, 3);
  for (const segment of segments) {
    const at = (what: string): number => {
      const found = done.indexOf(what);
      assert.ok(found >= 0, `${what} is not in ${done.join(", ")}`);
      return found;
    };
    const renames = [at(`rename ${segment}_tde`), at(`rename ${segment}`)] as const;
    for (const written of [`${segment}_tdenew`, `${segment}_tdenew_tde`]) {
      // Content, then name: until both are durable, the old pair stays.
      assert.ok(at(`sync ${written}`) < renames[0], written);
      const created = at(`create ${written}`);
      const syncs = done.flatMap((what, i) =>
        what === `syncDirectory ${nameOf(bytePath(folder))}` ? [i] : [],
      );
      assert.ok(
        syncs.some((i) => i > created && i < renames[0]),
        `the name of ${written}`,
      );
      assert.ok(
        syncs.some((i) => i > renames[0] && i < renames[1]),
        `the name of ${segment}_tde`,
      );
    }
  }
  assert.match(done.at(-1) ?? "", /^(syncDirectory|remove)/);
});
