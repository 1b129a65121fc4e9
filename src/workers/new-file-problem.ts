/** What a check finds wrong with a file that was just written: it was not written as it should have been. */
import type { BytePath } from "../bytes/byte-path.ts";
import type { Problem } from "../format/problem.ts";
import { notAsWritten } from "../storage/read-back.ts";

export function notAsWrittenIn(path: BytePath): (problem: Problem) => never {
  return ({ block, message }) => {
    throw notAsWritten(path, block === undefined ? message : `block ${block}: ${message}`);
  };
}
