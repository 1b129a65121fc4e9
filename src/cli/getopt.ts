/**
 * Takes a command line apart as getopt_long of the GNU C library does, for a command that stands in for a C program:
 * options may follow arguments, long ones may be shortened, and the messages are that library's.
 */

export interface OptionShape {
  readonly name: string;
  readonly short?: string;
  readonly argument: "none" | "required" | "optional";
  /** Not to be shortened: an option that the C program lacks must not make one of its own ambiguous. */
  readonly wholeNameOnly?: boolean;
}

export type GetoptEvent =
  | { readonly kind: "option"; readonly name: string; readonly value: string | undefined }
  /** A message without the program's name. */
  | { readonly kind: "error"; readonly message: string };

export interface GetoptResult {
  /** In their order; what follows an error is taken apart all the same. */
  readonly events: readonly GetoptEvent[];
  readonly positionals: readonly string[];
}

/** @param args - without the program's name. @param shapes - in the order in which an ambiguity lists them. */
export function getopt(args: readonly string[], shapes: readonly OptionShape[]): GetoptResult {
  const events: GetoptEvent[] = [];
  const positionals: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const argument = args[i] ?? "";
    if (argument === "--") {
      positionals.push(...args.slice(i + 1));
      break;
    }
    if (argument.startsWith("--")) {
      if (longOption(argument, args[i + 1], shapes, events)) i++;
    } else if (argument.startsWith("-") && argument !== "-") {
      if (shortOptions(argument, args[i + 1], shapes, events)) i++;
    } else {
      positionals.push(argument);
    }
  }
  return { events, positionals };
}

/** @returns whether the following argument was taken as the value. */
function longOption(
  argument: string,
  following: string | undefined,
  shapes: readonly OptionShape[],
  events: GetoptEvent[],
): boolean {
  const [, name = "", value] = /^--([^=]*)(?:=(.*))?$/s.exec(argument) ?? [];
  const exact = shapes.find((shape) => shape.name === name);
  const candidates = exact
    ? [exact]
    : shapes.filter((shape) => shape.wholeNameOnly !== true && shape.name.startsWith(name));
  const [shape] = candidates;
  if (shape === undefined) {
    events.push({ kind: "error", message: `unrecognized option '--${name}'` });
    return false;
  }
  if (candidates.length > 1) {
    const names = candidates.map((candidate) => `'--${candidate.name}'`).join(" ");
    events.push({
      kind: "error",
      message: `option '--${name}' is ambiguous; possibilities: ${names}`,
    });
    return false;
  }
  if (value !== undefined && shape.argument === "none") {
    events.push({ kind: "error", message: `option '--${shape.name}' doesn't allow an argument` });
    return false;
  }
  if (value !== undefined || shape.argument !== "required") {
    events.push({ kind: "option", name: shape.name, value });
    return false;
  }
  if (following === undefined) {
    events.push({ kind: "error", message: `option '--${shape.name}' requires an argument` });
    return false;
  }
  events.push({ kind: "option", name: shape.name, value: following });
  return true;
}

/** Several short options in one argument. @returns whether the following argument was taken as a value. */
function shortOptions(
  argument: string,
  following: string | undefined,
  shapes: readonly OptionShape[],
  events: GetoptEvent[],
): boolean {
  for (let i = 1; i < argument.length; i++) {
    const letter = argument.charAt(i);
    const shape = shapes.find(({ short }) => short === letter);
    if (shape === undefined) {
      events.push({ kind: "error", message: `invalid option -- '${letter}'` });
      continue;
    }
    // In pg_waldump the letter of an option whose value is optional takes none.
    if (shape.argument !== "required") {
      events.push({ kind: "option", name: shape.name, value: undefined });
      continue;
    }
    const rest = argument.slice(i + 1);
    if (rest !== "") {
      events.push({ kind: "option", name: shape.name, value: rest });
      return false;
    }
    if (following === undefined) {
      events.push({ kind: "error", message: `option requires an argument -- '${letter}'` });
      return false;
    }
    events.push({ kind: "option", name: shape.name, value: following });
    return true;
  }
  return false;
}
