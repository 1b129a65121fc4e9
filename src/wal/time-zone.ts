/**
 * Time zones as the C library has them, for pg_waldump prints local time: named by TZ, found in zone files (RFC 9636)
 * or said by a rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
 */
import { parsePosixZone } from "./posix-zone.ts";

export interface LocalTimeType {
  readonly utcOffsetSeconds: number;
  /** `CET`. */
  readonly abbreviation: string;
}

export interface TimeZone {
  at(unixSeconds: number): LocalTimeType;
}

const UTC_TYPE: LocalTimeType = { utcOffsetSeconds: 0, abbreviation: "UTC" };
export const UTC: TimeZone = { at: () => UTC_TYPE };

/** What the C library makes of a name that it finds no zone for. */
const NAMELESS_TYPE: LocalTimeType = { utcOffsetSeconds: 0, abbreviation: "" };
const NAMELESS: TimeZone = { at: () => NAMELESS_TYPE };

const ZONE_DIRECTORY = "/usr/share/zoneinfo";
/** The zone where TZ is not set. */
const LOCAL_ZONE = "/etc/localtime";

/** What says which zone it is, as plain data. */
export interface ZoneSource {
  /** The value of TZ; undefined where it is not set. */
  readonly name: string | undefined;
  /** The zone's file; undefined where it has none. */
  readonly file: Uint8Array | undefined;
}

/** @param read - gives a file's content; undefined where there is no such file. */
export function zoneSource(
  name: string | undefined,
  read: (path: string) => Buffer | undefined,
): ZoneSource {
  if (name === undefined) return { name, file: read(LOCAL_ZONE) };
  const zone = zoneOfName(name);
  if (zone === "") return { name, file: undefined };
  return { name, file: read(zone.startsWith("/") ? zone : `${ZONE_DIRECTORY}/${zone}`) };
}

/** The zone that the C library takes. */
export function timeZoneOf({ name, file }: ZoneSource): TimeZone {
  const zone = file && parseZoneFile(Buffer.from(file.buffer, file.byteOffset, file.byteLength));
  if (zone !== undefined) return zone;
  if (name === undefined || zoneOfName(name) === "") return UTC;
  return parsePosixZone(zoneOfName(name)) ?? NAMELESS;
}

function zoneOfName(name: string): string {
  return name.replace(/^:/, "");
}

const MAGIC = "TZif";
const HEADER_BYTES = 44;
/** Of the counts that a header ends with, u32 each, the high byte first. */
const COUNTS_OFFSET = 20;
/** A time type: offset i32, is it summer time u8, index of its abbreviation u8. */
const TYPE_BYTES = 6;

/** @returns undefined for what is no zone file of version 2 or later, or a damaged one. */
export function parseZoneFile(file: Buffer): TimeZone | undefined {
  // Version 1 has times of 32 bits, which stand first in later versions too.
  const first = readHeader(file, 0);
  if (first === undefined || file.readUInt8(4) < 0x32) return undefined;
  const second = readHeader(file, first.dataStart + dataBytes(first, 4));
  if (second === undefined || second.dataStart + dataBytes(second, 8) > file.length) {
    return undefined;
  }
  const types = readTypes(file, second);
  const standard = types.find((type) => !type.isSummer) ?? types[0];
  if (standard === undefined) return undefined;
  const transitions = Array.from({ length: second.times }, (_, i) => ({
    unixSeconds: Number(file.readBigInt64BE(second.dataStart + 8 * i)),
    type: types[file.readUInt8(second.dataStart + 8 * second.times + i)] ?? standard,
  }));
  const footer = file.toString("latin1", second.dataStart + dataBytes(second, 8));
  const afterwards = parsePosixZone(footer.replaceAll("\n", ""));
  return {
    at(unixSeconds) {
      const index = transitions.findLastIndex((each) => each.unixSeconds <= unixSeconds);
      if (index === -1) return standard;
      if (index === transitions.length - 1 && afterwards) return afterwards.at(unixSeconds);
      return transitions[index]?.type ?? standard;
    },
  };
}

interface ZoneHeader {
  readonly dataStart: number;
  readonly utcIndicators: number;
  readonly standardIndicators: number;
  readonly leapSeconds: number;
  readonly times: number;
  readonly types: number;
  readonly abbreviationBytes: number;
}

function readHeader(file: Buffer, at: number): ZoneHeader | undefined {
  const dataStart = at + HEADER_BYTES;
  if (dataStart > file.length || file.toString("latin1", at, at + 4) !== MAGIC) return undefined;
  const count = (i: number): number => file.readUInt32BE(at + COUNTS_OFFSET + 4 * i);
  return {
    dataStart,
    utcIndicators: count(0),
    standardIndicators: count(1),
    leapSeconds: count(2),
    times: count(3),
    types: count(4),
    abbreviationBytes: count(5),
  };
}

function dataBytes(header: ZoneHeader, timeBytes: 4 | 8): number {
  return (
    header.times * (timeBytes + 1) +
    header.types * TYPE_BYTES +
    header.abbreviationBytes +
    header.leapSeconds * (timeBytes + 4) +
    header.standardIndicators +
    header.utcIndicators
  );
}

function readTypes(file: Buffer, header: ZoneHeader): (LocalTimeType & { isSummer: boolean })[] {
  const start = header.dataStart + 9 * header.times;
  const names = start + header.types * TYPE_BYTES;
  return Array.from({ length: header.types }, (_, i) => {
    const at = start + i * TYPE_BYTES;
    const name = names + file.readUInt8(at + 5);
    const nul = file.indexOf(0, name);
    return {
      utcOffsetSeconds: file.readInt32BE(at),
      isSummer: file.readUInt8(at + 4) !== 0,
      abbreviation: file.toString("latin1", name, nul === -1 ? name : nul),
    };
  });
}
