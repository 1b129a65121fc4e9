#!/usr/bin/env node
const [, , command, subcommand] = process.argv;
try {
  if (!(await servesWal())) {
    const { main } = await import("../dist/bundle/tde.js");
    await main(process.argv);
  }
} catch (error) {
  // Node would end with 1, which a server that recovers takes for "no more WAL": see src/cli/exit-codes.ts.
  process.stderr.write(`tde: error: the program is not whole: ${String(error)}\n`);
  process.exit(255);
}

/** What a server calls for each file of its WAL has to start fast: src/cli/wal-server.ts. */
async function servesWal() {
  if (command !== "wal" || (subcommand !== "archive" && subcommand !== "restore")) return false;
  const { serve } = await import("../dist/bundle/wal-server.js");
  return await serve(process.argv);
}
