// `npm run installed`: packs tde, installs the file under an empty prefix without development dependencies, and takes a
// real cluster there and back. Needs the npm registry, or its cache.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = mkdtempSync(join(tmpdir(), "tde-installed-"));
const quietly = { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] };
try {
  const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], {
    ...quietly,
    cwd: root,
  });
  const file = join(folder, packed.trim().split("\n").at(-1) ?? "");
  const listed = execFileSync("tar", ["-tzf", file], quietly);
  assert.doesNotMatch(listed, /^package\/(test|src|fixtures)\//m);

  const prefix = join(folder, "prefix");
  execFileSync("npm", ["install", "--global", "--omit=dev", "--prefix", prefix, file], quietly);
  const { unpackFixture } = await import("../dist/test/support/fixture.js");
  const { datadir } = unpackFixture(17, folder);
  const before = contentOf(datadir);
  const tde = (...args) => {
    const keys = ["--keyring", join(folder, "app.keyring"), "--key-file", join(folder, "kek.key")];
    const { status, stdout, stderr } = spawnSync(join(prefix, "bin/tde"), [...args, ...keys], {
      encoding: "utf8",
      cwd: folder,
    });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  assert.equal(
    execFileSync(join(prefix, "bin/tde"), ["--version"], quietly).trim(),
    JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version,
  );
  tde("keyring", "create", "--new-key-file");
  tde("encrypt-datadir", "-D", datadir);
  assert.notEqual(contentOf(datadir), before);
  assert.match(tde("verify", "-D", datadir), /^verified: /m);
  tde("decrypt-datadir", "-D", datadir);
  assert.equal(contentOf(datadir), before);
  console.log(`${file.slice(folder.length + 1)}: installed, and a cluster is there and back`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Digests of all files, by path. */
function contentOf(path) {
  const digests = "find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2";
  return execFileSync("sh", ["-c", digests], { encoding: "utf8", cwd: path });
}
