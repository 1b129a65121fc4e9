// `npm run build`: compiles the TypeScript and the WebAssembly modules into dist/, and bundles the program.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);

function hasTools() {
  return ["esbuild", "typescript", "assemblyscript"].every((name) =>
    existsSync(join(root, "node_modules", name)),
  );
}

/** Runs a development dependency's own command-line program under this Node. */
function run(packageName, program, ...args) {
  const path = join(dirname(require.resolve(`${packageName}/package.json`)), program);
  execFileSync(process.execPath, [path, ...args], { cwd: root, stdio: "inherit" });
}

if (!hasTools()) {
  // npm prepares what it links, and what it takes from git for everybody, before it has installed what that needs.
  if (process.env["npm_lifecycle_event"] !== "prepare") {
    console.error(
      'What tde is built with is not installed: run "npm install" in its folder first.',
    );
    process.exit(1);
  }
  const npm = ["install", "--global=false", "--include=dev", "--workspaces=false"];
  execFileSync("npm", [...npm, "--ignore-scripts"], { cwd: root, stdio: "inherit" });
}
const { build } = await import("esbuild");

run("typescript", "bin/tsc", "--project", "tsconfig.json");
const wasmModules = ["postgres/page-checksum", "wal/record-scan", "format/wal/block-text"];
for (const name of wasmModules) {
  run(
    "assemblyscript",
    "bin/asc.js",
    `src/${name}.as.ts`,
    "--outFile",
    `dist/src/${name}.wasm`,
    "-O3",
    "--noAssert",
    "--runtime",
    "stub",
    "--importMemory",
    "--enable",
    "simd",
  );
}

// What bin/tde.js starts. A hundred small modules take longer to find than the work on a small cluster, and each
// worker thread loads them again; tests import the single modules instead. Dependencies stay what npm installed.
rmSync(join(root, "dist/bundle"), { recursive: true, force: true });
/** Where a module asks for its own address, a script has its file name. */
const commonJs = {
  format: "cjs",
  outExtension: { ".js": ".cjs" },
  define: { "import.meta.url": "__filename" },
};
for (const [name, entry] of [
  ["tde", "dist/src/cli/main.js"],
  ["wal-server", "dist/src/cli/wal-server.js"],
  ["page-worker", "dist/src/workers/page-worker.js"],
  ["waldump-worker", "dist/src/engine/waldump/waldump-worker.js"],
]) {
  await build({
    entryPoints: { [name]: join(root, entry) },
    outdir: join(root, "dist/bundle"),
    bundle: true,
    // The program loads each command when it is called; a worker, and what a server calls for each file of its WAL,
    // needs all of its code at once.
    splitting: name === "tde",
    packages: "external",
    platform: "node",
    // Node loads what a server calls sooner as CommonJS.
    ...(name === "wal-server" ? commonJs : { format: "esm" }),
    target: "node20",
    logLevel: "warning",
  });
}
for (const name of wasmModules) {
  const file = `${name}.wasm`;
  copyFileSync(join(root, "dist/src", file), join(root, "dist/bundle", basename(file)));
}
