/**
 * The smallest cluster that has one of everything the protocols tell apart: relation files of one and of several
 * sidecar pages, a second segment, an odd tail, an empty file, a second database to be left out of scope, a tablespace,
 * whole files that are sealed, one of them expendable, and files that stay readable. Blocks of 1 kB keep it small
 * enough for a hundred thousand directories to be tried. Each generation of its work has contents of its own, so that
 * a mixture of two can be told by looking.
 */
import { crc32c } from "../../src/postgres/crc32c.ts";
import { readFixture } from "../support/fixtures.ts";
import type { Random } from "../support/crash-nodes.ts";
import { TABLESPACE_LINK, type Thing } from "./image.ts";

/** A plain data directory. */
export type Tree = ReadonlyMap<string, Thing>;

export const BLOCK_BYTES = 1024;
export const BLOCKS_PER_SEGMENT = 8;
export const DATABASE = "5";
export const EXPENDABLE = "global/pg_internal.init";
export const CONTROL = "global/pg_control";
export const AUTO_CONF = "postgresql.auto.conf";
export const HBA = "pg_hba.conf";
export const XACT = "pg_xact/0000";
/** In the database that a part leaves out. */
export const OUT_OF_PART = "base/6/3000";
export const IN_TABLESPACE: string = `${TABLESPACE_LINK}/PG_17_202406281/5/17572`;
const LARGE = "base/5/2600";

/** Offsets in pg_control of 17. */
const AT = { checkpoint: 32, blockSize: 216, blocksPerSegment: 220, crc: 288 } as const;

const FOLDERS: readonly string[] = [
  "base",
  "base/5",
  "base/6",
  "global",
  "pg_stat",
  "pg_tblspc",
  "pg_wal",
  "pg_wal/archive_status",
  "pg_xact",
];

/** The first generation. */
export function firstTree(): Tree {
  const tree = new Map<string, Thing>(FOLDERS.map((path) => [path, "folder"]));
  const say = (path: string, text: string): void => void tree.set(path, Buffer.from(text));
  say("PG_VERSION", "17\n");
  say("base/5/PG_VERSION", "17\n");
  say("base/6/PG_VERSION", "17\n");
  say("postgresql.conf", "max_connections = 20\n");
  say(HBA, "local all all scram-sha-256\n");
  say(AUTO_CONF, "work_mem = '4MB'\n");
  say("pg_stat/pgstat.stat", "statistics of generation 0\n".repeat(20));
  say("pg_wal/000000010000000000000015", "not a whole segment\n".repeat(30));
  say(EXPENDABLE, "cached catalogs\n".repeat(12));
  tree.set(CONTROL, withCrc(smallControl()));
  tree.set("global/pg_filenode.map", Buffer.alloc(524, 17));
  tree.set(XACT, Buffer.alloc(256, 0x55));
  tree.set("global/1262", pages("1262", 0, 1));
  tree.set("base/5/1259", pages("1259", 0, 2));
  tree.set("base/5/1259_vm", pages("1259_vm", 0, 1));
  tree.set(LARGE, pages("2600", 0, BLOCKS_PER_SEGMENT));
  tree.set(`${LARGE}.1`, pages("2600.1", 0, 3));
  tree.set("base/5/2619", Buffer.concat([pages("2619", 0, 1), Buffer.from("an odd tail")]));
  tree.set("base/5/7001", Buffer.alloc(0));
  tree.set(OUT_OF_PART, pages("3000", 0, 1));
  tree.set(TABLESPACE_LINK, "tablespace");
  tree.set(`${TABLESPACE_LINK}/PG_17_202406281`, "folder");
  tree.set(`${TABLESPACE_LINK}/PG_17_202406281/5`, "folder");
  tree.set(IN_TABLESPACE, pages("17572", 0, 1));
  return tree;
}

/** What a server might do until it is stopped again. @param generation - from 1, a new number each time. */
export function nightOfWork(before: Tree, generation: number, random: Random): Tree {
  const tree = new Map(before);
  const relations = relationsOf(before);
  for (const path of relations) {
    const content = contentOf(before, path);
    if (path !== LARGE && random() < 0.5) continue;
    const blocks = Math.max(1, Math.floor(content.length / BLOCK_BYTES));
    if (path === LARGE) {
      // One page of many: what a sync patches.
      const next = Buffer.from(content);
      page(path, generation, 3).copy(next, 3 * BLOCK_BYTES);
      tree.set(path, next);
    } else if (random() < 0.2) {
      tree.set(path, pages(path, generation, blocks + 1));
    } else {
      tree.set(path, pages(path, generation, blocks));
    }
  }
  const [gone] = relations.filter((path) => /\/8\d\d\d$/.test(path));
  if (gone !== undefined && random() < 0.5) tree.delete(gone);
  tree.set(`base/5/${8000 + generation}`, pages("new", generation, 1 + Math.floor(2 * random())));
  tree.set(XACT, Buffer.alloc(256, generation));
  tree.set("pg_stat/pgstat.stat", Buffer.from(`statistics of ${generation}\n`.repeat(20)));
  if (random() < 0.5) tree.set(AUTO_CONF, Buffer.from(`work_mem = '${generation}MB'\n`));
  tree.set(CONTROL, laterControl(contentOf(before, CONTROL)));
  return tree;
}

export function relationsOf(tree: Tree): string[] {
  return [...tree.keys()].filter(
    (path) => /\/[1-9]\d*(_vm)?(\.\d+)?$/.test(path) && isFile(tree, path),
  );
}

export function isFile(tree: Tree, path: string): boolean {
  return typeof tree.get(path) === "object";
}

export function contentOf(tree: Tree, path: string): Buffer {
  const thing = tree.get(path);
  if (typeof thing !== "object") throw new Error(`no file ${path}`);
  return thing;
}

/** Pages that nobody but who asks for them has written. */
export function pages(who: string, generation: number, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => page(who, generation, i)));
}

function page(who: string, generation: number, block: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES, `${who}, block ${block}, generation ${generation}; `);
  bytes.fill(0, 0, 24);
  bytes.writeUInt32LE(generation, 4);
  bytes.writeUInt16LE(28, 12);
  bytes.writeUInt16LE(64, 14);
  bytes.writeUInt16LE(BLOCK_BYTES, 16);
  bytes.writeUInt16LE(BLOCK_BYTES + 4, 18);
  return bytes;
}

function smallControl(): Buffer {
  const control = Buffer.from(readFixture("control/17/pg_control"));
  control.writeUInt32LE(BLOCK_BYTES, AT.blockSize);
  control.writeUInt32LE(BLOCKS_PER_SEGMENT, AT.blocksPerSegment);
  return control;
}

function laterControl(before: Buffer): Buffer {
  const control = Buffer.from(before);
  control.writeBigUInt64LE(control.readBigUInt64LE(AT.checkpoint) + 4096n, AT.checkpoint);
  return withCrc(control);
}

function withCrc(control: Buffer): Buffer {
  control.writeUInt32LE(crc32c(control, 0, AT.crc), AT.crc);
  return control;
}
