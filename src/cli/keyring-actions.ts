/**
 * What `tde keyring` does: opens, calls one operation, says what happened and what remains to be done.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import {
  createKeyring,
  describeRecipient,
  type Keyring,
  readKeyringFile,
  requireNoKeyring,
} from "../keyring/keyring.ts";
import type { KeyringFile, Recipient } from "../keyring/keyring-file.ts";
import { recipientTypes } from "../keyring/recipient-types.ts";
import type { DataKeys } from "../keyring/data-keys.ts";
import {
  ARCHIVE_ROOT,
  forgetDirectory,
  requireNewestKeyring,
  type State,
  updateState,
  whyIncomplete,
} from "../keyring/state.ts";
import { StateError, TdeError, UsageError } from "../errors.ts";
import { loadOf, sumOfLoads } from "../keyring/key-load.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { type JournalHeader, readJournalHeader } from "../storage/journal.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { type OpenedKeyring, withOpenKeyring } from "./open-keyring.ts";
import {
  type KeyringFlags,
  keyringPathFrom,
  type SecretFlags,
  secretsFrom,
  statePathFrom,
} from "./keyring-flags.ts";
import { type OutputFlags } from "./options.ts";
import { assertKeyUnused, directoryKeyUse } from "../engine/key-use.ts";
import { lookAtPlace } from "../engine/remembered-place.ts";
import { readIdentity } from "../engine/wal-archive/archive-identity.ts";
import { assertKeyUnusedInWal, holdsWal, walKeyUse } from "../engine/wal-key-use.ts";
import { RUN_NAMES } from "../engine/run/standing.ts";
import { rememberedBy } from "./engine-context.ts";
import { loadsToJson, loadText } from "./key-load-text.ts";
import { assertNotInDatadir } from "./key-places.ts";
import { createOutput, type Output } from "./output.ts";
import { withSpinner } from "./progress.ts";
import { newProviderFrom, type NewProvider } from "./secrets.ts";

type BaseFlags = KeyringFlags & OutputFlags & SecretFlags;
type CreateFlags = BaseFlags & { readonly newKeyFile?: boolean; readonly label: string };
type DestroyFlags = BaseFlags & {
  readonly dryRun?: boolean;
  readonly pgdata?: readonly BytePath[];
  readonly withoutState?: boolean;
};

interface TargetFlags {
  readonly toKeyFile?: readonly BytePath[];
  readonly newKeyFile?: boolean;
  readonly toPassphrase?: boolean;
  readonly toPassphraseFile?: readonly BytePath[];
  readonly toPassphraseFd?: readonly number[];
  readonly toWrapCommand?: string;
  readonly toUnwrapCommand?: string;
}

const fs: FileSystem = new NodeFileSystem();

export async function create(flags: CreateFlags): Promise<void> {
  const output = createOutput(flags);
  const path = keyringPathFrom(flags);
  const place = { fs, path, command: "tde keyring create" };
  // Before a key file is made or a passphrase asked for; createKeyring looks again under its lock.
  requireNoKeyring(place);
  assertNotInDatadir(fs, "keyring", path);
  assertNotInDatadir(fs, "state file", statePathFrom(flags));
  const made = await newProviderFrom(
    fs,
    { ...secretsFrom(flags), newKeyFile: flags.newKeyFile },
    "--",
  );
  const keyring = await forNewRecipient(made, (provider) =>
    withSpinner("making the keyring", flags, () => createKeyring(place, provider, flags.label)),
  );
  const { file } = keyring;
  await rememberGeneration(keyring, statePathFrom(flags), "create", output, "created");
  if (flags.format === "json") return output.json(publicPart(file, path));
  output.result(`created ${keyring.name}, id ${file.id}, with key 1 as its current key`);
  if (flags.newKeyFile === true) {
    output.result(`created key file "${displayPath(secretsFrom(flags).keyFile?.[0] ?? "")}"`);
  }
  output.note("Keep a copy of both in different places: without them nothing can be decrypted.");
}

export async function show(flags: BaseFlags): Promise<void> {
  const output = createOutput(flags);
  const path = keyringPathFrom(flags);
  const secrets = secretsFrom(flags);
  if (!namesSecret(secrets)) {
    return showFile(readKeyringFile(fs, path), path, flags, output, undefined);
  }
  await opened(flags, "show", output, async (keyring) =>
    showFile(keyring.keyring.file, path, flags, output, keyring),
  );
}

export async function newKey(flags: BaseFlags): Promise<void> {
  const output = createOutput(flags);
  await opened(flags, "new-key", output, async ({ keyring, state, statePath }) => {
    const before = keyring.currentKeyId;
    const next = keyring.newKey(state);
    await rememberGeneration(next, statePath, "new-key", output);
    if (flags.format === "json") return output.json(publicPart(next.file, next.place.path));
    output.result(`key ${next.currentKeyId} is now the current key of ${next.name}`);
    output.note(
      `No page was rewritten: what key ${before} protects is still under key ${before}.\n` +
        `To write it anew under the new key: "tde rotate --from-key ${before}" on each directory.\n` +
        "Back up the keyring: older copies do not have the new key.",
    );
  });
}

export async function listRecipients(flags: KeyringFlags & OutputFlags): Promise<void> {
  const output = createOutput(flags);
  const { recipients } = readKeyringFile(fs, keyringPathFrom(flags));
  if (flags.format === "json") return output.json(recipients.map(publicRecipient));
  output.result(recipientLines(recipients).join("\n"));
}

export async function addRecipient(
  flags: BaseFlags & TargetFlags & { readonly label: string },
): Promise<void> {
  const output = createOutput(flags);
  await opened(flags, "add-recipient", output, async ({ keyring, statePath }) => {
    const made = await newProviderFrom(fs, targetOf(flags), "--to-");
    const next = await forNewRecipient(made, (provider) =>
      withSpinner("wrapping", flags, () => keyring.addRecipient(provider, flags.label)),
    );
    await rememberGeneration(next, statePath, "add-recipient", output);
    const old = new Set(keyring.file.recipients.map(({ number }) => number));
    const added = next.file.recipients.find(({ number }) => !old.has(number));
    report(flags, output, next, `added ${added === undefined ? "it" : describeRecipient(added)}`);
    output.note("Data stays as it is.");
  });
}

export async function removeRecipients(
  numbers: readonly number[],
  flags: BaseFlags,
): Promise<void> {
  const output = createOutput(flags);
  const stays = (all: readonly Recipient[]): readonly Recipient[] =>
    all.filter(({ number }) => !numbers.includes(number));
  const command = "tde keyring remove-recipient";
  await withOpenKeyring(flags, command, output, fs, stays, async (opened, providers) => {
    const { keyring, statePath } = opened;
    const gone = keyring.file.recipients.filter(({ number }) => numbers.includes(number));
    const next = await withSpinner("wrapping", flags, () =>
      keyring.removeRecipients(numbers, providers),
    );
    await rememberGeneration(next, statePath, "remove-recipient", output);
    report(flags, output, next, `removed ${gone.map(describeRecipient).join(", ")}`);
    output.note(
      "Whoever was removed may have kept the keys of today, or an older copy of the keyring.\n" +
        'To take these keys away: "tde keyring new-key", then "tde rotate --all" on each directory.',
    );
  });
}

export async function rewrap(
  number: number,
  flags: BaseFlags & TargetFlags & { readonly label?: string },
): Promise<void> {
  const output = createOutput(flags);
  await opened(flags, "rewrap", output, async ({ keyring, statePath }) => {
    if (!keyring.file.recipients.some((recipient) => recipient.number === number)) {
      throw new UsageError(`${keyring.name} has no recipient ${number}`, {
        hint: 'See "tde keyring list-recipients".',
      });
    }
    const made = await newProviderFrom(fs, targetOf(flags), "--to-");
    const next = await forNewRecipient(made, (provider) =>
      withSpinner("wrapping", flags, () => keyring.rewrap(number, provider, flags.label)),
    );
    await rememberGeneration(next, statePath, "rewrap", output);
    report(flags, output, next, `another secret opens recipient ${number} of ${next.name} now`);
    output.note(
      "Data stays as it is, under the same keys. Older copies of the keyring still open with the old secret.\n" +
        'To write pages under a new key: "tde keyring new-key", then "tde rotate".',
    );
  });
}

export async function retireKey(keyId: number, flags: BaseFlags): Promise<void> {
  const output = createOutput(flags);
  await opened(flags, "retire-key", output, async (opened) => {
    const { keyring, statePath } = opened;
    await reseal(opened, "retire-key", output);
    const next = keyring.retire(keyId);
    await rememberGeneration(next, statePath, "retire-key", output);
    report(flags, output, next, `key ${keyId} of ${next.name} is retired`);
    output.note(
      "It still decrypts, with a warning. What it authenticates is no longer believed:\n" +
        "a directory whose manifest is under this key needs --accept-older, until\n" +
        `"tde rotate --from-key ${keyId} --accept-older" has written it anew.`,
    );
  });
}

export async function destroyKey(keyId: number, flags: DestroyFlags): Promise<void> {
  const output = createOutput(flags);
  const all = (recipients: readonly Recipient[]): readonly Recipient[] => recipients;
  const command = "tde keyring destroy-key";
  await withOpenKeyring(flags, command, output, fs, all, async (opened, providers) => {
    const { keyring, statePath } = opened;
    const named = flags.pgdata ?? [];
    const state = stateWithAsked(opened, named);
    keyring.requireDestroyable(keyId, state);
    const doubt = whyUncertain(opened);
    if (doubt !== undefined && flags.withoutState !== true) throw cannotTell(keyId, doubt);
    const memory = rememberedBy(state, statePath);
    for (const root of named) {
      if (holdsWal(fs, root)) assertKeyUnusedInWal(fs, root, keyId);
      else assertKeyUnused(fs, root, { keys: opened.dataKeys, memory }, keyId);
    }
    if (doubt !== undefined) await output.warn(doubt);
    await output.warn(asked(state, statePath, keyId, named));
    const destroy = (isRehearsal: boolean): Promise<Keyring> =>
      withSpinner("wrapping", flags, () =>
        keyring.destroyKey(keyId, state, providers, isRehearsal),
      );
    if (flags.dryRun === true) {
      await destroy(true);
      return output.result(`key ${keyId} of ${keyring.name} would be destroyed`);
    }
    await reseal(opened, "destroy-key", output);
    const next = await destroy(false);
    await rememberGeneration(next, statePath, "destroy-key", output);
    report(flags, output, next, `key ${keyId} of ${next.name} is destroyed`);
    output.note(destructionSteps(next));
  });
}

/** Why nobody can say which directories and archives use a key; undefined where the state file tells all of them. */
function whyUncertain({ keyring, state }: OpenedKeyring): string | undefined {
  const why = whyIncomplete(state, keyring.file.generation, keyring.name);
  if (why !== undefined) return why;
  const [open, ...more] = [...state.runs.values()].filter(({ ended }) => !ended);
  if (open === undefined) return undefined;
  const others = more.length === 0 ? "" : `, and ${more.length} others`;
  return `a run of tde ${RUN_NAMES[open.operation]} in "${displayPath(open.place)}" is unfinished${others}`;
}

