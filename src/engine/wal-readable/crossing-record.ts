/**
 * The record that goes on behind a stored segment: its stored CRC counts bytes of two segments and is in no message of
 * either, so whoever has both checks it here. Of the second one no more is read than the record's rest.
 */
import { WAL_SIDECAR_LIMIT_BYTES, type WalSegmentFiles } from "../../datadir/wal-segment.ts";
import { carryOf, carryPagesFrom } from "../../format/wal/carry-of-sidecar.ts";
import { continuationBytes, formatOfSegment, pageHeaderBytes } from "../../format/wal/wal-page.ts";
import { type Carry, WAL_SIDECAR_PAGE_BYTES } from "../../format/wal/wal-slot.ts";
import { readUpTo, withFile } from "../../storage/file-io.ts";
import type { FileReader } from "../../storage/file-system.ts";
import { aligned, LONG_HEADER_BYTES, WAL_PAGE_BYTES } from "../../wal/page-header.ts";
import { Outcome } from "../../wal/read-outcome.ts";
import { WalReader } from "../../wal/reader.ts";
import type { SegmentBytes } from "../../wal/segment-source.ts";
import type { NumberedSegment } from "./wal-folder.ts";
import { goesThrough, leadBytes, readFirstPage } from "./segment-lead.ts";

/** A segment among others. */
export interface CrossedSegment extends NumberedSegment {
  readonly files: WalSegmentFiles;
}

/**
 * Of segments that are stored, and authentic by their own tags. The next one is that of the same timeline: where another
 * timeline begins, nothing says which of both the CRC counts.
 * @param segments - all of the folder, by number; `.partial` behind the whole one.
 * @returns why the record that crosses the end of a segment is not what its stored CRC says. undefined: it is; or none
 *   crosses, the rest is not at hand, or one of both was encrypted without the other: such a CRC says nothing.
 */
export function crossingDefect<S extends CrossedSegment>(
  fs: FileReader,
  segments: readonly S[],
  segment: S,
  isStored: (segment: S) => boolean,
): string | undefined {
  if (carryIn(fs, segment.files)?.trailing === undefined) return undefined;
  const run: WalSegmentFiles[] = [segment.files];
  for (let at = nextOf(segments, segment); at !== undefined; at = nextOf(segments, at)) {
    const { files } = at;
    if (!isStored(at) || carryIn(fs, files)?.leading === undefined) return undefined;
    run.push(files);
    const page = withFile(fs, files.segment, readFirstPage);
    if (!goesThrough(page, files.identity.relationSegment)) break;
  }
  return run.length === 1 ? undefined : defectIn(fs, run);
}

function nextOf<S extends CrossedSegment>(segments: readonly S[], of: S): S | undefined {
  return segments.find(
    ({ number, place }) => number === of.number + 1n && place.timeline === of.place.timeline,
  );
}

/**
 * How the records that cross the ends of a stored segment were taken apart; not authenticated. Undefined where the
 * sidecar says nothing: it then fails by itself.
 */
export function carryIn(fs: FileReader, { sidecar, identity }: WalSegmentFiles): Carry | undefined {
  const blockCount = identity.relationSegment / WAL_PAGE_BYTES;
  const from = carryPagesFrom(blockCount);
  return withFile(fs, sidecar, (file) => {
    const { sizeBytes } = file.stat();
    if (sizeBytes > WAL_SIDECAR_LIMIT_BYTES) return undefined;
    const pages = Buffer.alloc(Math.max(0, sizeBytes - from));
    const count = readUpTo(file, pages, 0, pages.length, from);
    if (count % WAL_SIDECAR_PAGE_BYTES !== 0) return undefined;
    const carry = carryOf(pages.subarray(0, count), blockCount);
    return typeof carry === "string" ? undefined : carry;
  });
}

/** Reads from the last page on which a record begins, and on into the next segments. */
function defectIn(fs: FileReader, run: readonly WalSegmentFiles[]): string | undefined {
  const [first] = run;
  if (first === undefined) return undefined;
  const { place, identity } = first;
  const segmentBytes = identity.relationSegment;
  const page = lastBeginning(fs, first);
  const format = formatOfSegment(withFile(fs, first.segment, readFirstPage));
  if (page === undefined || format === undefined) return undefined;
  const offsetOf = (high: number, low: number): number =>
    (high - place.high) * 2 ** 32 + (low - place.low);
  const reader = new WalReader({
    format,
    segmentBytes,
    timeline: place.timeline,
    source: {
      segment: (high, low) => {
        const distance = offsetOf(high, low) / segmentBytes;
        const files = run[distance];
        return files && bytesOf(fs, files, distance > 0);
      },
    },
  });
  let outcome = reader.find(place.high, place.low + page);
  while (outcome === Outcome.record) {
    if (offsetOf(reader.record.endHigh, reader.record.endLow) >= segmentBytes) return undefined;
    outcome = reader.next();
  }
  if (outcome === Outcome.segmentWanted) return undefined;
  return reader.failure?.kind === "invalid" ? reader.failure.message : "a segment is cut";
}

/** Offset of the last page on which a record begins; undefined where none does. */
function lastBeginning(fs: FileReader, { segment, identity }: WalSegmentFiles): number | undefined {
  return withFile(fs, segment, (file) => {
    const header = Buffer.alloc(LONG_HEADER_BYTES);
    for (let page = identity.relationSegment - WAL_PAGE_BYTES; page >= 0; page -= WAL_PAGE_BYTES) {
      readUpTo(file, header, 0, header.length, page);
      const headerBytes = pageHeaderBytes(header, 0, page === 0);
      const rest = aligned(continuationBytes(header, 0));
      if (headerBytes > 0 && rest < WAL_PAGE_BYTES - headerBytes) return page;
    }
    return undefined;
  });
}

/** @param isLead - of what the record crosses into: no more than its rest. */
function bytesOf(fs: FileReader, files: WalSegmentFiles, isLead: boolean): SegmentBytes {
  const { relationSegment: segmentBytes } = files.identity;
  const end = isLead
    ? leadBytes(withFile(fs, files.segment, readFirstPage), segmentBytes)
    : segmentBytes;
  return {
    read: (buffer, offset, length, position) =>
      withFile(fs, files.segment, (file) =>
        file.read(buffer, offset, Math.max(0, Math.min(length, end - position)), position),
      ),
  };
}
