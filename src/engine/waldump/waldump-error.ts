/**
 * What ends `tde waldump` before its time. Apart from the errors of the rest of tde, since here the words and the
 * exit code are pg_waldump's.
 */
export interface WaldumpErrorDetails {
  readonly detail?: string | undefined;
  /** The command line is at fault: point to --help. */
  readonly tryHelp?: boolean | undefined;
}

export class WaldumpError extends Error {
  readonly detail: string | undefined;
  readonly tryHelp: boolean;

  constructor(message: string, { detail, tryHelp = false }: WaldumpErrorDetails = {}) {
    super(message);
    this.name = "WaldumpError";
    this.detail = detail;
    this.tryHelp = tryHelp;
  }
}

/** The command line is wrong. */
export function usageProblem(message: string, detail?: string): WaldumpError {
  return new WaldumpError(message, { detail, tryHelp: true });
}
