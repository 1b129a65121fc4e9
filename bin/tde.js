#!/usr/bin/env node
// A CommonJS script, by the package.json beside it: Node loads one sooner than a module.
const [, , command, subcommand] = process.argv;
let ended = false;

// A promise that nothing is left to settle would end in 0: to a server, a file that is archived.
process.once("beforeExit", () => {
  if (!ended) fail("it stopped before its end");
});
run().then(
  () => (ended = true),
  (error) =>
    fail(
      `the program is not whole: ${String(error)}\n` +
        'tde: hint: Install it again. In a clone of its sources run "npm install", then "npm run build".',
    ),
);

async function run() {
  if (await servesWal()) return;
  const { main } = await import("../dist/bundle/tde.js");
  await main(process.argv);
}

/** What a server calls for each file of its WAL has to start fast: src/cli/wal-server.ts. */
async function servesWal() {
  if (command !== "wal" || (subcommand !== "archive" && subcommand !== "restore")) return false;
  const { serve } = require("../dist/bundle/wal-server.cjs");
  return await serve(process.argv);
}

function fail(why) {
  // Node would end with 1, which a server that recovers takes for "no more WAL": see src/cli/exit-codes.ts.
  process.stderr.write(`tde: error: ${why}\n`);
  process.exit(255);
}
