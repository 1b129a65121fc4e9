/**
 * Arguments and environment variables as the bytes that they are. Node decodes them as UTF-8 and puts U+FFFD
 * where that fails, so a path that is not UTF-8 is lost. Linux keeps the bytes in /proc (proc(5)): from there
 * each byte that is not UTF-8 becomes a lone surrogate, U+DC80 for 80 and so on, which passes through any code
 * that handles strings; `pathArgument` turns it back into the byte.
 */
import { readFileSync } from "node:fs";
import { type BytePath, bytePathFromBytes } from "../bytes/byte-path.ts";

const REPLACEMENT = "\ufffd";
const SURROGATES = 0xdc00;

/** @param argv - process.argv: Node, the script, the arguments. @returns the arguments alone. */
export function rawArguments(argv: readonly string[]): string[] {
  const decoded = argv.slice(2);
  if (!decoded.some((argument) => argument.includes(REPLACEMENT))) return decoded;
  // Node's own options come before the script, so the arguments are counted from the end.
  const raw = readList("/proc/self/cmdline").slice(-decoded.length);
  return raw.length === decoded.length ? raw.map(decodeLosslessly) : decoded;
}

/** A variable of the environment; undefined when it is unset or empty. */
export function rawEnvironment(name: string): string | undefined {
  const decoded = process.env[name];
  if (decoded === undefined || decoded === "") return undefined;
  if (!decoded.includes(REPLACEMENT)) return decoded;
  const prefix = Buffer.from(`${name}=`);
  const raw = readList("/proc/self/environ").find((entry) =>
    entry.subarray(0, prefix.length).equals(prefix),
  );
  return raw === undefined ? decoded : decodeLosslessly(raw.subarray(prefix.length));
}

/** The path that an argument or variable names. */
export function pathArgument(text: string): BytePath {
  const parts = text.split(/([\udc80-\udcff])/u).map((part) => {
    const code = part.length === 1 ? part.charCodeAt(0) : 0;
    return code >= SURROGATES + 0x80 && code <= SURROGATES + 0xff
      ? Buffer.from([code - SURROGATES])
      : Buffer.from(part, "utf8");
  });
  return bytePathFromBytes(Buffer.concat(parts));
}

/** UTF-8 where the whole argument is; else bytes above 7f become surrogates one by one. */
export function decodeLosslessly(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  if (Buffer.from(text, "utf8").equals(bytes)) return text;
  return bytes
    .toString("latin1")
    .replace(/[\x80-\xff]/g, (byte) => String.fromCharCode(SURROGATES + byte.charCodeAt(0)));
}

/** The entries of a list that ends each of them with NUL; none where there is no /proc. */
function readList(path: string): Buffer[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return [];
  }
  const entries: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(0); end >= 0; end = bytes.indexOf(0, start)) {
    entries.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return entries;
}
