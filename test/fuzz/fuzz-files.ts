/**
 * One round: a segment of a real server, or an archive of it, is damaged as a file and given to `tde waldump` with
 * options that come as they may, in this process. Throws where it ends with anything but its exit codes.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { create } from "tar";
import { runWaldump } from "../../src/cli/waldump-action.ts";
import { WAL_PAGE_BYTES } from "../../src/wal/page-header.ts";
import { readFixture } from "../support/fixtures.ts";
import { SMALL_SET_MAJORS, unpackSmallSet } from "../support/waldump-cases.ts";
import { damage, flipBit } from "./mutate.ts";
import { type Random, seededRandom } from "./random.ts";

const SEGMENT = "00000002000000030000000B";
/** Of that segment and of all others of the fixtures; what its records say does not matter here. */
const SEGMENTS = [
  `tl2/${SEGMENT}`,
  "tl2/000000010000000300000009",
  "contrecord/00000001000000030000000C",
  "contrecord/00000001000000030000000D",
] as const;

export class FileFuzzer {
  readonly #folder: string;
  readonly #fixtures: ReadonlyMap<number, string>;

  /** @param folder - empty, and this one's alone. */
  constructor(folder: string) {
    this.#folder = folder;
    this.#fixtures = new Map(
      SMALL_SET_MAJORS.map((major) => {
        const path = join(folder, `fixture-${major}`);
        mkdirSync(path);
        unpackSmallSet(major, path);
        return [major, path];
      }),
    );
  }

  async run(seed: number): Promise<void> {
    const random = seededRandom(seed);
    const folder = join(this.#folder, "round");
    mkdirSync(folder);
    try {
      const args = this.#damagedFile(folder, random);
      const status = await runWaldump([...args, ...options(folder, random)]);
      assert.ok(status === 0 || status === 1, `exit code ${status}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** @returns the arguments that name it. */
  #damagedFile(folder: string, random: Random): string[] {
    const name = random.pick(SEGMENTS);
    const fixture = this.#fixtures.get(random.pick(SMALL_SET_MAJORS)) ?? "";
    const fileName = name.slice(name.indexOf("/") + 1);
    const plain = readFileSync(join(fixture, name));
    const path = (suffix: string): string => join(folder, `${fileName}${suffix}`);
    switch (random.below(6)) {
      case 0: {
        writeFileSync(path(".gz"), maybeDamaged(gzipSync(damagedSegment(plain, random)), random));
        return [path(".gz")];
      }
      case 1: {
        const suffix = random.pick(["zst", "lz4"]);
        const packed = Buffer.from(readFixture(`waldump/17-${SEGMENT}.${suffix}`));
        damage(packed, 0, random);
        writeFileSync(join(folder, `${SEGMENT}.${suffix}`), packed);
        return ["-p", folder, SEGMENT];
      }
      case 2: {
        writeFileSync(path(""), damagedSegment(plain, random));
        const parts = create({ sync: true, cwd: folder }, [fileName]);
        const archive = join(folder, random.pick(["wal.tar", "wal.tgz"]));
        const tar = maybeDamaged(Buffer.concat([...parts]), random);
        writeFileSync(archive, archive.endsWith("z") ? gzipSync(tar) : tar);
        return ["-p", archive, "-s", `3/${(0x900000 + random.below(0x400000)).toString(16)}`];
      }
      default:
        writeFileSync(path(""), damagedSegment(plain, random));
        return random.once(2) ? [path("")] : ["-p", folder, fileName];
    }
  }
}

/** Bits, pages and the end of a segment. */
function damagedSegment(plain: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(plain);
  const pages = bytes.length / WAL_PAGE_BYTES;
  const page = (): number => random.below(pages) * WAL_PAGE_BYTES;
  for (let i = random.below(4); i >= 0; i--) {
    switch (random.below(6)) {
      case 0:
        flipBit(bytes, random.below(bytes.length), random);
        break;
      case 1:
        // A page's header.
        flipBit(bytes, page() + random.below(40), random);
        break;
      case 2:
        bytes.copy(bytes, page(), page(), page());
        break;
      case 3: {
        const start = random.below(bytes.length);
        bytes.fill(0, start, Math.min(start + random.below(20_000), bytes.length));
        break;
      }
      case 4:
        damage(bytes.subarray(0, WAL_PAGE_BYTES), 0, random);
        break;
      default:
        if (random.once(4)) bytes = bytes.subarray(0, random.below(bytes.length));
    }
    if (bytes.length < plain.length) break;
  }
  return bytes;
}

function maybeDamaged(bytes: Buffer, random: Random): Buffer {
  if (random.once(2)) damage(bytes, 0, random);
  return random.once(8) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

function options(folder: string, random: Random): string[] {
  const choices: readonly (readonly string[])[] = [
    ["--bkp-details"],
    ["--stats"],
    ["--stats=record"],
    ["--format=json"],
    ["--fullpage"],
    ["--quiet"],
    [`--save-fullpage=${join(folder, "images")}`],
    ["--rmgr=Heap", "--rmgr=Btree"],
    ["--limit", String(random.below(3000))],
    ["--xid", String(700 + random.below(1000))],
    ["--relation", "1663/5/1259"],
    ["--fork", random.pick(["main", "fsm", "vm", "init"])],
    ["--start", `3/${random.below(0xe00000).toString(16)}`],
    ["--end", `3/${random.below(0xe00000).toString(16)}`],
    ["--timeline", String(random.below(4))],
    ["--jobs", "1"],
  ];
  return choices.filter(() => random.once(7)).flat();
}
