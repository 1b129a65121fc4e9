/**
 * Carries out `tde rotate` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { rotateDatadir, type RotateReport } from "../engine/rotate-datadir.ts";
import type { RotationRequest } from "../engine/rotation-selection.ts";
import { selectsEverything } from "../engine/scope-request.ts";
import { UsageError } from "../errors.ts";
import { requireNewestKeyring } from "../keyring/state.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { type KeyLimitFlags, underKeyLimit, warnPastKeyLimit } from "./key-limit.ts";
import { assertKeysApart } from "./key-places.ts";
import { loadsToJson, loadText } from "./key-load-text.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import {
  type AcceptMovedFlags,
  assertMovesMatter,
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputFlags,
  type ScopeFlags,
  scopeFrom,
  type SecretFlags,
  type WorkFlags,
  type StateConsentFlags,
} from "./options.ts";
import { createOutput, type Output } from "./output.ts";
import { formatBytes } from "./progress.ts";

export interface RotateFlags
  extends
    AcceptMovedFlags,
    DataDirectoryFlags,
    ScopeFlags,
    KeyringFlags,
    SecretFlags,
    StateConsentFlags,
    OutputFlags,
    WorkFlags,
    KeyLimitFlags {
  readonly all?: boolean | undefined;
  readonly fromKey?: number | undefined;
  readonly wal?: BytePath | undefined;
  readonly acceptOlder?: boolean | undefined;
}

export async function rotate(positional: BytePath | undefined, flags: RotateFlags): Promise<void> {
  const output = createOutput(flags);
  assertMovesMatter(flags, flags.wal === undefined ? undefined : "--wal");
  if (flags.wal !== undefined) return await rotateWal(flags.wal, positional, flags, output);
  const root = dataDirectoryFrom(flags, positional);
  const request = requestFrom(flags);
  const command = "tde rotate";
  const engine = await engineContext(command, flags, output);
  assertKeysApart(engine.fs, flags, root);
  const found = await openKeyringFromOptions(flags, command, output, engine.fs);
  requireNewestKeyring(found.keyring.file.generation, found.state, found.keyring.name);
  const opened = await underKeyLimit(found, flags, command, output);
  const options = {
    root,
    request,
    acceptMoved: flags.acceptMoved,
    acceptOlder: flags.acceptOlder === true,
    dryRun: flags.dryRun === true,
  };
  const report = await namingRelations(engine, opened.dataKeys, root, () =>
    rotateDatadir(engine, keyContext(opened, engine, output, flags), options),
  );
  if (flags.format === "json") output.json(toJson(report));
  else output.result(toText(report));
  await warnPastKeyLimit(opened, output);
}

async function rotateWal(
  archive: BytePath,
  datadir: BytePath | undefined,
  flags: RotateFlags,
  output: Output,
): Promise<void> {
  // PGDATA in the environment names none: an archive may be rotated beside a server.
  if (datadir !== undefined || flags.pgdata !== undefined || !selectsEverything(scopeFrom(flags))) {
    throw new UsageError("--wal names an archive, and goes with no data directory or relation", {
      hint: "Rotate each of them by a command of its own.",
    });
  }
  const { rotateWalArchive } = await import("./wal-rotate-action.ts");
  await rotateWalArchive(archive, flags, output);
}

/** @throws {UsageError} when not exactly one thing is asked for. */
function requestFrom(flags: RotateFlags): RotationRequest {
  const named = scopeFrom(flags);
  const requests: RotationRequest[] = [
    ...(flags.all === true ? [{ kind: "all" } as const] : []),
    ...(flags.fromKey === undefined ? [] : [{ kind: "key", keyId: flags.fromKey } as const]),
    ...(selectsEverything(named) ? [] : [{ kind: "relations", named } as const]),
  ];
  const [request] = requests;
  if (request !== undefined && requests.length === 1) return request;
  const what = requests.length === 0 ? "nothing is named" : "more than one thing is named";
  throw new UsageError(`${what} to rotate`, {
    hint: "Give --all, or --from-key, or relations by --relation, --database, --tablespace and --exclude.",
  });
}

function toText(report: RotateReport): string {
  const { outcome, files, bytes, keyId, load } = report;
  const what = `${files} files, ${formatBytes(bytes)}`;
  const first = {
    rotated: `rotated: ${what}, and the manifest, are under key ${keyId} now`,
    "nothing-to-do": "nothing to do: no file of that kind is there",
    "dry-run": `would rotate: ${what}, and the manifest, to key ${keyId}`,
  }[outcome];
  const now = loadsToJson(load).map((one) => `key ${one.keyId}: ${loadText(one)}`);
  return [first, ...now, `epoch ${report.epoch}, root ${report.root}`].join("\n");
}

function toJson(report: RotateReport): unknown {
  return { ...report, epoch: Number(report.epoch), load: loadsToJson(report.load) };
}