function cannotTell(keyId: number, doubt: string): StateError {
  return new StateError(`nothing tells whether key ${keyId} is still in use: ${doubt}`, {
    hint: `Bring the state file back, or finish what is unfinished; "tde keyring forget-directory" takes off what is gone for good. If neither is possible, name every encrypted directory and every archive with -D and give --without-state: only those are asked then, and whatever else is under key ${keyId} is lost for ever.`,
  });
}

/** Takes directories off the list of those that are asked before a key is destroyed. */
export async function forgetDirectories(ids: readonly string[], flags: BaseFlags): Promise<void> {
  const output = createOutput(flags);
  await opened(
    flags,
    "forget-directory",
    output,
    async ({ keyring, dataKeys, state, statePath }) => {
      requireNewestKeyring(keyring.file.generation, state, keyring.name);
      for (const id of ids) assertGone(state, id, dataKeys);
      const place = { fs, path: statePath, command: "tde keyring forget-directory" };
      updateState(place, keyring.dataKeys(), keyring.file.generation, (content) =>
        ids.reduce(forgetDirectory, content),
      );
      if (flags.format === "json") return output.json({ forgotten: ids });
      output.result(`forgotten: ${ids.join(", ")}`);
      output.note("Should it come back, nothing tells any more whether it is the newest copy.");
    },
  );
}

