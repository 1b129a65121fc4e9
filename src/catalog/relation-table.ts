/**
 * The relations of one database in columns of numbers: some 60 bytes and the name for each, so that a database of a
 * million relations fits into memory. A relation is known by its index in the table; 0 to `count - 1`.
 */
import assert from "node:assert/strict";

/** What pg_class, pg_index and pg_inherits say of one relation, as numbers. */
export interface RelationNumbers {
  readonly oid: number;
  readonly schemaOid: number;
  readonly ownerOid: number;
  /** 0: none. */
  readonly accessMethodOid: number;
  /** Of its file, resolved: never 0, but for a relation without one. */
  readonly tablespaceOid: number;
  /** Of its file, resolved through the map; 0: it has none. */
  readonly relfilenumber: number;
  /** 0: none. */
  readonly toastOid: number;
  /** relkind and relpersistence, as character codes. */
  readonly kind: number;
  readonly persistence: number;
  readonly isShared: boolean;
  readonly isPartition: boolean;
}

const COLUMNS = [
  "oid",
  "schemaOid",
  "ownerOid",
  "accessMethodOid",
  "tablespaceOid",
  "relfilenumber",
  "toastOid",
] as const;
const SHARED = 1;
const PARTITION = 2;
const NONE = 0xffffffff;

export class RelationTable {
  #count = 0;
  #capacity = 1024;
  #numbers: Record<(typeof COLUMNS)[number], Uint32Array> = columnsOf(this.#capacity);
  #kind: Uint8Array = new Uint8Array(this.#capacity);
  #persistence: Uint8Array = new Uint8Array(this.#capacity);
  #flags: Uint8Array = new Uint8Array(this.#capacity);
  /** Where the name of relation i begins; that of the next one is its end. */
  #nameStart: Uint32Array = new Uint32Array(this.#capacity + 1);
  #names: Buffer = Buffer.alloc(this.#capacity * 24);
  #byOid: Map<number, number> | undefined;
  #links: Links | undefined;

  get count(): number {
    return this.#count;
  }

