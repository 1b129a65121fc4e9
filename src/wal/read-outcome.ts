/**
 * What came of asking a reader of WAL for the next record.
 */
/** What `next` found. */
export const Outcome = {
  /** `record` holds one. */
  record: 0,
  /** No further record; `failure` says why, if there is something to say. */
  end: 1,
  /** The source does not have the segment at `wantedHigh`, `wantedLow` yet: fetch it and call again. */
  segmentWanted: 2,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** Why reading ended before the end that was asked for. */
export type ReadFailure =
  | { readonly kind: "invalid"; readonly message: string }
  | {
      /** The file ends inside a page. */
      readonly kind: "short";
      readonly fileName: string;
      readonly offset: number;
      readonly wanted: number;
    };
