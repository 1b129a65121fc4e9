/** The skeleton of a data directory: real PG_VERSION and pg_control, empty folders. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "../../src/postgres/crc32c.ts";
import type { Major } from "../../src/postgres/version.ts";
import { readFixture } from "./fixtures.ts";

/** @param root - is made, and must not exist. */
export function makeSmallDatadir(root: string, major: Major = 17): void {
  for (const folder of ["base", "base/5", "global", "pg_wal", "pg_tblspc"]) {
    mkdirSync(join(root, folder), { recursive: true, mode: 0o700 });
  }
  writeFileSync(join(root, "PG_VERSION"), `${major}\n`);
  writeFileSync(join(root, "global/pg_control"), readFixture(`control/${major}/pg_control`));
}

/** DBState in pg_control.h. */
const STATES = { "shut down": 1, "shut down in recovery": 2, "in production": 6 } as const;

/** Rewrites pg_control of a cluster of 17 with another state. */
export function setClusterState(root: string, state: keyof typeof STATES): void {
  const bytes = readFixture("control/17/pg_control");
  bytes.writeUInt32LE(STATES[state], 16);
  bytes.writeUInt32LE(crc32c(bytes, 0, 288), 288);
  writeFileSync(join(root, "global/pg_control"), bytes);
}