  /** @param name - its bytes; copied. */
  add(relation: RelationNumbers, name: Buffer): void {
    assert(this.#byOid === undefined && this.#links === undefined, "the table is complete");
    if (this.#count === this.#capacity) this.#grow();
    const index = this.#count++;
    for (const column of COLUMNS) this.#numbers[column][index] = relation[column];
    this.#kind[index] = relation.kind;
    this.#persistence[index] = relation.persistence;
    this.#flags[index] = (relation.isShared ? SHARED : 0) | (relation.isPartition ? PARTITION : 0);
    const start = this.#nameStart[index] ?? 0;
    const end = start + name.length;
    if (end > this.#names.length) this.#names = enlarged(this.#names, Buffer.alloc(2 * end));
    name.copy(this.#names, start);
    this.#nameStart[index + 1] = end;
  }

  at(index: number): RelationNumbers {
    assert(index < this.#count, "no relation has that index");
    const numbers = this.#numbers;
    const flags = this.#flags[index] ?? 0;
    return {
      oid: numbers.oid[index] ?? 0,
      schemaOid: numbers.schemaOid[index] ?? 0,
      ownerOid: numbers.ownerOid[index] ?? 0,
      accessMethodOid: numbers.accessMethodOid[index] ?? 0,
      tablespaceOid: numbers.tablespaceOid[index] ?? 0,
      relfilenumber: numbers.relfilenumber[index] ?? 0,
      toastOid: numbers.toastOid[index] ?? 0,
      kind: this.#kind[index] ?? 0,
      persistence: this.#persistence[index] ?? 0,
      isShared: (flags & SHARED) !== 0,
      isPartition: (flags & PARTITION) !== 0,
    };
  }

  /** The bytes of a relation's name: a view. */
  nameAt(index: number): Buffer {
    return this.#names.subarray(this.#nameStart[index] ?? 0, this.#nameStart[index + 1] ?? 0);
  }

  /** Index of the relation with that OID. */
  indexOf(oid: number): number | undefined {
    if (this.#byOid === undefined) {
      this.#byOid = new Map();
      for (let index = 0; index < this.#count; index++) {
        this.#byOid.set(this.#numbers.oid[index] ?? 0, index);
      }
    }
    return this.#byOid.get(oid);
  }

  /** Indexes of the relations whose files have that number; in several tablespaces there can be one in each. */
  indexesOfFile(relfilenumber: number): number[] {
    const { byFile, nextWithFile } = this.#linked();
    return chain(byFile.get(relfilenumber), nextWithFile);
  }

  /** Says that a relation's files belong to those of another: an index to its table, a TOAST table to its owner. */
  setOwner(oid: number, ownerOid: number): void {
    const { ownerOf } = this.#linked();
    setLink(ownerOf, this.indexOf(oid), this.indexOf(ownerOid));
  }

  /** Says that a relation inherits from another. */
  setParent(oid: number, parentOid: number): void {
    const { parentOf } = this.#linked();
    setLink(parentOf, this.indexOf(oid), this.indexOf(parentOid));
  }

  /** Index of the table of an index, or of the owner of a TOAST table. */
  ownerOf(index: number): number | undefined {
    return link(this.#linked().ownerOf[index]);
  }

  parentOf(index: number): number | undefined {
    return link(this.#linked().parentOf[index]);
  }

  /** Indexes and TOAST table of a table; of a TOAST table its index. */
  ownedBy(index: number): number[] {
    const { owned } = this.#linked();
    owned.make(this.#count, (one) => this.ownerOf(one));
    return owned.of(index);
  }

  /** What inherits from a relation; of a partitioned one its partitions. */
  childrenOf(index: number): number[] {
    const { children } = this.#linked();
    children.make(this.#count, (one) => this.parentOf(one));
    return children.of(index);
  }

  #linked(): Links {
    if (this.#links === undefined) {
      const count = this.#count;
      const none = (): Uint32Array => new Uint32Array(count).fill(NONE);
      const byFile = new Map<number, number>();
      const nextWithFile = none();
      for (let index = count - 1; index >= 0; index--) {
        const relfilenumber = this.#numbers.relfilenumber[index] ?? 0;
        if (relfilenumber === 0) continue;
        nextWithFile[index] = byFile.get(relfilenumber) ?? NONE;
        byFile.set(relfilenumber, index);
      }
      this.#links = {
        byFile,
        nextWithFile,
        ownerOf: none(),
        parentOf: none(),
        owned: new Groups(),
        children: new Groups(),
      };
    }
    return this.#links;
  }

  #grow(): void {
    const capacity = 2 * this.#capacity;
    const numbers = columnsOf(capacity);
    for (const column of COLUMNS) enlarged(this.#numbers[column], numbers[column]);
    this.#numbers = numbers;
    this.#kind = enlarged(this.#kind, new Uint8Array(capacity));
    this.#persistence = enlarged(this.#persistence, new Uint8Array(capacity));
    this.#flags = enlarged(this.#flags, new Uint8Array(capacity));
    this.#nameStart = enlarged(this.#nameStart, new Uint32Array(capacity + 1));
    this.#capacity = capacity;
  }
}

/** What can be made only when all relations are there. */
interface Links {
  readonly byFile: Map<number, number>;
  readonly nextWithFile: Uint32Array;
  readonly ownerOf: Uint32Array;
  readonly parentOf: Uint32Array;
  readonly owned: Groups;
  readonly children: Groups;
}

/** The reverse of "belongs to": all members of each group, as chains of indexes. */
class Groups {
  #first: Uint32Array | undefined;
  #next: Uint32Array = new Uint32Array(0);

  /** Once; what belongs to what must not change afterwards. */
  make(count: number, groupOf: (index: number) => number | undefined): void {
    if (this.#first !== undefined) return;
    this.#first = new Uint32Array(count).fill(NONE);
    this.#next = new Uint32Array(count).fill(NONE);
    for (let index = count - 1; index >= 0; index--) {
      const group = groupOf(index);
      if (group === undefined) continue;
      this.#next[index] = this.#first[group] ?? NONE;
      this.#first[group] = index;
    }
  }

  of(group: number): number[] {
    return chain(link(this.#first?.[group]), this.#next);
  }
}

function chain(first: number | undefined, next: Uint32Array): number[] {
  const found: number[] = [];
  for (let index = first; index !== undefined; index = link(next[index])) found.push(index);
  return found;
}

function link(value: number | undefined): number | undefined {
  return value === NONE ? undefined : value;
}

function setLink(links: Uint32Array, from: number | undefined, to: number | undefined): void {
  if (from !== undefined && to !== undefined) links[from] = to;
}

function columnsOf(capacity: number): Record<(typeof COLUMNS)[number], Uint32Array> {
  return Object.fromEntries(COLUMNS.map((column) => [column, new Uint32Array(capacity)])) as Record<
    (typeof COLUMNS)[number],
    Uint32Array
  >;
}

function enlarged<T extends Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