/** @throws {UsageError} {StateError} when it is not on the list, still where it was, or may be. */
function assertGone(state: State, id: string, keys: DataKeys): void {
  const unfinished = [...state.runs.values()].find(({ directoryId }) => directoryId === id);
  if (unfinished !== undefined && readJournalHeaderAt(unfinished.place)?.directoryId === id) {
    throw new StateError(
      `directory ${id} is still at "${displayPath(unfinished.place)}", unfinished`,
      { hint: "Finish what is unfinished there, or delete the directory." },
    );
  }
  const known = state.directories.get(id);
  if (known === undefined && unfinished !== undefined) return;
  if (known === undefined) {
    throw new UsageError(`the state file knows no directory ${id}`, {
      hint: '"tde keyring check" lists those that it knows.',
    });
  }
  const { presence, why } = lookAtPlace(fs, known, keys);
  const what = known.root === ARCHIVE_ROOT ? "archive" : "directory";
  const hint = "Only what is gone for good should be forgotten.";
  if (presence === "there")
    throw new StateError(`${what} ${id} is still at "${displayPath(known.path)}"`, { hint });
  if (presence === "unreadable") {
    throw new StateError(
      `nobody can say whether ${what} ${id} is still at "${displayPath(known.path)}": ${why}`,
      { hint: `${hint} Run it as a user who may read that, or move away what is there.` },
    );
  }
}

