/**
 * Carries out `tde wal encrypt` and `tde wal decrypt`, and prints what came of it.
 */
import { type BytePath, directoryOf, displayPath, nameOf } from "../bytes/byte-path.ts";
import { type DecryptWalReport, decryptWal } from "../engine/wal-readable/decrypt-wal.ts";
import { type EncryptWalReport, encryptWal } from "../engine/wal-readable/encrypt-wal.ts";
import { UsageError } from "../errors.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { engineContext } from "./engine-context.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import type { KeyringFlags, OutputFlags, SecretFlags, WorkFlags } from "./options.ts";
import { createOutput, type Output } from "./output.ts";
import { formatBytes } from "./progress.ts";

export type WalReadableFlags = KeyringFlags & SecretFlags & OutputFlags & WorkFlags;

export async function encrypt(paths: readonly BytePath[], flags: WalReadableFlags): Promise<void> {
  const output = createOutput(flags);
  const command = "tde wal encrypt";
  const engine = await engineContext(command, flags, output);
  const { dataKeys } = await openKeyringFromOptions(flags, command, output, engine.fs);
  const report = await encryptWal(engine, dataKeys, requestFrom(engine.fs, paths));
  if (flags.format === "json") return output.json(report);
  output.result(encryptedText(report));
  noteSealed(output, report);
  if (report.sealedInPgWal.length > 0) {
    const names = report.sealedInPgWal.map(displayPath).join(", ");
    output.note(`tde: left as they are, sealed whole by "tde encrypt-datadir": ${names}`);
  }
  for (const name of report.gaps) {
    output.note(
      `tde: the segment before ${displayPath(name)} is not there: a record that goes on in ${displayPath(name)} is encrypted whole`,
    );
  }
}

export async function decrypt(paths: readonly BytePath[], flags: WalReadableFlags): Promise<void> {
  const output = createOutput(flags);
  const command = "tde wal decrypt";
  const engine = await engineContext(command, flags, output);
  const { dataKeys } = await openKeyringFromOptions(flags, command, output, engine.fs);
  const report = await decryptWal(engine, dataKeys, requestFrom(engine.fs, paths));
  if (flags.format === "json") return output.json(report);
  const plain = report.plain === 0 ? "" : `; ${report.plain} were not encrypted`;
  output.result(`decrypted ${segments(report.decrypted, report.bytes)}${plain}`);
  noteSealed(output, report);
}

function encryptedText({ encrypted, already, bytes }: EncryptWalReport): string {
  const before = already === 0 ? "" : `; ${already} were encrypted already`;
  return `encrypted ${segments(encrypted, bytes)}${before}`;
}

function segments(count: number, bytes: number): string {
  return `${count} ${count === 1 ? "segment" : "segments"} (${formatBytes(bytes)})`;
}

function noteSealed(output: Output, { sealed }: EncryptWalReport | DecryptWalReport): void {
  if (sealed.length === 0) return;
  output.note(
    `tde: left as they are, sealed whole by "tde wal archive": ${sealed.map(displayPath).join(", ")}`,
  );
}

/** One directory, or files of one. */
function requestFrom(
  fs: FileSystem,
  paths: readonly BytePath[],
): { folder: BytePath; names?: ReadonlySet<BytePath> } {
  const [first] = paths;
  if (first === undefined) throw new UsageError("no directory and no segment is named");
  if (paths.length === 1 && fs.statFollowing(first)?.kind === "directory") return { folder: first };
  const folder = directoryOf(first);
  const other = paths.find((path) => directoryOf(path) !== folder);
  if (other !== undefined) {
    throw new UsageError(
      `"${displayPath(first)}" and "${displayPath(other)}" are not segments of one directory`,
      { hint: "Name one directory, or some of its segments." },
    );
  }
  const missing = paths.find((path) => fs.statFollowing(path)?.kind !== "file");
  if (missing !== undefined) throw new UsageError(`"${displayPath(missing)}" is not a file`);
  return { folder: folder, names: new Set(paths.map(nameOf)) };
}
