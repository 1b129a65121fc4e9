/**
 * The process that fuzzes, started by run-fuzz.ts, which watches it: a crash, a hang or a full heap ends this process
 * alone, and the last message before it names the seed. Its standard output is WAL as text, for nobody.
 */
import { rmSync } from "node:fs";
import { loadZstd } from "../../src/compression/zstd.ts";
import { FileFuzzer } from "./fuzz-files.ts";
import { fuzzRecords } from "./fuzz-records.ts";
import type { FuzzOrder, FuzzReport } from "./run-fuzz.ts";

const order = JSON.parse(process.argv[2] ?? "") as FuzzOrder;

function report(message: FuzzReport): void {
  process.send?.(message);
}

const decodeZstd = await loadZstd();
const files = new FileFuzzer(order.folder);
const deadline = Date.now() + order.seconds * 1000;
let mutated = 0;
for (let seed = order.seed; mutated < order.records && Date.now() < deadline; seed++) {
  report({ seed });
  const counts = fuzzRecords(seed, decodeZstd);
  mutated += counts.mutated;
  for (let i = 0; i < order.filesPerRound; i++) await files.run(seed * order.filesPerRound + i);
  report({ seed, counts, files: order.filesPerRound, memoryKb: process.resourceUsage().maxRSS });
}
rmSync(order.folder, { recursive: true });
process.disconnect();
