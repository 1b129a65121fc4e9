#!/usr/bin/env node
let main;
try {
  ({ main } = await import("../dist/bundle/tde.js"));
} catch (error) {
  // Node would end with 1, which a server that recovers takes for "no more WAL": see src/cli/exit-codes.ts.
  process.stderr.write(`tde: error: the program is not whole: ${String(error)}\n`);
  process.exit(255);
}
await main(process.argv);
