import assert from "node:assert/strict";
import { test } from "node:test";
import { closeSync, openSync, readFileSync, readlinkSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { makeCluster, temporaryPath, treeOf } from "./cluster.ts";
import { FIXTURE_MAJORS, fixtureTruth, unpackFixture } from "./fixture.ts";
import { requireStockTools } from "./stock-tools.ts";

for (const major of FIXTURE_MAJORS) {
  test(`the fixture of PostgreSQL ${major} unpacks with its modes, times and links`, () => {
    const { datadir, tablespaces } = unpackFixture(major, temporaryPath("fixture"));
    assert.equal(readFileSync(join(datadir, "PG_VERSION"), "utf8"), `${major}\n`);
    const tree = treeOf(datadir);
    assert.ok(tree.size > 1300);
    const links = [...tree].filter(([, { kind }]) => kind === "link");
    assert.equal(links.length, 1);
    const [link] = links[0] ?? [""];
    assert.equal(readlinkSync(join(datadir, link)), "../../ts_ext");
    assert.ok(tablespaces.every((path) => statSync(path).isDirectory()));
    for (const [path, { kind, mode, mtimeMs }] of tree) {
      if (kind === "link" || kind === "other") continue;
      assert.equal(mode, kind === "file" ? 0o600 : 0o700, path);
      // Before the fixtures were packed, not the moment of unpacking.
      assert.ok(mtimeMs <= Date.UTC(2026, 10, 20, 11), path);
    }
  });
}

test("stock pg_controldata says of a fixture what it said when it was made", (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  for (const major of [14, 15] as const) {
    const { datadir } = unpackFixture(major, temporaryPath("fixture"));
    const { status, stdout } = tools.run("pg_controldata", [datadir]);
    assert.equal(status, 0);
    assert.equal(stdout, fixtureTruth(major, "pg_controldata.txt"));
  }
});

test("stock pg_checksums accepts a real cluster and sees one flipped byte in it", async (t) => {
  const tools = requireStockTools(t);
  if (tools === undefined) return;
  const { datadir } = await makeCluster({ major: 15, checksums: true, content: "varied" });
  const accepted = tools.run("pg_checksums", ["--check", "-D", datadir]);
  assert.equal(accepted.status, 0, accepted.stderr);
  assert.match(accepted.stdout, /^Bad checksums: +0$/m);

  const file = openSync(join(datadir, "global", "1260"), "r+");
  writeSync(file, Buffer.from([0xff]), 0, 1, 8000);
  closeSync(file);
  const refused = tools.run("pg_checksums", ["--check", "-D", datadir]);
  assert.equal(refused.status, 1);
  assert.match(refused.stdout, /^Bad checksums: +1$/m);
});
