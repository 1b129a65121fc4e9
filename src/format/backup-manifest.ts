/**
 * PostgreSQL's backup_manifest, read and rewritten as a stream: sizes and checksums of files that tde changed
 * are replaced, files that it added are listed, every other byte stays. The file is JSON, but a manifest may
 * have a million files, so it is read line by line in the one layout that PostgreSQL writes; another layout is
 * refused. PostgreSQL: src/backend/backup/backup_manifest.c (versions 1 and 2), pg_verifybackup.
 */
import { type BytePath, bytePathFromBytes } from "../bytes/byte-path.ts";
import { type RunningHash, runningSha256 } from "../crypto/primitives.ts";
import { FormatError, IntegrityError } from "../errors.ts";
import {
  type BackupFileFacts,
  type ChecksumAlgorithm,
  checksumHexLength,
  serializeBackupFile,
} from "./backup-manifest-file.ts";
import { linesOf } from "./lines.ts";
import { assertSafePath } from "./manifest-path.ts";

export interface BackupManifestFile {
  readonly path: BytePath;
  readonly sizeBytes: number;
  /** As it is written there: `2026-11-20 11:25:03 GMT`. */
  readonly lastModified: string;
  readonly algorithm: ChecksumAlgorithm;
  /** Hex; undefined under NONE. */
  readonly checksum: string | undefined;
}

export interface BackupManifestChanges {
  /** What becomes of a listed file: stay as it is, go, or get new facts. */
  changeOf(file: BackupManifestFile): BackupFileFacts | "keep" | "remove";
  /** Files to list after the others; none may be listed already. */
  readonly added: Iterable<BackupFileFacts & { readonly path: BytePath }>;
}

export interface BackupManifest {
  readonly version: 1 | 2;
  /** Version 2 only. */
  readonly systemIdentifier: bigint | undefined;
  readonly fileCount: number;
  /** Of the first file that has a checksum, which is that of all in a manifest of pg_basebackup. */
  readonly algorithm: ChecksumAlgorithm;
  /** In the order of the manifest, read anew. */
  files(): Generator<BackupManifestFile>;
  /** The text of the new manifest in parts; the same bytes as the old one's when nothing changes. */
  rewrite(changes: BackupManifestChanges): Generator<Buffer>;
}

const LINE_LIMIT_BYTES = 65536;
const FLUSH_CHARACTERS = 65536;

const VERSION = /^\{ "PostgreSQL-Backup-Manifest-Version": ([1-9]\d{0,8}),$/;
const SYSTEM = /^"System-Identifier": (0|[1-9]\d{0,19}),$/;
const STRING = String.raw`"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"`;
const FILE = new RegExp(
  String.raw`^(\{ "(Path|Encoded-Path)": (${STRING}), )"Size": (0|[1-9]\d{0,15}), ` +
    String.raw`"Last-Modified": "([^"\\\x00-\x1f]{1,64})"` +
    String.raw`(?:, "Checksum-Algorithm": "(CRC32C|SHA(?:224|256|384|512))", "Checksum": "([0-9a-f]+)")? \}(,?)$`,
);
const WAL_RANGE =
  /^\{ "Timeline": [1-9]\d{0,9}, "Start-LSN": "[0-9A-F]{1,8}\/[0-9A-F]{1,8}", "End-LSN": "[0-9A-F]{1,8}\/[0-9A-F]{1,8}" \}(,?)$/;
const CHECKSUM = /^"Manifest-Checksum": "([0-9a-f]{64})"\}$/;

/**
 * Opens a backup_manifest after checking all of it: layout and its own SHA-256.
 * @param source - its bytes from the beginning, in parts of any length; called once for each pass.
 * @param where - the file, for messages.
 * @throws {FormatError} when it is not laid out as PostgreSQL does. @throws {IntegrityError} for its checksum.
 */
export function openBackupManifest(
  source: () => Iterable<Uint8Array>,
  where: string,
): BackupManifest {
  let algorithm: ChecksumAlgorithm = "NONE";
  let fileCount = 0;
  const events = scan(source(), where);
  let result = events.next();
  for (; result.done !== true; result = events.next()) {
    if (result.value.kind !== "file") continue;
    fileCount++;
    if (algorithm === "NONE") algorithm = result.value.file.algorithm;
  }
  const facts = result.value;
  const checked = function* (): Generator<Event> {
    const again = yield* scan(source(), where);
    if (again.checksum !== facts.checksum) {
      throw new IntegrityError(`${where} changed while it was read`);
    }
  };
  return {
    version: facts.version,
    systemIdentifier: facts.systemIdentifier,
    fileCount,
    algorithm,
    *files(): Generator<BackupManifestFile> {
      for (const event of checked()) if (event.kind === "file") yield event.file;
    },
    rewrite: (changes) => rewrite(checked(), changes),
  };
}

