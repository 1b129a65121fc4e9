/**
 * One line in the syntax of postgresql.conf, read from left to right, each byte once or twice: whoever can write the
 * file can make a line of megabytes, and a pattern that tries one way after the other would take hours for it.
 * PostgreSQL: src/backend/utils/misc/guc-file.l.
 */

export interface SettingLine {
  readonly name: string;
  readonly value: string;
  /** The line begins with `#`: no server reads it, but everybody else can. */
  readonly commented: boolean;
}

/**
 * A name of letters, digits, `_`, `$` and dots; `=` or white space; a quoted value or a bare one; perhaps a comment.
 * @param text - without its line end, one byte in each character.
 * @returns undefined where the line is nothing of the kind.
 */
export function parseSettingLine(text: string): SettingLine | undefined {
  let at = after(text, 0, LINE_BLANKS);
  const commented = text[at] === "#";
  if (commented) at = after(text, at, COMMENT_SIGNS);
  const nameEnd = endOfName(text, at);
  if (nameEnd === at) return undefined;
  const name = text.slice(at, nameEnd);
  const sign = after(text, nameEnd, BLANKS);
  const hasSign = text[sign] === "=";
  const start = hasSign ? after(text, sign + 1, BLANKS) : sign;
  if (start === nameEnd) return undefined;
  const found = valueAt(text, start);
  // "# two words" is prose; without a comment sign the "=" may be left out.
  if (found !== undefined) return commented && !hasSign ? undefined : { name, ...found, commented };
  // Behind a blank an equals sign that no value follows is the value.
  if (!hasSign || sign === nameEnd || commented) return undefined;
  const odd = valueAt(text, sign);
  return odd && { name, ...odd, commented };
}

const BLANKS = " \t";
const COMMENT_SIGNS = " \t#";
const LINE_BLANKS = " \t\f\v";
const NAME_START = /[A-Za-z_\x80-\xff]/;
const NAME_CHARACTER = /[\w$.\x80-\xff]/;
const BARE_CHARACTER = /[^\s'#]/;

function after(text: string, from: number, skipped: string): number {
  let at = from;
  while (at < text.length && skipped.includes(text.charAt(at))) at++;
  return at;
}

function afterMatching(text: string, from: number, character: RegExp): number {
  let at = from;
  while (at < text.length && character.test(text.charAt(at))) at++;
  return at;
}

function endOfName(text: string, from: number): number {
  return NAME_START.test(text.charAt(from)) ? afterMatching(text, from, NAME_CHARACTER) : from;
}

/** The value at a place, where nothing but a comment follows it. */
function valueAt(text: string, start: number): { readonly value: string } | undefined {
  const isQuoted = text[start] === "'";
  const end = isQuoted ? endOfQuoted(text, start) : afterMatching(text, start, BARE_CHARACTER);
  if (end === undefined || end === start) return undefined;
  const rest = after(text, end, LINE_BLANKS);
  if (rest < text.length && text[rest] !== "#") return undefined;
  return { value: isQuoted ? unquote(text, start + 1, end - 1) : text.slice(start, end) };
}

/** Behind the closing quote; undefined where there is none. '' and what a backslash takes are no end. */
function endOfQuoted(text: string, start: number): number | undefined {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "'") {
      if (text[at + 1] !== "'") return at + 1;
      at++;
    } else if (text[at] === "\\") {
      if (text[++at] === "\r") return undefined;
    }
  }
  return undefined;
}

/** As DeescapeQuotedString: '' is a quote, a backslash takes the next character or up to three octal digits. */
function unquote(text: string, start: number, end: number): string {
  const value = Buffer.alloc(end - start);
  let length = 0;
  for (let at = start; at < end; at++) {
    const isEscape = text[at] === "\\";
    if (isEscape || text[at] === "'") at++;
    const octal = isEscape ? octalDigits(text, at, end) : "";
    if (octal === "") {
      const character = text.charAt(at);
      const meant = (isEscape ? ESCAPES[character] : undefined) ?? character;
      value[length++] = meant.charCodeAt(0);
    } else {
      value[length++] = Number.parseInt(octal, 8) & 0xff;
      at += octal.length - 1;
    }
  }
  return value.toString("latin1", 0, length);
}

const ESCAPES: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

function octalDigits(text: string, start: number, end: number): string {
  let at = start;
  while (at < Math.min(start + 3, end) && text.charAt(at) >= "0" && text.charAt(at) <= "7") at++;
  return text.slice(start, at);
}
