/**
 * What stands in a line where a record ends before what it should hold. pg_waldump reads on there, into whatever
 * memory follows; nothing of that is worth repeating.
 */
import type { TextBuffer } from "../text-buffer.ts";

export function markCutShort(out: TextBuffer): void {
  out.text("<record too short>");
}
