/**
 * Time zones as a rule: `EST5EDT,M3.2.0,M11.1.0`. Source: POSIX, Base Definitions, section 8.3 (TZ); where it leaves
 * something open, the GNU C library decides.
 */
import { civilDate, DAY_SECONDS, unixDay } from "./calendar.ts";
import type { LocalTimeType, TimeZone } from "./time-zone.ts";

/** When summer time begins or ends in a year: a day, and the second of local time on it. */
interface Change {
  /** The day, counted from 1970-01-01. */
  day(year: number): number;
  readonly second: number;
}

const NAME = /^(?:([A-Za-z]{3,})|<([-+A-Za-z0-9]{3,})>)/;
const OFFSET = /^([-+]?)(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?/;
const CHANGE = /^,(?:M(\d{1,2})\.([1-5])\.([0-6])|J(\d{1,3})|(\d{1,3}))/;
const TIME = /^\/([-+]?)(\d{1,3})(?::(\d{1,2}))?(?::(\d{1,2}))?/;
/** What holds where a rule names a summer time and does not say when it is. */
const DEFAULT_CHANGES = ",M3.2.0,M11.1.0";
const DEFAULT_SECOND = 2 * 3600;
/** The GNU C library computes no changes for years before this, and takes this one's. */
const FIRST_YEAR = 1970;

/** @returns undefined where the text does not begin with a name; a name alone is UTC under that name. */
export function parsePosixZone(text: string): TimeZone | undefined {
  const rule = new Rule(text);
  const standardName = rule.name();
  if (standardName === undefined) return undefined;
  const standard = localTime(standardName, rule.offset() ?? 0);
  const summerName = rule.name();
  if (summerName === undefined) return { at: () => standard };
  const summer = localTime(summerName, rule.offset() ?? standard.utcOffsetSeconds + 3600);
  const changes = rule.changes() ?? new Rule(DEFAULT_CHANGES).changes();
  if (changes === undefined) return { at: () => standard };
  const [begin, end] = changes;
  return {
    at(unixSeconds) {
      const { year: utcYear } = civilDate(Math.floor(unixSeconds / DAY_SECONDS));
      const year = Math.max(utcYear, FIRST_YEAR);
      const from = begin.day(year) * DAY_SECONDS + begin.second - standard.utcOffsetSeconds;
      const to = end.day(year) * DAY_SECONDS + end.second - summer.utcOffsetSeconds;
      const isSummer =
        from <= to
          ? unixSeconds >= from && unixSeconds < to
          : unixSeconds >= from || unixSeconds < to;
      return isSummer ? summer : standard;
    },
  };
}

function localTime(abbreviation: string, utcOffsetSeconds: number): LocalTimeType {
  return { abbreviation, utcOffsetSeconds };
}

/** Reads a rule from the left. */
class Rule {
  #rest: string;

  constructor(text: string) {
    this.#rest = text;
  }

  name(): string | undefined {
    const match = this.#take(NAME);
    return match?.[1] ?? match?.[2];
  }

  /** In seconds east of Greenwich; the text counts west of it. */
  offset(): number | undefined {
    const match = this.#take(OFFSET);
    const west = match && seconds(match);
    return west === undefined ? undefined : 0 - west;
  }

  changes(): [begin: Change, end: Change] | undefined {
    const begin = this.#change();
    const end = this.#change();
    return begin && end && [begin, end];
  }

  #change(): Change | undefined {
    const match = this.#take(CHANGE);
    if (match === undefined) return undefined;
    const [, month, week, weekday, julian, zeroBased] = match;
    const time = this.#take(TIME);
    const second = time === undefined ? DEFAULT_SECOND : seconds(time);
    if (month !== undefined) {
      const [m, w, d] = [Number(month), Number(week), Number(weekday)];
      return { day: (year) => weekdayOfMonth(year, m, w, d), second };
    }
    if (julian !== undefined) return { day: (year) => julianDay(year, Number(julian)), second };
    return { day: (year) => january1(year) + Number(zeroBased), second };
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    const match = pattern.exec(this.#rest) ?? undefined;
    this.#rest = this.#rest.slice(match?.[0].length ?? 0);
    return match;
  }
}

/** Of sign, hours, minutes and seconds. */
function seconds([, sign, hours, minutes = "0", rest = "0"]: RegExpExecArray): number {
  const value = Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
  return sign === "-" ? -value : value;
}

/** @param week - 1 to 4, or 5 for the last one. @param weekday - 0 for Sunday. */
function weekdayOfMonth(year: number, month: number, week: number, weekday: number): number {
  const first = unixDay({ year, month, day: 1 });
  // 1970-01-01 was a Thursday.
  const firstWeekday = (((first + 4) % 7) + 7) % 7;
  const day = first + ((weekday - firstWeekday + 7) % 7) + 7 * (week - 1);
  const next = month === 12 ? january1(year + 1) : unixDay({ year, month: month + 1, day: 1 });
  return day < next ? day : day - 7;
}

/** @param day - 1 to 365: 29 February is never counted. */
function julianDay(year: number, day: number): number {
  const isLeap = january1(year + 1) - january1(year) === 366;
  return january1(year) + day - 1 + (isLeap && day >= 60 ? 1 : 0);
}

function january1(year: number): number {
  return unixDay({ year, month: 1, day: 1 });
}
