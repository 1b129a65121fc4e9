/**
 * Carries out `tde recover` and prints what came of it.
 */
import type { BytePath } from "../bytes/byte-path.ts";
import { DAMAGE_REPORT } from "../engine/damage.ts";
import { recoverDatadir, type RecoveryOutcome } from "../engine/recover.ts";
import { engineContext, keyContext } from "./engine-context.ts";
import { assertKeysApart } from "./key-places.ts";
import { namingRelations } from "./naming-relations.ts";
import { openKeyringFromOptions } from "./open-keyring.ts";
import { unprovedText } from "./decrypt-action.ts";
import { ExitCode } from "./exit-codes.ts";
import {
  type DataDirectoryFlags,
  dataDirectoryFrom,
  type KeyringFlags,
  type OutputFlags,
  type SecretFlags,
  type WorkFlags,
  type StateConsentFlags,
} from "./options.ts";
import { createOutput } from "./output.ts";

export type RecoverFlags = DataDirectoryFlags &
  KeyringFlags &
  SecretFlags &
  StateConsentFlags &
  OutputFlags &
  WorkFlags;

const TEXTS: Readonly<Record<RecoveryOutcome, string>> = {
  "nothing-to-do": "nothing to recover: no run was interrupted here",
  "encryption-finished": "the interrupted encryption is finished: the directory is encrypted",
  "encryption-undone":
    "the interrupted encryption had been undone: the directory is as it was before",
  "decryption-finished":
    "the interrupted decryption is finished: the directory is as it was before encryption",
  "decryption-damaged": `the interrupted decryption is finished, and DAMAGED files are not as they were: "${DAMAGE_REPORT}" lists them`,
  "decryption-ended":
    "the interrupted decryption had come to its end: what was left of it is removed",
  "decryption-unproved": `the interrupted decryption had come to its end: what was left of it is removed. ${unprovedText("all")}`,
  "rotation-finished": "the interrupted rotation is finished: the directory is encrypted",
  "sync-finished": "the interrupted sync is finished: the encrypted copy is as its source was then",
  "sync-undone": "the interrupted sync had not begun to write: the encrypted copy is as it was",
  "output-finished":
    'the new directory was finished already: all that its manifest names is there, and "tde verify" checks what is in it',
  "output-altered":
    'the new directory was finished already, and it is NOT what the run had made: "tde verify" lists every problem',
  "output-unproved": `the new directory was finished already: what was left of its run is removed. ${unprovedText("all")}`,
  "output-damaged": `the new directory was finished already, and DAMAGED files are not as they were: "${DAMAGE_REPORT}" lists them. ${unprovedText("all")}`,
  "output-emptied": "the new directory was not whole: it is empty again",
  "output-place-left":
    "the new directory was not whole, and is empty again; the place of a tablespace is LEFT AS IT IS, and what the run wrote may still be there: see what it holds, and delete what is worth nothing",
  "output-ended": "the run into the new directory had been undone: its journal is removed",
  "output-forgotten":
    "a run into this directory was open, and its journal is gone: it is forgotten, and what it wrote in other places may still be there",
};

export async function recover(
  positional: BytePath | undefined,
  flags: RecoverFlags,
): Promise<void> {
  const output = createOutput(flags);
  const root = dataDirectoryFrom(flags, positional);
  const command = "tde recover";
  const engine = await engineContext(command, flags, output);
  assertKeysApart(engine.fs, flags, root);
  const opened = await openKeyringFromOptions(flags, command, output, engine.fs);
  const outcome = await namingRelations(engine, opened.dataKeys, root, () =>
    recoverDatadir(engine, keyContext(opened, engine, output, flags), root),
  );
  if (flags.format === "json") output.json({ outcome });
  else output.result(TEXTS[outcome]);
  if (NOT_AS_IT_WAS.includes(outcome)) process.exitCode = ExitCode.integrity;
  if (NOT_ALL_GONE.includes(outcome)) process.exitCode = ExitCode.state;
}

const NOT_AS_IT_WAS: readonly RecoveryOutcome[] = [
  "decryption-unproved",
  "decryption-damaged",
  "output-altered",
  "output-unproved",
  "output-damaged",
];

/** The user has to see to the rest. */
const NOT_ALL_GONE: readonly RecoveryOutcome[] = ["output-place-left", "output-forgotten"];
