/**
 * A finding in words: how the disk was composed, what was run on it, and what must never be.
 */
import type { Composition, Edit, Origin } from "./attacker.ts";
import type { History } from "./history.ts";
import type { Finding } from "./run-attack.ts";

export function describe(history: History, finding: Finding): string {
  const { attack, composition, commands, violations } = finding;
  const { present, target, base, edits, state } = composition;
  const at = (moment: number): string => `${moment} (${history.moments[moment]?.label})`;
  const from = ({ moment, place }: Origin): string => `${place} at ${at(moment)}`;
  const open = history.moments[present]?.open;
  return [
    `attack ${attack}, copies ${history.kind}: ${finding.signature}`,
    `  present: ${at(present)}; open: ${open === undefined ? "no run" : `${open.operation} in ${open.place}`}; state file: ${stateText(state, at)}`,
    `  ${target}: as ${from(base)}`,
    ...edits.map((edit) => `  then ${editText(edit, from)}`),
    ...commands.map(
      ({ name, consents, isAdvised }) =>
        `  run ${name} ${JSON.stringify(consents)}${isAdvised ? ", as advised" : ""}`,
    ),
    ...violations.map(({ kind, what }) => `  NOT ALLOWED: ${kind}: ${what}`),
  ].join("\n");
}

function stateText(state: Composition["state"], at: (moment: number) => string): string {
  return state.kind === "older" ? `of ${at(state.moment)}` : state.kind;
}

function editText(edit: Edit, from: (origin: Origin) => string): string {
  switch (edit.do) {
    case "put back":
      return `put back ${[edit.what].flat().join(", ")} of ${from(edit.from)}`;
    case "remove":
      return `remove ${[edit.what].flat().join(", ")}`;
    case "forge":
      return `forge ${edit.path}, its sidecar ${edit.keepSidecar ? "kept" : "removed"}`;
    case "add to guard":
      return "add a setting beside the guard";
    case "flip":
      return `flip a bit of ${edit.path}`;
  }
}
