/**
 * tde's own version.
 */
import { readFileSync } from "node:fs";

/** package.json stands three levels above the compiled file, two above the bundle and the source. */
export function packageVersion(): string {
  for (const path of ["../../../package.json", "../../package.json"]) {
    try {
      const text = readFileSync(new URL(path, import.meta.url), "utf8");
      const { version } = JSON.parse(text) as { readonly version?: unknown };
      if (typeof version === "string") return version;
    } catch {
      // Not here.
    }
  }
  return "unknown";
}
