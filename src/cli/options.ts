/**
 * The options that commands share, and how their values are read. Paths stay byte strings from here on; an
 * environment variable stands in for an option that was not given.
 */
import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { BytePath } from "../bytes/byte-path.ts";
import type { OutputOptions } from "../engine/output-directory.ts";
import type { ScopeSelection } from "../engine/scope-request.ts";
import { UsageError } from "../errors.ts";
import { pathFromEnvironment } from "./keyring-flags.ts";
import { pathArgument } from "./raw-arguments.ts";

export type { KeyringFlags, SecretFlags } from "./keyring-flags.ts";

/** -q, -v, --format. */
export interface OutputFlags {
  readonly quiet?: boolean | undefined;
  readonly verbose?: boolean | undefined;
  readonly format: "text" | "json";
}

/** -j, -P, -n. */
export interface WorkFlags {
  readonly jobs: number;
  readonly progress?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface DataDirectoryFlags {
  readonly pgdata?: BytePath | undefined;
}

export function addOutputOptions(command: Command): Command {
  return command
    .option("-q, --quiet", "print results, warnings and errors only")
    .option("-v, --verbose", "say more about what is being done")
    .addOption(
      new Option("--format <format>", "how to print results")
        .choices(["text", "json"])
        .default("text"),
    );
}

/** @param options - a command that writes nothing has no dry run. */
export function addWorkOptions(command: Command, options: { readonly writes: boolean }): Command {
  command
    .option("-j, --jobs <number>", "worker threads", parseJobs, availableParallelism())
    .option("-P, --progress", "show progress, if standard error is a terminal");
  if (!options.writes) return command;
  return command.option("-n, --dry-run", "say what would be done and write nothing");
}

/** -D and the positional argument; `dataDirectoryFrom` picks one. */
export function addDataDirectoryOptions(command: Command): Command {
  return command
    .argument("[datadir]", "the data directory", pathArgument)
    .option("-D, --pgdata <directory>", "the data directory (or PGDATA)", pathArgument);
}

/** @throws {UsageError} when none, or two different ones, are named. */
export function dataDirectoryFrom(
  flags: DataDirectoryFlags,
  positional: BytePath | undefined,
): BytePath {
  if (flags.pgdata !== undefined && positional !== undefined && flags.pgdata !== positional) {
    throw new UsageError("two data directories are named, one by -D and one without", {
      hint: "Name one of them.",
    });
  }
  const path = flags.pgdata ?? positional ?? pathFromEnvironment("PGDATA");
  if (path !== undefined) return path;
  throw new UsageError("no data directory is named", {
    hint: "Give -D or set PGDATA.",
  });
}

export function addKeyringOptions(command: Command): Command {
  return command
    .option("--keyring <file>", "the keyring (or TDE_KEYRING)", pathArgument)
    .option(
      "--state <file>",
      "what is remembered between runs (or TDE_STATE; default: <keyring>.state)",
      pathArgument,
    );
}

export function addSecretOptions(command: Command): Command {
  return addUnattendedSecretOptions(
    command.option("--passphrase", "ask for a passphrase at the terminal"),
  );
}

/** The secrets that need no terminal. */
export function addUnattendedSecretOptions(command: Command): Command {
  return command
    .option("--key-file <file>", "open with this key file (or TDE_KEY_FILE)", collectPaths)
    .option(
      "--passphrase-file <file>",
      "read the passphrase from this file (or TDE_PASSPHRASE_FILE)",
      collectPaths,
    )
    .option("--passphrase-fd <number>", "read it from this file descriptor", collectDescriptors)
    .option(
      "--unwrap-command <command>",
      "open with this command (or TDE_UNWRAP_COMMAND): wrapped key in, key out",
    )
    .option(
      "--wrap-command <command>",
      "its reverse, where a key has to be wrapped (or TDE_WRAP_COMMAND)",
    );
}

/** A whole number of at least one: key ids, recipient numbers. */
export function parseCount(text: string): number {
  const number = Number(text);
  if (/^[0-9]{1,10}$/.test(text) && number >= 1) return number;
  throw new InvalidArgumentError("It must be a whole number from 1 on.");
}

export function collectPaths(text: string, before: readonly BytePath[] = []): BytePath[] {
  return [...before, pathArgument(text)];
}

export function collectDescriptors(text: string, before: readonly number[] = []): number[] {
  if (!/^[0-9]{1,6}$/.test(text)) {
    throw new InvalidArgumentError("It must be the number of an open file descriptor.");
  }
  return [...before, Number(text)];
}

function parseJobs(text: string): number {
  const jobs = parseCount(text);
  if (jobs > 256) throw new InvalidArgumentError("It must be at most 256.");
  return jobs;
}

/** --accept-older and --accept-changed. */
export interface AcceptFlags {
  readonly acceptOlder?: boolean | undefined;
  readonly acceptChanged?: readonly BytePath[] | undefined;
}

export function addAcceptOptions(command: Command): Command {
  return command
    .option("--accept-older", "the directory may be older than one seen before: a restored backup")
    .option(
      "--accept-changed <path>",
      "this configuration file was edited, added or removed on purpose (may be repeated)",
      collectPaths,
    );
}

/** --accept-moved. */
export interface AcceptMovedFlags {
  readonly acceptMoved?: boolean | undefined;
}

export function addAcceptMoved(command: Command): Command {
  return command.option(
    "--accept-moved",
    "in place: pg_wal or tablespaces may lead elsewhere than when the directory was encrypted",
  );
}

/** @throws {UsageError} for --accept-moved beside another option, with which nothing is written behind those links. */
export function assertMovesMatter(flags: AcceptMovedFlags, other: string | undefined): void {
  if (flags.acceptMoved !== true || other === undefined) return;
  throw new UsageError(`--accept-moved is about writing in place, and ${other} is given`, {
    hint: "Leave it out: behind the links of a data directory nothing is written.",
  });
}

/** --without-state. */
export interface StateConsentFlags {
  readonly withoutState?: boolean | undefined;
}

export function addStateConsent(command: Command): Command {
  return command.option(
    "--without-state",
    "go on although the state file is missing or damaged: an old journal or copy cannot be told",
  );
}

/** --tablespace, --database, --relation, --exclude. */
export interface ScopeFlags {
  readonly tablespace?: readonly BytePath[] | undefined;
  readonly database?: readonly BytePath[] | undefined;
  readonly relation?: readonly BytePath[] | undefined;
  readonly exclude?: readonly BytePath[] | undefined;
  readonly withPartitions?: boolean | undefined;
}

export function addScopeOptions(command: Command): Command {
  const options = [
    ["--tablespace <name>", "only relations of this tablespace: its name, OID or location"],
    ["--database <name>", "only relations of this database: its name or OID"],
    [
      "--relation <name>",
      "only this relation with its indexes and TOAST table: [database.][schema.]name; or one file's path: base/16384/16397",
    ],
    [
      "--exclude <part>",
      "but not this: a relation's name or path, tablespace:NAME, database:NAME, relation:NAME",
    ],
  ] as const;
  for (const [flags, description] of options) {
    command.option(flags, description, collectPaths);
  }
  command.option("--with-partitions", "a partitioned table means its partitions, too");
  return command.addHelpText(
    "after",
    `
What is named adds up; the options may be repeated. Names are as in psql's \\d: * is any text, ?
any character, what is not in double quotes is folded to lower case. They are read from the catalog
in the directory, so an encrypted one takes its keyring; numbers and paths do without.`,
  );
}

export function scopeFrom(flags: ScopeFlags): ScopeSelection {
  return {
    tablespaces: flags.tablespace ?? [],
    databases: flags.database ?? [],
    relations: flags.relation ?? [],
    exclude: flags.exclude ?? [],
    withPartitions: flags.withPartitions === true,
  };
}

/** --output and --tablespace-mapping. */
export interface OutputDirectoryFlags {
  readonly output?: BytePath | undefined;
  readonly tablespaceMapping?: ReadonlyMap<BytePath, BytePath> | undefined;
}

export function addOutputDirectoryOptions(command: Command): Command {
  command.option(
    "--output <directory>",
    "write to this new directory; the source stays as it is",
    pathArgument,
  );
  return addTablespaceMapping(command, "with --output: where a tablespace goes (may be repeated)");
}

/** @throws {UsageError} for a mapping without an output. */
export function outputFrom(flags: OutputDirectoryFlags): OutputOptions | undefined {
  const { output, tablespaceMapping = new Map<BytePath, BytePath>() } = flags;
  if (output !== undefined) return { output, tablespaceMapping };
  if (tablespaceMapping.size === 0) return undefined;
  throw new UsageError("--tablespace-mapping is given without --output", {
    hint: "In place every tablespace stays where it is.",
  });
}

/** --tablespace-mapping alone. @param description - what it is for. */
export function addTablespaceMapping(command: Command, description: string): Command {
  return command.option("--tablespace-mapping <old=new>", description, collectMapping);
}

/** As pg_basebackup: "\\=" stands for an equals sign in a path. */
function collectMapping(
  text: string,
  before: ReadonlyMap<BytePath, BytePath> = new Map(),
): ReadonlyMap<BytePath, BytePath> {
  const parts = text.split(/(?<!\\)=/).map((part) => part.replaceAll("\\=", "="));
  const [from, to] = parts;
  if (parts.length !== 2 || !from?.startsWith("/") || !to?.startsWith("/")) {
    throw new InvalidArgumentError("It must be OLDDIR=NEWDIR, both absolute.");
  }
  return new Map([...before, [pathArgument(from), pathArgument(to)]]);
}
