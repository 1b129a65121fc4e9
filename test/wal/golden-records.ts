/** Records of real servers with what the real pg_waldump printed of each: fixtures/wal-records. */
import { brotliDecompressSync } from "node:zlib";
import { readFixture } from "../support/fixtures.ts";

export const MAJORS = [13, 15, 16, 17, 18, 19] as const;

export function goldenRecords(major: (typeof MAJORS)[number]): { bytes: Buffer; text: string }[] {
  const lines = brotliDecompressSync(readFixture(`wal-records/${major}.txt.br`)).toString("latin1");
  return lines
    .slice(0, -1)
    .split("\n")
    .map((line) => {
      const space = line.indexOf(" ");
      return { bytes: Buffer.from(line.slice(0, space), "hex"), text: line.slice(space + 1) };
    });
}
