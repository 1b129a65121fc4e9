import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryPath } from "./cluster.ts";
import { assertSameTree, copyTree, treeOf } from "./tree.ts";

const CHANGES: Readonly<Record<string, (folder: string) => void>> = {
  "other content of the same length and time": (folder) => {
    writeFileSync(join(folder, "base/file"), "CONTENT");
    utimesSync(join(folder, "base/file"), 1000, 1000);
  },
  "another time of a file": (folder) => utimesSync(join(folder, "base/file"), 1000, 1001),
  "another mode": (folder) => chmodSync(join(folder, "base/file"), 0o640),
  "another mode of a directory": (folder) => chmodSync(join(folder, "base"), 0o750),
  "a file that is gone": (folder) => rmSync(join(folder, "base/file")),
  "a file more": (folder) => writeFileSync(join(folder, "base/more"), ""),
  "a link to elsewhere": (folder) => {
    unlinkSync(join(folder, "link"));
    symlinkSync("nowhere", join(folder, "link"));
  },
  "a directory instead of a file": (folder) => {
    rmSync(join(folder, "base/file"));
    mkdirSync(join(folder, "base/file"));
  },
};

test("a copy is the same tree, times of directories and links included", () => {
  const folder = sampleTree();
  const copy = join(temporaryPath("copy"), "tree");
  copyTree(folder, copy);
  assertSameTree(treeOf(copy), treeOf(folder), { directoryTimes: true });
});

for (const [what, change] of Object.entries(CHANGES)) {
  test(`${what} makes another tree`, () => {
    const folder = sampleTree();
    const before = treeOf(folder);
    change(folder);
    assert.throws(() => assertSameTree(treeOf(folder), before), assert.AssertionError);
  });
}

function sampleTree(): string {
  const folder = join(temporaryPath("tree"), "sample");
  mkdirSync(join(folder, "base"), { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, "base/file"), "content", { mode: 0o600 });
  utimesSync(join(folder, "base/file"), 1000, 1000);
  symlinkSync("base", join(folder, "link"));
  return folder;
}
