/** What identifies a relation file to whoever seals or opens it: its place in its cluster. */
import { type FileIdentity, NO_BACKEND } from "../format/identity.ts";
import type { Datadir } from "./datadir.ts";
import type { RelationFile } from "./relation-path.ts";

export function identityOf(datadir: Datadir, file: RelationFile): FileIdentity {
  const { systemIdentifier, blocksPerSegment } = datadir.control;
  return {
    systemIdentifier,
    tablespaceOid: file.tablespaceOid,
    databaseOid: file.databaseOid,
    relfilenumber: BigInt(file.relfilenumber),
    fork: file.fork,
    relationSegment: file.relationSegment,
    firstBlock: file.relationSegment * blocksPerSegment,
    backend: file.backend ?? NO_BACKEND,
  };
}