/**
 * The sizes of the two manifests that list each other by size, so that the digits of one count in the other.
 * @param manifestBytes - tde.manifest without the digits of backup_manifest's size.
 * @param backupManifestBytes - backup_manifest without the digits of tde.manifest's size.
 */
export function mutualSizes(
  manifestBytes: number,
  backupManifestBytes: number,
): { readonly manifestBytes: number; readonly backupManifestBytes: number } {
  let sizes = { manifestBytes, backupManifestBytes };
  for (;;) {
    // From below: each step can only add digits, and so the least pair that fits is found.
    const next = {
      manifestBytes: manifestBytes + String(sizes.backupManifestBytes).length,
      backupManifestBytes: backupManifestBytes + String(sizes.manifestBytes).length,
    };
    const settled =
      next.manifestBytes === sizes.manifestBytes &&
      next.backupManifestBytes === sizes.backupManifestBytes;
    if (settled) return sizes;
    sizes = next;
  }
}

type Event =
  | {
      readonly kind: "file";
      readonly file: BackupManifestFile;
      /** The line up to and with its path; and all of it, without its comma. */
      readonly prefix: string;
      readonly text: string;
    }
  | { readonly kind: "end of files" }
  | { readonly kind: "other"; readonly text: string }
  | { readonly kind: "checksum" };

interface Facts {
  readonly version: 1 | 2;
  readonly systemIdentifier: bigint | undefined;
  readonly checksum: string;
}

function* rewrite(events: Iterable<Event>, changes: BackupManifestChanges): Generator<Buffer> {
  const hash = runningSha256();
  let text = "";
  let separator = "";
  for (const event of events) {
    if (event.kind === "file") {
      const change = changes.changeOf(event.file);
      if (change === "remove") continue;
      const line =
        change === "keep" ? event.text : serializeBackupFile(change, { prefix: event.prefix });
      text += separator + line;
      separator = ",\n";
    } else if (event.kind === "end of files") {
      for (const facts of changes.added) {
        text += separator + serializeBackupFile(facts, { path: facts.path });
        separator = ",\n";
        if (text.length >= FLUSH_CHARACTERS) {
          yield flushed(text, hash);
          text = "";
        }
      }
      text += separator === "" ? "],\n" : "\n],\n";
    } else if (event.kind === "other") {
      text += `${event.text}\n`;
    } else {
      yield flushed(text, hash);
      text = "";
      const checksum = hash.digest().toString("hex");
      yield Buffer.from(`"Manifest-Checksum": "${checksum}"}\n`, "latin1");
    }
    if (text.length >= FLUSH_CHARACTERS) {
      yield flushed(text, hash);
      text = "";
    }
  }
}

function flushed(text: string, hash: RunningHash): Buffer {
  const bytes = Buffer.from(text, "latin1");
  hash.update(bytes);
  return bytes;
}

type Expected = "version" | "system" | "files" | "file" | "ranges" | "range" | "checksum" | "end";

