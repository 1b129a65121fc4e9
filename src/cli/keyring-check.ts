/**
 * `tde keyring check`: made for a monthly job, which asks nobody and ends with an exit code. It opens the keyring, tries
 * each recipient whose secret is at hand, and tells which directories need which keys and what must be backed up.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { directoryKeyUse } from "../engine/key-use.ts";
import { type FoundPlace, lookAtPlace, type Presence } from "../engine/remembered-place.ts";
import { readIdentity } from "../engine/wal-archive/archive-identity.ts";
import { holdsWal, walKeyUse } from "../engine/wal-key-use.ts";
import { KeyError, TdeError } from "../errors.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import { type KeyLoads, loadOf } from "../keyring/key-load.ts";
import { describeRecipient, type Keyring, type RecipientTrials } from "../keyring/keyring.ts";
import { oldKeyringWarning } from "../keyring/state.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { RUN_NAMES } from "../engine/run/standing.ts";
import { rememberedBy } from "./engine-context.ts";
import { ExitCode } from "./exit-codes.ts";
import { loadsToJson, loadText } from "./key-load-text.ts";
import { namesSecret } from "./keyring-actions.ts";
import { type OpenedKeyring, withOpenKeyring } from "./open-keyring.ts";
import { type KeyringFlags, type SecretFlags, secretsFrom } from "./keyring-flags.ts";
import { type OutputFlags } from "./options.ts";
import { createOutput } from "./output.ts";
import { countOf } from "./report-lines.ts";

type CheckFlags = KeyringFlags &
  OutputFlags &
  SecretFlags & {
    readonly pgdata?: readonly BytePath[];
    readonly allRecipients?: boolean;
  };

interface DirectoryFinding {
  readonly id: string | undefined;
  readonly path: string;
  /** state file: what is remembered; directory: what its own manifest says. */
  readonly toldBy: "state file" | "directory";
  /** What lies at that path now. */
  readonly found: FoundPlace;
  readonly epoch: number | undefined;
  readonly keys: KeyLoads;
}

interface Findings {
  readonly recipients: readonly {
    readonly number: number;
    readonly description: string;
    readonly openedBy: string | undefined;
  }[];
  readonly directories: readonly DirectoryFinding[];
  readonly backUp: readonly string[];
  readonly notes: readonly string[];
  readonly problems: readonly string[];
}

const fs = new NodeFileSystem();

/** @throws {KeyError} {FormatError} {IntegrityError} when nothing given opens the keyring, or it is not whole. */
export async function check(flags: CheckFlags): Promise<void> {
  const output = createOutput(flags);
  const command = "tde keyring check";
  if (!namesSecret(secretsFrom(flags))) {
    throw new KeyError("no secret was given to open the keyring with", {
      hint: "Give --key-file, --passphrase-file or --unwrap-command, once for each recipient that is to be tried.",
    });
  }
  await withOpenKeyring(
    flags,
    command,
    output,
    fs,
    () => undefined,
    async (opened, providers) => {
      const trials = await opened.keyring.tryRecipients(providers);
      const findings = findingsOf(opened, trials, flags);
      if (flags.format === "json") output.json(toJson(opened.keyring, findings));
      else output.result(toText(opened.keyring, findings));
      if (findings.problems.length > 0) process.exitCode = ExitCode.key;
    },
  );
}

function findingsOf(opened: OpenedKeyring, trials: RecipientTrials, flags: CheckFlags): Findings {
  const { keyring, dataKeys, state } = opened;
  const problems: string[] = [];
  for (const secret of trials.unused) problems.push(`${secret} opens no recipient`);
  for (const { message } of trials.failures) problems.push(message);
  const recipients = keyring.file.recipients.map((recipient) => {
    const openedBy = trials.openers.get(recipient.number);
    const description = describeRecipient(recipient);
    if (openedBy === undefined && flags.allRecipients === true)
      problems.push(`nothing that was given opens ${description}`);
    return { number: recipient.number, description, openedBy };
  });
  const old = state.warning ?? oldKeyringWarning(keyring.file.generation, state, keyring.name);
  if (old !== undefined) problems.push(old);
  if (state.status === "absent")
    problems.push(
      `state file "${displayPath(opened.statePath)}" is missing: what this keyring protects, and which copies are the newest, is known to nobody`,
    );
  for (const { operation, place, time, ended } of state.runs.values()) {
    if (ended) continue;
    problems.push(
      `tde ${RUN_NAMES[operation]} in "${displayPath(place)}", begun on ${time}, is unfinished`,
    );
  }
  const named = namedDirectories(opened, flags.pgdata ?? [], problems);
  // What a directory says itself counts, and not what is remembered of it.
  const ids = new Set(named.map(({ id }) => id));
  const directories = [...named, ...rememberedDirectories(opened).filter(({ id }) => !ids.has(id))];
  for (const { path, keys } of directories) problems.push(...missingKeys(path, keys, dataKeys));
  const notes =
    state.status !== "verified" || state.since === undefined
      ? []
      : [
          `the state file was begun on ${state.since}, after the keyring had been in use: what was known before is not in it`,
        ];
  return { recipients, directories, backUp: backUpOf(opened), notes, problems };
}

