/** What `tde ls` prints and with which exit code: a table whose columns stand under each other, and JSON. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, test } from "node:test";
import { temporaryPath } from "../support/cluster.ts";
import { edit, remakeChecksums } from "../support/forger.ts";
import { makeSmallCatalogCluster, sharedFixture } from "../support/fixture-catalog.ts";
import { truthTable } from "../support/fixture-truth.ts";
import { copyOf, ORDINARY } from "../support/small-cluster.ts";
import { runTde, TDE_PROGRAM, type TdeResult } from "../support/tde.ts";

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"];
let keys = "";
let plain = "";
let encrypted = "";

before(() => {
  keys = temporaryPath("keys");
  plain = makeSmallCatalogCluster();
  encrypted = copyOf(plain);
  tde("keyring", "create", ...KEYS, "--new-key-file");
  tde("encrypt-datadir", "-D", encrypted, ...KEYS);
});

function run(...args: readonly string[]): TdeResult {
  return runTde(args, { cwd: keys });
}

/** What a command that succeeds prints. */
function tde(...args: readonly string[]): string {
  const { status, stdout, stderr } = run(...args);
  assert.equal(status, 0, stderr);
  return stdout;
}

test("every line of the table has its columns where the header has them, and ends with the name", () => {
  const [header = "", ...lines] = tde("ls", sharedFixture(17), "--database", "shop", "--system")
    .trimEnd()
    .split("\n");
  assert.match(header, /^ +total +size +pages +kind +tablespace +name$/);
  const [kind, name] = [
    header.indexOf("kind"),
    header.indexOf("name", header.indexOf("space") + 5),
  ];
  for (const line of lines) {
    assert.match(line.slice(0, kind), /^ +\d+ +\d+ +\d+ {2}$/);
    assert.match(line.slice(name - 2), /^ {2}\S/);
  }
  const orders = lines.filter((line) => line.endsWith(" shop.public.orders"));
  const bytes = truthTable(17, "relations.csv").find(({ relname }) => relname === "orders")?.[
    "bytes"
  ];
  assert.equal(orders.length, 1);
  assert.ok(Number(orders[0]?.trim().split(/ +/)[1]) >= Number(bytes));
});

test("of an encrypted directory shares and pages under each key are columns of their own", () => {
  const text = tde(
    "ls",
    "-D",
    encrypted,
    "template1.pg_catalog.pg_class",
    "--kind",
    "table",
    ...KEYS,
  );
  const [header, line = "", ...others] = text.trimEnd().split("\n");
  assert.match(header ?? "", /^ +total +size +pages +encrypted +keys +kind +tablespace +name$/);
  const [, , pages, ...rest] = line.trim().split(/ +/);
  assert.deepEqual(rest.slice(0, 3), ["100", "%", `1:${pages}`]);
  assert.match(line, / template1\.pg_catalog\.pg_class$/);
  assert.deepEqual(others, []);
});

test("JSON is one document with the same rows, and says what its keys rest on", () => {
  const document = JSON.parse(
    tde("ls", encrypted, "template1.pg_catalog.pg_class", "--format", "json", ...KEYS),
  );
  const { directory, named, mayBeStale, keysFrom, relations } = document;
  assert.deepEqual([directory, named, mayBeStale, keysFrom], [encrypted, true, false, "manifest"]);
  const [row] = relations.filter(({ kind }: { kind: string }) => kind === "table");
  assert.deepEqual(
    [row.name, row.oid, row.path, row.keys, row.encryptedBytes],
    [
      "template1.pg_catalog.pg_class",
      1259,
      ORDINARY,
      [{ keyId: 1, pages: row.pages }],
      row.sizeBytes,
    ],
  );
  const none = JSON.parse(
    tde("ls", plain, "--database", "template1", "--kind", "sequence", "--format", "json"),
  );
  assert.deepEqual([none.keysFrom, none.relations], ["none", []]);
});

