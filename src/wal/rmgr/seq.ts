/** Sequences. Sources: commands/sequence.h (sequence_xlog.h in 19), seqdesc.c. */
import { resourceManager, type ResourceManagerOf } from "./record-types.ts";

export const seq: ResourceManagerOf = resourceManager("Sequence", {
  0x00: { 13: { name: "LOG", describe: "rel {0:rel}" } },
});
