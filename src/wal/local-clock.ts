/**
 * A time of day and its date in a time zone, as text. Records come in the order of their times, so most of them
 * find the second that the one before had asked for.
 */
import { civilDate, DAY_SECONDS } from "./calendar.ts";
import { type TimeZone, UTC } from "./time-zone.ts";

export class LocalClock {
  /** `2026-11-20 09:57:02`. */
  text: Buffer = Buffer.alloc(0);
  /** Of the zone at that time: `CET`. */
  abbreviation: Buffer = Buffer.alloc(0);
  readonly #zone: TimeZone;
  #unixSeconds = NaN;

  constructor(zone: TimeZone = UTC) {
    this.#zone = zone;
  }

  /** @param unixSeconds - a whole number. */
  set(unixSeconds: number): void {
    if (unixSeconds === this.#unixSeconds) return;
    this.#unixSeconds = unixSeconds;
    const local = this.#zone.at(unixSeconds);
    this.text = Buffer.from(dateAndTime(unixSeconds + local.utcOffsetSeconds), "latin1");
    this.abbreviation = Buffer.from(local.abbreviation, "latin1");
  }
}

/** As strftime's `%Y-%m-%d %H:%M:%S`, which gives a year no leading zeros. */
function dateAndTime(localSeconds: number): string {
  const unixDay = Math.floor(localSeconds / DAY_SECONDS);
  const second = localSeconds - unixDay * DAY_SECONDS;
  const { year, month, day } = civilDate(unixDay);
  const date = `${year}-${two(month)}-${two(day)}`;
  return `${date} ${two(Math.floor(second / 3600))}:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
