/** A directory that is there for one test. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** @returns its absolute path; it is removed after the test. */
export function temporaryDirectory(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "tde-test-"));
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
