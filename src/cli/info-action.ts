/**
 * Carries out `tde info` and prints what a directory is. docs/LOOKING.md describes the output.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import type { Tablespace } from "../datadir/tablespaces.ts";
import { RUN_NAMES } from "../engine/run/standing.ts";
import {
  type DirectoryInfo,
  directoryInfo,
  type DirectoryOrigin,
  type DirectoryState,
} from "../engine/directory-info.ts";
import type { FileCount } from "../engine/manifest-facts.ts";
import { serializeScope } from "../format/scope.ts";
import type { KeyLoads } from "../keyring/key-load.ts";
import { formatTime } from "../keyring/keyring-file.ts";
import { formatLsn } from "../postgres/lsn.ts";
import { factsOf } from "../postgres/version.ts";
import type { JournalHeader } from "../storage/journal.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { loadsToJson, loadText } from "./key-load-text.ts";
import { type DataDirectoryFlags, dataDirectoryFrom, type OutputFlags } from "./options.ts";
import { createOutput } from "./output.ts";
import { formatBytes } from "./progress.ts";

export async function info(
  positional: BytePath | undefined,
  flags: DataDirectoryFlags & OutputFlags,
): Promise<void> {
  const output = createOutput(flags);
  const root = dataDirectoryFrom(flags, positional);
  const found = directoryInfo(new NodeFileSystem(), root);
  if (flags.format === "json") output.json(toJson(root, found));
  else output.result(toText(root, found));
}

const STATES: Readonly<Record<DirectoryState, string>> = {
  plain: "plain",
  encrypted: "encrypted",
  unfinished: "unfinished",
  inconsistent: "inconsistent: partly encrypted, or parts of it are missing;",
};

const ORIGINS: Readonly<Record<DirectoryOrigin, string>> = {
  cluster: "data directory",
  backup: "base backup",
  copy: "copy of a data directory",
};

function toText(root: BytePath, found: DirectoryInfo): string {
  const { state, origin, datadir, notes } = found;
  const what = origin === undefined ? "new directory" : ORIGINS[origin];
  const lines = [`"${displayPath(root)}": ${STATES[state]} ${what}`];
  if (datadir !== undefined) lines.push(...clusterLines(datadir));
  lines.push(...notes.map((note) => `note: ${note}`));
  lines.push(...tablespaceLines(found), ...runLines(found), ...manifestLines(found));
  if (found.stored !== undefined) {
    const { keyringIds, load, sealedFiles } = found.stored;
    lines.push(
      `${sealedFiles} sealed files, as they say themselves, which nothing proves:`,
      `needs keyring ${keyringIds.join(" and ") || "of no known id"}`,
      ...keyLines(load),
    );
  }
  if (found.plain !== undefined) {
    const { relations, others } = found.plain;
    lines.push(`not encrypted: ${counted(relations, "relation")}; ${counted(others, "other")}`);
  }
  return lines.join("\n");
}

function clusterLines({ major, control }: Datadir): string[] {
  const { checkpoint, blockSizeBytes, walSegmentSizeBytes, dataChecksumVersion } = control;
  const location = formatLsn(checkpoint.location, factsOf(major).lsnLowDigits);
  return [
    `cluster ${control.systemIdentifier}, PostgreSQL ${major}`,
    `pg_control: ${control.state}, ${timeOf(control.modifyTime)}; checkpoint ${location}, timeline ${checkpoint.timeline}`,
    `blocks of ${blockSizeBytes} bytes, data checksums ${dataChecksumVersion === 0 ? "off" : "on"}, WAL segments of ${formatBytes(walSegmentSizeBytes)}`,
  ];
}

function tablespaceLines({ datadir, manifest, plain }: DirectoryInfo): string[] {
  const counts = (manifest ?? plain)?.tablespaces;
  return (datadir?.tablespaces ?? []).map((tablespace) => {
    const count = counts === undefined ? undefined : (counts.get(tablespace.oid) ?? NO_FILES);
    const files = count === undefined ? "" : `, ${counted(count, "relation")}`;
    return `tablespace ${tablespace.oid}: ${placeOf(tablespace)}${files}`;
  });
}

function placeOf({ linkTarget }: Tablespace): string {
  return linkTarget === undefined ? "in the data directory" : displayPath(linkTarget);
}

function runLines({ run }: DirectoryInfo): string[] {
  if (run === undefined) return [];
  return [
    `unfinished run of tde ${RUN_NAMES[run.operation]}, epoch ${run.epoch}, under key ${run.keyId} of keyring ${run.keyringId}: whether it is still open, "tde verify" says with the keyring`,
  ];
}

function manifestLines({ manifest }: DirectoryInfo): string[] {
  if (manifest === undefined) return [];
  const { header, writtenAt, root, relations, segments, contents, load, readable } = manifest;
  const wal =
    segments.files === 0 ? "" : `${segments.files} WAL segments, ${formatBytes(segments.bytes)}; `;
  return [
    `As the manifest says, which "tde verify" proves and tde info does not:`,
    `directory ${header.directoryId}, epoch ${header.epoch} of ${formatTime(writtenAt)}`,
    `root ${root}`,
    `scope: ${serializeScope(header.scope)}`,
    `encrypted: ${counted(relations, "relation")}; ${wal}${counted(contents, "other")}`,
    `needs keyring ${header.keyringId}; the manifest is under key ${header.keyId}`,
    ...keyLines(load),
    ...readable.map(
      ({ why, exposed, example, files, bytes }) =>
        `${exposed ? "NOT encrypted" : "readable"}: ${why}: ${example}${files > 1 ? ` and ${files - 1} more` : ""} (${formatBytes(bytes)})`,
    ),
  ];
}

function keyLines(load: KeyLoads): string[] {
  return loadsToJson(load).map((one) => `key ${one.keyId}: ${loadText(one)}`);
}

function counted({ files, bytes }: FileCount, what: "relation" | "other"): string {
  return `${files} ${what} files, ${formatBytes(bytes)}`;
}

const NO_FILES: FileCount = { files: 0, bytes: 0 };

/** @param seconds - since 1970. */
function timeOf(seconds: bigint): string {
  return formatTime(new Date(Number(seconds) * 1000));
}