function readJournalHeaderAt(root: BytePath): JournalHeader | undefined {
  try {
    return readJournalHeader(fs, root);
  } catch (error) {
    if (error instanceof TdeError) return undefined;
    throw error;
  }
}

/** What a directory says itself counts, and not what was remembered of it before. */
function stateWithAsked(
  { dataKeys, state, statePath }: OpenedKeyring,
  named: readonly BytePath[],
): State {
  const directories = new Map(state.directories);
  const context = { keys: dataKeys, memory: rememberedBy(state, statePath) };
  for (const root of named) {
    if (holdsWal(fs, root)) {
      const archiveId = readIdentity(fs, root, dataKeys)?.archiveId ?? "";
      const known = directories.get(archiveId);
      const uses = walKeyUse(fs, root);
      const load = new Map([...(known?.load ?? [])].filter(([keyId]) => uses.has(keyId)));
      if (known !== undefined) directories.set(archiveId, { ...known, load });
      continue;
    }
    const { directoryId, doubt, load } = directoryKeyUse(fs, root, context);
    const known = directories.get(directoryId);
    if (known !== undefined && doubt === undefined)
      directories.set(directoryId, { ...known, load });
  }
  return { ...state, directories };
}

/** Opens by any secret, runs, wipes. */
async function opened(
  flags: BaseFlags,
  verb: string,
  output: Output,
  action: (opened: OpenedKeyring) => Promise<void>,
): Promise<void> {
  await withOpenKeyring(flags, `tde keyring ${verb}`, output, fs, () => undefined, action);
}

async function forNewRecipient<T>(
  made: NewProvider,
  action: (provider: NewProvider["provider"]) => Promise<T>,
): Promise<T> {
  try {
    return await action(made.provider);
  } catch (error) {
    made.undo();
    throw error;
  } finally {
    made.provider.dispose();
  }
}

/** The keyring is written already: that the state could not be is a warning. */
async function rememberGeneration(
  keyring: Keyring,
  statePath: BytePath,
  verb: string,
  output: Output,
  happened: "created" | "changed" | undefined = "changed",
): Promise<void> {
  try {
    const place = { fs, path: statePath, command: `tde keyring ${verb}`, keyring: happened };
    updateState(place, keyring.dataKeys(), keyring.file.generation, (content) => content);
  } catch (error) {
    if (!(error instanceof TdeError)) throw error;
    await output.warn(`the keyring is written, its state file is not: ${error.message}`);
  }
}

/** Puts the state under the current key before the key that it may be under loses its say. */
async function reseal(opened: OpenedKeyring, verb: string, output: Output): Promise<void> {
  if (opened.state.status !== "verified") return;
  await rememberGeneration(opened.keyring, opened.statePath, verb, output, undefined);
}

function targetOf(flags: TargetFlags): SecretFlags & { readonly newKeyFile?: boolean | undefined } {
  return {
    keyFile: flags.toKeyFile,
    newKeyFile: flags.newKeyFile,
    passphrase: flags.toPassphrase,
    passphraseFile: flags.toPassphraseFile,
    passphraseFd: flags.toPassphraseFd,
    wrapCommand: flags.toWrapCommand,
    unwrapCommand: flags.toUnwrapCommand,
  };
}

export function namesSecret({
  keyFile,
  passphrase,
  passphraseFile,
  passphraseFd,
  unwrapCommand,
}: SecretFlags): boolean {
  return [keyFile, passphrase, passphraseFile, passphraseFd, unwrapCommand].some(
    (value) => value !== undefined,
  );
}

