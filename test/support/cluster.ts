/**
 * Real PostgreSQL clusters for tests: made by initdb, filled, stopped. A cluster is built once in each test
 * process and copied for every further request, times and owners included. All of them lie in one temporary
 * folder that is gone when the process is.
 */
import {
  lchownSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";
import { EMBEDDED_MAJORS, findPostgres } from "../../src/demo/embedded-postgres.ts";
import { findTexts, type Match } from "../../src/demo/find-text.ts";
import {
  initializeCluster,
  makeOwnFolder,
  PostgresServer,
  type ServerHome,
} from "../../src/demo/postgres-server.ts";
import { serverUser } from "../../src/demo/server-user.ts";
import { makeTemporaryFolder, type TemporaryFolder } from "../../src/demo/temporary-folder.ts";
import {
  fillSmall,
  fillVaried,
  type MarkerName,
  MARKERS,
  SMALL_MARKERS,
  VARIED_SETTINGS,
} from "./cluster-content.ts";
import { copyTree } from "./tree.ts";

export { tableChecksums, type TableChecksum } from "../../src/demo/table-checksums.ts";
export { assertSameTree, copyTree, treeOf, type Tree, type TreeEntry } from "./tree.ts";
export type { PostgresServer } from "../../src/demo/postgres-server.ts";

/** The majors that real servers exist for; 19 is there as a fixture only. */
export const LIVE_MAJORS: readonly number[] = EMBEDDED_MAJORS.toReversed();
/** For what differs little between majors: the oldest and the newest, or with TDE_TEST_MAJORS=all every one. */
export const SAMPLED_MAJORS: readonly number[] =
  process.env["TDE_TEST_MAJORS"] === "all"
    ? LIVE_MAJORS
    : LIVE_MAJORS.filter((_, i) => i === 0 || i === LIVE_MAJORS.length - 1);

export interface ClusterOptions {
  readonly major: number;
  readonly checksums: boolean;
  /** 16 by default. */
  readonly walSegsizeMb?: number;
  /** pg_wal as a link out of the data directory. */
  readonly walOutside?: boolean;
  readonly content: "small" | "varied";
}

export interface Cluster {
  readonly major: number;
  /** Everything that belongs to this cluster lies below it; for keyrings and outputs, too. */
  readonly folder: string;
  readonly datadir: string;
  /** Folders of tablespaces outside the data directory. */
  readonly tablespaces: readonly string[];
  /** Secret texts in its files, by where PostgreSQL keeps them. */
  readonly markers: Readonly<Partial<Record<MarkerName, string>>>;
  start(settings?: readonly string[]): Promise<PostgresServer>;
  remove(): void;
}

let folder: TemporaryFolder | undefined;
const homes = new Map<number, ServerHome>();
const built = new Map<string, Promise<string>>();

/** A stopped cluster that belongs to the caller. */
export async function makeCluster(options: ClusterOptions): Promise<Cluster> {
  const key = JSON.stringify(options, Object.keys(options).sort());
  const master = built.get(key) ?? build(options);
  built.set(key, master);
  return copyCluster(options, await master);
}

/** A new empty folder that is gone when this process is. */
export function temporaryPath(name: string): string {
  return mkdtempSync(join(temporary().path, `${name}-`));
}

/** Where PostgreSQL's programs of one major are, who runs them, and where. */
export function serverHome(major: number): ServerHome {
  const known = homes.get(major);
  if (known !== undefined) return known;
  const user = serverUser();
  const programs = findPostgres(major, { user, scratch: temporary().path });
  const home = { programs, user, folder: temporary() };
  homes.set(major, home);
  return home;
}

/** Starts a server on any data directory that the server's user owns. */
export async function startServer(
  major: number,
  datadir: string,
  settings?: readonly string[],
): Promise<PostgresServer> {
  return PostgresServer.start(serverHome(major), datadir, settings);
}

/** Which markers occur in the files of a folder, links followed; for each file the first place. */
export function findMarkers(path: string, markers: Cluster["markers"]): Match[] {
  const present = Object.entries(markers).filter(([, text]) => text !== undefined);
  return findTexts(path, Object.fromEntries(present));
}

function temporary(): TemporaryFolder {
  if (folder === undefined) {
    const made = makeTemporaryFolder("tde-test");
    // At a normal end; whatever else happens, the folder's keeper removes it.
    process.on("exit", () => made.remove());
    folder = made;
  }
  return folder;
}

async function build(options: ClusterOptions): Promise<string> {
  const home = serverHome(options.major);
  const master = mkdtempSync(join(home.folder.path, `pg${options.major}-`));
  // The server's user makes the data directory in it.
  makeOwnFolder(master, home.user);
  const datadir = join(master, "data");
  const tablespace = join(master, "ext");
  initializeCluster(home, datadir, {
    checksums: options.checksums,
    ...(options.walSegsizeMb === undefined ? {} : { walSegmentSizeMb: options.walSegsizeMb }),
    ...(options.walOutside === true ? { walFolder: join(master, "wal") } : {}),
    settings: options.content === "varied" ? VARIED_SETTINGS : [],
  });
  if (options.content === "varied") makeOwnFolder(tablespace, home.user);
  const server = await PostgresServer.start(home, datadir);
  if (options.content === "varied") await fillVaried(server, tablespace);
  else await fillSmall(server);
  await server.stop();
  return master;
}

function copyCluster(options: ClusterOptions, master: string): Cluster {
  const home = serverHome(options.major);
  const copy = mkdtempSync(join(home.folder.path, `pg${options.major}-`));
  rmSync(copy, { recursive: true });
  copyTree(master, copy);
  const datadir = join(copy, "data");
  for (const link of absoluteLinks(datadir)) {
    const target = readlinkSync(link);
    unlinkSync(link);
    symlinkSync(target.replace(master, copy), link);
    if (home.user !== undefined) lchownSync(link, home.user.uid, home.user.gid);
  }
  return {
    major: options.major,
    folder: copy,
    datadir,
    tablespaces: options.content === "varied" ? [join(copy, "ext")] : [],
    markers: options.content === "varied" ? MARKERS : smallMarkers(),
    start: (settings) => PostgresServer.start(home, datadir, settings),
    remove: () => rmSync(copy, { recursive: true, force: true }),
  };
}

function absoluteLinks(datadir: string): string[] {
  const tablespaces = join(datadir, "pg_tblspc");
  return [
    ...readdirSync(datadir, { withFileTypes: true })
      .filter((entry) => entry.name === "pg_wal" && entry.isSymbolicLink())
      .map((entry) => join(datadir, entry.name)),
    ...readdirSync(tablespaces, { withFileTypes: true })
      .filter((entry) => entry.isSymbolicLink())
      .map((entry) => join(tablespaces, entry.name)),
  ];
}

function smallMarkers(): Cluster["markers"] {
  return Object.fromEntries(SMALL_MARKERS.map((name) => [name, MARKERS[name]]));
}
