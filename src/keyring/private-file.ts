/**
 * Files that hold secrets: keyrings, key files, passphrase files. They are regular files that nobody but their
 * owner can read; anything else is refused before a byte of it is used.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { KeyError } from "../errors.ts";
import { readUpTo } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";

/**
 * The content of a secret file, which the caller wipes. Symbolic links are followed: mounted secrets are links.
 * @param what - for messages: `key file`, `keyring`.
 * @throws {KeyError} when it is missing, no regular file, readable by group or others, or over the limit.
 */
export function readPrivateFile(
  fs: FileSystem,
  path: BytePath,
  what: string,
  limitBytes: number,
): Buffer {
  const named = `${what} "${displayPath(path)}"`;
  // Before opening: to open a named pipe would wait for its writer.
  const before = fs.statFollowing(path);
  if (before === undefined) {
    throw new KeyError(`${named} does not exist`, { hint: `Check the path of the ${what}.` });
  }
  requirePrivate(before.kind, before.mode, named, path);
  const file = fs.open(fs.realPath(path));
  try {
    const { kind, mode, sizeBytes } = file.stat();
    requirePrivate(kind, mode, named, path);
    if (sizeBytes > limitBytes) {
      throw new KeyError(
        `${named} has ${sizeBytes} bytes, more than the ${limitBytes} it can have`,
        {
          hint: "Is this the right file?",
        },
      );
    }
    // One byte more tells a file that is growing.
    const buffer = Buffer.alloc(sizeBytes + 1);
    const count = readUpTo(file, buffer, 0, buffer.length, 0);
    if (count !== sizeBytes) {
      buffer.fill(0);
      throw new KeyError(`${named} is changing while it is read`, { hint: "Try again." });
    }
    return buffer.subarray(0, count);
  } finally {
    file.close();
  }
}

function requirePrivate(kind: string, mode: number, named: string, path: BytePath): void {
  if (kind !== "file") {
    throw new KeyError(`${named} is not a regular file`, {
      hint: "Give the path of a file. A pipe can be given by its number: --passphrase-fd.",
    });
  }
  if ((mode & 0o077) !== 0) {
    throw new KeyError(
      `${named} can be read by others: its mode is 0${mode.toString(8).padStart(3, "0")}`,
      { hint: `Take the rights of group and others away: chmod 600 ${shellWord(path)}` },
    );
  }
}

/** The path as one word of a shell command. */
function shellWord(path: BytePath): string {
  const shown = displayPath(path);
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}
