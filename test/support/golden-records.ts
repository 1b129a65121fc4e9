/** The records of fixtures/wal-records: of every type that servers wrote, with what the real pg_waldump prints of it. */
import { brotliDecompressSync } from "node:zlib";
import { readFixture } from "./fixtures.ts";

export interface GoldenRecord {
  readonly bytes: Buffer;
  /** What stands after `desc: ` in its line, as Latin-1. */
  readonly text: string;
}

/** There is no 14 among them. */
export const GOLDEN_MAJORS = [13, 15, 16, 17, 18, 19] as const;

export function goldenRecords(major: (typeof GOLDEN_MAJORS)[number]): GoldenRecord[] {
  const lines = brotliDecompressSync(readFixture(`wal-records/${major}.txt.br`)).toString("latin1");
  return lines
    .slice(0, -1)
    .split("\n")
    .map((line) => {
      const space = line.indexOf(" ");
      return { bytes: Buffer.from(line.slice(0, space), "hex"), text: line.slice(space + 1) };
    });
}