test("databases, tablespaces and schemas are listed with what lies in them", () => {
  const datadir = sharedFixture(17);
  assert.match(
    tde("ls", datadir, "--by", "database"),
    /^ +\d+ +\d+ +\d+ +\d+ +UTF8 +pg_default +shop$/m,
  );
  assert.match(tde("ls", datadir, "--by", "tablespace"), /^ .* \.\.\/\.\.\/ts_ext +ext$/m);
  const schemas = JSON.parse(tde("ls", datadir, "--by", "schema", "--format", "json")).schemas;
  const names = schemas.map(({ name }: { name: string }) => name);
  assert.deepEqual(names, ["shop.inv", "shop.public"]);
});

test("without a keyring paths are listed and the reason is told, and nothing is an error but asking for names", () => {
  const { status, stdout, stderr } = run("ls", encrypted);
  assert.equal(status, 0);
  assert.match(stdout, / base\/1\/1259$/m);
  assert.doesNotMatch(stdout, /pg_class/);
  assert.match(stderr, /^keys and their pages are what the manifest says, unproved/m);
  assert.match(
    stderr,
    /^tde: warning: names cannot be read: "base\/1\/\d+" is encrypted, and no keyring/m,
  );
  assert.match(stderr, /^tde: hint: .*Paths work without it\.$/m);
  const named = run("ls", encrypted, "template1.pg_catalog.pg_class");
  assert.deepEqual([named.status, named.stdout], [4, ""]);
  assert.match(tde("ls", encrypted, ORDINARY), / base\/1\/1259\n$/);
});

test("where the catalog is damaged paths are listed, and the exit code says that it is", () => {
  const datadir = copyOf(plain);
  edit(join(datadir, ORDINARY), (bytes) => void bytes.fill(0x5a, 8192, 8300));
  const { status, stdout, stderr } = run("ls", datadir, "--database", "template1");
  assert.equal(status, 3);
  assert.match(stdout, / base\/1\/1259$/m);
  assert.match(stderr, /names cannot be read: base\/1\/1259 block 1 fails its checksum/);
});

test("names cannot disturb a terminal, as text and as JSON, and wide letters move no column", () => {
  const datadir = copyOf(plain);
  const evil = "日本\u202egnp.\x1b[31m\x07";
  edit(join(datadir, ORDINARY), (bytes) => {
    const name = Buffer.alloc(64);
    name.write(evil);
    name.copy(bytes, bytes.lastIndexOf("pg_namespace\0"));
  });
  remakeChecksums(join(datadir, ORDINARY));
  const args = ["ls", datadir, "--system", "--database", "template1"];
  const text = tde(...args);
  assert.match(text, / template1\.pg_catalog\."日本\\u\{202e\}gnp\.\\u\{1b\}\[31m\\u\{7\}"$/m);
  const json = tde(...args, "--format", "json");
  for (const printed of [text, json]) assert.doesNotMatch(printed, /(?!\n)[\p{Cc}\p{Cf}]/u);
  const rows: { relation: string }[] = JSON.parse(json).relations;
  assert.ok(rows.some(({ relation }) => relation === evil));
});

test("a reader that goes away early ends it quietly", () => {
  const { stderr } = spawnSync(
    "sh",
    [
      "-c",
      `"$0" "$1" ls "$2" --system | head -n 1`,
      process.execPath,
      TDE_PROGRAM,
      sharedFixture(17),
    ],
    { encoding: "utf8" },
  );
  assert.doesNotMatch(stderr, /EPIPE|error/);
});

for (const [args, status, message] of [
  [["ls", "PLAIN", "template1.*.nothing"], 2, /there is no relation template1/],
  [["ls", "PLAIN", "--database", "nothing"], 2, /there is no database nothing/],
  [["ls", "PLAIN", "--kind", "thing"], 2, /It must be one of table, /],
  [["ls", "PLAIN", "--schema", "a.b"], 2, /too many parts for one name/],
  [["ls", "PLAIN", "--by", "database", "--kind", "table"], 2, /adds up all that lies there/],
  [["ls", "/nowhere"], 5, /is not a directory/],
] as const) {
  test(`tde ${args.join(" ")} ends with ${status} and says why`, () => {
    const result = run(...args.map((arg) => (arg === "PLAIN" ? plain : arg)));
    assert.match(result.stderr, message);
    assert.deepEqual([result.status, result.stdout], [status, ""]);
    assert.doesNotMatch(result.stderr, /^ {4}at /m);
  });
}
