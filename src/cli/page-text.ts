/**
 * A page of a relation file as `tde inspect` prints it: header, slot and items, with the names that PostgreSQL's own
 * structures have. Users' data only where it is asked for.
 */
import { displayPath } from "../bytes/byte-path.ts";
import type { InspectedPage, StoredHeader } from "../engine/inspect-page.ts";
import { type PageItem, pageItems } from "../engine/page-items.ts";
import { NONCE_BYTES } from "../crypto/primitives.ts";
import { SEALED_PAGE_MARK } from "../format/page-message.ts";
import { readSlotFields, SLOT, SLOT_FLAG, SLOT_KIND } from "../format/slot.ts";
import { infomaskNames } from "../postgres/infomask.ts";
import { formatLsn } from "../postgres/lsn.ts";
import { isZero, type PageHeader, parsePageHeader } from "../postgres/page.ts";
import { factsOf, type Major } from "../postgres/version.ts";

export interface PageTextOptions {
  readonly major: Major;
  /** Rows' bytes, too. */
  readonly withData: boolean;
}

export function pageText(found: InspectedPage, options: PageTextOptions): string {
  const { path, block, offsetBytes, sizeBytes, stored, sealed, content } = found;
  const where = displayPath(path);
  const lines = [`${where} block ${block} (offset ${offsetBytes}, ${sizeBytes} bytes)`];
  lines.push(stateLine(found));
  for (const { kind, message } of sealed?.problems ?? []) lines.push(`${kind}: ${message}`);
  if (stored !== undefined) lines.push(storedLine(stored, options.major));
  const original = originalHeader(found);
  if (original !== undefined) lines.push(originalLine(original));
  if (sealed?.slot !== undefined) lines.push(...slotLines(sealed.slot));
  if (content === undefined) return lines.join("\n");
  if (isZero(content)) return [...lines, "the page is all zero"].join("\n");
  const page = itemsOf(found);
  if (page === undefined) {
    const data = options.withData ? [`data: ${content.toString("hex")}`] : [];
    return [...lines, "no line pointers that could be read", ...data].join("\n");
  }
  lines.push(...table(page.items.map((item) => itemRow(item))));
  for (const { line, problem } of page.items)
    if (problem !== undefined) lines.push(`line ${line}: ${problem}`);
  if (options.withData)
    for (const { line, data } of page.items)
      if (data !== undefined) lines.push(`data of line ${line}: ${data.toString("hex")}`);
  return lines.join("\n");
}

function stateLine({ sealed, content }: InspectedPage): string {
  if (sealed === undefined) return "plain";
  const { slot, problems } = sealed;
  const keyId = slot === undefined ? "" : ` under key ${readSlotFields(slot, 0).keyId}`;
  if (content !== undefined) return `sealed${keyId}; its tag holds`;
  if (problems.length > 0) return `sealed${keyId}; NOT authentic, so that its content is not shown`;
  return `sealed${keyId}; without a keyring its content is not shown, and nothing is authenticated`;
}

function storedLine({ header, computedChecksum }: StoredHeader, major: Major): string {
  const right = header.checksum === computedChecksum;
  const verdict =
    computedChecksum === undefined
      ? ""
      : right
        ? " (right)"
        : ` (${hex(computedChecksum)} computed)`;
  return [
    `lsn ${formatLsn(header.lsn, factsOf(major).lsnLowDigits)}`,
    `checksum ${hex(header.checksum)}${verdict}`,
    `flags ${flagText(header.flags)}`,
    `lower ${header.lower}`,
    `upper ${header.upper}`,
    `special ${header.special}`,
    `pagesize ${header.pageSizeBytes}`,
    `version ${header.layoutVersion}`,
    `prune_xid ${header.pruneXid}`,
  ].join("  ");
}

/** What sealing changed in the header. */
function originalHeader({ sealed, content, stored }: InspectedPage): PageHeader | undefined {
  const isOpened = sealed !== undefined && content !== undefined && stored !== undefined;
  return isOpened ? parsePageHeader(content) : undefined;
}

function originalLine({ checksum, flags }: PageHeader): string {
  return `original: checksum ${hex(checksum)}  flags ${flagText(flags)}`;
}

const KINDS = new Map<number, string>([
  [SLOT_KIND.unused, "unused"],
  [SLOT_KIND.page, "page"],
  [SLOT_KIND.zeroPage, "zero page"],
  [SLOT_KIND.tail, "tail"],
]);

interface SlotText {
  readonly kind: string;
  readonly suite: number;
  readonly flags: readonly string[];
  readonly keyId: number;
  readonly epoch: number;
  readonly lengthBytes: number;
  readonly nonce: string;
  readonly tag: string;
  readonly commitment: string;
}

