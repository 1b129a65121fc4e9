/** A path as JSON can hold it: its bytes in hex. */
import type { BytePath } from "../../bytes/byte-path.ts";

export function pathToHex(path: BytePath): string {
  return Buffer.from(path, "latin1").toString("hex");
}

export function pathFromHex(hex: string): BytePath {
  return Buffer.from(hex, "hex").toString("latin1") as BytePath;
}
