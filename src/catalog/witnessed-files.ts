/**
 * The files of a catalog as they were when it was read, so that they can be held against the manifest. A page's tag
 * proves that the page was written for its place, not that it is the newest; and pg_filenode.map and pg_xact have no
 * tags. Without this, an older pg_class put back with its older sidecar would lead a command to other files than the
 * name means.
 *
 * A file is digested on the very handle that it is then read from, so that no other file can be slipped in between.
 */
import assert from "node:assert/strict";
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import { runningSha256 } from "../crypto/primitives.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { sidecarSizeBytes } from "../datadir/relation-job.ts";
import { nameWithoutSidecarSuffix, sidecarName } from "../datadir/relation-path.ts";
import { IntegrityError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { DirectoryEntry, FileReader, FileStat, OpenFile } from "../storage/file-system.ts";

/** What was read of one file, or that it was not there. */
interface Witness {
  sizeBytes?: number;
  /** SHA-256 in hex, of a file that was read as plain. */
  content?: string;
  /** SHA-256 in hex, of the sidecar whose tags opened it. */
  sidecar?: string;
  isAbsent?: true;
}

const PART_BYTES = 2 ** 18;

export class WitnessedFiles implements FileReader {
  private readonly fs: FileReader;
  private readonly datadir: Datadir;
  /** By path relative to the data directory. */
  private readonly seen: Map<BytePath, Witness> = new Map();
  /** Since they were last held against a manifest. */
  private readonly unproved: Set<BytePath> = new Set();

  constructor(fs: FileReader, datadir: Datadir) {
    this.fs = fs;
    this.datadir = datadir;
  }

  stat(path: BytePath): FileStat | undefined {
    return this.noticing(path, this.fs.stat(path));
  }

  statFollowing(path: BytePath): FileStat | undefined {
    return this.noticing(path, this.fs.statFollowing(path));
  }

  readDirectory(path: BytePath): DirectoryEntry[] {
    return this.fs.readDirectory(path);
  }

  open(path: BytePath): OpenFile {
    if (this.fs.statFollowing(path) === undefined) this.noticing(path, undefined);
    const file = this.fs.open(path);
    try {
      this.digest(file, this.relative(path));
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * Holds what was read since the last call against the manifest, in one pass of it.
   * @throws {IntegrityError} that names the first file which is not what the manifest says.
   */
  assertAsIn(manifest: Manifest): void {
    if (!manifest.header.control.equals(this.datadir.controlBytes))
      throw notAsWritten("global/pg_control" as BytePath, "it was changed");
    if (this.unproved.size === 0) return;
    const left = new Map([...this.unproved].map((path) => [path, this.witnessOf(path)]));
    let problem: IntegrityError | undefined;
    // To the end: only there it shows that these are the bytes which were authenticated.
    for (const entry of manifest.entries()) {
      const witness = left.get(entry.path);
      if (witness === undefined) continue;
      left.delete(entry.path);
      const why = difference(entry, witness);
      if (why !== undefined) problem ??= notAsWritten(entry.path, why);
    }
    for (const [path, { isAbsent }] of left)
      if (isAbsent !== true) problem ??= notAsWritten(path, "the manifest does not name it");
    if (problem !== undefined) throw problem;
    this.unproved.clear();
  }

  private noticing(path: BytePath, stat: FileStat | undefined): FileStat | undefined {
    const relative = this.relative(path);
    // Whether a sidecar was used shows when its file is read.
    if (stat === undefined && nameWithoutSidecarSuffix(relative) === undefined)
      this.witness(relative, { isAbsent: true });
    return stat;
  }

  private digest(file: OpenFile, path: BytePath): void {
    const { blocksPerSegment, control } = this.datadir;
    const segmentBytes = blocksPerSegment * control.blockSizeBytes;
    const owner = nameWithoutSidecarSuffix(path);
    if (owner !== undefined) {
      const limit = sidecarSizeBytes(segmentBytes, control.blockSizeBytes);
      this.witness(owner, { sidecar: digestOf(file, limit, path) });
      return;
    }
    const { sizeBytes } = file.stat();
    const sidecar = joinPath(this.datadir.root, sidecarName(path));
    const isSealed = sizeBytes > 0 && this.fs.stat(sidecar) !== undefined;
    this.witness(path, {
      sizeBytes,
      ...(isSealed ? {} : { content: digestOf(file, segmentBytes, path) }),
    });
  }

  /** @throws {IntegrityError} when it is not what was read of the same file before. */
  private witness(path: BytePath, facts: Witness): void {
    const known = this.seen.get(path);
    const same = (key: keyof Witness): boolean =>
      known?.[key] === undefined || facts[key] === undefined || known[key] === facts[key];
    if (!same("sizeBytes") || !same("content") || !same("sidecar"))
      throw notAsWritten(path, "it is changing while it is read");
    const all = { ...known, ...facts };
    if (known !== undefined && Object.keys(known).length === Object.keys(all).length) return;
    this.seen.set(path, all);
    this.unproved.add(path);
  }

  private witnessOf(path: BytePath): Witness {
    const witness = this.seen.get(path);
    assert(witness !== undefined);
    return witness;
  }

  private relative(path: BytePath): BytePath {
    const before = joinPath(this.datadir.root, "_").slice(0, -1);
    assert(path.startsWith(before), "a catalog is read inside of the data directory");
    return path.slice(before.length) as BytePath;
  }
}

/** Why what was read is not what a line of the manifest says; undefined when it is. */
function difference(
  entry: ManifestEntry,
  { sizeBytes, content, sidecar, isAbsent }: Witness,
): string | undefined {
  switch (entry.class) {
    case "D":
    case "L":
      return isAbsent === true ? "it is missing" : undefined;
    case "P":
    case "W":
    case "S":
    case "R":
    case "O": {
      if (isAbsent === true) return "it is missing";
      if (sizeBytes !== entry.sizeBytes)
        return `it has ${sizeBytes} bytes where the manifest says ${entry.sizeBytes}`;
      const isSealed = entry.class === "P" && entry.sizeBytes > 0;
      // An empty relation file has no digest.
      const digest = entry.class === "P" && !isSealed ? content : entry.digest;
      const [used, other] = isSealed ? [sidecar, content] : [content, sidecar];
      if (used === digest && other === undefined) return undefined;
      return isSealed
        ? "it is another than the manifest names, perhaps an older one with its older sidecar"
        : "its content was changed";
    }
  }
}

/** @throws {IntegrityError} for a file that is larger than the catalog's can be: nothing of it is read. */
function digestOf(file: OpenFile, limitBytes: number, path: BytePath): string {
  const { sizeBytes } = file.stat();
  if (sizeBytes > limitBytes)
    throw notAsWritten(path, `it has ${sizeBytes} bytes, more than the ${limitBytes} it can have`);
  const hash = runningSha256();
  const buffer = Buffer.alloc(PART_BYTES);
  for (let position = 0; ;) {
    const count = file.read(buffer, 0, buffer.length, position);
    if (count === 0) return hash.digest().toString("hex");
    hash.update(buffer.subarray(0, count));
    position += count;
  }
}

function notAsWritten(path: BytePath, why: string): IntegrityError {
  return new IntegrityError(`names cannot be trusted: "${displayPath(path)}": ${why}`, {
    hint: 'Nothing was changed. Restore this file from a backup ("tde verify" lists all that differs), or name relations by their paths.',
  });
}
