/**
 * Carries out `tde ls`: opens what it takes, and prints line by line what the engine lists. docs/LOOKING.md describes
 * the output.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import type { NamePart } from "../catalog/name-pattern.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { Listing, type ListRequest } from "../engine/list-directory.ts";
import type { SortKey } from "../engine/listed-relations.ts";
import { openByManifest, tellOfCopy } from "../engine/open-by-manifest.ts";
import { readListingSources } from "../engine/listing-sources.ts";
import { type TdeError, UsageError } from "../errors.ts";
import { NodeFileSystem } from "../storage/node-file-system.ts";
import { rememberedBy } from "./engine-context.ts";
import { ExitCode } from "./exit-codes.ts";
import { JsonRows, relationToJson, sumToJson } from "./ls-json.ts";
import { FolderTable, RelationTable } from "./ls-text.ts";
import { openKeyringIfNamed } from "./open-keyring.ts";
import {
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputFlags,
  type ScopeFlags,
  scopeFrom,
  type SecretFlags,
} from "./options.ts";
import { createOutput, type Output } from "./output.ts";
import { LineWriter } from "./standard-output.ts";

export interface LsFlags
  extends DataDirectoryFlags, ScopeFlags, KeyringFlags, SecretFlags, OutputFlags {
  readonly by: "relation" | "schema" | "database" | "tablespace";
  readonly sort: SortKey;
  readonly schema?: readonly NamePart[] | undefined;
  readonly kind?: readonly string[] | undefined;
  readonly system?: boolean | undefined;
}

export async function ls(
  [first, second]: readonly [BytePath | undefined, BytePath | undefined],
  flags: LsFlags,
): Promise<void> {
  const output = createOutput(flags);
  // One positional is the relation where -D names the directory.
  const [path, relation] =
    flags.pgdata !== undefined && second === undefined ? [undefined, first] : [first, second];
  const root = dataDirectoryFrom(flags, path);
  const request = requestFrom(flags, relation);
  const fs = new NodeFileSystem();
  const directory = openByManifest(fs, root, undefined);
  const { datadir } = directory;
  const opened = await openKeyringIfNamed(flags, "tde ls", output, fs);
  const keys = opened && {
    keys: opened.dataKeys,
    memory: rememberedBy(opened.state, opened.statePath),
  };
  const context = { fs, notice: (message: string): void => output.note(message) };
  tellOfCopy(context, directory);
  const sources = readListingSources(context, datadir, keys);
  const listing = new Listing(context, datadir, sources);
  if (listing.evidence === "unproved-manifest" || listing.evidence === "sidecars")
    output.note(WORTH[listing.evidence]);
  print(listing, datadir, request, flags);
  for (const error of listing.unreadable) await sayWhyNot(error, output);
  const [failure] = listing.unreadable.filter(
    // Without a keyring paths are what was asked for.
    ({ code }) => opened !== undefined || code !== "key",
  );
  if (failure !== undefined) process.exitCode = ExitCode[failure.code];
}

const WORTH = {
  "unproved-manifest":
    "keys and their pages are what the manifest says, unproved without a keyring",
  sidecars:
    "keys and their pages are what the sidecars say, unproved: there is no manifest to go by",
} as const;

/** @throws {UsageError} for options that do not fit together. */
function requestFrom(flags: LsFlags, relation: BytePath | undefined): ListRequest {
  const { by, schema = [], kind = [], system = false, sort } = flags;
  const named = scopeFrom(flags);
  const scope =
    relation === undefined ? named : { ...named, relations: [...named.relations, relation] };
  const narrows = [scope.relations, scope.exclude, schema, kind].some((named) => named.length > 0);
  if ((by === "database" || by === "tablespace") && (narrows || system)) {
    throw new UsageError(
      `--by ${by} adds up all that lies there, and takes no choice of relations`,
      {
        hint: "--by schema and --by relation do.",
      },
    );
  }
  return { scope, schemas: schema, kinds: kind, system, sort };
}

async function sayWhyNot(error: TdeError, output: Output): Promise<void> {
  await output.warn(`names cannot be read: ${error.message}`);
  if (error.hint !== undefined) output.note(`tde: hint: ${error.hint}`);
}

function print(listing: Listing, datadir: Datadir, request: ListRequest, flags: LsFlags): void {
  const { by } = flags;
  const writer = new LineWriter();
  const json = flags.format === "json";
  const print = <Row>(rows: Iterable<Row>, lineOf: (row: Row) => string): void => {
    for (const row of rows) if (!writer.line(lineOf(row))) return;
  };
  if (by === "relation") {
    const rows = listing.relations(request);
    if (json) {
      const document = new JsonRows(writer, "relations", headOf(listing, datadir));
      document.rows(rows, (row) => relationToJson(row, listing));
      document.end();
    } else {
      const table = new RelationTable(listing);
      writer.line(table.header());
      print(rows, (row) => table.line(row));
    }
  } else {
    const rows =
      by === "schema" ? listing.schemas(request) : listing.folders(by, request.scope, request.sort);
    if (json) {
      const document = new JsonRows(writer, `${by}s`, headOf(listing, datadir));
      document.rows(rows, (row) => sumToJson(row, by, listing, datadir));
      document.end();
    } else {
      const table = new FolderTable(rows, by, listing, datadir);
      writer.line(table.header());
      print(rows, (row) => table.line(row));
    }
  }
  writer.flush();
}

function headOf(listing: Listing, datadir: Datadir): Readonly<Record<string, unknown>> {
  return {
    directory: displayPath(datadir.root),
    named: listing.catalog !== undefined,
    mayBeStale: listing.catalog?.mayBeStale ?? false,
    keysFrom: listing.evidence,
  };
}
