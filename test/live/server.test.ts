import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { findPostgres } from "../../src/demo/embedded-postgres.ts";
import { StateError } from "../../src/errors.ts";
import { makeCluster, tableChecksums, temporaryPath } from "../support/cluster.ts";

test("a checksum changes with one row of its table and with no other's", async () => {
  const cluster = await makeCluster({ major: 17, checksums: true, content: "small" });
  const server = await cluster.start();
  try {
    const before = await tableChecksums(server);
    await server.run("shop", "UPDATE orders SET note = 'another' WHERE id = 1");
    const after = await tableChecksums(server);
    const changed = [...before].filter(
      ([name, { checksum }]) => after.get(name)?.checksum !== checksum,
    );
    assert.deepEqual(
      changed.map(([name]) => name),
      ["shop.public.orders"],
    );
    assert.equal(after.get("shop.public.orders")?.rows, before.get("shop.public.orders")?.rows);
  } finally {
    await server.stop();
  }
});

test("a crashed server leaves its cluster in production, and the next start recovers it", async () => {
  const cluster = await makeCluster({ major: 17, checksums: true, content: "small" });
  const server = await cluster.start();
  await server.run("shop", "INSERT INTO orders VALUES (700001, 'before the crash')");
  await server.crash();
  assert.ok(existsSync(join(cluster.datadir, "postmaster.pid")));
  const again = await cluster.start();
  const rows = await again.query("shop", "SELECT note FROM orders WHERE id = 700001");
  await again.stop();
  assert.deepEqual(rows, [["before the crash"]]);
  assert.ok(!existsSync(join(cluster.datadir, "postmaster.pid")));
});

test("two servers run side by side", async () => {
  const options = { checksums: true, content: "small" } as const;
  const one = await (await makeCluster({ ...options, major: 17 })).start();
  const other = await (await makeCluster({ ...options, major: 13 })).start();
  assert.match(String(await one.query("shop", "SHOW server_version")), /^17\./);
  assert.match(String(await other.query("shop", "SHOW server_version")), /^13\./);
  await one.stop();
  await other.stop();
});

test("a server that cannot start says why", async () => {
  const cluster = await makeCluster({ major: 17, checksums: true, content: "small" });
  await assert.rejects(cluster.start(["no_such_setting=on"]), (error: unknown) => {
    assert.ok(error instanceof StateError);
    assert.match(error.message, /unrecognized configuration parameter "no_such_setting"/);
    return true;
  });
});

test("a major that is not installed is refused with what to do", () => {
  assert.throws(
    () => findPostgres(99, { user: undefined, scratch: temporaryPath("scratch") }),
    (error: unknown) => error instanceof StateError && /npm install/.test(error.hint ?? ""),
  );
});

test("a server and its folder end with a process that is killed", async () => {
  // A process of its own, which starts a server, says where it is, and is killed before it can clean up.
  const support = new URL("../support/cluster.js", import.meta.url).href;
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `const { makeCluster } = await import(${JSON.stringify(support)});
       const cluster = await makeCluster({ major: 17, checksums: true, content: "small" });
       const server = await cluster.start();
       console.log(JSON.stringify({ pid: server.pid, folder: cluster.folder }));
       setInterval(() => {}, 1000);`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = await once(child.stdout, "data");
  const { pid, folder } = JSON.parse(String(line)) as { pid: number; folder: string };
  assert.ok(isRunning(pid));
  child.kill("SIGKILL");
  await once(child, "exit");
  for (let tries = 0; tries < 200 && (isRunning(pid) || existsSync(folder)); tries++) {
    await sleep(50);
  }
  assert.ok(!isRunning(pid), "the server still runs");
  assert.ok(!existsSync(folder), "the folder is still there");
});

/** A zombie does not run: in a container nothing may collect it. */
function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}
