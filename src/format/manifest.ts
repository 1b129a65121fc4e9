/**
 * The manifest of an encrypted directory as a stream: the writer takes entries one by one and gives text, the
 * reader takes bytes and gives entries. Nothing is handed out before the MAC over all of it holds: opening a
 * manifest is a first pass that checks, reading its entries a second one that must hash to the same root.
 * Specified in docs/FORMAT.md, "Manifest".
 */
import assert from "node:assert/strict";
import {
  deriveKey,
  equalInConstantTime,
  hmacSha256,
  type KeyObject,
  type RunningHash,
  runningSha256,
} from "../crypto/primitives.ts";
import { FormatError, IntegrityError } from "../errors.ts";
import { type DataKeys, dekFor, type KeyState } from "../keyring/data-keys.ts";
import { linesOf } from "./lines.ts";
import {
  ENTRY_LIMIT_BYTES,
  type ManifestEntry,
  parseEntry,
  serializeEntry,
} from "./manifest-entry.ts";
import {
  HEADER_LINE_COUNT,
  type ManifestHeader,
  parseManifestHeader,
  serializeManifestHeader,
} from "./manifest-header.ts";
import { ManifestOrder } from "./manifest-order.ts";

/** The bytes of a manifest from its beginning, in parts of any length; called once for each pass. */
export type ManifestSource = () => Iterable<Uint8Array>;

export interface ManifestSummary {
  /** 32 bytes: SHA-256 over everything before the root line. */
  readonly root: Buffer;
  readonly entryCount: number;
  readonly sizeBytes: number;
}

export interface Manifest extends ManifestSummary {
  readonly header: ManifestHeader;
  /**
   * State of the key that made the MAC; undefined for a manifest opened without a key, which proves nothing.
   * Under a retired key it proves nothing either, since others may have that key.
   */
  readonly keyState: KeyState | undefined;
  /**
   * Entries by rising path, read anew.
   * @throws {IntegrityError} at the end, when the bytes are no longer those that were checked.
   */
  entries(): Generator<ManifestEntry>;
}

const FLUSH_CHARACTERS = 65536;

/** The bytes that the last two lines take: root and MAC. */
export const MANIFEST_TRAILER_BYTES: number = "root \nmac \n".length + 2 * 64;

export class ManifestWriter {
  readonly #dek: KeyObject;
  readonly #directoryId: string;
  readonly #emit: (text: Buffer) => void;
  readonly #hash: RunningHash = runningSha256();
  readonly #order: ManifestOrder = new ManifestOrder();
  #text: string;
  #entryCount = 0;
  #sizeBytes = 0;

  /**
   * @param dek - of the header's key id.
   * @param emit - gets the text in parts of some 64 kB, in order.
   */
  constructor(header: ManifestHeader, dek: KeyObject, emit: (text: Buffer) => void) {
    this.#dek = dek;
    this.#directoryId = header.directoryId;
    this.#emit = emit;
    this.#text = serializeManifestHeader(header);
  }

