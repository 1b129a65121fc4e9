/**
 * Extended attributes of open files: what they are, and how a new file gets those of the one that it replaces.
 */
import { ACCESS_ACL, type ExtendedAttribute, type FileAttributes } from "./file-system.ts";
import type { Libc } from "./libc.ts";

/** Of the content, or of a layer below: what they say is not true of another file. */
const OF_THE_FILE_ITSELF = /^(?:security\.(?:ima|evm|capability)|trusted\.overlay\.)/;

/** Systems whose ACLs the mode says nothing of. */
const WITHOUT_MASKS: readonly string[] = ["darwin", "win32"];

export function extendedAttributesOf(
  descriptor: number,
  libc: Libc | undefined,
): FileAttributes["extended"] {
  if (libc === undefined) return WITHOUT_MASKS.includes(process.platform) ? [] : "unknown";
  const names = libc.listAttributes(descriptor);
  if (names === undefined) return "unknown";
  const attributes: ExtendedAttribute[] = [];
  for (const name of names) {
    if (OF_THE_FILE_ITSELF.test(name)) continue;
    const value = libc.getAttribute(descriptor, name);
    if (value === undefined) return "unknown";
    attributes.push({ name, value });
  }
  return attributes;
}

/**
 * Sets those that differ, and removes an ACL that the new file has from its folder.
 * @returns names of those that are not as they should be.
 */
export function setExtendedAttributes(
  descriptor: number,
  wanted: readonly ExtendedAttribute[],
  libc: Libc | undefined,
): string[] {
  if (libc === undefined) return wanted.map(({ name }) => name);
  const failed: string[] = [];
  for (const { name, value } of wanted) {
    if (libc.getAttribute(descriptor, name)?.equals(value) === true) continue;
    if (!libc.setAttribute(descriptor, name, value)) failed.push(name);
  }
  if (wanted.some(({ name }) => name === ACCESS_ACL)) return failed;
  const inherited = libc.listAttributes(descriptor)?.includes(ACCESS_ACL) === true;
  if (inherited && !libc.removeAttribute(descriptor, ACCESS_ACL)) failed.push(ACCESS_ACL);
  return failed;
}
