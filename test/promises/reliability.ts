import type { Kept } from "./pages.ts";

/** What docs/RELIABILITY.md promises, in its order: a part of the sentence, and the tests that fail when it is broken. */
export const RELIABILITY: readonly Kept[] = [
  {
    says: "do after a crash is always the same: run `tde recover -D DIR`, or the same command again",
    tests: ["engine/crash-cuts: survives a power cut before any step"],
  },
  {
    says: "Nothing else is taken for durable.",
    tests: [
      "support/crash-disk: a name is safe only when its directory was synced",
      "cli/real-syncs: every new file is synced before it takes its place",
    ],
  },
  {
    says: "`tde.lock`, exclusive, not synced",
    tests: [
      "storage/lock: a taking or takeover stopped anywhere leaves a lock that the next one gets",
      "engine/contention: the lock of a process that was killed is taken over without a word",
    ],
  },
  {
    says: "the state file beside the keyring registers the run",
    tests: [
      "engine/directory-run: a run is registered before its journal",
      "engine/replayed-journal: recover forgets a run that never began, or that has ended",
    ],
  },
  {
    says: "`tde.journal` with plan and run id: written as",
    tests: [
      "storage/journal: a journal that never came to be is removed, and is no journal",
      "engine/replayed-journal: an interrupted run is finished by recovery",
    ],
  },
  {
    says: "then the guard takes the original's place",
    tests: [
      "engine/stock-tools: stops with the guard's message and changes no byte",
      "engine/replayed-journal: an original that was taken away once it was sealed comes back",
    ],
  },
  {
    says: "working files that nobody names",
    tests: ["engine/crash-cuts: survives a power cut before any step"],
  },
  {
    says: "one entry of the journal that lists all renames, synced",
    tests: [
      "storage/journal: due steps can be done again, whatever part of them is done",
      "engine/decryption-end: tags are not kept in a file that somebody else has, too",
    ],
  },
  {
    says: "for each batch: the renames (encrypting, a sidecar before its file)",
    tests: ["engine/crash-cuts: survives a power cut before any step"],
  },
  {
    says: "Decrypting: an entry _committed_; then sidecars",
    tests: [
      "engine/decryption-end: a decryption that is cut before anything of it is removed proves all of its files again",
    ],
  },
  {
    says: "what the run came to, and that it has ended, in one write",
    tests: [
      "engine/directory-run: ended before the journal goes",
      "engine/replayed-journal: a run of which all but the journal's removal is done is only ended",
    ],
  },
  {
    says: "the state file forgets the run",
    tests: ["engine/crash-cases: the state forgets a decrypted directory wherever its end is cut"],
  },
  {
    says: "no moment has neither",
    tests: [
      "engine/crash-cuts: survives a power cut before any step",
      "engine/kill: a kill at any moment, again and again, loses nothing",
      "support/crash-disk: replacing a file without a sync is caught",
    ],
  },
  {
    says: "What is wrong ends the command before anything is",
    tests: [
      "engine/damaged: nothing is decrypted, unless it is told to do without",
      "engine/damaged: a dry run that finds nothing wrong remembers nothing",
      "engine/tampering: without a preflight, a decryption that a damaged page stopped goes on once the file is restored",
    ],
  },
  {
    says: "decrypt all other files, and end with exit code 3",
    tests: [
      "engine/damaged: all else comes back with --damaged=",
      "engine/damaged: what cannot be done without is refused whatever is said",
    ],
  },
  {
    says: "every such block is listed",
    tests: [
      "engine/damaged: all else comes back with --damaged=",
      "live/damaged: of a cluster with one page in a hundred damaged all other rows come back",
    ],
  },
  {
    says: "With `zero` the sealed file is removed only behind the committed entry",
    tests: [
      "engine/damaged: goes on wherever it was stopped",
      "engine/damaged: what an earlier decryption put aside is never written over",
    ],
  },
  {
    says: "nothing tells which of the two is tde's",
    tests: [
      "engine/damaged-plants: in the place where a file is to be put aside makes nobody lose that file",
      "engine/damaged-plants: a forged file in the place of one that was put aside passes for nothing",
      "engine/damaged-plants: a file that is only called like a sidecar stays with --damaged=",
    ],
  },
  {
    says: "and a file without settings takes the guard's place",
    tests: [
      "engine/damaged-plants: the sealed original of postgresql.auto.conf locks nothing else",
      "engine/damaged: goes on wherever it was stopped",
    ],
  },
  {
    says: "or behind a folder that is a link now, is said to be missing",
    tests: [
      "engine/damaged: a file that is missing, and one that no line names, are done without",
      "engine/damaged-plants: what no line names is put aside, and not in a new directory",
      "engine/damaged-plants: a link in the place of a folder leads no plaintext elsewhere",
      "engine/damaged: a file that is not encrypted is taken as it is, into a new directory, too",
    ],
  },
  {
    says: "`tde.damaged/report.txt` lists all of it",
    tests: ["engine/damaged: all else comes back with --damaged="],
  },
  {
    says: "the source is only read, and keeps what is damaged",
    tests: ["engine/damaged: all else comes back with --damaged="],
  },
  {
    says: "Nothing that a new file replaces goes before the new one has been read back",
    tests: [
      "workers/read-back: whatever of new files of an encryption, rotation or decryption is damaged, it is noticed",
      "workers/read-back: so is what is damaged of a new directory, and of pages that a sync writes in place",
      "engine/crash-bad-writes: survives a bad write",
      "engine/small-files-read-back: an encryption does not go on from what is not what was written",
    ],
  },
  {
    says: "It walks the directory as it then lies on disk",
    tests: ["engine/self-proof: what is not as it was written is no proof"],
  },
  {
    says: "of what this run has made, which the salt of each file tells",
    tests: [
      "engine/self-proof: what a run has written and read back, its proof reads a sample of; what it found sealed, whole",
      "engine/file-in-ranges: a proof does not vouch for a digest of other bytes than those whose MACs held",
    ],
  },
  {
    says: "of what an earlier encryption sealed, where the scope is widened",
    tests: ["engine/self-proof: a wider scope: what was sealed before is read to its last tag"],
  },
  {
    says: "of a sync: every sidecar page",
    tests: [
      "engine/self-proof: what a sync writes in place its proof reads whole, and of the rest no page",
    ],
  },
  {
    says: "its manifest goes on saying what the one before said",
    tests: [
      "engine/rotate: a file that was changed and is not sealed anew is vouched for no more than before",
    ],
  },
  {
    says: "of what stays readable: everything, for its digest",
    tests: ["engine/self-proof: what is not as it was written is no proof"],
  },
  {
    says: "a write that was lost, cut, doubled or sent to a wrong place",
    tests: ["engine/crash-bad-writes: survives a bad write"],
  },
  {
    says: "A journal is acted on only if the state file says that this very run is open, in this place",
    tests: [
      "engine/directory-run: a journal counts as the state file knows its run, and in no other way",
      "engine/replayed-journal: is refused, and no hint leads to recover",
      "engine/replayed-journal: that was copied or moved is not taken up",
      "engine/replayed-journal: is taken up without the state file only when that is accepted",
      "engine/moved-links: a run that is taken up touches nothing behind a link that was moved",
      "engine/sync: an interrupted sync does nothing behind a link that",
      "engine/claimed-places: a finished directory is not emptied, though state file and journal are older",
      "engine/replayed-journal: the journal of an ended decryption is not removed beside what a decryption takes away",
      "attack/attack: leads no command to a forgery, a rollback or a loss",
    ],
  },
  {
    says: "A run whose journal is missing is not forgotten while anything of tde's is in the directory",
    tests: [
      "engine/replayed-journal: whose journal is away for a moment",
      "engine/replayed-journal: recover forgets a run that never began, or that has ended",
      "keyring/state: what is remembered only grows",
    ],
  },
  {
    says: "each file is held against something that authenticates it now, before anything is written",
    tests: [
      "engine/replayed-journal: the run does not go on",
      "attack/cases: what a decryption that was stopped half way has made plain is not taken unseen",
    ],
  },
  {
    says: "the manifest must be the one that the run was begun with, or the run's own",
    tests: ["engine/directory-run: what a journal says is judged before any of it is done"],
  },
  {
    says: "what a line of it names as sealed has that digest",
    tests: [
      "attack/cases: what the manifest names is not replaced while a widening of scope is unfinished",
      "engine/replayed-journal: does not vouch for",
    ],
  },
  {
    says: "An older pair of file and sidecar has another salt",
    tests: [
      "format/file-salt: a salt is known again by its run, for its file, and as it was made",
      "engine/replayed-journal: sealed by a run that the manifest does not know, is not vouched for",
    ],
  },
  {
    says: "a file that a decryption has made plain is encrypted once more in memory",
    tests: [
      "datadir/plain-relation: any original of blocks of",
      "attack/cases: what a decryption that was stopped half way has made plain is not taken unseen",
    ],
  },
  {
    says: "says how many files nothing proves any more, and ends with exit code 3",
    tests: [
      "engine/decryption-end: what still has its sidecar is checked, and what has none any more is said to be unproved",
      "engine/decryption-end: when all files were done is no success",
      "engine/decryption-end: what takes the guard's place is the sealed original, and nothing else passes for it",
      "engine/decryption-end: pg_control is what it was, as long as the guard stands",
    ],
  },
  {
    says: "what cluster it is says the manifest's copy of pg_control",
    tests: [
      "engine/damaged-control: a decryption by the manifest's pg_control goes on wherever it was killed",
      "engine/damaged-control: recover ends a rotation whose directory has lost pg_control meanwhile",
    ],
  },
  {
    says: "nothing has vouched for them yet",
    tests: ["attack/cases: the journal of a first encryption, put back later, seals nothing"],
  },
  {
    says: "A file that is neither one nor the other ends the command with exit code 3",
    tests: ["engine/replayed-journal: the run does not go on"],
  },
  {
    says: "Only the newest can be torn, and a torn one counts as not written",
    tests: [
      "storage/journal: a record torn in any way but for its beginning counts as not written",
      "storage/journal: records left out, doubled or moved are an error",
      "engine/crash-cases: an entry whose sync failed is made durable before its steps are taken up",
    ],
  },
  {
    says: "any other must prove to be this run's own",
    tests: [
      "engine/rotate: an older file in the place of the newest is not sealed anew",
      "engine/rotate: a damaged page leaves its file as it was and the directory finished, not locked",
      "engine/crash-cuts: survives a power cut before any step",
    ],
  },
  {
    says: "a run that is taken up and tells it again counts once",
    tests: [
      "keyring/state: what was written under a key adds up, and what is told twice counts once",
    ],
  },
  {
    says: "a copy that does not verify ends it here",
    tests: ["engine/sync: is refused as it is"],
  },
  {
    says: "the plan keeps the source's pg_control",
    tests: [
      "engine/sync: an interrupted sync does not go on with a source that is older than it was",
    ],
  },
  {
    says: "what the source has no more, a file before its sidecar",
    tests: ["engine/crash-cuts: survives a power cut before any step"],
  },
  {
    says: "a new tablespace's directory is claimed before its link is made",
    tests: [
      "engine/sync: folders become files and links, and the other way round",
      "engine/sync: a sync that makes a tablespace goes on wherever it was stopped",
    ],
  },
  {
    says: "for each batch of files that are written whole: new files, an entry, renames, as above",
    tests: ["engine/sync: a copy becomes what its source is, whatever has changed"],
  },
  {
    says: "files that a snapshot shares are replaced by synced copies",
    tests: [
      "engine/sync: nothing is written through a hard link into a snapshot of the copy",
      "engine/sync: what is done again after a crash is not written through a hard link either",
      "engine/small-files-read-back: what is written in place is read back while the journal keeps it",
      "cli/real-syncs: sync: what is written in place is synced, too",
    ],
  },
  {
    says: "the sealed original of postgresql.auto.conf with a guard of its attributes",
    tests: [
      "engine/small-files-read-back: a sync does not go on from a guard or an original that is not what was written",
    ],
  },
  {
    says: "and that of a rewritten backup_manifest; the state file",
    tests: [
      "live/base-backup: a base backup whose keys are rotated stays one for pg_verifybackup, and comes back",
      "engine/crash-cuts: survives a power cut before any step",
    ],
  },
  {
    says: "the journal is removed, directory synced | the end",
    tests: ["engine/sync: the journal of a sync that came to its end is not taken up again"],
  },
  {
    says: "Only the source can bring it to the end",
    tests: [
      "engine/sync: an interrupted sync keeps other commands away, and the same one goes on, also with a newer source",
      "engine/sync: an interrupted sync does not go on with a source that is older than it was",
      "storage/journal: a journal over 4 MiB is begun anew with what is to be written in place, too",
    ],
  },
  {
    says: "so is one of this run that is older than the manifest",
    tests: ["engine/sync: the journal of a sync that came to its end is not taken up again"],
  },
  {
    says: "Before that entry is durable, `recover` empties the new directory and its tablespaces",
    tests: [
      "engine/crash-cases: emptying an unfinished output can be cut anywhere, and its guard goes last",
      "engine/claimed-places: empties what it has claimed, and nobody else may take it meanwhile",
      "engine/claimed-places: leaves a place that another run has filled since",
      "engine/finished-outputs: encrypt-datadir --output never says that an output of an earlier run is its source",
      "engine/finished-outputs: an output of another directory, or of another state of it, is not called decrypted",
      "engine/finished-outputs: recover calls no decrypted output proved, and empties none that is finished",
      "engine/crash-cases: a copy into a new directory must be what the manifest says",
      "engine/crash-cases: recovering a copy of an unfinished output leaves the original's tablespaces alone",
    ],
  },
  {
    says: "A decryption of the whole does not take such a directory for its own, finished or not",
    tests: [
      "engine/decrypt-relations: stopped anywhere, the same call or a decryption of the whole never takes the rest for done",
    ],
  },
  {
    says: "where a server has come takes everything back",
    tests: [
      "live/starting-server: of tde and a server that starts at the same moment one goes on and the other refuses",
      "engine/crash-cases: a server that did not see the guard gets back everything, wherever the undoing is cut",
      "engine/crash-cases: a server that starts on the source of a copy makes the copy worthless, and tde says so",
    ],
  },
  {
    says: "A crash leaves the old version or the new one",
    tests: [
      "storage/durable-replace: a replacement stopped anywhere leaves the old or the new content, and the next one succeeds",
      "keyring/keyring: an operation stopped anywhere leaves the old keyring or the new one",
      "keyring/keyring: a key file that is read wrongly once locks nobody out",
      "cli/keyring: half a key file that an interrupted create left is told of, and a new one is made in its place",
    ],
  },
  {
    says: "only when an archive begins to use a key: the state file, then `tde.archive/identity`",
    tests: [
      "engine/wal-archive: the keyring is told once of an archive, and again when another key is current",
    ],
  },
  {
    says: "an archiver removes working files of ten minutes",
    tests: ["engine/wal-archive: what a killed archiver left goes after ten minutes, not before"],
  },
  {
    says: "where there are no hard links a look, then a rename",
    tests: [
      "engine/wal-archive: a file system without hard links takes files, too, and keeps what is there",
    ],
  },
  {
    says: "the working name is removed, the directory of the archive synced",
    tests: [
      "cli/real-syncs: wal archive: the file is synced before its name, and that before the server is told",
    ],
  },
  {
    says: "of two archivers one wins and the other compares",
    tests: [
      "engine/wal-archive: of two archivers at one name the second finds the first one's file, and says what it is",
      "engine/wal-archive: a file that is in the archive already is synced before the server is told so",
      "cli/real-syncs: wal restore: the file is synced before its name, and that before the server is told",
      "live/wal-archive: an archiver that is killed at any moment leaves the name free or on the whole file",
    ],
  },
  {
    says: "what that run renamed is durable",
    tests: ["engine/wal-attacks: what the first one renamed is made durable first"],
  },
  {
    says: "the last segment first: segment and sidecar under working names, synced",
    tests: ["cli/real-syncs: wal encrypt, rotate --wal and wal decrypt"],
  },
  {
    says: "`encrypt` makes both anew, `decrypt` removes the sidecar",
    tests: [
      "engine/wal-sidecars: a plain segment beside its own sidecar is taken for plain, with and without a page header",
    ],
  },
  {
    says: "the segment stored, its name perhaps not yet durable",
    tests: ["engine/wal-attacks: a killed command, and a power cut in the next one, lose nothing"],
  },
  {
    says: "`decrypt`, the first segment first: the plain segment under a working name",
    tests: [
      "cli/wal-encrypt: kill -9 at any moment leaves what the same command brings to its end",
    ],
  },
  {
    says: "the sidecar is removed; after the last one the directory is synced",
    tests: ["cli/real-syncs: wal encrypt, rotate --wal and wal decrypt"],
  },
  {
    says: "`decrypt` writes the plain segment under a working name, syncs it, reads it",
    tests: [
      "engine/wal-copied-out: comes back bit for bit, of the first epoch and of a later one",
      "workers/read-back: so is what is damaged of segments in a folder of their own",
    ],
  },
  {
    says: "finds that it authenticates and renames it before it does anything else",
    tests: [
      "engine/wal-attacks: a rotation that was killed between its two renames is ended by the next run",
      "engine/wal-rotate-order: a rotation makes the working names durable before the first of them goes",
    ],
  },
  {
    says: "keeps its sidecar, and both commands end with 3 before they write",
    tests: [
      "engine/wal-sidecars: a sidecar beside a plain segment of other content is neither removed nor replaced",
      "engine/wal-attacks: on a disk that is full, or fails at any step, a command ends with an error, and the next one finishes",
    ],
  },
  {
    says: "are in the manifest. Where the file is empty, cut short, zeroed",
    tests: ["engine/damaged-control: verify names that one file, and checks all others"],
  },
  {
    says: "opens the directory by the copy of the manifest, whose MAC holds",
    tests: [
      "engine/damaged-control: --restore-control gives the directory back in place, and says so before",
      "engine/damaged-control: --restore-control gives the directory back in another place",
      "engine/damaged-control: without a manifest that holds, --restore-control restores nothing",
    ],
  },
  {
    says: "names that one file, checks all others by the manifest's copy, and ends with 3",
    tests: ["engine/damaged-control: verify names that one file, and checks all others"],
  },
  {
    says: "say so and go by the copy",
    tests: ["engine/damaged-control: nothing that writes goes on, and what reads does"],
  },
  {
    says: "change nothing and end with 6, or with 5 where the file is gone or another",
    tests: ["engine/damaged-control: nothing that writes goes on, and what reads does"],
  },
  {
    says: "The original is written under a working name beside `--output`",
    tests: [
      "cli/detached-file: is verified and comes back by itself, also under another name",
      "cli/detached-file: damage is found by each command, names its block, and leaves no output",
      "cli/detached-file: what is there by the time that the output gets its name is not overwritten either",
    ],
  },
  {
    says: "has done nothing and is made again, however often; only close is not",
    tests: [
      "engine/crash-errors: takes an interrupt of every call",
      "storage/node-file-system: a close that was interrupted is not made again",
      "engine/crash-errors: survives an error in any call",
      "engine/kill: an interrupt at any moment ends with code 130 and leaves what can be taken up",
    ],
  },
];