  /** Entries come by rising path; each directory before what is in it. */
  add(entry: ManifestEntry): void {
    const problem = this.#order.take(entry);
    assert(problem === undefined, `manifest entry ${entry.path}: ${problem}`);
    this.#text += serializeEntry(entry);
    this.#entryCount++;
    if (this.#text.length >= FLUSH_CHARACTERS) this.#flush();
  }

  finish(): ManifestSummary {
    this.#text += `count ${this.#entryCount}\n`;
    this.#flush();
    const root = this.#hash.digest();
    const mac = manifestMac(this.#dek, this.#directoryId, root);
    const trailer = Buffer.from(
      `root ${root.toString("hex")}\nmac ${mac.toString("hex")}\n`,
      "latin1",
    );
    this.#emit(trailer);
    return { root, entryCount: this.#entryCount, sizeBytes: this.#sizeBytes + trailer.length };
  }

  #flush(): void {
    const bytes = Buffer.from(this.#text, "latin1");
    this.#text = "";
    this.#hash.update(bytes);
    this.#sizeBytes += bytes.length;
    this.#emit(bytes);
  }
}

/**
 * Opens a manifest after checking all of it: form, order, count, root, key, MAC.
 * @param where - the file, for messages.
 * @throws {FormatError} when it is not in canonical form.
 * @throws {KeyError} when the keyring is another one or lacks the key.
 * @throws {IntegrityError} when root or MAC do not hold.
 */
export function openManifest(source: ManifestSource, keys: DataKeys, where: string): Manifest {
  const scanned = scanAll(source, where);
  const { directoryId, keyringId, keyId } = scanned.header;
  // The root has been checked: what is altered by accident is not taken for a wrong key.
  const mac = manifestMac(dekFor(keys, keyringId, keyId, where), directoryId, scanned.root);
  if (!equalInConstantTime(mac, scanned.mac)) {
    throw new IntegrityError(`${where} was altered: its MAC under key ${keyId} does not hold`, {
      hint: "Someone without the key changed it. Restore the directory from a backup.",
    });
  }
  return manifestOf(source, scanned, keys.keys.get(keyId)?.state, where);
}

/**
 * As openManifest, but for the key: form and root only. It finds damage, not someone who altered the manifest
 * and made its root anew; its entries are hearsay.
 */
export function openManifestWithoutKey(source: ManifestSource, where: string): Manifest {
  return manifestOf(source, scanAll(source, where), undefined, where);
}

/** The header alone, unproven: which keyring and key the directory needs. Reads only its first lines. */
export function readManifestHeader(source: ManifestSource, where: string): ManifestHeader {
  const lines: string[] = [];
  for (const { text } of linesOf(source(), where, ENTRY_LIMIT_BYTES)) {
    lines.push(text);
    if (lines.length === HEADER_LINE_COUNT) break;
  }
  return parseManifestHeader(lines, where);
}

/** HMAC-SHA-256(HKDF(DEK, directory id, "tde/v1/manifest", 32), "root" || root) */
function manifestMac(dek: KeyObject, directoryId: string, root: Buffer): Buffer {
  const key = deriveKey(
    dek,
    Buffer.from(directoryId, "hex"),
    Buffer.from("tde/v1/manifest", "latin1"),
  );
  return hmacSha256(key, Buffer.from("root", "latin1"), root);
}

interface Scanned extends ManifestSummary {
  readonly header: ManifestHeader;
  readonly mac: Buffer;
}

function manifestOf(
  source: ManifestSource,
  scanned: Scanned,
  keyState: KeyState | undefined,
  where: string,
): Manifest {
  const { header, root, entryCount, sizeBytes } = scanned;
  return {
    header,
    root,
    entryCount,
    sizeBytes,
    keyState,
    *entries(): Generator<ManifestEntry> {
      const again = yield* scan(source(), where);
      if (!again.root.equals(root) || !again.mac.equals(scanned.mac)) {
        throw new IntegrityError(`${where} changed while it was read`, {
          hint: "Something else is writing to the directory. Stop it and run the command again.",
        });
      }
    },
  };
}

function scanAll(source: ManifestSource, where: string): Scanned {
  const entries = scan(source(), where);
  for (;;) {
    const result = entries.next();
    if (result.done === true) return result.value;
  }
}

/** Yields entries while it checks form, order, count and root; returns what the MAC has to be held against. */
function* scan(parts: Iterable<Uint8Array>, where: string): Generator<ManifestEntry, Scanned> {
  const headerLines: string[] = [];
  const order = new ManifestOrder();
  const hash = runningSha256();
  let header: ManifestHeader | undefined;
  let entryCount = 0;
  let sizeBytes = 0;
  /** Count, root and mac, as they come. */
  const trailer: string[] = [];
  let lineNumber = 0;
  for (const { text, bytes } of linesOf(parts, where, ENTRY_LIMIT_BYTES)) {
    lineNumber++;
    sizeBytes += bytes.length;
    if (trailer.length === 0) hash.update(bytes);
    if (header === undefined) {
      headerLines.push(text);
      if (lineNumber < HEADER_LINE_COUNT) continue;
      header = parseManifestHeader(headerLines, where);
    } else if (trailer.length > 0 || text.startsWith("count ")) {
      trailer.push(text);
      if (trailer.length > 3) throw new FormatError(`${where} has lines after its end`);
    } else {
      const entry = parseEntry(text, `line ${lineNumber} of ${where}`);
      const problem = order.take(entry);
      if (problem !== undefined) {
        throw new FormatError(`line ${lineNumber} of ${where} is out of place: ${problem}`);
      }
      entryCount++;
      yield entry;
    }
  }
  // Throws: a line is missing.
  header ??= parseManifestHeader(headerLines, where);
  const [count = "", root = "", mac = ""] = trailer;
  if (
    !/^count (0|[1-9]\d{0,15})$/.test(count) ||
    !/^root [0-9a-f]{64}$/.test(root) ||
    !/^mac [0-9a-f]{64}$/.test(mac)
  ) {
    throw new FormatError(`${where} does not end with valid "count", "root" and "mac" lines`, {
      hint: "The manifest is cut short or damaged. Restore it from a backup of this directory.",
    });
  }
  if (count !== `count ${entryCount}`) {
    throw new FormatError(`${where} has ${entryCount} entries, but says ${count.slice(6)}`);
  }
  const computed = hash.digest();
  if (root !== `root ${computed.toString("hex")}`) {
    throw new IntegrityError(`${where} was altered: its root does not hold`, {
      hint: "The manifest is damaged. Restore it from a backup of this directory.",
    });
  }
  return { header, root: computed, mac: Buffer.from(mac.slice(4), "hex"), entryCount, sizeBytes };
}
