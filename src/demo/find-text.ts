/**
 * Looks for byte strings in every file of a folder, as `grep -r` would: what a thief of the disk would do first.
 */
import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";

export interface Match {
  /** The name under which the text was asked for. */
  readonly name: string;
  /** Path below the folder, one byte in each character. */
  readonly path: string;
  readonly offset: number;
}

const CHUNK_BYTES = 1 << 20;

/**
 * The first place of each text in each file, in the order of paths. Links are followed; what is neither file nor
 * folder is left out.
 * @param texts - by name; encoded as UTF-8.
 */
export function findTexts(folder: string, texts: Readonly<Record<string, string>>): Match[] {
  const needles = Object.entries(texts).map(
    ([name, text]) => [name, Buffer.from(text, "utf8")] as const,
  );
  const overlap = Math.max(...needles.map(([, needle]) => needle.length)) - 1;
  const buffer = Buffer.alloc(CHUNK_BYTES + overlap);
  return filesBelow(Buffer.from(folder), "").flatMap((path) => {
    const file = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, "latin1")]);
    return searchFile(file, needles, buffer, overlap).map(({ name, offset }) => ({
      name,
      path,
      offset,
    }));
  });
}

/** Paths of all files below a folder, through links, sorted by raw bytes; one byte in each character. */
export function filesBelow(folder: Buffer, prefix: string): string[] {
  return readdirSync(folder, { encoding: "latin1" })
    .sort()
    .flatMap((name) => {
      const path = Buffer.concat([folder, Buffer.from(`/${name}`, "latin1")]);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isDirectory() === true) return filesBelow(path, `${prefix}${name}/`);
      return stat?.isFile() === true ? [`${prefix}${name}`] : [];
    });
}

function searchFile(
  path: Buffer,
  needles: readonly (readonly [string, Buffer])[],
  buffer: Buffer,
  overlap: number,
): { name: string; offset: number }[] {
  const found = new Map<string, number>();
  const file = openSync(path, "r");
  try {
    let kept = 0;
    for (let position = 0; ;) {
      const count = readSync(file, buffer, kept, buffer.length - kept, position);
      if (count === 0) break;
      const text = buffer.subarray(0, kept + count);
      for (const [name, needle] of needles) {
        const index = found.has(name) ? -1 : text.indexOf(needle);
        if (index >= 0) found.set(name, position - kept + index);
      }
      position += count;
      // A text may lie across two chunks.
      const rest = Math.min(overlap, text.length);
      text.copy(buffer, 0, text.length - rest);
      kept = rest;
    }
  } finally {
    closeSync(file);
  }
  return [...found].map(([name, offset]) => ({ name, offset }));
}
