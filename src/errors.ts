/**
 * Every error that tde expects, on one page. Each kind has an exit code of its own (src/cli/exit-codes.ts);
 * anything that is not a TdeError is a bug in tde.
 *
 * A message says what failed and where, on one line, in lower case, without a full stop; the hint says what to
 * do, in sentences. No message ever holds a key, a passphrase or the content of a page.
 */

export type ErrorCode = "usage" | "integrity" | "key" | "state" | "format" | "storage";

export interface ErrorDetails {
  /** What the user can do about it, in whole sentences. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
  /** The file of a data directory that the error is about, relative to it or absolute, as the message has it. */
  readonly file?: string | undefined;
}

export abstract class TdeError extends Error {
  abstract readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly file: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.hint = details.hint;
    this.file = details.file;
    this.name = new.target.name;
  }
}

/** The same error, with another hint. */
export function withHint(error: TdeError, hint: string): Error {
  return deserializeError({ ...serializeError(error), hint });
}

/** The command line is wrong. */
export class UsageError extends TdeError {
  readonly code = "usage";
}

/** Authentication or a checksum failed: the data is not what was written. */
export class IntegrityError extends TdeError {
  readonly code = "integrity";
}

/** A key is missing, wrong or out of reach. */
export class KeyError extends TdeError {
  readonly code = "key";
}

/** The directory or keyring is not in a state that allows this: a running server, a lock, an unfinished run. */
export class StateError extends TdeError {
  readonly code = "state";
}

/** Bytes that we cannot read: damaged, or of a version that we do not support. */
export class FormatError extends TdeError {
  readonly code = "format";
}

/** The operating system refused; `cause` is its error. */
export class StorageError extends TdeError {
  readonly code = "storage";
  /** The system's own name of the error, such as `ENOSPC`. */
  readonly errno: string | undefined;

  constructor(message: string, details: ErrorDetails & { errno?: string | undefined } = {}) {
    super(message, details);
    this.errno = details.errno;
  }
}

/** An error as plain data, to cross from a worker thread. */
export interface SerializedError {
  readonly code: ErrorCode | "bug";
  readonly message: string;
  readonly hint: string | undefined;
  readonly file: string | undefined;
  readonly errno: string | undefined;
  readonly stack: string | undefined;
}

export function serializeError(error: unknown): SerializedError {
  if (error instanceof TdeError) {
    const errno = error instanceof StorageError ? error.errno : undefined;
    return {
      code: error.code,
      message: error.message,
      hint: error.hint,
      file: error.file,
      errno,
      stack: error.stack,
    };
  }
  const { message, stack } =
    error instanceof Error ? error : { message: String(error), stack: undefined };
  return { code: "bug", message, hint: undefined, file: undefined, errno: undefined, stack };
}

/** The error that `serializeError` took apart, in the same class. */
export function deserializeError(data: SerializedError): Error {
  const details = { hint: data.hint, file: data.file };
  switch (data.code) {
    case "usage":
      return new UsageError(data.message, details);
    case "integrity":
      return new IntegrityError(data.message, details);
    case "key":
      return new KeyError(data.message, details);
    case "state":
      return new StateError(data.message, details);
    case "format":
      return new FormatError(data.message, details);
    case "storage":
      return new StorageError(data.message, { ...details, errno: data.errno });
    case "bug": {
      const error = new Error(data.message);
      if (data.stack !== undefined) error.stack = data.stack;
      return error;
    }
  }
}
