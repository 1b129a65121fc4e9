/** What commands say of a scope, and of configuration that was accepted: in text, as JSON, and with which exit code. */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { copyOf, makeSmallCluster } from "../support/small-cluster.ts";
import { runTde, type TdeResult } from "../support/tde.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];
let keys = "";
let plain = "";
/** With base/1/1259 in scope, and its forks. */
let partly = "";

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCluster();
  partly = copyOf(plain);
  tde("keyring", "create", ...KEYS, "--new-key-file");
  tde("encrypt-datadir", "-D", partly, "--relation", "base/1/1259", ...KEYS);
});

function run(...args: readonly string[]): TdeResult {
  return runTde(args, { cwd: keys });
}

/** The lines of a command that succeeds. */
function tde(...args: readonly string[]): string[] {
  const { status, stdout, stderr } = run(...args);
  assert.equal(status, 0, stderr);
  return stdout.trimEnd().split("\n");
}

const OUT_OF_SCOPE = /^NOT encrypted, out of scope: \d+ relation files, [\d.]+ MB$/;
const SCOPE = "scope: relation:1663/1/1259";

test("encrypt-datadir and verify say first of all what is not encrypted", () => {
  const datadir = copyOf(plain);
  const encrypt = ["encrypt-datadir", "-D", datadir, "--relation", "1/1259", ...KEYS];
  for (const args of [
    [...encrypt, "--dry-run"],
    encrypt,
    encrypt,
    ["verify", "-D", datadir, ...KEYS],
    ["verify", "-D", datadir, "--checksums-only"],
  ]) {
    const [first = "", second, ...others] = tde(...args);
    assert.match(first, OUT_OF_SCOPE, args.join(" "));
    assert.equal(second, SCOPE);
    assert.ok(others.length > 0);
  }
});

test("without a scope no report speaks of one", () => {
  const datadir = copyOf(plain);
  for (const command of ["encrypt-datadir", "verify"]) {
    assert.doesNotMatch(tde(command, "-D", datadir, ...KEYS).join("\n"), /scope/);
  }
});

test("verify says verified only of what has tags, and of plain files that they are as they were", () => {
  const whole = tde("verify", "-D", partly, ...KEYS).at(-1) ?? "";
  assert.match(whole, /^verified: .*; \d+ plain files out of scope have the content/);
  const part = tde("verify", "-D", partly, "--relation", "base/1/1247", ...KEYS);
  assert.equal(
    part[0],
    "checked only relations (relation:1663/1/1247): nothing else was looked at",
  );
  assert.match(part[1] ?? "", /^NOT encrypted, out of scope: 3 relation files/);
  assert.match(
    part.at(-1) ?? "",
    /^verified: every tag of 0 files, 0 pages, 0 B of what was named/,
  );
});

test("as JSON a scope is its text, with counts beside it", () => {
  const datadir = copyOf(plain);
  const args = ["-D", datadir, ...KEYS, "--format", "json"];
  const encrypted = JSON.parse(
    tde("encrypt-datadir", "--exclude", "base/1/1255", ...args).join("\n"),
  );
  const verified = JSON.parse(tde("verify", "--relation", "1255", ...args).join("\n"));
  assert.equal(encrypted.scope, "all except relation:1663/1/1255");
  assert.equal(verified.scope, encrypted.scope);
  assert.equal(verified.selected, "relation:1663/1/1255");
  assert.deepEqual(verified.outOfScope.files, 3);
});

for (const [args, status, message] of [
  [["encrypt-datadir", "--relation", "base/orders"], 2, /"base\/orders" is no relation/],
  // This cut-down cluster lacks most of its catalogs.
  [["encrypt-datadir", "--relation", "orders"], 7, /could not open.*\n.*paths still work/],
  [["encrypt-datadir", "--database", "99"], 2, /no database 99.*\n.*Its databases: 1\./],
  [["verify", "--tablespace", "99"], 2, /no tablespace "99"/],
  [
    ["decrypt-datadir", "--relation", "base/1/1259"],
    2,
    /gives the whole directory back in place, not parts.*\n.*--output NEW/,
  ],
  [["encrypt-datadir", "--relation", "base/1/1247"], 5, /is encrypted, but not in the scope/],
] as const) {
  test(`tde ${args.join(" ")} is refused with ${status}, and changes nothing`, () => {
    const before = treeOf(partly);
    const { status: code, stderr, stdout } = run(...args, "-D", partly, ...KEYS);
    assert.match(stderr, message);
    assert.deepEqual([code, stdout], [status, ""]);
    assertSameTree(treeOf(partly), before);
  });
}

test("accepted configuration is named in text and JSON, and no line calls it verified", () => {
  const datadir = copyOf(partly);
  appendFileSync(join(datadir, "pg_hba.conf"), "# edited\n");
  assert.equal(run("verify", "-D", datadir, ...KEYS).status, 3);
  const accept = ["-D", datadir, "--accept-changed", "pg_hba.conf", ...KEYS];
  const text = tde("verify", ...accept);
  assert.ok(text.includes("changed, accepted: pg_hba.conf"));
  assert.match(text.at(-1) ?? "", /^verified: .*; NOT of 1 that were accepted as changed$/);
  const accepted = [{ path: "pg_hba.conf", change: "changed" }];
  for (const command of ["verify", "decrypt-datadir"]) {
    const json = JSON.parse(tde(command, ...accept, "--format", "json").join("\n"));
    assert.deepEqual(json.accepted, accepted);
  }
});

test("decrypt-datadir of a part says that the rest is left out, and takes no option of the whole", () => {
  const output = join(temporaryPath("part"), "new");
  const args = ["decrypt-datadir", "-D", partly, "--relation", "base/1/1259", "--output", output];
  const refused = run(...args, "--restore-control", ...KEYS);
  assert.deepEqual([refused.status, existsSync(output)], [2, false]);
  const moved = run(...args, "--accept-moved", ...KEYS);
  assert.deepEqual([moved.status, existsSync(output)], [2, false]);
  assert.deepEqual(tde(...args, ...KEYS), [
    "only relations (relation:1663/1/1259): everything else is left out, and no server starts on it",
    "written: 3 files, 144 kB; of each every tag held, or the digest of what is out of scope",
  ]);
  assert.deepEqual(readdirSync(join(output, "base/1")).sort(), ["1259", "1259_fsm", "1259_vm"]);
});
