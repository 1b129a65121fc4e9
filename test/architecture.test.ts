/**
 * The rules about who imports whom, as data, held against the import lines of src/. A failure names the file
 * and what it must not do.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** A folder imports from itself and from the rows above it, never from another of its own row or from below. */
const LAYERS: readonly (readonly string[])[] = [
  ["errors.ts"],
  ["bytes"],
  ["compression"],
  ["crypto", "postgres"],
  ["wal"],
  ["storage"], // its journal is authenticated
  ["keyring"],
  ["format"],
  ["datadir"],
  ["catalog", "workers"],
  ["engine"],
  ["demo"],
  ["cli"],
];

interface Restriction {
  readonly what: string;
  readonly found: RegExp;
  /** Files or folders of src/ that may, each with the reason. */
  readonly except: Readonly<Record<string, string>>;
}

const RESTRICTIONS: readonly Restriction[] = [
  {
    what: "of the formats opens files",
    found: /from "[^"]*\/storage\//,
    except: Object.fromEntries(
      LAYERS.flat()
        .filter((folder) => !["compression", "postgres", "wal", "format"].includes(folder))
        .map((folder) => [
          folder,
          "not a format: compression/, postgres/, wal/ and format/ take bytes and give values",
        ]),
    ),
  },
  {
    what: "imports node:crypto or koffi",
    found: /from "((node:)?crypto|koffi)"|\("((node:)?crypto|koffi)"\)/,
    except: { crypto: "the one home of cryptographic primitives" },
  },
  {
    what: "imports node:fs",
    found: /from "(node:)?fs(\/promises)?"|import\("(node:)?fs(\/promises)?"\)/,
    except: {
      "storage/node-file-system.ts": "the real file system behind the interface",
      "storage/process-table.ts": "reads /proc",
      "storage/running-servers.ts": "reads /proc, and what it leads to",
      "storage/core-dump.ts": "writes to /proc what of this process may be in a core",
      "bytes/wasm-module.ts": "loads the program's own .wasm files, no user's file",
      demo: "makes and removes clusters of its own, no user's files",
      cli: "asks for a passphrase at /dev/tty",
    },
  },
  {
    what: "compares a MAC, tag or commitment otherwise than in constant time",
    found:
      /(\b(mac|tag|commitment)\b\)?\.(equals|compare)\(|\.(equals|compare)\([^)]*\b(mac|tag|commitment)\b)/i,
    except: {
      "crypto/prove-message-cipher.ts":
        "compares answers that are no secret, before anything is encrypted",
      "format/manifest.ts":
        "compares two passes over a file with each other, not with what is right",
    },
  },
  {
    what: "uses console, process.argv, process.exit or process.exitCode",
    found: /(?<![#.\w])(console\.|process\.(argv|exit|exitCode)\b)/,
    except: { cli: "the terminal is its job" },
  },
];

/** Beyond this a file holds more than one idea. */
const MOST_LINES = 600;

const SOURCE = fileURLToPath(
  new URL(import.meta.url.endsWith(".js") ? "../../src" : "../src", import.meta.url),
);

interface SourceFile {
  /** Below src/, with slashes. */
  readonly path: string;
  readonly code: string;
  readonly lines: number;
}

test("every import goes to the same folder or to one further down", () => {
  const offences: string[] = [];
  for (const { path, code } of sourceFiles()) {
    for (const target of importsOf(path, code)) {
      const from = layerOf(path);
      const to = layerOf(target);
      if (topOf(path) !== topOf(target) && to >= from) offences.push(`${path} -> ${target}`);
    }
  }
  assert.deepEqual(offences, []);
});

test("every folder of src/ has its place in the order", () => {
  const known = LAYERS.flat();
  assert.deepEqual(
    sourceFiles()
      .map(({ path }) => path)
      .filter((path) => !known.includes(topOf(path))),
    [],
  );
});

for (const { what, found, except } of RESTRICTIONS) {
  test(`no file ${what} but the few that have a reason`, () => {
    const offences = sourceFiles()
      .filter(({ code }) => found.test(code))
      .map(({ path }) => path)
      .filter(
        (path) => !Object.keys(except).some((part) => path === part || path.startsWith(`${part}/`)),
      );
    assert.deepEqual(offences, []);
  });
}

test(`no file of src/ has more than ${MOST_LINES} lines`, () => {
  const long = sourceFiles().filter(({ lines }) => lines > MOST_LINES);
  assert.deepEqual(
    long.map(({ path, lines }) => `${path}: ${lines}`),
    [],
  );
});

function sourceFiles(): SourceFile[] {
  return readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".as.ts"))
    .sort()
    .map((path) => {
      const text = readFileSync(join(SOURCE, path), "utf8");
      return { path, code: withoutComments(text), lines: text.split("\n").length - 1 };
    });
}

/** Comments may name what code must not use. Only whole lines of them: `//` also stands in strings. */
function withoutComments(text: string): string {
  return text
    .replace(/^\s*\/\*[\s\S]*?\*\//gm, "")
    .split("\n")
    .filter((line) => !/^\s*\/\//.test(line))
    .join("\n");
}

/** Targets of relative imports, static and dynamic, also of `new Worker(new URL("./x.ts"`. */
function importsOf(path: string, code: string): string[] {
  return [...code.matchAll(/(?:from|import|import\(|new URL\()\s*"(\.[^"]+)"/g)]
    .map(([, target]) => relative(".", join(dirname(path), target ?? "")))
    .filter((target) => !target.startsWith(".."));
}

function topOf(path: string): string {
  return path.split("/")[0] ?? path;
}

function layerOf(path: string): number {
  return LAYERS.findIndex((layer) => layer.includes(topOf(path)));
}
