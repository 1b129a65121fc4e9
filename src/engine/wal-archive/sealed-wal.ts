/**
 * A sealed file of WAL, opened into memory: a segment for whoever reads its records, a history for whoever reads its
 * lines.
 */
import { type BytePath, displayPath, nameOf } from "../../bytes/byte-path.ts";
import {
  openSealedContent,
  type SealedBytes,
  type SealedContent,
} from "../../datadir/sealed-content.ts";
import { IntegrityError, TdeError } from "../../errors.ts";
import {
  CONTAINER_MAGIC,
  type ContainerHeader,
  fileContext,
  walContext,
} from "../../format/container.ts";
import type { DataKeys } from "../../keyring/data-keys.ts";
import { readUpTo } from "../../storage/file-io.ts";
import type { OpenFile } from "../../storage/file-system.ts";
import { archivedKind } from "../../wal/wal-file-name.ts";

/** The largest segment. */
export const WAL_FILE_LIMIT_BYTES: number = 2 ** 30;
/** A timeline history has a line for each switch, a backup history about ten. */
export const WAL_HISTORY_LIMIT_BYTES: number = 2 ** 24;

/** What the content of a file of an archive can have, by its name. */
export function archivedLimitBytes(name: BytePath): number {
  const kind = archivedKind(name);
  return kind === "history" || kind === "backup" ? WAL_HISTORY_LIMIT_BYTES : WAL_FILE_LIMIT_BYTES;
}

/** Whether a file begins as a container does. What cannot be read is none: reading it says why. */
export function beginsAsContainer(file: OpenFile): boolean {
  const start = Buffer.alloc(CONTAINER_MAGIC.length);
  try {
    return isContainer(start.subarray(0, readUpTo(file, start, 0, start.length, 0)));
  } catch (error) {
    if (error instanceof TdeError) return false;
    throw error;
  }
}

/** Whether bytes begin as a container does. */
export function isContainer(bytes: Buffer): boolean {
  return bytes.subarray(0, CONTAINER_MAGIC.length).equals(CONTAINER_MAGIC);
}

/** What encrypt-datadir seals a whole file of pg_wal as. */
export function sealedInPgWalAs(name: BytePath): string {
  return fileContext(`pg_wal/${name}`);
}

/** Whether a container says that it was sealed in the pg_wal of a data directory, under whatever name. */
export function isOfPgWal({ context }: Pick<ContainerHeader, "context">): boolean {
  return context.startsWith(sealedInPgWalAs("" as BytePath));
}

export interface SealedWal {
  readonly header: ContainerHeader;
  readonly content: Buffer;
}

/**
 * A file of an archive, under its own name. What "tde wal restore" gives to a server, "tde wal verify" must have said of
 * the same file: both open it here, and so by one rule.
 * @param file - stays open.
 * @param systemIdentifier - of the cluster that it must be from, where that is known.
 * @throws {FormatError} {KeyError} {IntegrityError} as openSealedContent, and when it was not archived under this name.
 */
export function openArchivedWal(
  file: SealedBytes,
  keys: DataKeys,
  systemIdentifier?: bigint,
): SealedContent {
  const name = nameOf(file.path);
  const context = walContext(name);
  return openSealedContent(file, archivedLimitBytes(name), { keys, context, systemIdentifier });
}

/** Of an archive, in memory. @throws as openArchivedWal. */
export async function readArchivedWal(file: SealedBytes, keys: DataKeys): Promise<SealedWal> {
  return await contentOf(openArchivedWal(file, keys));
}

/**
 * @param file - of an archive, or of the pg_wal of an encrypted data directory; stays open.
 * @throws {FormatError} {KeyError} {IntegrityError} when it does not open, or is sealed as another file.
 */
export async function readSealedWal(file: SealedBytes, keys: DataKeys): Promise<SealedWal> {
  return await readSealedAs(file, keys, () => nameOf(file.path));
}

/** As readSealedWal, of bytes that have no name: any file of WAL. */
export async function readUnnamedSealedWal(file: SealedBytes, keys: DataKeys): Promise<SealedWal> {
  return await readSealedAs(file, keys, (context) => context.replace(/^.*[:/]/s, "") as BytePath);
}

async function readSealedAs(
  file: SealedBytes,
  keys: DataKeys,
  nameIn: (context: string) => BytePath,
): Promise<SealedWal> {
  const opened = openSealedContent(file, WAL_FILE_LIMIT_BYTES, { keys });
  const { context } = opened.header;
  const name = nameIn(context);
  const expected = [walContext(name), sealedInPgWalAs(name)];
  if (!expected.includes(context)) throw sealedAsAnother(file.path, context);
  return await contentOf(opened);
}

async function contentOf({ header, parts }: SealedContent): Promise<SealedWal> {
  const content = Buffer.allocUnsafe(header.contentSizeBytes ?? WAL_FILE_LIMIT_BYTES);
  let sizeBytes = 0;
  for await (const part of parts) {
    content.set(part, sizeBytes);
    sizeBytes += part.length;
  }
  return { header, content: content.subarray(0, sizeBytes) };
}

function sealedAsAnother(path: BytePath, context: string): IntegrityError {
  return new IntegrityError(
    `"${displayPath(path)}" holds another file: it is "${displayPath(context)}"`,
    { hint: "The file was moved or renamed. Give it its own name." },
  );
}
