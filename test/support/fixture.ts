/**
 * The data directories of fixtures/datadir: made by real servers of 13 to 19, cleanly stopped. See the README
 * there for what they hold.
 */
import { utimesSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync, constants } from "node:zlib";
import { extract, type ReadEntry } from "tar";
import { readFixture } from "./fixtures.ts";

export const FIXTURE_MAJORS = [13, 14, 15, 16, 17, 18, 19] as const;
export type FixtureMajor = (typeof FIXTURE_MAJORS)[number];

export interface FixtureCluster {
  /** PGDATA, with a relative link to the tablespace `ext` in its pg_tblspc. */
  readonly datadir: string;
  /** The tablespace `ext`, beside the data directory. */
  readonly tablespaces: readonly string[];
}

/**
 * Unpacks a data directory, 45 MB, with the modes and times that the server left; it belongs to this user.
 * @param destination - an existing folder; `data` and `ts_ext` appear in it.
 */
export function unpackFixture(major: FixtureMajor, destination: string): FixtureCluster {
  const packed = readFixture(`datadir/${major}/data.tar.br`);
  const unpacked = brotliDecompressSync(packed, {
    params: { [constants.BROTLI_DECODER_PARAM_LARGE_WINDOW]: 1 },
  });
  const directories: { path: string; modified: Date }[] = [];
  const unpacker = extract({
    sync: true,
    cwd: destination,
    preserveOwner: false,
    onReadEntry: (entry: ReadEntry) => {
      if (entry.type === "Directory" && entry.mtime !== undefined) {
        directories.push({ path: join(destination, entry.path), modified: entry.mtime });
      }
    },
  });
  unpacker.end(unpacked);
  // Every file that appeared in a directory changed its time; the deepest ones come last in the archive.
  for (const { path, modified } of directories.toReversed()) utimesSync(path, modified, modified);
  return { datadir: join(destination, "data"), tablespaces: [join(destination, "ts_ext")] };
}

/** What the stock tool printed about the fixture: see fixtures/datadir/README.md for the layout of the text. */
export function fixtureTruth(
  major: FixtureMajor,
  name: "pg_checksums.txt" | "pg_controldata.txt",
): string {
  return readFixture(`datadir/${major}/${name}`).toString("utf8");
}
