/**
 * What a decryption does without: files that are damaged, missing, or not the ones that the manifest names. It is found
 * before anything is written (preflight.ts), and kept in the journal, so that a run which goes on deals with the same files.
 */
import { type BytePath, directoryOf, displayPath, nameOf } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { parseRelationPath, sidecarName } from "../datadir/relation-path.ts";
import type { WalkEntry } from "../datadir/walk.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { LostPart } from "../datadir/salvage.ts";
import { isWalFileName } from "../wal/wal-file-name.ts";
import { SEALED_AUTO_CONF } from "./guard.ts";

/**
 * fail: nothing is decrypted. Else all other files are, and of a damaged one: keep: what can be opened, zeros for the rest, and
 * the sealed file is put aside. zero: the same, without the sealed file. skip: nothing; the sealed file is put aside.
 */
export const DAMAGE_POLICIES = ["fail", "keep", "zero", "skip"] as const;
export type DamagePolicy = (typeof DAMAGE_POLICIES)[number];

export interface DamagedFile {
  readonly path: BytePath;
  /** The first of its problems. */
  readonly why: string;
  /** `shop.public.orders`, where it can be told. */
  readonly relation?: string | undefined;
  /** What is to become of it. */
  readonly fate: Fate;
}

/**
 * zeroed: what can be opened of it comes back, with zeros for the rest. left-out: nothing of it does. as-it-is: a file that is
 * not encrypted, or a folder. missing: it is not there.
 */
export type Fate = "zeroed" | "left-out" | "as-it-is" | "missing";

export interface Damage {
  readonly policy: Exclude<DamagePolicy, "fail">;
  /** Those that the manifest names. */
  readonly files: readonly DamagedFile[];
  /** Those that it does not name: they are put aside. */
  readonly extra: readonly DamagedFile[];
}

/** How what is damaged is left out where all else must be as the manifest says. */
export function exceptDamage(
  datadir: Datadir,
  damage: Damage | undefined,
): {
  readonly only: ((entry: ManifestEntry) => boolean) | undefined;
  readonly allowAdded: ((found: WalkEntry) => boolean) | undefined;
  readonly isKnown: ((path: string) => boolean) | undefined;
} {
  if (damage === undefined) return { only: undefined, allowAdded: undefined, isKnown: undefined };
  const files = new Set(damage.files.map(({ path }) => path));
  const extra = new Set(damage.extra.map(({ path }) => path));
  return {
    only: ({ path }) => !files.has(path),
    allowAdded: ({ path }) => extra.has(path),
    isKnown: isKnownDamage(datadir, damage),
  };
}

/** What a new directory does not get: what no line names, with all in it, and what stands in a damaged file's place. */
export function leftOutOf(damage: Damage | undefined): (path: BytePath) => boolean {
  const all = new Set([...(damage?.files ?? []), ...(damage?.extra ?? [])].map(({ path }) => path));
  return (path) => all.has(path) || isWithin(all, path);
}

/** Those that lie in no folder which goes as a whole. */
export function outermost(files: readonly DamagedFile[]): DamagedFile[] {
  const all = new Set(files.map(({ path }) => path));
  return files.filter(({ path }) => !isWithin(all, path));
}

function isWithin(folders: ReadonlySet<BytePath>, path: BytePath): boolean {
  for (let at = directoryOf(path); at !== "."; at = directoryOf(at))
    if (folders.has(at)) return true;
  return false;
}

/** A file and what may be its sidecar: only files of relations and WAL have one, whatever else is called like it. */
export function pairOf(datadir: Datadir, path: BytePath): BytePath[] {
  const isSegment = directoryOf(path) === "pg_wal" && isWalFileName(nameOf(path));
  const mayHaveSidecar = isSegment || parseRelationPath(path, datadir) !== undefined;
  return mayHaveSidecar ? [path, sidecarName(path)] : [path];
}

/** Whether the settings that ALTER SYSTEM made are lost. */
export function losesAutoConf(damage: Damage | undefined): boolean {
  return damage?.files.some(({ path }) => path === SEALED_AUTO_CONF) === true;
}

/** Of a run that has not dealt with it, or whose report tells more. */
export function damageToCome({ files, extra }: Damage): DamageDone[] {
  return [...files, ...extra].map(({ path, why, relation, fate }) => ({
    path: displayPath(path),
    relation,
    problem: why,
    done: "to-come",
    fate,
    lost: [],
    unit: "byte",
  }));
}

