/**
 * What an entry of the journal says: steps that are due, or bytes that are to be written in place. Pure functions
 * between values and bytes; a MAC has been checked before any of these bytes is read.
 * docs/FORMAT.md, "Records".
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { FormatError } from "../errors.ts";

const ACTION = { rename: 1, remove: 2 } as const;

/** One step; paths are relative to the data directory. */
export type DueStep =
  | { readonly action: "rename"; readonly from: BytePath; readonly to: BytePath }
  | { readonly action: "remove"; readonly path: BytePath };

/** What one file is to hold: some bytes anew, and its size. Of several for one file no bytes overlap, and the last size holds. */
export interface FilePatch {
  /** Relative to the data directory. */
  readonly path: BytePath;
  /** Of the file afterwards: it is cut there, or it grows. */
  readonly sizeBytes: number;
  readonly parts: readonly PatchPart[];
}

export interface PatchPart {
  /** Offset in the file. */
  readonly position: number;
  readonly bytes: Uint8Array;
}

/** u8 action, then each path as u16 length and bytes; one after the other. */
export function serializeSteps(steps: readonly DueStep[]): Buffer {
  return Buffer.concat(
    steps.map((step) => {
      const paths = step.action === "rename" ? [step.from, step.to] : [step.path];
      return Buffer.concat([Buffer.of(ACTION[step.action]), ...paths.map(serializePath)]);
    }),
  );
}

export function parseSteps(body: Buffer): DueStep[] {
  const steps: DueStep[] = [];
  const reader = new EntryReader(body);
  while (!reader.atEnd) {
    const action = reader.u8();
    if (action === ACTION.rename)
      steps.push({ action: "rename", from: reader.path(), to: reader.path() });
    else if (action === ACTION.remove) steps.push({ action: "remove", path: reader.path() });
    else throw new FormatError(`"tde.journal" has an unknown action ${action}`);
  }
  return steps;
}

/** Each file: u16 length and path, u64 size, u32 number of parts; each part: u64 position, u32 length, bytes. */
export function serializePatches(patches: readonly FilePatch[]): Buffer {
  const pieces: Uint8Array[] = [];
  for (const { path, sizeBytes, parts } of patches) {
    const head = Buffer.alloc(12);
    head.writeBigUInt64LE(BigInt(sizeBytes), 0);
    head.writeUInt32LE(parts.length, 8);
    pieces.push(serializePath(path), head);
    for (const { position, bytes } of parts) {
      const place = Buffer.alloc(PART_HEAD_BYTES);
      place.writeBigUInt64LE(BigInt(position), 0);
      place.writeUInt32LE(bytes.length, 8);
      pieces.push(place, bytes);
    }
  }
  return Buffer.concat(pieces);
}

/** @throws {FormatError} also when a part does not lie within its file. */
export function parsePatches(body: Buffer): FilePatch[] {
  const patches: FilePatch[] = [];
  const reader = new EntryReader(body);
  while (!reader.atEnd) {
    const path = reader.path();
    const sizeBytes = reader.u64();
    const parts: PatchPart[] = [];
    for (let left = reader.u32(); left > 0; left--) {
      const position = reader.u64();
      const bytes = reader.bytes(reader.u32());
      if (position + bytes.length > sizeBytes) {
        throw new FormatError('"tde.journal" writes behind the end of a file');
      }
      parts.push({ position, bytes });
    }
    patches.push({ path, sizeBytes, parts });
  }
  return patches;
}

/** Of a part: position and length. */
const PART_HEAD_BYTES = 12;

/** Takes one field after the other; what is cut is an error with a name. */
class EntryReader {
  private readonly body: Buffer;
  private position = 0;

  constructor(body: Buffer) {
    this.body = body;
  }

  get atEnd(): boolean {
    return this.position === this.body.length;
  }

  u8(): number {
    return this.body.readUInt8(this.take(1));
  }

  u32(): number {
    return this.body.readUInt32LE(this.take(4));
  }

  /** At most 2^53 - 1: no file is larger. */
  u64(): number {
    const value = this.body.readBigUInt64LE(this.take(8));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new FormatError('"tde.journal" names a place that no file can have');
    }
    return Number(value);
  }

  bytes(length: number): Buffer {
    const at = this.take(length);
    return this.body.subarray(at, at + length);
  }

  path(): BytePath {
    const path = this.bytes(this.body.readUInt16LE(this.take(2))).toString("latin1");
    assertInside(path);
    return path as BytePath;
  }

  private take(length: number): number {
    const at = this.position;
    if (length > this.body.length - at) {
      throw new FormatError('"tde.journal" has an entry that is cut');
    }
    this.position += length;
    return at;
  }
}

/** No entry may lead out of the directory. */
function assertInside(path: string): void {
  const parts = path.split("/");
  if (path.includes("\0") || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new FormatError('"tde.journal" names a path outside the data directory');
  }
}

function serializePath(path: BytePath): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(path.length, 0);
  return Buffer.concat([length, Buffer.from(path, "latin1")]);
}
