/**
 * Every key id that an encrypted directory names, read from its bytes by the offsets of docs/FORMAT.md and by nothing
 * of tde's own: slots, MACs of sidecar pages, headers of containers, manifest.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

export type KeyPlace = "slot" | "sidecar MAC" | "container" | "manifest";

const SLOT_BYTES = 128;
const SPECIAL_BYTES = 104;
/** A slot of a WAL segment that is under no key. */
const CARRY = 6;

/** How often each key id stands at each place: `slot 2` -> 812. */
export function keyIdsOnDisk(datadir: string, blockSizeBytes = 8192): Map<string, number> {
  const found = new Map<string, number>();
  const add = (place: KeyPlace, keyId: number, count = 1): void => {
    const name = `${place} ${keyId}`;
    found.set(name, (found.get(name) ?? 0) + count);
  };
  for (const path of filesBelow(datadir)) {
    const content = readFileSync(path);
    const name = basename(path);
    if (name === "tde.manifest") addManifest(content.toString("latin1"), add);
    else if (content.subarray(0, 4).equals(Buffer.from("TDEC"))) {
      add("container", content.readUInt32LE(8));
    } else if (/_tde(\.\d+)?$/.test(name)) addSidecar(content, blockSizeBytes, add);
  }
  return found;
}

/** The ids alone. */
export function keysOf(found: ReadonlyMap<string, number>): number[] {
  const ids = [...found.keys()].map((name) => Number(name.split(" ").at(-1)));
  return [...new Set(ids)].sort((a, b) => a - b);
}

type Add = (place: KeyPlace, keyId: number) => void;

function addSidecar(content: Buffer, blockSizeBytes: number, add: Add): void {
  for (let page = 0; page < content.length; page += blockSizeBytes) {
    const special = page + blockSizeBytes - SPECIAL_BYTES;
    add("sidecar MAC", content.readUInt32LE(special + 56));
    for (let slot = page + 24; slot < special; slot += SLOT_BYTES) {
      const kind = content.readUInt8(slot);
      if (kind !== 0 && kind !== CARRY) add("slot", content.readUInt32LE(slot + 4));
    }
  }
}

function addManifest(text: string, add: Add): void {
  for (const line of text.split("\n")) {
    const header = /^key (\d+)$/.exec(line);
    if (header !== null) add("manifest", Number(header[1]));
    const keys = line.startsWith("file\t") ? (line.split("\t")[5] ?? "-") : "-";
    if (keys === "-") continue;
    for (const use of keys.split(",")) add("manifest", Number(use.split(":")[0]));
  }
}

/** Links in pg_tblspc are followed. */
function* filesBelow(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const isTablespace = entry.isSymbolicLink() && basename(folder) === "pg_tblspc";
    const isWal = entry.isSymbolicLink() && entry.name === "pg_wal";
    if (entry.isDirectory() || isTablespace || isWal) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}