/** Walks the lines in the one order they can have; checks the checksum over them at the end. */
function* scan(parts: Iterable<Uint8Array>, where: string): Generator<Event, Facts> {
  const hash = runningSha256();
  let expected: Expected = "version";
  let version: 1 | 2 = 1;
  let systemIdentifier: bigint | undefined;
  let checksum = "";
  /** Whether the list in hand goes on after the last line: its first item, or after a comma. */
  let listOpen = true;
  let listEmpty = true;
  let lineNumber = 0;
  const refuse = (what: string): FormatError =>
    new FormatError(`line ${lineNumber} of ${where} is not what PostgreSQL writes: ${what}`, {
      hint: "The file is damaged, or another program wrote it.",
    });
  for (const { text, bytes } of linesOf(parts, where, LINE_LIMIT_BYTES)) {
    lineNumber++;
    if (expected !== "checksum") hash.update(bytes);
    switch (expected) {
      case "version": {
        const found = VERSION.exec(text)?.[1];
        if (found === undefined) throw refuse("no manifest version");
        if (found !== "1" && found !== "2") {
          throw new FormatError(`${where} is a backup manifest of version ${found}, not 1 or 2`);
        }
        version = found === "1" ? 1 : 2;
        expected = version === 1 ? "files" : "system";
        yield { kind: "other", text };
        break;
      }
      case "system": {
        const found = SYSTEM.exec(text)?.[1];
        if (found === undefined) throw refuse("no system identifier");
        systemIdentifier = BigInt(found);
        expected = "files";
        yield { kind: "other", text };
        break;
      }
      case "files":
        if (text !== '"Files": [') throw refuse('no "Files" list');
        expected = "file";
        yield { kind: "other", text };
        break;
      case "file": {
        if (text === "],") {
          if (listOpen && !listEmpty) throw refuse("a file is missing after a comma");
          expected = "ranges";
          yield { kind: "end of files" };
          break;
        }
        const match = FILE.exec(text);
        if (match === null || !listOpen) throw refuse("not an entry of a file");
        listEmpty = false;
        listOpen = match[8] === ",";
        yield {
          kind: "file",
          file: fileOf(match, refuse, `line ${lineNumber} of ${where}`),
          prefix: match[1] ?? "",
          text: listOpen ? text.slice(0, -1) : text,
        };
        break;
      }
      case "ranges":
        if (text !== '"WAL-Ranges": [') throw refuse('no "WAL-Ranges" list');
        listOpen = true;
        listEmpty = true;
        expected = "range";
        yield { kind: "other", text };
        break;
      case "range": {
        // A list without ranges has an empty line in it.
        if (text === "" && listEmpty) listOpen = false;
        else if (text === "],") {
          if (listOpen) throw refuse("a WAL range is missing");
          expected = "checksum";
        } else {
          const match = WAL_RANGE.exec(text);
          if (match === null || !listOpen) throw refuse("not a WAL range");
          listOpen = match[1] === ",";
        }
        listEmpty = false;
        yield { kind: "other", text };
        break;
      }
      case "checksum": {
        const found = CHECKSUM.exec(text)?.[1];
        if (found === undefined) throw refuse("no manifest checksum");
        checksum = found;
        expected = "end";
        yield { kind: "checksum" };
        break;
      }
      case "end":
        throw refuse("something follows the end");
    }
  }
  if (expected !== "end") {
    throw new FormatError(`${where} is cut short: its "Manifest-Checksum" line is missing`);
  }
  if (hash.digest().toString("hex") !== checksum) {
    throw new IntegrityError(`${where} does not agree with its own checksum`, {
      hint: "The backup manifest was changed after the backup. Restore it from the backup.",
    });
  }
  return { version, systemIdentifier, checksum };
}

function fileOf(
  match: RegExpExecArray,
  refuse: (what: string) => FormatError,
  where: string,
): BackupManifestFile {
  const [, , kind, literal = "", size = "", lastModified = "", name, checksum] = match;
  const path =
    kind === "Path" ? pathOfLiteral(literal, refuse) : pathOfHex(literal.slice(1, -1), refuse);
  assertSafePath(path, where);
  const sizeBytes = Number(size);
  if (!Number.isSafeInteger(sizeBytes)) throw refuse("a size out of range");
  const algorithm = (name ?? "NONE") as ChecksumAlgorithm;
  if ((checksum ?? "").length !== checksumHexLength(algorithm)) {
    throw refuse(`a checksum that is not of ${algorithm}'s length`);
  }
  return { path, sizeBytes, lastModified, algorithm, checksum };
}

/** A JSON string whose bytes stand one in each character. */
function pathOfLiteral(literal: string, refuse: (what: string) => FormatError): BytePath {
  const bytes = Buffer.from(literal, "latin1");
  const text = bytes.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(bytes)) throw refuse("a path that is not UTF-8");
  const decoded = String(JSON.parse(text));
  const path = Buffer.from(decoded, "utf8");
  // Half a surrogate pair has no bytes.
  if (path.toString("utf8") !== decoded) throw refuse("a path that is not Unicode");
  return bytePathFromBytes(path);
}

function pathOfHex(hex: string, refuse: (what: string) => FormatError): BytePath {
  if (!/^(?:[0-9a-f]{2})+$/.test(hex)) throw refuse("an encoded path that is not hex");
  return bytePathFromBytes(Buffer.from(hex, "hex"));
}
