/** Where the fixtures are, seen from the compiled tests in dist/ and from the sources alike. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = ["../../", "../../../"]
  .map((up) => new URL(`${up}fixtures/`, import.meta.url))
  .find((url) => existsSync(url));

export function fixturePath(name: string): string {
  if (root === undefined) throw new Error("the folder fixtures/ is missing");
  return fileURLToPath(new URL(name, root));
}

export function readFixture(name: string): Buffer {
  return readFileSync(fixturePath(name));
}