function slotOf(slot: Buffer): SlotText {
  const { kind, flags, keyId, epoch, lengthBytes } = readSlotFields(slot, 0);
  const bytes = (from: number, to: number): string => slot.toString("hex", from, to);
  return {
    kind: KINDS.get(kind) ?? `unknown kind ${kind}`,
    suite: slot.readUInt8(SLOT.suite),
    flags: [
      ...((flags & SLOT_FLAG.wrongChecksum) === 0 ? [] : ["WRONG-CHECKSUM"]),
      ...((flags & SLOT_FLAG.originalMark) === 0 ? [] : ["ORIGINAL-MARK"]),
    ],
    keyId,
    epoch: Number(epoch),
    lengthBytes,
    nonce: bytes(SLOT.nonce, SLOT.nonce + NONCE_BYTES),
    tag: bytes(SLOT.tag, SLOT.commitment),
    commitment: bytes(SLOT.commitment, SLOT.sealedBytes),
  };
}

function slotLines(slot: Buffer): string[] {
  const { kind, suite, flags, keyId, epoch, lengthBytes, ...bytes } = slotOf(slot);
  return [
    `slot: ${kind}  suite ${suite}  flags ${flags.join(" ") || "none"}  key ${keyId}  epoch ${epoch}  length ${lengthBytes}`,
    `slot: nonce ${bytes.nonce}  tag ${bytes.tag}`,
    `slot: commitment ${bytes.commitment}`,
  ];
}

const PAGE_FLAGS: readonly (readonly [number, string])[] = [
  [0x0001, "HAS_FREE_LINES"],
  [0x0002, "PAGE_FULL"],
  [0x0004, "ALL_VISIBLE"],
  [SEALED_PAGE_MARK, "sealed"],
];

function flagText(flags: number): string {
  const names = PAGE_FLAGS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  return names.length === 0 ? hex(flags) : `${hex(flags)} (${names.join(" ")})`;
}

/** Of a row; an item of an index has the first four. */
const COLUMNS: readonly string[] = [
  "lp",
  "state",
  "off",
  "len",
  "xmin",
  "xmax",
  "field3",
  "ctid",
  "natts",
  "hoff",
  "infomask",
];

function itemRow({ line, state, offset, lengthBytes, tuple }: PageItem): readonly string[] {
  const place = [line, state, offset, lengthBytes].map(String);
  if (tuple === undefined) return place;
  const { xmin, xmax, field3, ctid, attributeCount, dataOffset, infomask, infomask2 } = tuple;
  return [
    ...place,
    ...[xmin, xmax, field3].map(String),
    `(${ctid.block},${ctid.offsetNumber})`,
    ...[attributeCount, dataOffset].map(String),
    infomaskNames(infomask, infomask2).join(" "),
  ];
}

/** Columns under their names, as wide as what is in them. */
function table(rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return ["no lines"];
  const width = Math.max(...rows.map((row) => row.length));
  const all = [COLUMNS.slice(0, width), ...rows];
  const widths = Array.from({ length: width }, (_, i) =>
    Math.max(...all.map((row) => row[i]?.length ?? 0)),
  );
  return all.map((row) =>
    row
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

function hex(value: number): string {
  return value.toString(16).padStart(4, "0").toUpperCase();
}

function itemsOf({
  path,
  block,
  file,
  content,
  sizeBytes,
  stored,
}: InspectedPage): ReturnType<typeof pageItems> {
  if (content === undefined || stored === undefined || content.length < sizeBytes) return undefined;
  return pageItems(content, file.fork, `${displayPath(path)} block ${block}`);
}

export function pageToJson(found: InspectedPage, options: PageTextOptions): unknown {
  const { path, block, offsetBytes, sizeBytes, stored, sealed, content } = found;
  const original = originalHeader(found);
  const page = itemsOf(found);
  return {
    path: displayPath(path),
    block,
    offsetBytes,
    sizeBytes,
    sealed: sealed !== undefined,
    authenticated: sealed === undefined ? undefined : content !== undefined,
    problems: sealed?.problems,
    stored:
      stored === undefined
        ? undefined
        : {
            ...headerToJson(stored.header, options.major),
            computedChecksum: stored.computedChecksum,
          },
    original: original === undefined ? undefined : headerToJson(original, options.major),
    slot: sealed?.slot === undefined ? undefined : slotOf(sealed.slot),
    heap: page?.isHeap,
    items: page?.items.map((item) => itemToJson(item, options)),
    data:
      options.withData && content !== undefined && page === undefined
        ? content.toString("hex")
        : undefined,
  };
}

function headerToJson(header: PageHeader, major: Major): object {
  return { ...header, lsn: formatLsn(header.lsn, factsOf(major).lsnLowDigits) };
}

function itemToJson(item: PageItem, { withData }: PageTextOptions): unknown {
  const { tuple, data, ...place } = item;
  return {
    ...place,
    tuple:
      tuple === undefined
        ? undefined
        : { ...tuple, flags: infomaskNames(tuple.infomask, tuple.infomask2) },
    data: withData ? data?.toString("hex") : undefined,
  };
}
