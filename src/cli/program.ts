/**
 * The commands that commander takes apart: builds the program, runs one command, and turns whatever goes wrong into a
 * message and an exit code.
 */
import { Command, CommanderError } from "commander";
import { UsageError } from "../errors.ts";
import { decryptDatadirCommand } from "./commands/decrypt-datadir.ts";
import { demoCommand } from "./commands/demo.ts";
import { encryptDatadirCommand } from "./commands/encrypt-datadir.ts";
import { infoCommand } from "./commands/info.ts";
import { inspectCommand } from "./commands/inspect.ts";
import { keyringCommand } from "./commands/keyring.ts";
import { lsCommand } from "./commands/ls.ts";
import { recoverCommand } from "./commands/recover.ts";
import { rotateCommand } from "./commands/rotate.ts";
import { syncCommand } from "./commands/sync.ts";
import { verifyCommand } from "./commands/verify.ts";
import { walCommand } from "./commands/wal.ts";
import { waldumpCommand } from "./commands/waldump.ts";
import { ExitCode } from "./exit-codes.ts";
import { printError } from "./output.ts";
import { packageVersion } from "./package-version.ts";
import { reportError } from "./report-error.ts";

/** One line for each command; each of these files only declares options and loads its work when it runs. */
const commands: readonly (() => Command)[] = [
  encryptDatadirCommand,
  decryptDatadirCommand,
  syncCommand,
  verifyCommand,
  rotateCommand,
  recoverCommand,
  infoCommand,
  lsCommand,
  inspectCommand,
  keyringCommand,
  walCommand,
  waldumpCommand,
  demoCommand,
];

/** Sets process.exitCode and returns when the command has ended. */
export async function runProgram(args: readonly string[]): Promise<void> {
  try {
    const version = await versionText(args);
    await buildProgram(version).parseAsync(args, { from: "user" });
  } catch (error) {
    process.exitCode =
      error instanceof CommanderError ? await reportUsage(error) : await reportError(error);
  }
}

/** What --version prints. With -v beside it also what the program's speed depends on, which takes a while to find out. */
async function versionText(args: readonly string[]): Promise<string> {
  const has = (...names: string[]): boolean => args.some((arg) => names.includes(arg));
  const [first = ""] = args.filter((arg) => arg !== "-v" && arg !== "--verbose");
  const isAsked = ["-V", "--version"].includes(first) && has("-v", "--verbose");
  if (!isAsked) return packageVersion();
  const { describeMessageCipher } = await import("../crypto/primitives.ts");
  return `${packageVersion()}\nAES-256-GCM: ${describeMessageCipher()}\nNode.js ${process.version}`;
}

/** The whole program, for tests that compare documents with its options. */
export function buildProgram(version: string = packageVersion()): Command {
  const program = new Command("tde")
    .description("Offline encryption toolkit for PostgreSQL data directories, backups and WAL.")
    .version(version, "-V, --version", "print the version; with -v also by what it encrypts")
    .addHelpText(
      "after",
      `
Exit codes: 0 done, 2 wrong usage, 3 data is not authentic, 4 keys, 5 refused because of the state,
6 unreadable format, 7 the operating system refused, 70 a bug in tde, 130 interrupted.`,
    );
  for (const command of commands) program.addCommand(command());
  configure(program);
  return program;
}

/** What commander does not hand down to commands that were built by themselves. */
function configure(command: Command): void {
  command
    .helpOption("-?, --help", "print this help")
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  if (command.commands.length > 0)
    command.helpCommand("help [command]", "print help for a command");
  for (const child of command.commands) configure(child);
}

/** Commander ends by an exception in any case: after printing help or the version, too. */
async function reportUsage(error: CommanderError): Promise<number> {
  if (error.exitCode === 0) return ExitCode.ok;
  // A command that has only subcommands was called alone: its help has been printed to standard error.
  if (error.code === "commander.help") return ExitCode.usage;
  const message = error.message.replace(/^error: /, "").replace(/\.$/, "");
  await printError(new UsageError(message, { hint: 'Try "tde --help" for more information.' }));
  return ExitCode.usage;
}