function toJson(root: BytePath, found: DirectoryInfo): unknown {
  const { state, origin, notes, datadir, run, manifest, stored, plain } = found;
  const counts = (manifest ?? plain)?.tablespaces;
  return {
    directory: displayPath(root),
    state,
    origin,
    notes,
    cluster: datadir === undefined ? undefined : clusterToJson(datadir),
    tablespaces: datadir?.tablespaces.map((tablespace) => ({
      oid: tablespace.oid,
      location:
        tablespace.linkTarget === undefined ? undefined : displayPath(tablespace.linkTarget),
      ...(counts === undefined ? {} : (counts.get(tablespace.oid) ?? NO_FILES)),
    })),
    run: run === undefined ? undefined : runToJson(run),
    manifest: manifest === undefined ? undefined : manifestToJson(manifest),
    stored: stored === undefined ? undefined : { ...stored, load: loadsToJson(stored.load) },
    plain: plain === undefined ? undefined : { relations: plain.relations, others: plain.others },
  };
}

function clusterToJson({ major, control }: Datadir): unknown {
  return {
    systemIdentifier: String(control.systemIdentifier),
    major,
    catalogVersion: control.catalogVersion,
    state: control.state,
    modifiedAt: timeOf(control.modifyTime),
    checkpoint: formatLsn(control.checkpoint.location, factsOf(major).lsnLowDigits),
    timeline: control.checkpoint.timeline,
    blockSizeBytes: control.blockSizeBytes,
    blocksPerSegment: control.blocksPerSegment,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
    dataChecksums: control.dataChecksumVersion !== 0,
  };
}

function runToJson({ operation, directoryId, keyringId, keyId, epoch }: JournalHeader): unknown {
  return { command: RUN_NAMES[operation], directoryId, keyringId, keyId, epoch: Number(epoch) };
}

function manifestToJson(manifest: NonNullable<DirectoryInfo["manifest"]>): unknown {
  const { header, writtenAt, root, relations, segments, contents, load, readable } = manifest;
  const { directoryId, keyringId, keyId, epoch, scope, wal } = header;
  return {
    authenticated: false,
    directoryId,
    keyringId,
    keyId,
    epoch: Number(epoch),
    writtenAt: formatTime(writtenAt),
    root,
    scope: serializeScope(scope),
    wal,
    relations,
    walSegments: segments,
    others: contents,
    load: loadsToJson(load),
    readable,
  };
}
