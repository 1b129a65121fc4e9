/**
 * The members of a tar archive in their order. Source: POSIX.1-2017, pax, "ustar Interchange Format". Messages are
 * those of fe_utils/astreamer_tar.c.
 */
import type { ByteStream } from "../../bytes/byte-stream.ts";
import { WaldumpError } from "./waldump-error.ts";

const BLOCK_BYTES = 512;

/** Offsets in a member's header; numbers are octal digits. */
const TAR_HEADER = {
  name: 0, //      100 bytes
  size: 124, //    12
  checksum: 148, // 8, taken for blanks in the sum
  typeFlag: 156, // 1
} as const;
const NAME_BYTES = 100;
const SIZE_BYTES = 12;
const CHECKSUM_BYTES = 8;
const BLANK = 0x20;
/** Type flags of a regular file. */
const REGULAR = ["0", "\0"];

export interface TarMember {
  readonly name: string;
  readonly isRegular: boolean;
  readonly sizeBytes: number;
}

export class TarStream {
  readonly #input: ByteStream;
  /** What of the current member was not taken, and its padding. */
  #left = 0;
  #padding = 0;

  constructor(input: ByteStream) {
    this.#input = input;
  }

  /** @returns undefined at the archive's end. @throws {WaldumpError} when it is none. */
  async next(): Promise<TarMember | undefined> {
    const rest = this.#left + this.#padding;
    if ((await this.#input.skip(rest)) < rest) throw endedEarly();
    this.#left = 0;
    this.#padding = 0;
    const header = await this.#input.take(BLOCK_BYTES);
    if (header.length === 0) return undefined;
    if (header.length < BLOCK_BYTES) throw endedEarly();
    if (header.every((byte) => byte === 0)) return undefined;
    const size = parseOctal(header, TAR_HEADER.size, SIZE_BYTES);
    if (checksumOf(header) !== parseOctal(header, TAR_HEADER.checksum, CHECKSUM_BYTES)) {
      throw new WaldumpError("input file does not appear to be a valid tar archive");
    }
    this.#left = size;
    this.#padding = (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
    const name = header.toString("latin1", TAR_HEADER.name, TAR_HEADER.name + NAME_BYTES);
    const type = String.fromCharCode(header.readUInt8(TAR_HEADER.typeFlag));
    return {
      name: name.replace(/\0.*$/s, ""),
      isRegular: REGULAR.includes(type),
      sizeBytes: size,
    };
  }

  /** The next bytes of the current member; fewer where it ends. @throws {WaldumpError} when the archive ends in it. */
  async take(count: number): Promise<Buffer> {
    const wanted = Math.min(count, this.#left);
    const bytes = await this.#input.take(wanted);
    if (bytes.length < wanted) throw endedEarly();
    this.#left -= bytes.length;
    return bytes;
  }

  async close(): Promise<void> {
    await this.#input.close();
  }
}

function parseOctal(header: Buffer, offset: number, length: number): number {
  const digits = /^ *([0-7]{1,12})/.exec(header.toString("latin1", offset, offset + length));
  return digits === null ? 0 : Number.parseInt(digits[1] ?? "0", 8);
}

function checksumOf(header: Buffer): number {
  let sum = CHECKSUM_BYTES * BLANK;
  for (const [i, byte] of header.entries()) {
    const inChecksum = i >= TAR_HEADER.checksum && i < TAR_HEADER.checksum + CHECKSUM_BYTES;
    if (!inChecksum) sum += byte;
  }
  return sum;
}

function endedEarly(): WaldumpError {
  return new WaldumpError("COPY stream ended before last file was finished");
}
