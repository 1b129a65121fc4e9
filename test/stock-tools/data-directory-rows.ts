/** Stock tools on an encrypted data directory of a stopped cluster. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { rewind } from "../support/diverged.ts";
import { assertSameTree, treeOf } from "../support/tree.ts";
import type { Row } from "./rows.ts";
import type { Site } from "./site.ts";

const GUARD = /data_directory_is_encrypted_by_tde__run_tde_decrypt_datadir_first/;
const RELATION = "base/1/1255";

export const DATA_DIRECTORY_ROWS: readonly Row[] = [
  {
    tool: "pg_checksums --check",
    situation: "encrypted directory",
    run: async (site) => {
      const { status, stdout, stderr } = checksums(site, "--check", await site.encrypted());
      assert.equal(status, 0, stderr);
      assert.match(stdout, /^Bad checksums: +0$/m);
      return "passes";
    },
  },
  {
    tool: "pg_checksums --check",
    situation: "one bit of a sealed page flipped",
    run: async (site) => {
      const datadir = site.copy(await site.encrypted());
      const bytes = readFileSync(join(datadir, RELATION));
      bytes.writeUInt8(bytes.readUInt8(3 * 8192 + 4000) ^ 1, 3 * 8192 + 4000);
      writeFileSync(join(datadir, RELATION), bytes);
      const { status, stderr } = checksums(site, "--check", datadir);
      assert.equal(status, 1);
      assert.match(stderr, new RegExp(`failed in file "[^"]*${RELATION}", block 3\\b`));
      return "finds it";
    },
  },
  ...(["--disable", "--enable"] as const).map((mode): Row => ({
    tool: `pg_checksums ${mode}`,
    situation: "encrypted directory, decrypted afterwards",
    run: async (site) => {
      const original = site.copy(await site.plain());
      if (mode === "--enable") checksums(site, "--disable", original);
      const plain = contentOf(original);
      site.encrypt(original);
      const { status, stderr } = checksums(site, mode, original);
      assert.equal(status, 0, stderr);
      site.assertTraced(original, `pg_checksums ${mode}`);
      site.decrypt(original);
      // 13 writes every page once more, as it is: that leaves new times.
      assertSameTree(contentOf(original), plain);
      return "named, undone";
    },
  })),
  unchanged("pg_controldata", "encrypted directory", (site, datadir) =>
    said(site, "pg_controldata", ["-D", datadir]),
  ),
  unchanged("pg_resetwal -n", "encrypted directory", (site, datadir) =>
    said(site, "pg_resetwal", ["-n", "-D", datadir]),
  ),
  unchanged("pg_archivecleanup -n", "pg_wal of an encrypted directory", (site, datadir) => {
    const wal = join(datadir, "pg_wal");
    return said(site, "pg_archivecleanup", ["-n", wal, segmentsOf(datadir).at(-1) ?? ""]);
  }),
  {
    tool: "pg_waldump",
    situation: "WAL in readable mode",
    run: (site) => assertPrintsTheSame(site, "readable"),
  },
  {
    tool: "pg_waldump",
    situation: "sealed WAL (`--wal=sealed`)",
    run: async (site) => {
      const datadir = site.copy(await site.plain());
      site.encrypt(datadir, "sealed");
      for (const segment of segmentsOf(datadir)) {
        const { status, stdout, stderr } = waldump(site, datadir, segment);
        assert.deepEqual([status, stdout], [1, ""], segment);
        assert.match(
          stderr,
          /could not find a valid record|invalid WAL segment size|WAL segment size must be/,
        );
      }
      return "refuses it";
    },
  },
  {
    tool: "pg_waldump",
    situation: "plain WAL (`--wal=skip`)",
    run: (site) => assertPrintsTheSame(site, "skip"),
  },
  ...[[], ["--single"], ["-C", "shared_buffers"]].map((args): Row => ({
    tool: ["postgres", ...args.slice(0, 1)].join(" "),
    situation: "encrypted directory",
    run: async (site) => {
      const datadir = await site.encrypted();
      const before = treeOf(datadir);
      const database = args.includes("--single") ? ["postgres"] : [];
      const { status, stderr } = site.run("postgres", [...args, "-D", datadir, ...database]);
      assert.notEqual(status, 0);
      assert.match(stderr, GUARD);
      assertSameTree(treeOf(datadir), before, { directoryTimes: true });
      return "refuses it";
    },
  })),
  ...(["readable", "skip"] as const).map((wal): Row => ({
    tool: "pg_rewind",
    situation: wal === "skip" ? "target encrypted, WAL plain" : "target encrypted",
    run: async (site) => {
      const { left, right } = await site.diverged();
      const target = site.copy(left);
      site.encrypt(target, wal);
      const { status, stderr } = rewind(site.tools(), target, right);
      assert.equal(status, 0, stderr);
      site.assertTraced(target, "pg_rewind");
      return "destroys, named";
    },
  })),
  {
    tool: "pg_rewind",
    situation: "target encrypted, WAL sealed",
    run: async (site) => {
      const { left, right } = await site.diverged();
      const target = site.copy(left);
      site.encrypt(target, "sealed");
      const before = treeOf(target);
      const { status, stderr } = rewind(site.tools(), target, right);
      assert.equal(status, 1, stderr);
      assertSameTree(treeOf(target), before, { directoryTimes: true });
      site.assertVerified(target);
      return "stops";
    },
  },
  {
    tool: "pg_rewind",
    situation: "source encrypted",
    run: async (site) => {
      const { left, right } = await site.diverged();
      const [target, source] = [site.copy(left), site.copy(right)];
      site.encrypt(source);
      const { status, stderr } = rewind(site.tools(), target, source);
      assert.equal(status, 0, stderr);
      // The keeper of what was seen is the source's: both copies have one directory id.
      rmSync(`${target}.state`, { force: true });
      site.assertTraced(target, "pg_rewind");
      site.assertVerified(source);
      return "destroys, named";
    },
  },
];

/** Of WAL that a server wrote, and that it left behind: pg_waldump says of each segment what it said before. */
async function assertPrintsTheSame(site: Site, wal: "readable" | "skip"): Promise<string> {
  const { left: plain } = await site.diverged();
  const encrypted = site.copy(plain);
  site.encrypt(encrypted, wal);
  let records = 0;
  for (const segment of segmentsOf(plain)) {
    const before = waldump(site, plain, segment);
    assert.deepEqual(waldump(site, encrypted, segment), before);
    records += before.stdout.split("\n").length - 1;
  }
  assert.ok(records > 100, `only ${records} records`);
  return "as before";
}

