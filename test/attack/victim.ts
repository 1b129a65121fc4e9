/**
 * The keyholder on a composed disk: runs commands in good faith, and does what error messages advise.
 */
import type { BytePath } from "../../src/bytes/byte-path.ts";
import type { DecryptReport } from "../../src/engine/decrypt-datadir.ts";
import type { EncryptReport } from "../../src/engine/encrypt-report.ts";
import type { RecoveryOutcome } from "../../src/engine/recover.ts";
import type { RotateReport } from "../../src/engine/rotate-datadir.ts";
import { NOTHING_SELECTED } from "../../src/engine/scope-request.ts";
import type { SyncReport } from "../../src/engine/sync-datadir.ts";
import type { VerifyReport } from "../../src/engine/verify-report.ts";
import { TdeError } from "../../src/errors.ts";
import type { CrashDisk } from "../support/crash-disk.ts";
import type { Random } from "../support/crash-nodes.ts";
import { type Consents, SimulatedTde } from "../support/simulated-tde.ts";
import { PART, type PlaceName, PLACES } from "./history.ts";
import { type Place, TABLESPACE_LINK } from "./image.ts";

/** What is run on the target; where another directory is needed, that is said. */
export const COMMANDS = [
  "verify",
  "recover",
  "encrypt",
  "encrypt a part",
  "decrypt",
  /** Into a directory that does not exist. */
  "decrypt --output",
  "rotate",
  "rotate --from-key 1",
  /** From the plain cluster. */
  "sync",
  /** Of the plain cluster, into the target. */
  "encrypt --output into it",
  /** Of copy a, into the target. */
  "decrypt a --output into it",
] as const;
export type CommandName = (typeof COMMANDS)[number];

export interface Command {
  readonly name: CommandName;
  readonly consents: Consents;
  /** Run because a message advised it. */
  readonly isAdvised: boolean;
}

export type Outcome =
  | { readonly kind: "verified" | "not verified"; readonly report: VerifyReport }
  | { readonly kind: "encrypted"; readonly report: EncryptReport }
  | { readonly kind: "decrypted"; readonly report: DecryptReport }
  | { readonly kind: "rotated"; readonly report: RotateReport }
  | { readonly kind: "synced"; readonly report: SyncReport }
  | { readonly kind: "recovered"; readonly report: RecoveryOutcome }
  | { readonly kind: "refused"; readonly error: TdeError }
  /** No error that tde expects. */
  | { readonly kind: "broken"; readonly error: unknown };

export const VICTIMS_OUTPUT: Place = {
  root: "/srv/opened" as BytePath,
  tablespace: "/srv/opened_ts" as BytePath,
};

export async function run(disk: CrashDisk, target: PlaceName, command: Command): Promise<Outcome> {
  try {
    return await carriedOut(disk, target, command);
  } catch (error) {
    return error instanceof TdeError ? { kind: "refused", error } : { kind: "broken", error };
  }
}

async function carriedOut(
  disk: CrashDisk,
  target: PlaceName,
  { name, consents }: Command,
): Promise<Outcome> {
  const tde = new SimulatedTde(disk);
  const { root } = PLACES[target];
  switch (name) {
    case "verify": {
      const report = await tde.verify(root, consents);
      return { kind: report.ok ? "verified" : "not verified", report };
    }
    case "recover":
      return { kind: "recovered", report: await tde.recover(root, consents) };
    case "encrypt":
    case "encrypt a part": {
      const scope = name === "encrypt" ? NOTHING_SELECTED : PART;
      return { kind: "encrypted", report: await tde.encrypt(root, undefined, scope, consents) };
    }
    case "decrypt":
      return { kind: "decrypted", report: await tde.decrypt(root, undefined, consents) };
    case "decrypt --output": {
      const output = into(disk, PLACES[target], VICTIMS_OUTPUT);
      return { kind: "decrypted", report: await tde.decrypt(root, output, consents) };
    }
    case "rotate":
      return { kind: "rotated", report: await tde.rotate(root, undefined, consents) };
    case "rotate --from-key 1":
      return { kind: "rotated", report: await tde.rotate(root, 1, consents) };
    case "sync": {
      const { plain } = PLACES;
      const hasTablespace = disk.nodeAt(`${root}/${TABLESPACE_LINK}` as BytePath) !== undefined;
      const { tablespaceMapping } = into(disk, plain, PLACES[target]);
      const mapping = hasTablespace ? new Map<BytePath, BytePath>() : tablespaceMapping;
      return { kind: "synced", report: await tde.sync(plain.root, root, mapping, consents) };
    }
    case "encrypt --output into it": {
      const output = into(disk, PLACES.plain, PLACES[target]);
      return {
        kind: "encrypted",
        report: await tde.encrypt(PLACES.plain.root, output, NOTHING_SELECTED, consents),
      };
    }
    case "decrypt a --output into it": {
      const output = into(disk, PLACES.a, PLACES[target]);
      return { kind: "decrypted", report: await tde.decrypt(PLACES.a.root, output, consents) };
    }
  }
}

