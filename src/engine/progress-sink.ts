/**
 * How an operation tells how far it has come, without knowing whether anyone watches.
 */
export interface ProgressSink {
  /** A new stretch of work. @param label - what is being done: `encrypting`. */
  begin(label: string, totalBytes: number): void;
  /** That many more bytes are done. */
  advance(bytes: number): void;
  /** The stretch is over, finished or not. */
  end(): void;
}

/** For whoever does not want to know. */
export const silentProgress: ProgressSink = {
  begin(): void {},
  advance(): void {},
  end(): void {},
};
