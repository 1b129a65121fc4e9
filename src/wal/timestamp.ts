/**
 * Timestamps as pg_waldump prints them: local time, microseconds, the zone's abbreviation. Source: pg_waldump's
 * compat.c, timestamptz_to_str.
 */
import type { TextBuffer } from "./text-buffer.ts";

/** 2000-01-01, where TimestampTz begins, in Unix time. */
const POSTGRES_EPOCH_SECONDS = 946_684_800;
const MICROSECONDS = 1_000_000;
const TWO_32 = 2 ** 32;

/** @param at - of a TimestampTz, 8 bytes. */
export function writeTimestamp(out: TextBuffer, bytes: Buffer, at: number): void {
  const high = bytes.readInt32LE(at + 4);
  // Some 285 years around 2000 fit into a double; the others are found in damaged records only.
  if (high >= -0x200000 && high < 0x200000) {
    const time = high * TWO_32 + bytes.readUInt32LE(at);
    const microseconds = time % MICROSECONDS;
    write(out, (time - microseconds) / MICROSECONDS, microseconds);
    return;
  }
  const time = bytes.readBigInt64LE(at);
  write(out, Number(time / BigInt(MICROSECONDS)), Number(time % BigInt(MICROSECONDS)));
}

/** @param microseconds - negative before 2000, as C's remainder is. */
function write(out: TextBuffer, seconds: number, microseconds: number): void {
  const unixSeconds = seconds + POSTGRES_EPOCH_SECONDS;
  const { clock } = out;
  clock.set(unixSeconds);
  out.copy(clock.text, 0, clock.text.length);
  out.text(".");
  writeSixDigits(out, microseconds);
  out.text(" ");
  out.copy(clock.abbreviation, 0, clock.abbreviation.length);
}

/** As %06d: the sign is one of the six. */
function writeSixDigits(out: TextBuffer, value: number): void {
  if (value < 0) out.text("-");
  const magnitude = Math.abs(value);
  for (let limit = value < 0 ? 10_000 : 100_000; limit > magnitude && limit > 1; limit /= 10) {
    out.text("0");
  }
  out.unsigned(magnitude);
}
