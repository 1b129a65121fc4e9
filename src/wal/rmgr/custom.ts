/** Resource managers of extensions: what pg_waldump says of records whose extension it does not have. 15 and later. */
import type { ResourceManager } from "./rmgr.ts";

/** RM_MIN_CUSTOM_ID. */
export const FIRST_CUSTOM_RMGR = 128;
const CUSTOM_RMGRS = 128;

/** By id, beginning with FIRST_CUSTOM_RMGR. */
export const customRmgrs: readonly ResourceManager[] = Array.from(
  { length: CUSTOM_RMGRS },
  (_, i) => ({
    name: `custom${i + FIRST_CUSTOM_RMGR}`,
    describe: (out, record) => {
      out.text("rmid: ");
      out.unsigned(record.rmid);
    },
    identify: () => undefined,
  }),
);