function into(
  disk: CrashDisk,
  source: Place,
  target: Place,
): { output: BytePath; tablespaceMapping: Map<BytePath, BytePath> } {
  const hasTablespace = disk.nodeAt(`${source.root}/${TABLESPACE_LINK}` as BytePath) !== undefined;
  const mapping: [BytePath, BytePath][] = hasTablespace
    ? [[source.tablespace, target.tablespace]]
    : [];
  return { output: target.root, tablespaceMapping: new Map(mapping) };
}

/** Everything in a message that says what to do. */
export function adviceOf(outcome: Outcome): string {
  if (outcome.kind === "refused") return outcome.error.hint ?? "";
  if (outcome.kind !== "not verified") return "";
  const { problems, notices, traces } = outcome.report;
  return [
    ...problems.map(({ message }) => message),
    ...notices,
    ...traces.map(({ advice }) => advice),
  ].join("\n");
}

/** What someone runs next who does what the message says; undefined where it names nothing to run. */
export function advised(command: Command, outcome: Outcome, random: Random): Command | undefined {
  const text = adviceOf(outcome);
  const choices: Command[] = [];
  const suggest = (name: CommandName, consents: Consents = {}): void => {
    choices.push({ name, consents, isAdvised: true });
  };
  const { consents } = command;
  if (text.includes("--accept-older")) suggest(command.name, { ...consents, acceptOlder: true });
  if (text.includes("--accept-moved")) suggest(command.name, { ...consents, acceptMoved: true });
  if (text.includes("--without-state")) suggest(command.name, { ...consents, withoutState: true });
  if (text.includes("--restore-control")) {
    suggest(command.name, { ...consents, restoreControl: true });
  }
  const accepted = [...text.matchAll(/--accept-changed ([^\s)]+?)\.?(?=[\s)]|$)/g)];
  if (accepted.length > 0) {
    const paths = accepted.map(([, path]) => path as BytePath);
    const acceptChanged = [...new Set([...(consents.acceptChanged ?? []), ...paths])];
    suggest(command.name, { ...consents, acceptChanged });
  }
  if (/same command/i.test(text)) suggest(command.name, consents);
  if (/tde recover/.test(text)) suggest("recover");
  if (/tde verify/.test(text) && command.name !== "verify") suggest("verify");
  if (/tde sync/.test(text)) suggest("sync");
  if (/tde rotate/.test(text)) suggest("rotate");
  if (/decrypt-datadir|decrypt the directory/i.test(text)) suggest("decrypt");
  if (/tde encrypt-datadir"/.test(text)) suggest("encrypt");
  return choices[Math.floor(random() * choices.length)];
}

/** A command that nobody advised. */
export function anyCommand(random: Random): Command {
  const name = COMMANDS[Math.floor(random() * COMMANDS.length)] ?? "verify";
  const acceptOlder = random() < 0.25;
  const withoutState = random() < 0.15;
  return { name, consents: { acceptOlder, withoutState }, isAdvised: false };
}
