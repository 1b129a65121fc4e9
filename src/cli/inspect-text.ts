/**
 * A line of the manifest, and a sidecar page, as `tde inspect` prints them.
 */
import { displayPath } from "../bytes/byte-path.ts";
import type { InspectedEntry } from "../engine/inspect-entry.ts";
import type { InspectedSidecar } from "../engine/inspect-sidecar.ts";
import type { ManifestClass } from "../format/manifest-entry.ts";

const CLASSES: Readonly<Record<ManifestClass, string>> = {
  P: "relation file with sidecar",
  W: "WAL segment with sidecar",
  S: "sealed whole file",
  R: "readable by design",
  O: "out of scope, plain",
  D: "directory",
  L: "symbolic link",
};

export function entryText({ entry, authentic, now }: InspectedEntry): string {
  const { path, class: entryClass, expendable, added, sizeBytes, keys, digest } = entry;
  const there = now === undefined ? "nothing is there now" : `now a ${now.kind}`;
  const size = now?.kind === "file" ? ` of ${now.sizeBytes} bytes` : "";
  return [
    displayPath(path),
    authentic
      ? "the manifest's MAC holds"
      : 'as the manifest says, which "tde verify" proves; no keyring was given',
    `class: ${entryClass}, ${CLASSES[entryClass]}`,
    `flags: ${[...(expendable ? ["expendable"] : []), ...(added ? ["added by encryption"] : [])].join(", ") || "none"}`,
    `size: ${sizeBytes} bytes; ${there}${size}`,
    `keys: ${keys.map(({ keyId, count }) => `${keyId} (${count} pages)`).join(", ") || "none"}`,
    `digest: ${digest ?? "none"}`,
  ].join("\n");
}

export function entryToJson({ entry, authentic, now }: InspectedEntry): unknown {
  const { path, keys, ...rest } = entry;
  return {
    path: displayPath(path),
    ...rest,
    keys: keys.map(({ keyId, count }) => ({ keyId, pages: count })),
    authenticated: authentic,
    now: now === undefined ? undefined : { kind: now.kind, sizeBytes: now.sizeBytes },
  };
}

export function sidecarText(found: InspectedSidecar): string {
  const { path, pages, head, belongsTo, usedSlots, keys, problems } = found;
  const { systemIdentifier, firstBlock } = head.identity;
  const slots = [...keys].map(([keyId, count]) => `${count} under key ${keyId}`).join(", ");
  return [
    `${displayPath(path)} page ${head.pageNumber} of ${pages}${head.last ? ", the last one" : ""}`,
    macText(found),
    ...problems.map((problem) => `problem: ${problem}`),
    `of: ${belongsTo} of cluster ${systemIdentifier}, first block ${firstBlock}`,
    `keyring: ${head.keyringId}, MAC under key ${head.macKeyId}`,
    `file salt: ${head.fileSalt.toString("hex")}`,
    `slots: ${usedSlots} used${slots === "" ? "" : `: ${slots}`}`,
  ].join("\n");
}

function macText({ mac }: InspectedSidecar): string {
  if (mac === undefined) return "not authenticated: no keyring was given";
  if (typeof mac === "string") return `not authenticated: ${mac}`;
  return mac ? "its MAC holds" : "NOT authentic: its MAC does not hold";
}

export function sidecarToJson(found: InspectedSidecar): unknown {
  const { head, mac } = found;
  const { systemIdentifier, relfilenumber, ...identity } = head.identity;
  return {
    path: displayPath(found.path),
    page: head.pageNumber,
    pages: found.pages,
    last: head.last,
    authenticated: mac === true,
    macHolds: typeof mac === "string" ? undefined : mac,
    belongsTo: found.belongsTo,
    identity: {
      ...identity,
      systemIdentifier: String(systemIdentifier),
      relfilenumber: Number(relfilenumber),
    },
    keyringId: head.keyringId,
    macKeyId: head.macKeyId,
    fileSalt: head.fileSalt.toString("hex"),
    usedSlots: found.usedSlots,
    keys: [...found.keys].map(([keyId, pages]) => ({ keyId, pages })),
    problems: [...found.problems, ...(typeof mac === "string" ? [mac] : [])],
  };
}
