/** What must be true of any range of WAL that is read to its end, whoever wrote it. */
import assert from "node:assert/strict";
import { runTde } from "./tde.ts";

interface JsonRecord {
  readonly lsn: string;
  readonly prev: string;
  readonly end: string;
  readonly rmgr: string;
  readonly type: string | null;
  readonly totalBytes: number;
  readonly recordBytes: number;
  readonly imageBytes: number;
  readonly description: string;
}

interface JsonStatistics {
  readonly count: number;
  readonly start: string;
  readonly end: string;
  readonly types: readonly { count: number; recordBytes: number; imageBytes: number }[];
}

/**
 * Asserts that tde reads this range up to the end of what the server wrote, that the records follow each other without
 * a gap, that each has a type that its major knows and a whole description, and that statistics count the same.
 * @param args - the range, in the words of the command line.
 * @returns the number of records.
 */
export function assertWalAddsUp(args: readonly string[]): number {
  const { stdout, stderr, status } = runTde(["waldump", "--format=json", ...args]);
  assert.match(stderr, /invalid record length at \S+: (expected at least|wanted) 24, got 0\n$/);
  assert.equal(status, 1);
  const records = stdout
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line) as JsonRecord);
  for (const [i, record] of records.entries()) {
    const what = JSON.stringify(record);
    if (i > 0) assert.equal(record.prev, records[i - 1]?.lsn, what);
    assert.ok(record.type !== null && !record.description.includes("record too short"), what);
    assert.equal(record.totalBytes, record.recordBytes + record.imageBytes, what);
  }
  const statistics = JSON.parse(
    runTde(["waldump", "--format=json", "--stats=record", ...args]).stdout,
  ) as JsonStatistics;
  assert.equal(statistics.start, records[0]?.lsn);
  assert.equal(statistics.end, records.at(-1)?.end);
  for (const [sum, what] of [
    [statistics.count, () => 1],
    [total(statistics.types, "count"), () => 1],
    [total(statistics.types, "recordBytes"), ({ recordBytes }: JsonRecord) => recordBytes],
    [total(statistics.types, "imageBytes"), ({ imageBytes }: JsonRecord) => imageBytes],
  ] as const) {
    assert.equal(
      sum,
      records.reduce((so, record) => so + what(record), 0),
    );
  }
  return records.length;
}

function total(
  types: JsonStatistics["types"],
  field: "count" | "recordBytes" | "imageBytes",
): number {
  return types.reduce((sum, type) => sum + type[field], 0);
}
