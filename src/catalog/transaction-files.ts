/**
 * What became of transactions, from pg_xact and pg_multixact of a data directory. These files are never encrypted;
 * their bytes are taken as they are: it is the manifest that they are held against, by whoever reads the catalog.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { FormatError } from "../errors.ts";
import {
  MEMBER_GROUP_SIZE_BYTES,
  memberGroupPosition,
  multixactPosition,
  readMember,
  type SlruPosition,
  type XactStatus,
  xactPosition,
  xactStatusIn,
  xidPrecedes,
} from "../postgres/transaction-status.ts";
import { factsOf } from "../postgres/version.ts";
import type { TransactionStates } from "../postgres/visibility.ts";
import { readUpTo, withFile } from "../storage/file-io.ts";
import type { FileReader } from "../storage/file-system.ts";

/** Bytes of a file read at once; statuses of neighbours are asked for together. */
const BLOCK_BYTES = 8192;
/** Blocks that are kept; 256 of pg_xact tell of eight million transactions. */
const MOST_BLOCKS = 256;
/** More members than sessions and prepared transactions that a server can have. */
const MOST_MEMBERS = 2 ** 20;
const FIRST_MULTIXACT = 1;

export class TransactionFiles implements TransactionStates {
  private readonly fs: FileReader;
  private readonly datadir: Datadir;
  private readonly blocks: Map<string, Buffer> = new Map();

  constructor(fs: FileReader, datadir: Datadir) {
    this.fs = fs;
    this.datadir = datadir;
  }

  /** @throws {FormatError} when pg_xact no longer, or not yet, has it. */
  statusOf(xid: number): XactStatus {
    const { blockSizeBytes, checkpoint } = this.datadir.control;
    const byte = this.read(xactPosition(xid, blockSizeBytes), 1);
    if (byte !== undefined) return xactStatusIn(byte.readUInt8(0), xid);
    // What came after the last checkpoint may not have reached the disk.
    if (!xidPrecedes(xid, checkpoint.nextXid)) return "in-progress";
    throw missing(`the state of transaction ${xid}`, xactPosition(xid, blockSizeBytes));
  }

  updaterOf(multixactId: number): number | undefined {
    const { first, count } = this.membersOf(multixactId);
    for (let number = first; number < first + count; number++) {
      const { xid, updates } = this.member(number);
      if (updates) return xid;
    }
    return undefined;
  }

  /** After a clean stop nothing is newer than the last checkpoint; otherwise the files may be ahead of it. */
  isInFuture(xid: number): boolean {
    const { state, checkpoint } = this.datadir.control;
    return state === "shut down" && !xidPrecedes(xid, checkpoint.nextXid);
  }

  private membersOf(multixactId: number): { first: number; count: number } {
    const { checkpoint } = this.datadir.control;
    const first = this.firstMember(multixactId);
    const following = multixactId === 0xffffffff ? FIRST_MULTIXACT : multixactId + 1;
    const end =
      following === checkpoint.nextMulti ? checkpoint.nextMultiOffset : this.firstMember(following);
    // Numbers of 32 bits go round.
    const count = end >= first ? end - first : end + 2 ** 32 - first;
    if (count <= MOST_MEMBERS) return { first, count };
    throw new FormatError(`damaged multixact: ${multixactId} has ${count} members`);
  }

  private firstMember(multixactId: number): number {
    const { major, control } = this.datadir;
    const { multixactOffsetBytes } = factsOf(major);
    const position = multixactPosition(multixactId, major, control.blockSizeBytes);
    const entry = this.read(position, multixactOffsetBytes);
    if (entry === undefined) throw missing(`multixact ${multixactId}`, position);
    return multixactOffsetBytes === 8 ? Number(entry.readBigUInt64LE(0)) : entry.readUInt32LE(0);
  }

  private member(number: number): { xid: number; updates: boolean } {
    const { major, control } = this.datadir;
    const position = memberGroupPosition(number, major, control.blockSizeBytes);
    const group = this.read(position, MEMBER_GROUP_SIZE_BYTES);
    if (group === undefined) throw missing(`member ${number} of a multixact`, position);
    return readMember(group, number, position.path);
  }

  /** Undefined where the file is missing or ends before. */
  private read({ path, offsetBytes }: SlruPosition, length: number): Buffer | undefined {
    const start = Math.floor(offsetBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const name = `${path}:${start}`;
    let block = this.blocks.get(name);
    if (block === undefined) {
      block = this.readBlock(joinPath(this.datadir.root, path), start);
      if (this.blocks.size >= MOST_BLOCKS) this.blocks.clear();
      this.blocks.set(name, block);
    }
    const at = offsetBytes - start;
    return at + length <= block.length ? block.subarray(at, at + length) : undefined;
  }

  /** With what an entry at the block's end may need of the next. */
  private readBlock(path: BytePath, start: number): Buffer {
    if (this.fs.statFollowing(path) === undefined) return Buffer.alloc(0);
    const block = Buffer.alloc(BLOCK_BYTES + MEMBER_GROUP_SIZE_BYTES);
    const count = withFile(this.fs, path, (file) => readUpTo(file, block, 0, block.length, start));
    return block.subarray(0, count);
  }
}

function missing(what: string, { path, offsetBytes }: SlruPosition): FormatError {
  return new FormatError(`${what} is not known: "${path}" has no offset ${offsetBytes}`, {
    hint: "Names of relations cannot be read; paths still work. Restore the file from a backup.",
  });
}
