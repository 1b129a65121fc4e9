/**
 * The relation files of a directory added up by relation: sizes, what of them is sealed, and under which keys. In
 * columns of numbers, some hundred bytes a relation, so that a cluster of a million relations fits into memory. A
 * relation is known by its index; 0 to `count - 1`.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import {
  type ClusterVersion,
  formatRelationPath,
  type RelationFile,
} from "../datadir/relation-path.ts";
import type { KeyUse } from "../format/manifest-entry.ts";
import type { ScopedRelation } from "../format/scope.ts";

/** What files have in common, or all of them together. */
export interface FileSums {
  /** All forks and segments. */
  readonly sizeBytes: number;
  /** Of the main fork alone: what pg_relation_size tells. */
  readonly mainBytes: number;
  /** Blocks, odd tails included. */
  readonly pages: number;
  /** What of `sizeBytes` is sealed. */
  readonly sealedBytes: number;
  /** Pages under each key, by rising key id. */
  readonly keys: readonly KeyUse[];
}

/** All forks and segments of one relation. */
export interface RelationSizes extends FileSums {
  readonly place: ScopedRelation;
  /** Of the main fork's first segment, whether it is there or not. */
  readonly path: BytePath;
  readonly hasMainFork: boolean;
}

/** The relations in one folder, by their numbers. */
interface Folder {
  readonly place: Omit<ScopedRelation, "relfilenumber">;
  readonly relations: Map<number, number>;
}

/** Added to the number of a temporary relation, which may be that of another one, too. */
const TEMPORARY = 2 ** 32;
const HAS_MAIN_FORK = 1;
const CLAIMED = 2;
const FIRST_CAPACITY = 1024;

export class RelationFiles {
  readonly #cluster: ClusterVersion;
  readonly #folders: Map<string, Folder> = new Map();
  #count = 0;
  #sizeBytes: Float64Array = new Float64Array(FIRST_CAPACITY);
  #mainBytes: Float64Array = new Float64Array(FIRST_CAPACITY);
  #sealedBytes: Float64Array = new Float64Array(FIRST_CAPACITY);
  #pages: Float64Array = new Float64Array(FIRST_CAPACITY);
  /** Pages under the one key of a relation; and which it is, 0 for none. */
  #keyPages: Float64Array = new Float64Array(FIRST_CAPACITY);
  #keyId: Uint32Array = new Uint32Array(FIRST_CAPACITY);
  #flags: Uint8Array = new Uint8Array(FIRST_CAPACITY);
  /** Of a relation under several keys: its pages under each. */
  readonly #severalKeys: Map<number, Map<number, number>> = new Map();
  /** Of a temporary relation: the session that it belongs to. */
  readonly #backends: Map<number, number> = new Map();

  constructor(cluster: ClusterVersion) {
    this.#cluster = cluster;
  }

  get hasSealed(): boolean {
    return this.#sealedBytes.some((bytes) => bytes > 0);
  }

  hasFolder(tablespaceOid: number, databaseOid: number): boolean {
    return this.#folders.has(folderKey({ tablespaceOid, databaseOid }));
  }

