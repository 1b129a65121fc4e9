/**
 * Names as users write them, after the rules of psql's \d: letters outside of double quotes are folded to lower case,
 * `*` is any text and `?` any one character, a dot separates the parts; within quotes everything is itself, and two
 * quotes are one. Source: psql's documentation, "Patterns"; processSQLNamePattern in fe_utils/string_utils.c. Of its
 * regular expressions only these two characters are taken.
 */
import { UsageError } from "../errors.ts";

/** One part of a name: what it has to be. */
export interface NamePart {
  /** What it says, folded and without quotes; for messages, and to look for names near it. */
  readonly text: string;
  /** Whether it can fit several names. */
  readonly isPattern: boolean;
  fits(name: string): boolean;
}

/** `[database.][schema.]name`; what is left out fits everything that it may. */
export interface RelationPattern {
  readonly database: NamePart | undefined;
  readonly schema: NamePart | undefined;
  readonly name: NamePart;
}

/** @throws {UsageError} for an open quote, an empty part, or more than three parts. */
export function parseRelationPattern(text: string): RelationPattern {
  const parts = parseParts(text);
  const name = parts.at(-1);
  if (name === undefined || parts.length > 3) {
    throw new UsageError(`"${text}" has too many parts for the name of a relation`, {
      hint: `Give [database.][schema.]name. A name with a dot in it takes double quotes: '"a.b"'.`,
    });
  }
  return { database: parts.at(-3), schema: parts.at(-2), name };
}

/** The name of a database or tablespace. @throws {UsageError} as parseRelationPattern. */
export function parseNamePattern(text: string): NamePart {
  const [part, another] = parseParts(text);
  if (part !== undefined && another === undefined) return part;
  throw new UsageError(`"${text}" has too many parts for one name`, {
    hint: `A name with a dot in it takes double quotes: '"a.b"'.`,
  });
}

/** The name as it has to be written to mean just this one, and so that it cannot disturb a terminal. */
export function quoteName(name: string): string {
  const isPlain = /^[a-z_][a-z0-9_]*$/.test(name);
  return isPlain ? name : `"${printable(name).replaceAll('"', '""')}"`;
}

/** Control characters, and those that change the direction of text, as `\u{...}`. */
function printable(name: string): string {
  return name.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** A character of a part: itself, or a wildcard. */
type Token = string | typeof ANY_TEXT | typeof ANY_CHARACTER;
const ANY_TEXT = Symbol("*");
const ANY_CHARACTER = Symbol("?");

function parseParts(text: string): NamePart[] {
  const parts: Token[][] = [[]];
  let quoted = false;
  const characters = Array.from(text);
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i] ?? "";
    const part = parts.at(-1) ?? [];
    if (character === '"' && quoted && characters[i + 1] === '"') {
      part.push('"');
      i++;
    } else if (character === '"') quoted = !quoted;
    else if (quoted) part.push(character);
    else if (character === ".") parts.push([]);
    else if (character === "*") part.push(ANY_TEXT);
    else if (character === "?") part.push(ANY_CHARACTER);
    // As the server folds names: letters of ASCII for certain, others not in every encoding.
    else part.push(/[A-Z]/.test(character) ? character.toLowerCase() : character);
  }
  if (quoted) {
    throw new UsageError(`"${text}" has a double quote without its end`, {
      hint: `Two of them within quotes stand for one: '"a""b"'.`,
    });
  }
  if (parts.some((part) => part.length === 0)) {
    throw new UsageError(`"${text}" has an empty part`, {
      hint: "Give [database.][schema.]name, with * for any text.",
    });
  }
  return parts.map(partOf);
}

function partOf(tokens: readonly Token[]): NamePart {
  const text = tokens.map((token) => (typeof token === "string" ? token : token.description));
  const isPattern = tokens.some((token) => typeof token !== "string");
  const whole = text.join("");
  return {
    text: whole,
    isPattern,
    fits: (name) => (isPattern ? fits(tokens, Array.from(name)) : name === whole),
  };
}

/**
 * Goes through the name once for each star at most: what the star before has taken never has to be given back, since
 * what lies between two stars may as well stand at the first place where it fits.
 */
function fits(tokens: readonly Token[], name: readonly string[]): boolean {
  let token = 0;
  let star: { readonly token: number; taken: number } | undefined;
  for (let at = 0; at < name.length;) {
    const wanted = tokens[token];
    if (wanted === ANY_TEXT) {
      star = { token, taken: at };
      token++;
    } else if (wanted !== undefined && (wanted === ANY_CHARACTER || wanted === name[at])) {
      token++;
      at++;
    } else if (star !== undefined) {
      token = star.token + 1;
      at = ++star.taken;
    } else {
      return false;
    }
  }
  while (tokens[token] === ANY_TEXT) token++;
  return token === tokens.length;
}
