/**
 * Rules that make edits of compiled code: each takes one guard, call, comparison or number and makes it another. A
 * rule knows nothing of what the code is for; that is its use.
 */
import { type AnyNode, type Expression, parse, type Statement } from "acorn";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compiledPath, type Edit, ROOT } from "./edit.ts";

export const RULES = [
  "guard",
  "call",
  "equality",
  "edge",
  "logic",
  "number",
  "truth",
  "label",
  "sum",
  "branch",
] as const;
export type Rule = (typeof RULES)[number];

/** What a rule did, for people. */
const SAYS: Readonly<Record<Rule, string>> = {
  guard: "a guard never holds",
  call: "a call is left out",
  equality: "equal and different change places",
  edge: "a bound is one further",
  logic: "and, or change places",
  number: "a number is one more",
  truth: "true and false change places",
  label: "a label is another",
  sum: "another operator",
  branch: "a condition is turned round",
};

interface Change {
  readonly rule: Rule;
  readonly start: number;
  readonly end: number;
  readonly to: string;
}

/** Every edit that the rules find in one file. @param file - below src/, as the source is called. */
export function editsByRule(file: string): (Edit & { readonly rule: Rule })[] {
  const text = readFileSync(join(ROOT, compiledPath(file)), "utf8");
  const changes: Change[] = [];
  visit(parse(text, { ecmaVersion: 2023, sourceType: "module" }), (node) => {
    changes.push(...changesOf(node, text));
  });
  const seen = new Map<string, number>();
  return changes.map(({ rule, start, end, to }) => {
    const line = lineAt(text, start);
    const place = `${file}: ${line}: ${oneLine(text.slice(start, end))} -> ${oneLine(to)}`;
    // The same text on the same line of a file: told apart by which of them it is.
    const before = seen.get(place) ?? 0;
    seen.set(place, before + 1);
    return {
      id: before === 0 ? place : `${place} (${before + 1})`,
      rule,
      file,
      what: `${place} (${SAYS[rule]})`,
      tests: undefined,
      offset: start,
      compile: () => text.slice(0, start) + to + text.slice(end),
    };
  });
}

function changesOf(node: AnyNode, text: string): Change[] {
  const change = (rule: Rule, to: string, at: Place = node): Change => {
    return { rule, start: at.start, end: at.end, to };
  };
  const textOf = ({ start, end }: Place): string => text.slice(start, end);
  if (node.type === "IfStatement") {
    const { test, consequent, alternate } = node;
    const isGuard = (alternate === null || alternate === undefined) && isWayOut(consequent);
    return [
      isGuard ? change("guard", "false", test) : change("branch", `!(${textOf(test)})`, test),
    ];
  }
  if (node.type === "ConditionalExpression")
    return [change("branch", `!(${textOf(node.test)})`, node.test)];
  if (node.type === "ExpressionStatement")
    return isWorthLeavingOut(node.expression) ? [change("call", ";")] : [];
  if (node.type === "LogicalExpression" && node.operator !== "??") {
    const to = node.operator === "&&" ? "||" : "&&";
    // Mixed with ?? the language wants parentheses.
    return [change("logic", `((${textOf(node.left)}) ${to} (${textOf(node.right)}))`)];
  }
  if (node.type === "BinaryExpression") {
    const { left, right, operator } = node;
    const place = { start: left.end, end: right.start };
    const [turned, moved, other] = [EQUALITIES[operator], EDGES[operator], SUMS[operator]];
    if (turned !== undefined) return [change("equality", ` ${turned} `, place)];
    if (moved !== undefined) return [change("edge", ` ${moved} `, place)];
    const isText = holdsText(left) || holdsText(right);
    return other === undefined || isText ? [] : [change("sum", ` ${other} `, place)];
  }
  if (node.type === "Literal") {
    const { value } = node;
    if (typeof value === "number") return [change("number", String(value + 1))];
    if (typeof value === "boolean") return [change("truth", String(!value))];
    if (typeof value === "string" && value.startsWith("tde/v1/"))
      return [change("label", JSON.stringify(`${value}x`))];
  }
  return [];
}

interface Place {
  readonly start: number;
  readonly end: number;
}

const EQUALITIES: Readonly<Record<string, string>> = { "===": "!==", "!==": "===" };
const EDGES: Readonly<Record<string, string>> = { "<": "<=", "<=": "<", ">": ">=", ">=": ">" };
const SUMS: Readonly<Record<string, string>> = {
  "+": "-",
  "-": "+",
  "*": "+",
  "/": "*",
  "%": "*",
  "&": "|",
  "|": "&",
};

/** Whether a statement leaves the function, or the loop, in the end. */
function isWayOut(statement: Statement): boolean {
  const last = statement.type === "BlockStatement" ? statement.body.at(-1) : statement;
  return (
    last !== undefined &&
    ["ThrowStatement", "ReturnStatement", "ContinueStatement", "BreakStatement"].includes(last.type)
  );
}

/** Calls for their effect. That a secret is wiped shows nowhere, and nobody tests progress bars here. */
function isWorthLeavingOut(expression: Expression): boolean {
  const call = expression.type === "AwaitExpression" ? expression.argument : expression;
  if (call.type !== "CallExpression" || call.callee.type === "Super") return false;
  const { callee, arguments: given } = call;
  const name =
    callee.type === "MemberExpression" && callee.property.type === "Identifier"
      ? callee.property.name
      : "";
  const [first] = given;
  return !(name === "fill" && first?.type === "Literal" && first.value === 0 && given.length === 1);
}

function holdsText({ type, ...rest }: Expression | { type: "PrivateIdentifier" }): boolean {
  return (
    type === "TemplateLiteral" ||
    (type === "Literal" && "value" in rest && typeof rest.value === "string")
  );
}

function visit(node: AnyNode, take: (node: AnyNode) => void): void {
  take(node);
  // What a module imports is not code of its own, and a number there a name.
  if (node.type === "ImportDeclaration") return;
  for (const value of Object.values(node) as unknown[]) {
    for (const child of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (isNode(child)) visit(child, take);
    }
  }
}

function isNode(value: unknown): value is AnyNode {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

/** The line on which something begins, without its indent. */
function lineAt(text: string, offset: number): string {
  const start = text.lastIndexOf("\n", offset - 1) + 1;
  const end = text.indexOf("\n", offset);
  return text.slice(start, end < 0 ? text.length : end).trim();
}

function oneLine(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 80 ? `${line.slice(0, 77)}...` : line;
}
