/**
 * The inner loops over WAL records in AssemblyScript, compiled to WebAssembly by `npm run build`. The module has no
 * memory of its own: record-scan.ts brings it and lays it out.
 */
export { prepare, recordCrc } from "./record-frame.as";
export { lastTallied, tally } from "./record-tally.as";
export {
  lastOfParts,
  partRecordCount,
  parts,
  partSecretCount,
  prepareParts,
  storedParts,
} from "./structure/record-parts.as";
export { recordCrcs } from "./record-crcs.as";
