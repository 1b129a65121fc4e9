/**
 * Files and folders of an encrypted directory that more people can get at than PostgreSQL lets be, or that are another's:
 * owner and mode are not authenticated, and somebody may have opened them so that they are open when they are plain.
 * Decryption takes that away (datadir/plain-access.ts); verify says that it is so.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { isWiderThanPlain, type PlainAccess, plainAccess } from "../datadir/plain-access.ts";
import { StorageError } from "../errors.ts";
import type { FileStat, FileSystem } from "../storage/file-system.ts";

/** How many there are, and the first of them. */
interface Found {
  count: number;
  first: string;
}

export class AccessNotes {
  private readonly fs: FileSystem;
  private readonly root: BytePath;
  private readonly access: PlainAccess;
  private readonly wide: Found = { count: 0, first: "" };
  private readonly strange: Found = { count: 0, first: "" };

  constructor(fs: FileSystem, { root }: Datadir) {
    this.fs = fs;
    this.root = root;
    this.access = plainAccess(fs, root);
    this.look("" as BytePath);
  }

  /** @param path - of a file or folder, or of a link that is followed. */
  look(path: BytePath): void {
    const stat = this.statOf(path);
    if (stat === undefined || (stat.kind !== "file" && stat.kind !== "directory")) return;
    const name = path === "" ? "the directory itself" : displayPath(path);
    if (isWiderThanPlain(stat)) note(this.wide, `${name} (mode 0${stat.mode.toString(8)})`);
    const { uid, gid } = this.access;
    if (stat.uid !== uid || stat.gid !== gid)
      note(this.strange, `${name} (uid ${stat.uid}, gid ${stat.gid})`);
  }

  get notices(): string[] {
    const { uid, gid } = this.access;
    return [
      sentence(
        this.wide,
        "open to others than the owner, and the group to read",
        "decryption takes that away from what it writes",
      ),
      sentence(
        this.strange,
        `another's than the directory's (uid ${uid}, gid ${gid})`,
        "what decryption writes belongs to the directory's owner",
      ),
    ].flatMap((text) => (text === undefined ? [] : [text]));
  }

  /** What cannot be looked at is a problem of its own, which is found when it is read. */
  private statOf(path: BytePath): FileStat | undefined {
    try {
      return this.fs.statFollowing(joinPath(this.root, path));
    } catch (error) {
      if (error instanceof StorageError) return undefined;
      throw error;
    }
  }
}

function note(found: Found, first: string): void {
  if (found.count++ === 0) found.first = first;
}

function sentence({ count, first }: Found, what: string, consequence: string): string | undefined {
  if (count === 0) return undefined;
  const which = count === 1 ? `${first} is` : `${count} files and folders are`;
  const example = count === 1 ? "" : `, the first of them ${first}`;
  return `${which} ${what}${example}; ${consequence}`;
}