  /** Adds one file. */
  add(file: RelationFile, { sizeBytes, pages }: { sizeBytes: number; pages: number }): void {
    const index = this.#indexFor(file);
    addTo(this.#sizeBytes, index, sizeBytes);
    addTo(this.#pages, index, pages);
    if (file.fork !== "main") return;
    addTo(this.#mainBytes, index, sizeBytes);
    this.#set(index, HAS_MAIN_FORK);
  }

  /** Says of a file that was added, or will be, that it is sealed. */
  addSealed(file: RelationFile, sizeBytes: number, keys: readonly KeyUse[]): void {
    const index = this.#indexFor(file);
    addTo(this.#sealedBytes, index, sizeBytes);
    for (const use of keys) this.#addKey(index, use);
  }

  /** Marks a relation as one that the catalog has. @returns its index; undefined where it has no file. */
  claim(place: ScopedRelation, isTemporary: boolean): number | undefined {
    const folder = this.#folders.get(folderKey(place));
    const index = folder?.relations.get(place.relfilenumber + (isTemporary ? TEMPORARY : 0));
    if (index !== undefined) this.#set(index, CLAIMED);
    return index;
  }

  sizeBytesAt(index: number): number {
    return this.#sizeBytes[index] ?? 0;
  }

  sumsAt(index: number): FileSums {
    return {
      sizeBytes: this.sizeBytesAt(index),
      mainBytes: this.#mainBytes[index] ?? 0,
      pages: this.#pages[index] ?? 0,
      sealedBytes: this.#sealedBytes[index] ?? 0,
      keys: this.#keysAt(index),
    };
  }

  hasMainForkAt(index: number): boolean {
    return this.#has(index, HAS_MAIN_FORK);
  }

  /** Of each relation. */
  *eachSums(): Generator<FileSums> {
    for (let index = 0; index < this.#count; index++) yield this.sumsAt(index);
  }

  /** The relations of each folder together, by the folder's numbers; 0 is the database of global/. */
  *sumsOfFolders(): Generator<{ place: Folder["place"]; relations: number; sums: FileSums }> {
    for (const { place, relations } of this.#folders.values()) {
      const adder = new SumOfFiles();
      for (const index of relations.values()) adder.add(this.sumsAt(index));
      yield { place, relations: relations.size, sums: adder.sums() };
    }
  }

  /** What nobody claimed, by folder and rising number. */
  *unclaimed(isWanted: (place: Folder["place"]) => boolean): Generator<RelationSizes> {
    for (const { place, relations } of this.#folders.values()) {
      if (!isWanted(place)) continue;
      const left = [...relations].filter(([, index]) => !this.#has(index, CLAIMED));
      for (const [number, index] of left.sort(([a], [b]) => a - b)) {
        yield this.#sizesAt({ ...place, relfilenumber: number % TEMPORARY }, index);
      }
    }
  }

  #sizesAt(place: ScopedRelation, index: number): RelationSizes {
    const main = { fork: "main", relationSegment: 0, backend: this.#backends.get(index) } as const;
    const path = formatRelationPath({ ...place, ...main }, this.#cluster);
    return { ...this.sumsAt(index), place, path, hasMainFork: this.hasMainForkAt(index) };
  }

  #has(index: number, flag: number): boolean {
    return ((this.#flags[index] ?? 0) & flag) !== 0;
  }

  #set(index: number, flag: number): void {
    this.#flags[index] = (this.#flags[index] ?? 0) | flag;
  }

  #keysAt(index: number): readonly KeyUse[] {
    const several = this.#severalKeys.get(index);
    if (several !== undefined) return keyUses(several);
    const keyId = this.#keyId[index] ?? 0;
    return keyId === 0 ? [] : [{ keyId, count: this.#keyPages[index] ?? 0 }];
  }

  #addKey(index: number, { keyId, count }: KeyUse): void {
    let several = this.#severalKeys.get(index);
    const only = this.#keyId[index] ?? 0;
    if (several === undefined && (only === 0 || only === keyId)) {
      this.#keyId[index] = keyId;
      addTo(this.#keyPages, index, count);
      return;
    }
    if (several === undefined) {
      several = new Map([[only, this.#keyPages[index] ?? 0]]);
      this.#severalKeys.set(index, several);
    }
    several.set(keyId, (several.get(keyId) ?? 0) + count);
  }

  #indexFor(file: RelationFile): number {
    const name = folderKey(file);
    let folder = this.#folders.get(name);
    if (folder === undefined) {
      const { tablespaceOid, databaseOid } = file;
      folder = { place: { tablespaceOid, databaseOid }, relations: new Map() };
      this.#folders.set(name, folder);
    }
    const number = file.relfilenumber + (file.backend === undefined ? 0 : TEMPORARY);
    let index = folder.relations.get(number);
    if (index === undefined) {
      index = this.#count++;
      if (index === this.#flags.length) this.#grow();
      folder.relations.set(number, index);
      if (file.backend !== undefined) this.#backends.set(index, file.backend);
    }
    return index;
  }

  #grow(): void {
    const capacity = 2 * this.#flags.length;
    this.#sizeBytes = enlarged(this.#sizeBytes, new Float64Array(capacity));
    this.#mainBytes = enlarged(this.#mainBytes, new Float64Array(capacity));
    this.#sealedBytes = enlarged(this.#sealedBytes, new Float64Array(capacity));
    this.#pages = enlarged(this.#pages, new Float64Array(capacity));
    this.#keyPages = enlarged(this.#keyPages, new Float64Array(capacity));
    this.#keyId = enlarged(this.#keyId, new Uint32Array(capacity));
    this.#flags = enlarged(this.#flags, new Uint8Array(capacity));
  }
}

/** What of the bytes is sealed: 0 to 1. Where there are none, nothing is left plain: 1. */
export function shareOf({ sizeBytes, sealedBytes }: FileSums): number {
  return sizeBytes === 0 ? 1 : sealedBytes / sizeBytes;
}

/** Adds up sums. */
export class SumOfFiles {
  #sizeBytes = 0;
  #mainBytes = 0;
  #pages = 0;
  #sealedBytes = 0;
  readonly #keys: Map<number, number> = new Map();

  add({ sizeBytes, mainBytes, pages, sealedBytes, keys }: FileSums): void {
    this.#sizeBytes += sizeBytes;
    this.#mainBytes += mainBytes;
    this.#pages += pages;
    this.#sealedBytes += sealedBytes;
    for (const { keyId, count } of keys)
      this.#keys.set(keyId, (this.#keys.get(keyId) ?? 0) + count);
  }

  sums(): FileSums {
    return {
      sizeBytes: this.#sizeBytes,
      mainBytes: this.#mainBytes,
      pages: this.#pages,
      sealedBytes: this.#sealedBytes,
      keys: keyUses(this.#keys),
    };
  }
}

function keyUses(pages: ReadonlyMap<number, number>): KeyUse[] {
  return [...pages].sort(([a], [b]) => a - b).map(([keyId, count]) => ({ keyId, count }));
}

function folderKey({ tablespaceOid, databaseOid }: Folder["place"]): string {
  return `${tablespaceOid}/${databaseOid}`;
}

function addTo(column: Float64Array, index: number, value: number): void {
  column[index] = (column[index] ?? 0) + value;
}

function enlarged<T extends Float64Array | Uint32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