function namedDirectories(
  { dataKeys, state, statePath }: OpenedKeyring,
  named: readonly BytePath[],
  problems: string[],
): DirectoryFinding[] {
  const context = { keys: dataKeys, memory: rememberedBy(state, statePath) };
  return named.map((root) => {
    const path = displayPath(root);
    const there = { presence: "there" } as const;
    try {
      if (holdsWal(fs, root)) {
        const id = readIdentity(fs, root, dataKeys)?.archiveId;
        const known = state.directories.get(id ?? "")?.load ?? new Map();
        const keys = new Map(
          [...walKeyUse(fs, root).keys()].map((key) => [key, loadOf(known, key)]),
        );
        return { id, path, toldBy: "directory", found: there, epoch: undefined, keys };
      }
      const use = directoryKeyUse(fs, root, context);
      if (use.doubt !== undefined) problems.push(`"${path}": ${use.doubt}`);
      const keys = new Map(use.load);
      if (!keys.has(use.manifestKeyId)) keys.set(use.manifestKeyId, { pages: 0, bytes: 0 });
      const epoch = Number(use.epoch);
      return { id: use.directoryId, path, toldBy: "directory", found: there, epoch, keys };
    } catch (error) {
      if (!(error instanceof TdeError)) throw error;
      problems.push(error.message);
      const found = { presence: "unreadable", why: error.message } as const;
      return { id: undefined, path, toldBy: "directory", found, epoch: undefined, keys: new Map() };
    }
  });
}

function rememberedDirectories({ dataKeys, state }: OpenedKeyring): DirectoryFinding[] {
  return [...state.directories.values()]
    .filter(({ load }) => load.size > 0)
    .map((known) => ({
      id: known.id,
      path: displayPath(known.path),
      toldBy: "state file",
      found: lookAtPlace(fs, known, dataKeys),
      epoch: Number(known.epoch),
      keys: known.load,
    }));
}

function missingKeys(path: string, keys: KeyLoads, held: DataKeys): string[] {
  return [...keys.keys()]
    .filter((keyId) => held.keys.get(keyId)?.dek === undefined)
    .map((keyId) => `"${path}" needs key ${keyId}, which the keyring does not hold`);
}

function backUpOf({ keyring, state, statePath }: OpenedKeyring): string[] {
  const { file, name } = keyring;
  const secrets = file.recipients.map(describeRecipient).join(" or ");
  const isOld = oldKeyringWarning(file.generation, state, name) !== undefined;
  return [
    isOld
      ? `NOT ${name} over another copy: a newer one has been in use, and what is under keys that only that one has would be lost; find it first`
      : `${name}, as it is now (generation ${file.generation}): without it everything is lost`,
    `the secret of ${secrets}, apart from the keyring: without any of them everything is lost`,
    state.status === "absent"
      ? `state file "${displayPath(statePath)}" is missing: bring it back, or name it with --state`
      : `state file "${displayPath(statePath)}", if you can: without it an older copy of a directory passes for the newest`,
  ];
}

function toText({ file, name }: Keyring, findings: Findings): string {
  const { recipients, directories, backUp, notes, problems } = findings;
  return [
    `${name}, id ${file.id}, generation ${file.generation}: whole, and opens`,
    "recipients:",
    ...recipients.map(
      ({ description, openedBy }) =>
        `  ${description}: ${openedBy === undefined ? "not opened by what was given" : `opened by ${openedBy}`}`,
    ),
    directories.length === 0 ? "no directory is known" : "directories:",
    ...directories.map(directoryLine),
    "back up:",
    ...backUp.map((line) => `  ${line}`),
    ...notes.map((note) => `note: ${note}`),
    ...problems.map((problem) => `PROBLEM: ${problem}`),
    problems.length === 0 ? "all is well" : countOf(problems.length, "problem"),
  ].join("\n");
}

/** Nobody can say from here that something is gone. */
const PRESENCES: Readonly<Record<Presence, string>> = {
  there: "",
  other: ", where something else is now",
  "not-found": ", not found there now: moved, not mounted, or gone",
  unreadable: ", which cannot be read now",
};

function directoryLine({ id, path, toldBy, found, epoch, keys }: DirectoryFinding): string {
  const needs = loadsToJson(keys).map((one) => `key ${one.keyId}: ${loadText(one)}`);
  const why = found.why === undefined || toldBy === "directory" ? "" : ` (${found.why})`;
  const where = `${PRESENCES[found.presence]}${why}`;
  const at = epoch === undefined ? "" : `, epoch ${epoch}`;
  return `  ${path}${where} (${id ?? "unknown"}${at}, says the ${toldBy}): ${needs.join(", ") || "unknown"}`;
}

function toJson({ file, place }: Keyring, findings: Findings): unknown {
  return {
    ok: findings.problems.length === 0,
    keyring: displayPath(place.path),
    id: file.id,
    generation: file.generation,
    recipients: findings.recipients.map(({ number, description, openedBy }) => ({
      number,
      description,
      opens: openedBy !== undefined,
      openedBy,
    })),
    directories: findings.directories.map(({ keys, found, ...directory }) => ({
      ...directory,
      found: found.presence,
      why: found.why,
      keys: loadsToJson(keys),
    })),
    backUp: findings.backUp,
    notes: findings.notes,
    problems: findings.problems,
  };
}
