/**
 * pg_filenode.map: the relfilenumbers of the catalogs that are needed to read pg_class, and so cannot stand in it.
 * Source: utils/cache/relmapper.c (RelMapFile).
 */
import { FormatError } from "../errors.ts";
import { crc32c } from "./crc32c.ts";
import { factsOf, type Major } from "./version.ts";

/** RELMAPPER_FILEMAGIC */
const MAGIC = 0x592717;
/** Offsets, little-endian; after the mappings comes the CRC-32C over all before it, then padding up to 15. */
const RELATION_MAP = {
  magic: 0, //    u32
  count: 4, //    u32
  mappings: 8, // pairs of OID and relfilenumber, u32 each
} as const;
const MAPPING_BYTES = 8;

/**
 * @param bytes - the whole file.
 * @param where - the file, for messages.
 * @returns relfilenumbers by OID.
 * @throws {FormatError} when size, magic, count or CRC is wrong.
 */
export function parseRelationMap(
  bytes: Buffer,
  major: Major,
  where: string,
): ReadonlyMap<number, number> {
  const { relationMapBytes, relationMapEntries } = factsOf(major);
  const crcOffset = RELATION_MAP.mappings + relationMapEntries * MAPPING_BYTES;
  if (bytes.length !== relationMapBytes) {
    throw damaged(where, `has ${bytes.length} bytes, not ${relationMapBytes}`);
  }
  if (bytes.readUInt32LE(RELATION_MAP.magic) !== MAGIC) throw damaged(where, "is no relation map");
  if (bytes.readUInt32LE(crcOffset) !== crc32c(bytes, 0, crcOffset)) {
    throw damaged(where, "fails its CRC check");
  }
  const count = bytes.readUInt32LE(RELATION_MAP.count);
  if (count > relationMapEntries) throw damaged(where, `has an impossible count: ${count}`);
  const map = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const at = RELATION_MAP.mappings + i * MAPPING_BYTES;
    map.set(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
  }
  return map;
}

function damaged(where: string, why: string): FormatError {
  return new FormatError(`file "${where}" ${why}`, {
    hint: "The map of system catalogs is damaged. Restore it from a backup of this cluster.",
  });
}
