/**
 * `tde waldump` without a key on encrypted segments beside recorded runs of the real pg_waldump on the plain ones: what
 * it prints, says and ends with, also of copies that were damaged after encryption.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { encryptWal } from "../../src/engine/wal-readable/encrypt-wal.ts";
import { testKeys } from "../support/keys.ts";
import { SmallEngine } from "../support/small-cluster.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import {
  checkCase,
  type RunCase,
  runHere,
  SMALL_SET_MAJORS,
  unpackSmallSet,
  type WaldumpCase,
  type WaldumpCases,
} from "../support/waldump-cases.ts";

const HIDDEN = "<encrypted>";
const NOTICE = /^tde waldump: the WAL is encrypted: .*\n/m;

/** Damage that is done to copies is met by the same code in all majors: the oldest and the newest stand for them. */
function casesOf({ cases }: WaldumpCases, major: number): readonly WaldumpCase[] {
  const isSample = major === SMALL_SET_MAJORS[0] || major === SMALL_SET_MAJORS.at(-1);
  return cases.filter(({ name, cwd }) => {
    // Without a segment to look at, the words are those of 18.
    if (major === 13 && name.startsWith("empty-dir")) return false;
    // One byte is written over a CRC, which of encrypted bytes is another each time: it may be that byte already.
    if (name === "bad-crc-field") return false;
    return isSample || cwd !== "fresh";
  });
}

/** Of each message, by the LSN of its record, what pg_waldump prints of its content. */
function payloadsIn(output: string): Map<string, string> {
  return new Map(
    [...output.matchAll(/, lsn: (\S+), .* payload \(\d+ bytes\): (.*)$/gm)].map(
      ([, lsn = "", payload = ""]) => [lsn, payload],
    ),
  );
}

for (const major of SMALL_SET_MAJORS) {
  test(`encrypted WAL of ${major} prints without a key as its pg_waldump printed it before`, async (t) => {
    const plain = unpackSmallSet(major, temporaryDirectory(t));
    const set = unpackSmallSet(major, temporaryDirectory(t));
    for (const name of ["tl2", "contrecord", "wal"]) {
      const folder = bytePath(join(set.folder, name));
      await encryptWal(new SmallEngine().engine, testKeys(2), { folder });
    }
    const seen = { notices: 0, messages: 0 };
    const run: RunCase = async (argv, cwd) => {
      const { status, stdout, stderr } = await runHere(argv, cwd);
      const said = stderr.toString();
      if (NOTICE.test(said)) seen.notices++;
      let output = stdout.toString("latin1");
      if (output.includes(HIDDEN)) {
        const there = await runHere(argv, cwd.replace(set.folder, plain.folder));
        const payloads = payloadsIn(there.stdout.toString("latin1"));
        for (const [lsn, payload] of payloadsIn(output)) {
          assert.equal(payload, HIDDEN);
          output = output.replace(HIDDEN, payloads.get(lsn) ?? "");
          seen.messages++;
        }
      }
      const others = Buffer.from(said.replace(NOTICE, ""));
      return { status, stdout: Buffer.from(output, "latin1"), stderr: others };
    };
    for (const expected of casesOf(set, major)) await checkCase(set, expected, run);
    assert.ok(seen.notices >= 15);
    assert.ok(seen.messages > 0 || major === 13, "no message");
  });
}