/** Without times. */
function contentOf(datadir: string): ReturnType<typeof treeOf> {
  return new Map([...treeOf(datadir)].map(([path, entry]) => [path, { ...entry, mtimeMs: 0 }]));
}

function checksums(site: Site, mode: string, datadir: string): ReturnType<Site["run"]> {
  return site.run("pg_checksums", [mode, "-D", datadir]);
}

/** The tool says of the encrypted directory what it said of the plain one, and changes nothing. */
function unchanged(
  tool: string,
  situation: string,
  ask: (site: Site, datadir: string) => string,
): Row {
  return {
    tool,
    situation,
    run: async (site) => {
      const [plain, encrypted] = [await site.plain(), await site.encrypted()];
      const before = treeOf(encrypted);
      assert.equal(ask(site, encrypted), ask(site, plain));
      assertSameTree(treeOf(encrypted), before, { directoryTimes: true });
      return "as before";
    },
  };
}

/** Output of a successful run, sorted and without the path: pg_archivecleanup lists in the order of the folder. */
function said(site: Site, program: string, args: readonly string[]): string {
  const { status, stdout, stderr } = site.run(program, args);
  assert.equal(status, 0, stderr);
  const lines = (stdout + stderr).split("\n").map((line) => line.replace(/^.*\/pg_wal\//, ""));
  assert.ok(lines.length > 3, stdout + stderr);
  return lines.sort().join("\n");
}

function waldump(site: Site, datadir: string, segment: string): ReturnType<Site["run"]> {
  return site.run("pg_waldump", ["-p", join(datadir, "pg_wal"), segment]);
}

function segmentsOf(datadir: string): string[] {
  return readdirSync(join(datadir, "pg_wal"))
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort();
}
