/**
 * Names in the encoding of their database. Source: mb/pg_wchar.h (pg_enc): the numbers of pg_database.encoding, which
 * never change their meaning.
 */
import { TextDecoder } from "node:util";
import { displayPath } from "../bytes/byte-path.ts";

/** A decoder of the names of one database. */
export type DecodeName = (bytes: Buffer) => string;

/** By number, as `SHOW server_encoding` has it, and the label that TextDecoder knows it by; some it does not know. */
const ENCODINGS: readonly (readonly [name: string, label?: string])[] = [
  ["SQL_ASCII"],
  ["EUC_JP", "euc-jp"],
  ["EUC_CN", "gb18030"], // a superset
  ["EUC_KR", "euc-kr"],
  ["EUC_TW"],
  ["EUC_JIS_2004"],
  ["UTF8", "utf-8"],
  ["MULE_INTERNAL"],
  ["LATIN1"], // TextDecoder takes its label for WIN1252
  ["LATIN2", "iso-8859-2"],
  ["LATIN3", "iso-8859-3"],
  ["LATIN4", "iso-8859-4"],
  ["LATIN5", "iso-8859-9"],
  ["LATIN6", "iso-8859-10"],
  ["LATIN7", "iso-8859-13"],
  ["LATIN8", "iso-8859-14"],
  ["LATIN9", "iso-8859-15"],
  ["LATIN10", "iso-8859-16"],
  ["WIN1256", "windows-1256"],
  ["WIN1258", "windows-1258"],
  ["WIN866", "ibm866"],
  ["WIN874", "windows-874"],
  ["KOI8R", "koi8-r"],
  ["WIN1251", "windows-1251"],
  ["WIN1252"], // some releases of Node.js take it for LATIN1
  ["ISO_8859_5", "iso-8859-5"],
  ["ISO_8859_6", "iso-8859-6"],
  ["ISO_8859_7", "iso-8859-7"],
  ["ISO_8859_8", "iso-8859-8"],
  ["WIN1250", "windows-1250"],
  ["WIN1253", "windows-1253"],
  ["WIN1254", "windows-1254"],
  ["WIN1255", "windows-1255"],
  ["WIN1257", "windows-1257"],
  ["KOI8U", "koi8-u"],
];
const SQL_ASCII = 0;
const LATIN1 = 8;
const WIN1252 = 24;

/** What WIN1252 has from 80 to 9f, where LATIN1 has control characters; five places are empty in both. */
const WIN1252_ONLY =
  "\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f" +
  "\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178";

/** @param encoding - pg_database.encoding. */
export function encodingName(encoding: number): string {
  return ENCODINGS[encoding]?.[0] ?? `encoding ${encoding}`;
}

/**
 * What reads names of that encoding. Where the bytes are not text in it, or its table is not at hand, they are taken
 * for UTF-8, and where they are not that either, every byte beyond ASCII is shown as `\xNN`.
 * @param encoding - pg_database.encoding.
 */
export function nameDecoder(encoding: number): DecodeName {
  if (encoding === LATIN1) return (bytes) => bytes.toString("latin1");
  if (encoding === WIN1252) return decodeWin1252;
  const decoder = encoding === SQL_ASCII ? undefined : decoderOf(ENCODINGS[encoding]?.[1]);
  return (bytes) => {
    // Every server encoding has ASCII in its place.
    if (isAscii(bytes)) return bytes.toString("latin1");
    try {
      if (decoder !== undefined) return decoder.decode(bytes);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    return displayPath(bytes.toString("latin1"));
  };
}

function decodeWin1252(bytes: Buffer): string {
  return bytes
    .toString("latin1")
    .replace(/[\x80-\x9f]/g, (character) => WIN1252_ONLY.charAt(character.charCodeAt(0) - 0x80));
}

/** Undefined where this Node.js has no table of the encoding. */
function decoderOf(label: string | undefined): TextDecoder | undefined {
  if (label === undefined) return undefined;
  try {
    // A name may begin with what would be taken for a byte order mark.
    return new TextDecoder(label, { fatal: true, ignoreBOM: true });
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function isAscii(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte >= 0x80) return false;
  return true;
}
