/**
 * Names of WAL files: eight hexadecimal digits each for the timeline and the two halves of the segment's number.
 * Source: access/xlog_internal.h, XLogFileName, XLogFromFileName, IsXLogFileName.
 */

/** A segment by the LSN of its first byte, whose two halves have 32 bits each. */
export interface SegmentName {
  readonly timeline: number;
  readonly high: number;
  readonly low: number;
}

export function walFileName(segment: SegmentName, segmentBytes: number): string {
  return [segment.timeline, segment.high, segment.low / segmentBytes]
    .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
    .join("");
}

/** IsXLogFileName: 24 digits, the letters among them upper case. */
export function isWalFileName(name: string): boolean {
  return /^[0-9A-F]{24}$/.test(name);
}

/** What a server hands to its archive_command. */
export type ArchivedKind = "segment" | "partial" | "history" | "backup";

/**
 * What a file is by its name, as IsXLogFileName, IsPartialXLogFileName, IsTLHistoryFileName and IsBackupHistoryFileName
 * tell; undefined for what is never archived.
 */
export function archivedKind(name: string): ArchivedKind | undefined {
  if (isWalFileName(name)) return "segment";
  if (/^[0-9A-F]{24}\.partial$/.test(name)) return "partial";
  if (/^[0-9A-F]{8}\.history$/.test(name)) return "history";
  return /^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name) ? "backup" : undefined;
}

/**
 * What a name that begins with 24 hexadecimal digits says, whatever follows: `.partial`, `.gz`.
 * @returns undefined for other names.
 */
export function parseWalFileName(name: string, segmentBytes: number): SegmentName | undefined {
  const digits = /^([0-9A-Fa-f]{8})([0-9A-Fa-f]{8})([0-9A-Fa-f]{8})/.exec(name);
  if (digits === null) return undefined;
  const [timeline = 0, log = 0, segment = 0] = digits.slice(1).map((part) => Number(`0x${part}`));
  // A number beyond the segments of 4 GB counts on into the next ones, as XLogFromFileName computes it.
  const perLog = 2 ** 32 / segmentBytes;
  return {
    timeline,
    high: (log + Math.floor(segment / perLog)) >>> 0,
    low: (segment % perLog) * segmentBytes,
  };
}
