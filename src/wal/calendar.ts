/** The proleptic Gregorian calendar beyond what JavaScript's Date knows: a TimestampTz reaches the year 294276. */

export const DAY_SECONDS = 86_400;

/** Days of 400 years, after which the calendar repeats itself. */
const ERA_DAYS = 146_097;
/** From 0000-03-01 to 1970-01-01. Years begin in March here, so that the day that not all of them have is the last. */
const DAYS_BEFORE_1970 = 719_468;

export interface CivilDate {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  /** From 1 on. */
  readonly day: number;
}

/** @param unixDay - counted from 1970-01-01. */
export function civilDate(unixDay: number): CivilDate {
  const days = unixDay + DAYS_BEFORE_1970;
  const era = Math.floor(days / ERA_DAYS);
  const dayOfEra = days - era * ERA_DAYS;
  const leapDays =
    Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365);
  const dayOfYear = dayOfEra - daysBeforeYear(yearOfEra);
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - daysBeforeMonth(monthFromMarch) + 1,
  };
}

/** The inverse of `civilDate`. */
export function unixDay({ year, month, day }: CivilDate): number {
  const yearFromMarch = month <= 2 ? year - 1 : year;
  const era = Math.floor(yearFromMarch / 400);
  const dayOfEra =
    daysBeforeYear(yearFromMarch - era * 400) + daysBeforeMonth((month + 9) % 12) + day - 1;
  return era * ERA_DAYS + dayOfEra - DAYS_BEFORE_1970;
}

/** @param year - 0 to 399, from the beginning of the era. */
function daysBeforeYear(year: number): number {
  return 365 * year + Math.floor(year / 4) - Math.floor(year / 100);
}

/** @param month - 0 for March to 11 for February. */
function daysBeforeMonth(month: number): number {
  return Math.floor((153 * month + 2) / 5);
}
