// `npm test`: runs every compiled test file (Node 20's `node --test` takes no globs). Arguments select files by substring.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const compiled = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "test");
const wanted = process.argv.slice(2);
const source = (name) =>
  join(dirname(fileURLToPath(import.meta.url)), name.replace(/\.js$/, ".ts"));
const files = readdirSync(compiled, { recursive: true })
  .filter((name) => name.endsWith(".test.js") && existsSync(source(name)))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort((a, b) => (a < b ? -1 : 1))
  .map((name) => join(compiled, name));
if (files.length === 0) {
  console.error(`no test matches ${wanted.join(", ")}`);
  process.exit(1);
}
const { status } = spawnSync(process.execPath, ["--test", "--test-concurrency=2", ...files], {
  stdio: "inherit",
});
process.exit(status ?? 1);
