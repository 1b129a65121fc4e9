import type { Kept } from "./pages.ts";

/** What docs/FORMAT.md demands of readers and writers, in its order, and the tests that fail when tde does not do it. */
export const FORMAT: readonly Kept[] = [
  {
    says: "Reserved bytes are written as zero and MUST be zero when read",
    tests: [
      "format/tampering: is refused before its tag is looked at",
      "format/tampering: is refused, though its MAC and checksum hold",
      "format/container: fields that this version does not know are refused by name",
      "storage/journal: headers of another magic, version, operation or with reserved bytes are refused without a key",
    ],
  },
  {
    says: "A reader MUST NOT accept a shorter tag",
    tests: [
      "crypto/gcm: a tag that is a part of the right one, or longer than it, opens nothing",
      "architecture: but the few that have a reason",
    ],
  },
  {
    says: "A reader MUST check version and CRC before it uses any of them",
    tests: [
      "postgres/control-file: is noticed",
      "postgres/control-file: values that no server writes are rejected although the CRC holds",
      "postgres/control-file: of 19 no control file is read whose 64-bit fields are aligned to 4 bytes",
    ],
  },
  {
    says: "MUST NOT give it to another owner or group than the data directory's",
    tests: [
      "engine/plain-access: what is decrypted in place is its owner's, whoever opened the sealed files to whom",
      "engine/plain-access: what is decrypted into a folder that is there is its owner's, and nobody else's",
      "engine/extended-attributes: the group does not get what an ACL kept from it",
    ],
  },
  {
    says: "it tells a wrong key from damaged data at once. A reader MUST compare it",
    tests: [
      "engine/other-key: another key of the same keyring and id is a key error, not damage",
      "format/tampering: another key of the same id is a problem of the key, and nothing is decrypted under it",
    ],
  },
  {
    says: "A writer MUST refuse a page that has the mark and a valid pd_checksum",
    tests: ["format/seal-open: a page that is sealed already is refused, whichever block it is"],
  },
  {
    says: "The stored pd_checksum is in no message. A reader MUST check it all the same",
    tests: [
      "format/tampering: a checksum that is wrong without the flag, or right with it, is reported although the tag holds",
    ],
  },
  {
    says: "Its magic, version, flags and header MUST be those of this page",
    tests: ["format/tampering: is refused, though its MAC and checksum hold"],
  },
  {
    says: "The identity MUST be that of the path and of pg_control's system identifier",
    tests: [
      "format/tampering: says where it belongs",
      "engine/forgery: files swapped with their sidecars fail in every block, whatever the sidecars are made to say",
      "cli/detached-file: is verified and comes back by itself, also under another name",
    ],
  },
  {
    says: "the file root and the size of the file MUST be those of its line",
    tests: [
      "engine/held-catalog: a name is refused, and nothing is changed",
      "engine/rotate: an older file in the place of the newest is not sealed anew",
    ],
  },
  {
    says: "a sidecar whose length is not ceil(n / S) × BS",
    tests: [
      "format/tampering: a sidecar that was cut anywhere is reported",
      "format/tampering: a file that was cut or has grown is reported at every length",
      "engine/tampering: found by verify and refused by decryption",
    ],
  },
  {
    says: "a pageNumber that is not its position",
    tests: [
      "format/tampering: is refused, though its MAC and checksum hold",
      "format/tampering: a sidecar page in the place of another is reported",
      "format/tampering: every flipped bit of a sidecar page is found by its MAC, the checksum being made anew",
    ],
  },
  {
    says: "LAST missing on the last page, or present on another",
    tests: ["format/tampering: LAST missing, or on a page that is not the last, is reported"],
  },
  {
    says: "a slot of unknown kind or suite, with unknown flags, with flags on a kind other than 1",
    tests: [
      "format/tampering: is refused before its tag is looked at",
      "format/tampering: a slot of a zero page or a tail has no flags",
      "engine/forgery: a slot from a later run than the manifest's fails",
    ],
  },
  {
    says: "an unused slot for a block that the file has",
    tests: [
      "format/tampering: an empty slot for a block, and a slot without a block, are reported",
      "format/tampering: slots of tails and zero pages in the place of pages, and the reverse, are refused",
    ],
  },
  {
    says: "a commitment that differs from the derived one: a key error, before anything is decrypted",
    tests: [
      "format/tampering: a key that the keyring lacks is one problem, however many pages need it",
      "format/tampering: another key of the same id is a problem of the key, and nothing is decrypted under it",
    ],
  },
  {
    says: "- a tag that does not hold;",
    tests: [
      "format/tampering: a flipped bit of a stored page is found by its tag, the checksum being made anew",
      "format/tampering: nothing is put back where a tag fails, and the pages around it are whole",
    ],
  },
  {
    says: "a page of kind 2 that is not all zero",
    tests: [
      "format/tampering: a zero page that was filled, and a page that was zeroed, are reported",
      "format/tampering: a checksum that is wrong without the flag, or right with it, is reported although the tag holds",
    ],
  },
  {
    says: "What it finds MUST be what the slots say",
    tests: [
      "format/wal-segments: every byte where structure ends and secrets or zeros begin is authenticated, as the slots say where",
    ],
  },
  {
    says: "a reader MUST check it for each record that is wholly in the segment",
    tests: [
      "format/wal-forgery: the stored CRC of a record that is whole in its segment is checked, although all tags hold",
      "engine/wal-verify-ends: is checked where both were encrypted together",
    ],
  },
  {
    says: "a writer MUST NOT encrypt it once more, nor an archiver take it",
    tests: [
      "engine/wal-sidecars: a segment whose sidecar is gone is not encrypted once more",
      "engine/wal-sidecars: a segment in readable mode is neither archived nor restored as if it were plain",
    ],
  },
  {
    says: "a reader MUST reject class W for any other path or size",
    tests: [
      "engine/wal-in-datadir: what is no segment of this cluster is sealed whole, and so is one that is cut",
      "engine/forgery: cannot give a file a class that its path or size does not allow",
    ],
  },
  {
    says: "Whoever stores a segment anew MUST therefore also write the CRC",
    tests: [
      "engine/wal-in-datadir: a sync writes the segments that changed, and of the one before them the CRC that crosses",
      "engine/wal-in-datadir: one segment under an old key has all of them sealed anew",
    ],
  },
  {
    says: "a writer MUST neither remove nor replace its sidecar",
    tests: [
      "engine/wal-sidecars: a sidecar beside a plain segment of other content is neither removed nor replaced",
      "engine/wal-sidecars: a segment of one block whose guard is damaged keeps its sidecar",
    ],
  },
  {
    says: "whoever works on the folder next MUST let it take its place before anything else",
    tests: [
      "engine/wal-attacks: a rotation that was killed between its two renames is ended by the next run",
    ],
  },
  {
    says: "a sidecar whose length is no multiple of 8192",
    tests: [
      "format/wal-forgery: a sidecar with a page that has no slot, with too few slots, or of no whole pages is refused",
    ],
  },
  {
    says: "an identity that is not that of the file's name and of the cluster",
    tests: [
      "format/wal-forgery: a sidecar page of another segment, cluster or fork is refused, though its MAC holds",
    ],
  },
  {
    says: "with bounds that do not rise",
    tests: [
      "format/wal-forgery: is refused before its tag is looked at",
      "format/wal-forgery: a carry slot with",
    ],
  },
  {
    says: "SEALED-CRC where this page does not say that it is set",
    tests: [
      "format/wal-forgery: a flag for a sealed CRC that no record gives, and one that is missing, are refused",
    ],
  },
  {
    says: "and carry slots without such a record",
    tests: [
      "format/wal-forgery: carry slots without a record, and a record without carry slots, are refused",
    ],
  },
  {
    says: "bytes from zerosFrom on, or sealed ones, that are not zero",
    tests: [
      "format/wal-forgery: bytes that must be zero are looked at before the tag",
      "format/wal-segments: every byte of a stored segment is authenticated, but zeros are no exception",
      "format/wal-forgery: another key of the same id is a key error, and no block is decrypted under it",
    ],
  },
  {
    says: "a first page without the guard; a stored xl_crc",
    tests: [
      "format/wal-segments: a first page without the guard is found, with keys for the sidecar alone, too",
      "format/wal-forgery: the stored CRC of a record that is whole in its segment is checked, although all tags hold",
    ],
  },
  {
    says: "MUST NOT decompress a chunk before its tag holds, and MUST stop at contentSize bytes",
    tests: [
      "engine/wal-archive: content that decompresses to more or less than its header says is refused",
      "format/container: no plaintext of a chunk comes out before its tag holds",
      "format/container: a container out of its place or from another cluster is refused",
    ],
  },
  {
    says: "In this order, so that damage is not taken for a wrong key:",
    tests: [
      "format/container: a header that is damaged is called so before its fields are named, and before any key is asked for",
    ],
  },
  {
    says: "a magic or version other than these, a contextLength above 4160",
    tests: [
      "format/container: what is no container, and a context of more than 4160 bytes, are refused before anything is read further",
    ],
  },
  {
    says: "a crc that does not hold (format error: the header is damaged)",
    tests: [
      "format/container: a header that is damaged is called so before its fields are named, and before any key is asked for",
    ],
  },
  {
    says: "a suite or compression that it does not support",
    tests: [
      "format/container: fields that this version does not know are refused by name",
      "format/container: a header names at most as much content as there are chunks for",
    ],
  },
  {
    says: "a keyringId that is not the keyring's, a key that the keyring lacks",
    tests: [
      "format/container: a keyring that is another one, lacks the key or has another key says which",
    ],
  },
  {
    says: "compared in constant time, before anything is decrypted (key error)",
    tests: [
      "format/container: a header field that was changed with its CRC made anew makes the key another one",
      "architecture: but the few that have a reason",
    ],
  },
  {
    says: "a context that is not the one of the place where the file was found",
    tests: ["format/container: a container out of its place or from another cluster is refused"],
  },
  {
    says: "a file that ends before its last chunk or goes on after it",
    tests: [
      "format/container: from which the last chunk was cut is called cut short",
      "format/container: bytes after the end of a container",
      "format/container: a last chunk of 0 bytes is refused unless it is the only one, although its tag holds",
      "format/container: more or less content than the header says is refused, although all tags hold",
    ],
  },
  {
    says: "a file gets its name only then",
    tests: [
      "datadir/sealed-file: only chunks whose tag holds reach the target",
      "format/container: can be neither swapped, dropped nor repeated",
    ],
  },
  {
    says: "A writer MUST refuse a file of another cluster than an identity that is there says",
    tests: ["engine/wal-archive: an archive takes the WAL of one cluster only"],
  },
  {
    says: "A writer MUST NOT replace a file of the archive by one with other content",
    tests: [
      "engine/wal-archive: the same content once more is success, other content an error that changes nothing",
      "engine/wal-archive: a file that was renamed, cut, extended or flipped anywhere is not restored",
      "engine/wal-archive: a plain file is restored only where that is allowed",
    ],
  },
  {
    says: "A value has exactly one text; a reader MUST refuse every other",
    tests: [
      "format/manifest: text that is not in canonical form is refused although its root holds",
      "format/manifest: a line without end is refused before it fills the memory",
    ],
  },
  {
    says: "A reader MUST say that it has moved, and MUST NOT write in place before the user has consented",
    tests: [
      "engine/moved-links: a move is told, and no plaintext is written there unasked",
      "engine/moved-links: no ciphertext is written behind a moved link unasked",
      "engine/moved-links: of a directory whose manifest does not say where links led, nothing is told",
    ],
  },
  {
    says: "a reader MUST reject one that stands beside it. Nothing else depends on the scope",
    tests: [
      "engine/scope: out of scope,",
      "engine/scope: a scope seals everything that is no relation, as without one",
    ],
  },
  {
    says: "A reader MUST check all of it before it trusts any of it",
    tests: [
      "format/manifest: a root made anew without the key does not hold",
      "format/manifest: an altered manifest is told from a wrong key",
      "format/manifest: a manifest that changes between the passes is found at the end of the second",
    ],
  },
  {
    says: "a missing, doubled or unknown line; anything after the mac line",
    tests: [
      "format/manifest: text that is not in canonical form is refused although its root holds",
      "format/manifest: every truncation of a manifest, and every extension, is found",
    ],
  },
  {
    says: "PostgreSQL's backup_manifest, where there is one, holds digests of plaintext",
    tests: [
      "engine/backup-manifest: a rewritten backup_manifest is never sealed as an original",
      "live/base-backup: what pg_verifybackup said of missing, unlisted and readable files it still says of the encrypted backup",
    ],
  },
  {
    says: "A reader MUST refuse a backup_manifest that is not laid out as PostgreSQL does",
    tests: [
      "format/backup-manifest: another layout, or a value that PostgreSQL would not write, is refused",
      "format/backup-manifest: a manifest that was changed does not agree with its checksum",
    ],
  },
  {
    says: "a reader MUST reject a file that it would not write the same way",
    tests: [
      "keyring/keyring-file: with the sum made anew, a flipped bit gives a FormatError or a canonical keyring",
    ],
  },
  {
    says: "a writer MUST NOT make such a keyring, and a reader MUST NOT try a passphrase on one",
    tests: [
      "keyring/keyring: a passphrase is tried on no keyring whose recipients someone made to take for ever",
      "keyring/keyring: no keyring is written that a passphrase would not be tried on",
    ],
  },
  {
    says: "It MUST NOT use a DEK before all four hold",
    tests: [
      "keyring/format-doc: a wrapped key, or a check value, that is not its key's is an IntegrityError, although the MAC holds",
      "keyring/keyring: a keyring altered by someone without a key is an IntegrityError",
      "keyring/keyring: a keyring that others can read is refused with the command that mends it",
    ],
  },
  {
    says: "a reader MUST reject any other spelling",
    tests: [
      "keyring/state: every flipped bit and truncation leaves the state unused, with a warning",
      "keyring/state: another keyring's state, and one under a retired or destroyed key, is not used",
      "keyring/state: a damaged file stays as it is unless it may be put aside",
      "keyring/state: an epoch that JSON cannot hold is refused",
    ],
  },
  {
    says: "Only then may the next record be written. A file with several hard links",
    tests: [
      "storage/journal: what was to be written in place last is what is written again",
      "storage/journal: a journal that a snapshot shares by a hard link is not written to",
    ],
  },
  {
    says: "Then a due record is written and synced. Then its steps are done",
    tests: ["cli/real-syncs: every new file is synced before it takes its place"],
  },
  {
    says: "which then MUST hold nothing else and MUST be what the plan has, not a link",
    tests: [
      "engine/claimed-places: writes to no place that became another's while it began",
      "engine/claimed-places: empties what it has claimed, and nobody else may take it meanwhile",
    ],
  },
  {
    says: "A run that is undone MUST leave such a directory alone unless",
    tests: [
      "engine/claimed-places: leaves a place that another run has filled since",
      "engine/claimed-places: follows no link in the place of a tablespace",
      "engine/claimed-places: a claim in the tablespace of a directory is no part of it, and verify says so",
    ],
  },
  {
    says: "SHA-256 over a record's tags MUST be the digest in the manifest's line",
    tests: [
      "engine/decryption-end: files whose tags were taken away are not called proved",
      "attack/cases: what a decryption that was stopped half way has made plain is not taken unseen",
    ],
  },
  {
    says: "If nothing stands behind it, that is a torn write and counts as not written",
    tests: [
      "storage/journal: a record torn in any way but for its beginning counts as not written",
      "storage/journal: another key does not open a journal",
    ],
  },
  {
    says: "a reader MUST find in the state file a run with the journal's run id",
    tests: [
      "engine/directory-run: a journal counts as the state file knows its run, and in no other way",
      "engine/replayed-journal: is taken up without the state file only when that is accepted",
    ],
  },
  {
    says: "- the plan's place MUST be this directory",
    tests: [
      "engine/replayed-journal: that was copied or moved is not taken up",
      "engine/directory-run: a copy of an unfinished directory is refused, with the state file and, if that is accepted, without",
    ],
  },
  {
    says: "one that it does not have MUST lead to a directory with the run's own",
    tests: [
      "engine/moved-links: a run that is taken up touches nothing behind a link that was moved",
      "engine/sync: an interrupted sync does nothing behind a link that",
    ],
  },
  {
    says: "each folder on the way to one of their files MUST be a directory and no link",
    tests: [
      "engine/moved-links: a run that is taken up touches nothing behind a link that was moved",
    ],
  },
  {
    says: "the manifest MUST be the one whose root the plan has as `from`",
    tests: ["engine/directory-run: what a journal says is judged before any of it is done"],
  },
  {
    says: "a run that is marked as ended has nothing to be done",
    tests: [
      "engine/directory-run: of a run that has ended nothing is done any more",
      "engine/replayed-journal: the journal of an ended decryption is not removed beside what a decryption takes away",
      "engine/claimed-places: the journal of an ended run is not removed beside another state",
    ],
  },
  {
    says: "without a committed record, a new directory MUST NOT have its manifest",
    tests: [
      "engine/claimed-places: a finished directory is not emptied, though state file and journal are older",
    ],
  },
  {
    says: "has no journal MUST be kept while the directory has anything of this format in it",
    tests: ["engine/replayed-journal: whose journal is away for a moment"],
  },
  {
    says: "A sync's journal whose epoch is the manifest's is believed only with a committed record",
    tests: ["engine/sync: the journal of a sync that came to its end is not taken up again"],
  },
  {
    says: "Going on, a run MUST hold each file against something that authenticates it now",
    tests: ["engine/replayed-journal: the run does not go on"],
  },
  {
    says: "any other one has a [file salt](#file-salt) of this run, and all its tags hold",
    tests: [
      "engine/replayed-journal: sealed by a run that the manifest does not know, is not vouched for",
      "attack/cases: what the manifest names is not replaced while a widening of scope is unfinished",
      "attack/cases: the journal of a first encryption, put back later, seals nothing",
    ],
  },
  {
    says: "a file that is to be sealed anew has the digest of its line, or a file salt of this run",
    tests: ["engine/rotate: an older file in the place of the newest is not sealed anew"],
  },
  {
    says: "the run may come to its end, and MUST NOT be reported as a success",
    tests: [
      "engine/decryption-end: what still has its sidecar is checked, and what has none any more is said to be unproved",
      "engine/decryption-end: a run that ended, and whose command did not come back to say so, is no success",
    ],
  },
  {
    says: "**sync**: everything is compared with the source once more",
    tests: [
      "engine/sync: an interrupted sync keeps other commands away, and the same one goes on, also with a newer source",
    ],
  },
  {
    says: "a journal without a plan; one of more than 36 MiB",
    tests: [
      "storage/journal: a journal cut anywhere says what its whole records say, or is refused where it has no plan",
      "storage/journal: a file of gigabytes in the journal's place is refused before it is read",
    ],
  },
  {
    says: "a record whose MAC does not hold although bytes stand behind it",
    tests: [
      "storage/journal: every flipped bit is an error or makes the last record torn",
      "storage/journal: records left out, doubled or moved are an error",
      "storage/journal: many lengths that could be records do not keep a reader busy",
    ],
  },
  {
    says: "an unknown type, a second plan, a record before the plan",
    tests: [
      "storage/journal: unknown types and actions, a second plan and cut entries are refused, though the MAC holds",
    ],
  },
  {
    says: "- a path that is absolute or empty, that has an empty part",
    tests: [
      "storage/journal: a path that leads out of the directory is refused, though the MAC holds",
    ],
  },
  {
    says: "a reader of single files MUST NOT take it for whole",
    tests: [
      "engine/directory-info: of an unfinished run it tells which, and counts keys in the files",
      "engine/decrypt-relations: stopped anywhere, the same call or a decryption of the whole never takes the rest for done",
    ],
  },
  {
    says: "Unknown is never guessed",
    tests: [
      "format/container: fields that this version does not know are refused by name",
      "format/tampering: is refused before its tag is looked at",
      "keyring/keyring-file: is rejected",
    ],
  },
  {
    says: "before it allocates anything for it",
    tests: [
      "format/wal-forgery: a length that the segment cannot hold is no reason to take memory for it",
      "engine/odd-files: no command reads of a file what it cannot have, before it refuses the directory",
    ],
  },
  {
    says: "- tags shorter than 16 bytes",
    tests: ["crypto/gcm: a tag that is a part of the right one, or longer than it, opens nothing"],
  },
  {
    says: "in a data directory a path through a symbolic link other than `pg_wal`",
    tests: [
      "format/manifest: only relative paths that stay inside are safe",
      "datadir/walk: only the links to WAL and tablespaces are followed",
      "storage/node-file-system: a link is not opened, whatever it leads to",
    ],
  },
  {
    says: "- a system identifier that is not pg_control's",
    tests: ["engine/forgery: the same relation of another cluster fails in every block"],
  },
  {
    says: "files, sidecars or links that no line of the manifest names",
    tests: [
      "engine/tampering: found by verify and refused by decryption",
      "engine/backup-manifest: the sidecar of a file that must not be missing is reported without it",
    ],
  },
  {
    says: "nor let a new manifest vouch for an added file that stays readable",
    tests: [
      "engine/accepted-changes: verify accepts only what is named, and names the rest",
      "engine/accepted-changes: is nothing that could be accepted",
      "engine/accepted-changes: what is added, stays readable and is no configuration is not taken in by encrypting again",
    ],
  },
  {
    says: "a file that was looked for and is not there MUST have no line",
    tests: ["engine/held-catalog: a name is refused, and nothing is changed"],
  },
  {
    says: "such a directory is damaged, not plain",
    tests: [
      "engine/directory-info: a directory is inconsistent and not plain when",
      "engine/replayed-journal: a directory with a guard, but neither manifest nor journal, is not encrypted",
    ],
  },
  {
    says: "a manifest under a retired key, and one whose epoch is below that of the state file",
    tests: [
      "keyring/state: an epoch is judged against the newest one seen",
      "engine/rotate: from a retired key one rotates only with --accept-older",
      "cli/bad-input: an older copy of the whole directory is known by the state file, and by --expect-root",
    ],
  },
  {
    says: "a file gets its name only after its last tag",
    tests: ["datadir/sealed-file: only chunks whose tag holds reach the target"],
  },
  {
    says: "it MUST write the whole file with a new salt before there could be 2^31",
    tests: [
      "engine/sync: a file is written whole, under a new salt, before its key could have had 2^31 messages",
      "engine/nonces: no nonce comes twice under one key over an encryption and syncs of pages, files and WAL",
    ],
  },
  {
    says: "A reader of relation files MUST reject fork 16 and slot kinds above 3",
    tests: [
      "format/tampering: is refused, though its MAC and checksum hold",
      "format/tampering: is refused before its tag is looked at",
    ],
  },
  {
    says: "A reader MUST reject a version that it does not know",
    tests: [
      "format/container: what is no container, and a context of more than 4160 bytes, are refused before anything is read further",
      "format/tampering: is refused, though its MAC and checksum hold",
      "keyring/keyring-file: is rejected",
    ],
  },
];
