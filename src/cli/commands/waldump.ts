/**
 * `tde waldump` as other commands see it, in the list of commands. It takes its arguments apart itself, as getopt
 * does, so what main.ts finds behind `waldump` never comes here: src/cli/waldump-action.ts.
 */
import { Command } from "commander";

export function waldumpCommand(): Command {
  return new Command("waldump")
    .description("print the records of write-ahead log, as pg_waldump does")
    .usage("[option]... [startseg [endseg]]");
}
