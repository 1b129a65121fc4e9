/**
 * Timeline history files: from which timelines a timeline comes, and where it left each. Source:
 * access/transam/timeline.c, readTimeLineHistory and writeTimeLineHistory.
 */
import { FormatError } from "../errors.ts";
import { type Lsn, parseLsn } from "../postgres/lsn.ts";

export interface TimelineSwitch {
  /** The timeline that was left ... */
  readonly timeline: number;
  /** ... at this LSN: its WAL before it belongs to the new one's past. */
  readonly end: Lsn;
}

/**
 * @param timeline - whose history it is: all that it comes from are older.
 * @returns from the oldest on; the last is the parent.
 * @throws {FormatError} for what a server would not read.
 */
export function parseTimelineHistory(
  content: Buffer,
  timeline: number,
  where: string,
): TimelineSwitch[] {
  const switches: TimelineSwitch[] = [];
  for (const line of content.toString("latin1").split("\n")) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, id, lsn = ""] =
      /^\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:\s|$)/.exec(line) ?? [];
    const end = parseLsn(lsn);
    if (id === undefined || end === undefined)
      throw damaged(where, "a line names no timeline and LSN");
    const previous = switches.at(-1)?.timeline ?? 0;
    if (Number(id) <= previous) throw damaged(where, "its timelines do not rise");
    switches.push({ timeline: Number(id), end });
  }
  if ((switches.at(-1)?.timeline ?? 0) >= timeline) {
    throw damaged(where, `it names a timeline that is not older than ${timeline}`);
  }
  return switches;
}

function damaged(where: string, why: string): FormatError {
  return new FormatError(`${where} is no timeline history: ${why}`);
}
