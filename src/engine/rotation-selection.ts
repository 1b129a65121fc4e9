/**
 * What a rotation is asked to seal anew, and how the journal keeps it: after a crash the same files are meant.
 */
import type { Datadir } from "../datadir/datadir.ts";
import { parseRelationPath } from "../datadir/relation-path.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import { parseScope, scopeFilter, serializeScope } from "../format/scope.ts";
import { JOURNAL_NAME } from "../storage/journal.ts";
import { catalogNames } from "./catalog-names.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import { relationsOfManifest, relationsOnDisk, selectScope } from "./select-scope.ts";
import type { ScopeSelection } from "./scope-request.ts";

/** As the command line asks. */
export type RotationRequest =
  /** Everything that is sealed. */
  | { readonly kind: "all" }
  /** Every file with a page or a MAC under this key. */
  | { readonly kind: "key"; readonly keyId: number }
  /** Relations alone. */
  | { readonly kind: "relations"; readonly named: ScopeSelection };

/** The same in numbers that mean one thing, as JSON in the journal's plan. */
export type RotationSelection =
  | { readonly kind: "all" }
  | { readonly kind: "key"; readonly keyId: number }
  /** A scope's text, as the manifest spells it. */
  | { readonly kind: "relations"; readonly scope: string };

/** @throws {UsageError} for a relation that is not there. */
export function selectionOf(
  engine: EngineContext,
  { keys }: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  request: RotationRequest,
): RotationSelection {
  if (request.kind !== "relations") return request;
  const { named } = request;
  const known = relationsOfManifest(relationsOnDisk(engine.fs, datadir), manifest);
  const scope = selectScope(known, named, {
    names: catalogNames(engine, datadir, {
      keys,
      manifest,
      withPartitions: named.withPartitions,
    }),
    limitBytes: SELECTION_LIMIT_BYTES,
  });
  return { kind: "relations", scope: serializeScope(scope) };
}

/** Half of what a record of the journal holds. */
const SELECTION_LIMIT_BYTES = 2 ** 23;

export function sameSelection(a: RotationSelection, b: RotationSelection): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Whether a file is to be sealed anew, by its line in the manifest of before. */
export type IsSelected = (entry: ManifestEntry) => boolean;

export function selector(
  selection: RotationSelection,
  datadir: Datadir,
  manifest: Manifest,
): IsSelected {
  switch (selection.kind) {
    case "all":
      return ({ keys }) => keys.length > 0;
    case "key": {
      const isUnderKey: IsSelected = ({ keys }) =>
        keys.some(({ keyId }) => keyId === selection.keyId);
      const hasWal = hasSome(manifest, (entry) => entry.class === "W" && isUnderKey(entry));
      // All segments or none: the last CRC of each counts what is stored in the next one.
      return (entry) => (entry.class === "W" ? hasWal : isUnderKey(entry));
    }
    case "relations": {
      const isNamed = isNamedIn(selection.scope, datadir);
      return (entry) => entry.keys.length > 0 && isNamed(entry);
    }
  }
}

function hasSome(manifest: Manifest, is: IsSelected): boolean {
  let found = false;
  // To the end: only there it shows that these are the lines which were checked.
  for (const entry of manifest.entries()) found ||= is(entry);
  return found;
}

/** Whether a line is of a relation in the scope, sealed or not. */
export function isNamedIn(scope: string, datadir: Datadir): IsSelected {
  const filter = scopeFilter(parseScope(scope, `"${JOURNAL_NAME}"`));
  return ({ path }) => {
    const file = parseRelationPath(path, datadir);
    return file !== undefined && filter(file);
  };
}
