/**
 * What a rotation is asked to seal anew, as the journal keeps it, too: after a crash the same files are meant.
 */
import type { Datadir } from "../datadir/datadir.ts";
import { parseRelationPath } from "../datadir/relation-path.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import { isInScope, type RelationScope } from "./relation-scope.ts";

export type RotationSelection =
  /** Everything that is sealed. */
  | { readonly kind: "all" }
  /** Every file with a page or a MAC under this key. */
  | { readonly kind: "key"; readonly keyId: number }
  /** Relations only. */
  | { readonly kind: "relations"; readonly scope: RelationScope };

/** Whether a file is to be sealed anew, by its line in the manifest of before. */
export function isSelected(
  selection: RotationSelection,
  entry: ManifestEntry,
  datadir: Datadir,
): boolean {
  if (entry.keys.length === 0) return false;
  switch (selection.kind) {
    case "all":
      return true;
    case "key":
      return entry.keys.some(({ keyId }) => keyId === selection.keyId);
    case "relations": {
      const file = entry.class === "P" ? parseRelationPath(entry.path, datadir) : undefined;
      return file !== undefined && isInScope(selection.scope, file);
    }
  }
}

export function sameSelection(a: RotationSelection, b: RotationSelection): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
