/**
 * A segment in memory, as a pipe, a tar archive or a decompressor gave it: plain, sealed whole, or in readable mode.
 */
import { type BytePath, displayPath, joinPath } from "../../bytes/byte-path.ts";
import type { SealedBytes } from "../../datadir/sealed-content.ts";
import { sidecarName } from "../../datadir/relation-path.ts";
import { IntegrityError, KeyError } from "../../errors.ts";
import { firstPageOf } from "../../format/wal/wal-page.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { LONG_HEADER_BYTES } from "../../wal/page-header.ts";
import { isContainer, readSealedWal } from "../wal-archive/sealed-wal.ts";
import { openStoredBytes } from "../wal-readable/read-stored.ts";
import type { OpenSegment, WalKeys } from "./wal-files.ts";

/** Where a segment comes from. */
export interface SegmentOrigin {
  /** The directory or archive, for messages. */
  readonly folder: BytePath;
  /** Of the segment; what is sealed opens under this name only. */
  readonly name: BytePath;
  readonly keys: WalKeys;
  /** Gives its sidecar; undefined where there is none. */
  readonly sidecar: () => Buffer | undefined | Promise<Buffer | undefined>;
}

/** @throws {KeyError} {IntegrityError} {FormatError} for what does not open. */
export async function openSegmentBytes(bytes: Buffer, origin: SegmentOrigin): Promise<OpenSegment> {
  const { folder, name, keys } = origin;
  const path = joinPath(folder, name);
  if (isContainer(bytes)) {
    const opened = requireKeys(await keys(), `"${displayPath(path)}"`);
    return inMemory((await readSealedWal(asFile(path, bytes), opened)).content);
  }
  if (!isGuarded(bytes)) return inMemory(bytes);
  const opened = await keys();
  if (opened === undefined) return asStructure(inMemory(bytes));
  const sidecar = await origin.sidecar();
  if (sidecar === undefined) throw withoutSidecar(folder, name);
  return inMemory(openStoredBytes({ segment: bytes, sidecar }, folder, name, opened).segment);
}

/** Without keys the structure is there, and whoever prints it is told so. */
export function asStructure(segment: OpenSegment): OpenSegment {
  return {
    isEncrypted: true,
    read: (buffer, offset, length, position) => segment.read(buffer, offset, length, position),
    close: () => segment.close(),
  };
}

/** Whether a segment has the guard of readable mode. @param start - its first bytes. */
export function isGuarded(start: Buffer): boolean {
  return start.length >= LONG_HEADER_BYTES && firstPageOf(start)?.isGuarded === true;
}

export function withoutSidecar(folder: BytePath, name: BytePath): IntegrityError {
  return new IntegrityError(
    `"${displayPath(joinPath(folder, name))}" is encrypted, and its sidecar is missing`,
    {
      hint: `Put "${displayPath(sidecarName(name))}" beside it. Without --keyring its structure is shown.`,
    },
  );
}

export function requireKeys(keys: DataKeys | undefined, what: string): DataKeys {
  if (keys !== undefined) return keys;
  throw new KeyError(`${what} is encrypted, and no keyring is named`, {
    hint: "Give --keyring or set TDE_KEYRING.",
  });
}

/** Bytes in the place of a file that is read. */
export function asFile(path: BytePath, bytes: Buffer): SealedBytes {
  return { ...inMemory(bytes), path, stat: () => ({ sizeBytes: bytes.length }) };
}

export function inMemory(bytes: Buffer): OpenSegment {
  return {
    read: (buffer, offset, length, position) => {
      const part = bytes.subarray(position, position + length);
      buffer.set(part, offset);
      return part.length;
    },
    close: () => undefined,
  };
}
