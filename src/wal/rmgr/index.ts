/**
 * The resource managers of each major by their id. Source: access/rmgrlist.h.
 */
import type { Major } from "../../postgres/version.ts";
import { BUILTIN_RMGRS, type ByRmgr } from "./builtin.ts";
import { brin } from "./brin.ts";
import { clog } from "./clog.ts";
import { commitTs } from "./commit-ts.ts";
import { customRmgrs, FIRST_CUSTOM_RMGR } from "./custom.ts";
import { dbase } from "./dbase.ts";
import { generic } from "./generic.ts";
import { gin } from "./gin.ts";
import { gist } from "./gist.ts";
import { hash } from "./hash.ts";
import { heap } from "./heap.ts";
import { heap2 } from "./heap2.ts";
import { logicalMessage } from "./logicalmsg.ts";
import { mxact } from "./mxact.ts";
import { nbt } from "./nbt.ts";
import type { ResourceManagerOf } from "./record-types.ts";
import { relmap } from "./relmap.ts";
import { replOrigin } from "./replorigin.ts";
import type { ResourceManager } from "./rmgr.ts";
import { seq } from "./seq.ts";
import { smgr } from "./smgr.ts";
import { spg } from "./spg.ts";
import { standby } from "./standby.ts";
import { tblspc } from "./tblspc.ts";
import { xact } from "./xact.ts";
import { xlog } from "./xlog.ts";

export { FIRST_CUSTOM_RMGR };

const DESCRIBED: ByRmgr<ResourceManagerOf> = {
  brin,
  clog,
  commitTs,
  dbase,
  generic,
  gin,
  gist,
  hash,
  heap,
  heap2,
  logicalMessage,
  mxact,
  nbt,
  relmap,
  replOrigin,
  seq,
  smgr,
  spg,
  standby,
  tblspc,
  xact,
  xlog,
};

/** From here on extensions have resource managers. */
const CUSTOM_RMGRS_SINCE: Major = 15;

const made = new Map<Major, readonly (ResourceManager | undefined)[]>();

/** By rmgr id; undefined where the major has none. */
export function resourceManagersOf(major: Major): readonly (ResourceManager | undefined)[] {
  const known = made.get(major);
  if (known !== undefined) return known;
  const all: (ResourceManager | undefined)[] = BUILTIN_RMGRS.map((name) => DESCRIBED[name](major));
  if (major >= CUSTOM_RMGRS_SINCE) {
    for (const [i, rmgr] of customRmgrs.entries()) all[FIRST_CUSTOM_RMGR + i] = rmgr;
  }
  made.set(major, all);
  return all;
}
