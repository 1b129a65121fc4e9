/**
 * What `tde wal verify` finds in an archive. The field names and kinds are a public interface: they stand in its JSON.
 */
import type { KeyLoads } from "../../keyring/key-load.ts";

export type ArchiveProblemKind =
  /** The file does not authenticate, is damaged, or does not hold what its name says. */
  | "tag"
  /** The keyring lacks the key, or holds another key of that id. */
  | "key"
  /** The file is not encrypted, and that was not allowed. */
  | "plain"
  /** The file is of another cluster. */
  | "cluster"
  /** Segments are missing between others. */
  | "gap"
  /** A timeline's history is missing, damaged, or contradicts another. */
  | "history"
  /** The records do not follow one after another: a segment is older than its neighbours, or was damaged before. */
  | "chain"
  /** The system could not read the file. */
  | "unreadable";

export interface ArchiveProblem {
  readonly kind: ArchiveProblemKind;
  /** In the archive. */
  readonly name: string;
  readonly message: string;
}

/** A run of segments without a gap is from `first` to `last`; gaps are problems. Of a `.partial` one alone: 0 segments. */
export interface TimelineReport {
  readonly timeline: number;
  readonly first: string;
  readonly last: string;
  readonly segments: number;
  /** LSN behind its last valid record, also of a `.partial` segment: a server would recover up to here. */
  readonly recordsTo: string | undefined;
}

export interface ArchiveReport {
  readonly ok: boolean;
  readonly systemIdentifier: bigint | undefined;
  readonly timelines: readonly TimelineReport[];
  /** Files of the archive by what they are. */
  readonly files: {
    readonly segments: number;
    readonly partial: number;
    readonly histories: number;
    readonly backups: number;
    /** Of all those: not encrypted. */
    readonly plain: number;
    /** Segments that a server keeps to write to them later: empty, or with what an earlier life of the file has left. */
    readonly spare: number;
    /** Whatever has no name of an archived file; not looked at. */
    readonly others: number;
  };
  /** Records whose checksum holds and that follow the one before. */
  readonly records: number;
  /** Of content. */
  readonly bytes: number;
  /** Sealed files under each key. */
  readonly keys: KeyLoads;
  readonly problems: readonly ArchiveProblem[];
}
