/**
 * A small reader of PostgreSQL's configuration files, for two questions: which settings may carry a password
 * (named by file and line, their values never), and whether postgresql.auto.conf is the guard that keeps a stock
 * server from an encrypted directory. It never refuses a line: what a server would not accept may hold a secret
 * all the same. PostgreSQL: src/backend/utils/misc/guc-file.l, src/backend/libpq/hba.c.
 */
import { parseSettingLine } from "./setting-line.ts";

/**
 * The setting that no server knows. A name without a dot is what makes every server from 13 on stop at once, and
 * its message repeats the name to whoever tries.
 */
export const GUARD_SETTING = "data_directory_is_encrypted_by_tde__run_tde_decrypt_datadir_first";

export interface Setting {
  /** In lower case. */
  readonly name: string;
  readonly value: string;
  /** From 1. */
  readonly line: number;
  /** The line begins with `#`: no server reads it, but everybody else can. */
  readonly commented: boolean;
}

export interface SecretSetting {
  readonly name: string;
  readonly line: number;
  readonly commented: boolean;
  /** password: there is one; command: a command line, which may hold one. */
  readonly reason: "password" | "command";
}

/** What stands in place of postgresql.auto.conf while the directory is encrypted. */
export function guardFileContent(): Buffer {
  return Buffer.from(
    `# This data directory is encrypted. The line below keeps PostgreSQL from starting on it,
# which would damage it. To get the directory back: tde decrypt-datadir -D <this directory>
# The original of this file is kept, sealed, in tde.postgresql.auto.conf.
${GUARD_SETTING} = on
`,
    "latin1",
  );
}

/** Whether the guard's line is in force; other lines may have joined it, as a restore tool appends them. */
export function isGuardFile(bytes: Uint8Array): boolean {
  return readSettings(bytes).some(({ name, commented }) => name === GUARD_SETTING && !commented);
}

/** Settings in force beside the guard's: what a restore tool added to an encrypted directory. */
export function settingsBesideGuard(bytes: Uint8Array): Setting[] {
  return readSettings(bytes).filter(({ name, commented }) => name !== GUARD_SETTING && !commented);
}

/**
 * The settings of a file in the syntax of postgresql.conf, `include` and its kin among them; lines that are
 * nothing of the kind are passed over. Bytes stand one in each character.
 */
export function readSettings(bytes: Uint8Array): Setting[] {
  const settings: Setting[] = [];
  for (const [index, text] of linesOf(bytes).entries()) {
    const found = parseSettingLine(text);
    if (found === undefined) continue;
    settings.push({ ...found, name: found.name.toLowerCase(), line: index + 1 });
  }
  return settings;
}

/** Settings of a file in the syntax of postgresql.conf that may carry a password, by line. */
export function secretSettings(bytes: Uint8Array): SecretSetting[] {
  const found = readSettings(bytes).flatMap(({ name, value, line, commented }) => {
    const reason = reasonOf(name, value);
    return reason === undefined ? [] : [{ name, line, commented, reason }];
  });
  const named = new Set(found.map(({ line }) => line));
  // Lines that are no setting: a remark, a broken quote.
  const settingLines = new Set(readSettings(bytes).map(({ line }) => line));
  for (const [index, text] of linesOf(bytes).entries()) {
    const line = index + 1;
    if (named.has(line) || settingLines.has(line) || !holdsPassword(text)) continue;
    found.push({
      name: "a line that is no setting",
      line,
      commented: /^\s*#/.test(text),
      reason: "password",
    });
  }
  return found.sort((a, b) => a.line - b.line);
}

/** The same for pg_hba.conf and pg_ident.conf: its options with passwords, in any line, comments too. */
export function secretHbaOptions(bytes: Uint8Array): SecretSetting[] {
  return linesOf(bytes).flatMap((text, index) =>
    [...text.matchAll(/\b(ldapbindpasswd|radiussecrets)\s*=\s*[^\s=]/gi)].map((match) => ({
      name: (match[1] ?? "").toLowerCase(),
      line: index + 1,
      commented: /^\s*#/.test(text),
      reason: "password" as const,
    })),
  );
}

const COMMANDS: ReadonlySet<string> = new Set([
  "archive_command",
  "restore_command",
  "archive_cleanup_command",
  "recovery_end_command",
  "ssl_passphrase_command",
]);

function reasonOf(name: string, value: string): SecretSetting["reason"] | undefined {
  if (value === "") return undefined;
  if (holdsPassword(value)) return "password";
  if (COMMANDS.has(name)) return "command";
  // Extensions' own settings: whoever calls one so means it.
  const secretName = /passw|passphrase|secret|token|credential|api_?key/.test(name);
  const harmless = /^(?:on|off|true|false|yes|no|\d\w*|md5|scram-sha-256)$/i.test(value);
  return secretName && !harmless ? "password" : undefined;
}

/** `password=x`, `sslpassword = x`, `oauth_client_secret=x`, or a URI with user and password. */
function holdsPassword(text: string): boolean {
  return (
    /(?:passw(?:or)?d|secret|pwd)\s*=\s*(?!'')[^\s=]/i.test(text) ||
    /:\/\/[^\s/:@]*:[^\s/@]+@/.test(text)
  );
}

function linesOf(bytes: Uint8Array): string[] {
  const lines = Buffer.from(bytes).toString("latin1").split("\n");
  return lines.map((line) => line.replace(/\r$/, ""));
}