/** Whether problems of a file, by its displayed path, are known. */
function isKnownDamage(datadir: Datadir, damage: Damage): (path: string) => boolean {
  const files = [...damage.files, ...damage.extra];
  const known = new Set(files.flatMap(({ path }) => pairOf(datadir, path)).map(displayPath));
  return (path) => known.has(path);
}

/** Where files are put aside: in the data directory, and in each tablespace and pg_wal, which may be other disks. */
export const KEPT_FOLDER = "tde.damaged";
export const DAMAGE_REPORT: BytePath = `${KEPT_FOLDER}/report.txt` as BytePath;
/** Within it: a user's file may be called as the report is. */
const KEPT_FILES = "files";

/** The place of a file that is put aside, on the disk that it is on. */
export function keptPlace(path: BytePath): BytePath {
  const parts = path.split("/");
  const root = ownDiskDepth(parts);
  return [...parts.slice(0, root), KEPT_FOLDER, KEPT_FILES, ...parts.slice(root)].join(
    "/",
  ) as BytePath;
}

/** How many parts of a path lead to the disk that it is on: pg_wal and tablespaces are links, mostly. */
function ownDiskDepth(parts: readonly string[]): number {
  if (parts[0] === "pg_tblspc" && parts.length > 2) return 2;
  return parts[0] === "pg_wal" && parts.length > 1 ? 1 : 0;
}

/** What became of a damaged file. */
export interface DamageDone {
  /** Relative to the data directory, for people. */
  readonly path: string;
  readonly relation?: string | undefined;
  readonly problem: string;
  /** zeroed: `lost` is zeros. to-come: it is damaged, and nothing was done yet. */
  readonly done: Fate | "to-come";
  /** Of what is to come. */
  readonly fate?: Fate | undefined;
  /** Blocks of a relation, bytes of another file; none where only something around the pages was wrong. */
  readonly lost: readonly LostPart[];
  readonly unit: "block" | "byte";
  /** Where the sealed file is now, in the same way. */
  readonly kept?: string | undefined;
}

/** One line for each file and each part that is lost: for the report file, and for the terminal. */
export function damageLines(done: readonly DamageDone[]): string[] {
  return done.flatMap(({ path, relation, problem, done: what, fate, lost, unit, kept }) => {
    const name = relation === undefined ? path : `${relation} (${path})`;
    const where = kept === undefined ? "" : `; sealed file: ${kept}`;
    const words = what === "to-come" ? TO_COME[fate ?? "zeroed"] : WORDS[what](lost.length);
    return [
      `${name}: ${words} (${problem})${where}`,
      ...consequences(path, fate ?? what),
      ...lost.map(({ first, count }) => {
        const last = first + count - 1;
        const range = count === 1 ? `${unit} ${first}` : `${unit}s ${first} to ${last}`;
        return `  zeros: ${range}`;
      }),
    ];
  });
}

const WORDS: Readonly<Record<Fate, (parts: number) => string>> = {
  zeroed: (parts) =>
    parts === 0
      ? "decrypted; every page of it authenticates, but may be an older one"
      : "decrypted in part",
  "left-out": () => "left out",
  "as-it-is": () => "left as it is, and not proved",
  missing: () => "missing",
};

const TO_COME: Readonly<Record<Fate, string>> = {
  zeroed: "damaged; what authenticates of it comes back, with zeros for the rest",
  "left-out": "damaged; it is left out",
  "as-it-is": "damaged; it is left as it is, and not proved",
  missing: "missing",
};

/** What somebody who reads "left out" may not think of. */
function consequences(path: string, what: DamageDone["done"]): string[] {
  if (path === SEALED_AUTO_CONF)
    return ["  the settings that ALTER SYSTEM made are lost; postgresql.auto.conf is empty"];
  if (/^pg_(xact|multixact)\//.test(path))
    return [
      "  it says which transactions committed: rows may be there that should not be, or be gone. Compare with a backup",
    ];
  if (/^pg_wal\/[0-9A-F]{24}$/.test(path) && (what === "left-out" || what === "missing"))
    return ["  if the last checkpoint is in it, a server starts only after pg_resetwal"];
  return [];
}