function report(flags: OutputFlags, output: Output, keyring: Keyring, text: string): void {
  if (flags.format === "json") output.json(publicPart(keyring.file, keyring.place.path));
  else output.result(text);
}

function asked(
  state: State,
  statePath: BytePath,
  keyId: number,
  named: readonly BytePath[],
): string {
  const known = state.directories.size;
  const which = known === 1 ? "1 directory" : `${known} directories`;
  const others = named.map((root) => ` and "${displayPath(root)}"`).join("");
  const were = known + named.length === 1 ? "was" : "were";
  return `only the ${which} known to state file "${displayPath(statePath)}"${others} ${were} asked whether key ${keyId} is in use; any other copy under it becomes unreadable`;
}

function destructionSteps(keyring: Keyring): string {
  const { recipients } = keyring.file;
  return [
    "Its record stays, the key itself is gone from this file. Older copies of the keyring still hold it and open",
    "with the secrets of today. To complete the destruction:",
    ...recipients.map(
      (recipient, i) =>
        `  ${i + 1}. tde keyring rewrap ${recipient.number}, with a new secret for ${describeRecipient(recipient)}`,
    ),
    `  ${recipients.length + 1}. destroy the old secrets: key files, passphrases, keys of a key service`,
    `  ${recipients.length + 2}. delete older copies of the keyring where you can`,
  ].join("\n");
}

function showFile(
  file: KeyringFile,
  path: BytePath,
  flags: OutputFlags,
  output: Output,
  opened: OpenedKeyring | undefined,
): void {
  const state = opened?.state;
  const protects = sumOfLoads([...(state?.directories.values() ?? [])].map(({ load }) => load));
  if (flags.format === "json") {
    return output.json({
      ...publicPart(file, path),
      verified: opened !== undefined,
      ...(opened === undefined || state === undefined
        ? {}
        : {
            openedBy: opened.keyring.openedBy,
            protects: loadsToJson(protects),
            written: loadsToJson(state.keyLoad),
            keyLimitPages: state.keyLimitPages,
          }),
    });
  }
  const keys = file.keys.flatMap(({ keyId, state: keyState, created, check }) => {
    const line = `  ${String(keyId).padEnd(4)} ${keyState.padEnd(9)} created ${created}  check ${check.toString("hex")}`;
    if (state === undefined) return [line];
    const written = loadText(loadOf(state.keyLoad, keyId));
    return [
      line,
      `       protects ${loadText(loadOf(protects, keyId))}; written in all ${written}`,
    ];
  });
  const limit = state?.keyLimitPages;
  output.result(
    [
      `keyring "${displayPath(path)}", id ${file.id}, generation ${file.generation}`,
      "recipients:",
      ...recipientLines(file.recipients),
      "keys:",
      ...keys,
      ...(limit === undefined ? [] : [`limit: ${limit} pages written under one key`]),
      opened === undefined
        ? "not verified: no key was given"
        : `verified: opened by recipient ${opened.keyring.openedBy}`,
    ].join("\n"),
  );
}

function recipientLines(recipients: readonly Recipient[]): string[] {
  return recipients.map((recipient) => {
    const shown = Object.entries(shownParameters(recipient));
    const parameters = shown.map(([name, value]) => `  ${name}=${value}`).join("");
    const label = displayPath(Buffer.from(recipient.label, "utf8").toString("latin1"));
    return `  ${String(recipient.number).padEnd(4)} ${recipient.typeName.padEnd(9)}${parameters} ${label}`.trimEnd();
  });
}

function publicPart(file: KeyringFile, path: BytePath): Readonly<Record<string, unknown>> {
  return {
    id: file.id,
    path: displayPath(path),
    generation: file.generation,
    recipients: file.recipients.map(publicRecipient),
    keys: file.keys.map(({ keyId, state, created, check }) => ({
      id: keyId,
      state,
      created,
      check: check.toString("hex"),
    })),
  };
}

function publicRecipient(recipient: Recipient): Readonly<Record<string, unknown>> {
  const { number, typeName, label } = recipient;
  return { number, type: typeName, ...shownParameters(recipient), label };
}

function shownParameters({ typeName, parameters }: Recipient): Readonly<Record<string, string>> {
  const names = recipientTypes.get(typeName)?.shownParameters ?? [];
  return Object.fromEntries(names.map((name) => [name, parameters.get(name) ?? ""]));
}
