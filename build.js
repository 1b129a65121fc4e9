// `npm run build`: compiles the TypeScript and the WebAssembly module into dist/.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);

/** Runs a development dependency's own command-line program under this Node. */
function run(packageName, program, ...args) {
  const path = join(dirname(require.resolve(`${packageName}/package.json`)), program);
  execFileSync(process.execPath, [path, ...args], { cwd: root, stdio: "inherit" });
}

run("typescript", "bin/tsc", "--project", "tsconfig.json");
run(
  "assemblyscript",
  "bin/asc.js",
  "src/postgres/page-checksum.as.ts",
  "--outFile",
  "dist/src/postgres/page-checksum.wasm",
  "-O3",
  "--noAssert",
  "--runtime",
  "stub",
  "--importMemory",
  "--enable",
  "simd",
);
