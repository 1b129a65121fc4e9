/**
 * What verify finds. The kinds are a public interface: they stand in its JSON output.
 */

export type ProblemKind =
  /** The page's stored 16-bit checksum is wrong. */
  | "checksum"
  /** The page or file does not authenticate: its content was changed. */
  | "tag"
  /** The page or its slot authenticates as another block's: it was moved. */
  | "swapped"
  /** The page has no valid slot. */
  | "slot"
  /** The page lacks the mark of sealed pages, or is not zero where its slot says so. */
  | "mark"
  /** A sidecar page was changed, or is of another file or position. */
  | "sidecar"
  /** The file is sealed for another place than the one where it was found. */
  | "identity"
  /** What is remembered beside the keyring is damaged or was altered: nothing tells whether this is the newest state. */
  | "state"
  /** The keyring lacks the key, or holds another key of that id. */
  | "key"
  /** The manifest names a file that is not there. */
  | "missing"
  /** A file that the manifest does not name. */
  | "extra"
  /** The file was cut or has grown. */
  | "size"
  /** The file is consistent in itself, but not the one that the manifest names: older, newer or from elsewhere. */
  | "replaced"
  /** A readable file's content was changed. */
  | "content"
  /** The manifest is missing, damaged or altered. */
  | "manifest"
  /** The directory is older than one that was seen, or not the one that was expected. */
  | "rollback"
  /** The system could not read the file. */
  | "unreadable";

export interface Problem {
  readonly kind: ProblemKind;
  /** Relative to the data directory. */
  readonly path: string;
  /** Of a page: its number within the fork, as PostgreSQL counts. */
  readonly block?: number | undefined;
  /** Of a page: its pd_lsn, which is plaintext and unproved. */
  readonly lsn?: string | undefined;
  readonly message: string;
}
