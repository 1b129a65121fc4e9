/**
 * Reads all that is to be decrypted to its last tag, before anything is written: what is wrong then costs nothing, what is
 * found half way leaves a directory that is neither encrypted nor plain. What is wrong either ends the command, or is what it
 * has to do without, as the user chose.
 */
import { type BytePath, displayPath } from "../bytes/byte-path.ts";
import { AUTO_CONF } from "../datadir/classify.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { IntegrityError, KeyError, StorageError, type TdeError } from "../errors.ts";
import type { ManifestEntry } from "../format/manifest-entry.ts";
import type { Manifest } from "../format/manifest.ts";
import type { ProblemKind } from "../format/problem.ts";
import type { FileSystem } from "../storage/file-system.ts";
import { acceptOption } from "./accepted-changes.ts";
import type { EngineContext, KeyContext } from "./context.ts";
import type { Damage, DamagedFile, DamagePolicy } from "./damage.ts";
import { fateOf } from "./salvage-files.ts";
import { examineDatadir } from "./verify-datadir.ts";
import type { NamedProblem } from "./verify-report.ts";

const CONTROL_PATH = "global/pg_control";

/** So many names go into the journal, and so many bytes. */
const MAX_DAMAGED_FILES = 20_000;
const MAX_PLAN_BYTES = 2 ** 23;

const WORKING_NAME =
  "Nothing was changed. It is called like a working file of tde's, and no run left it: move it out of the data directory, and run the same command again.";

/**
 * @param policy - fail: whatever is wrong is an error.
 * @returns what is wrong, and is to be done without; undefined where nothing is.
 * @throws {IntegrityError} that names the first problem and how many there are; {KeyError} {StorageError}.
 */
export async function preflight(
  engine: EngineContext,
  keyContext: KeyContext,
  datadir: Datadir,
  manifest: Manifest,
  { policy, acceptChanged }: { policy: DamagePolicy; acceptChanged: readonly BytePath[] },
): Promise<Damage | undefined> {
  const { report, wrongFiles } = await examineDatadir(engine, keyContext, datadir, acceptChanged);
  const wrong = new Map(wrongFiles);
  // Both have rules of their own, which have been held against them.
  for (const path of [CONTROL_PATH, AUTO_CONF]) wrong.delete(path);
  if (wrong.size === 0) return undefined;
  const firsts = new Map<string, NamedProblem>();
  for (const problem of report.problems)
    if (wrong.has(problem.path) && !firsts.has(problem.path)) firsts.set(problem.path, problem);
  if (policy === "fail") throw refusal(report.problemCount, firsts, wrong.size);

  const { fs } = engine;
  const files: DamagedFile[] = [];
  const describe = (path: BytePath, entry: ManifestEntry | undefined): DamagedFile => {
    const first = firsts.get(displayPath(path));
    const fate = fateOf(fs, datadir, policy, path, entry);
    return { path, why: whyOf(first), relation: first?.relation, fate };
  };
  for (const entry of manifest.entries()) {
    const name = displayPath(entry.path);
    const kinds = wrong.get(name);
    if (kinds === undefined) continue;
    wrong.delete(name);
    assertCanDoWithout(entry, kinds, firsts.get(name));
    files.push(describe(entry.path, entry));
  }
  const extra: DamagedFile[] = [];
  const found = entriesCalled(fs, datadir, wrong);
  for (const [name, kinds] of wrong) {
    const problem = firsts.get(name);
    const entry = found.get(name);
    if (entry === undefined || !kinds.has("extra")) throw cannotDoWithout(name, problem);
    const { path, classification } = entry;
    assertNotToAccept(path, undefined, problem);
    if (classification.class === "working") throw cannotDoWithout(name, problem, WORKING_NAME);
    extra.push(describe(path, undefined));
  }
  if (files.length + extra.length > MAX_DAMAGED_FILES) {
    throw new IntegrityError(
      `${files.length + extra.length} files are damaged, more than the ${MAX_DAMAGED_FILES} that can be dealt with one by one`,
      { hint: "Nothing was changed. Restore the directory as a whole from a backup." },
    );
  }
  const damage = { policy, files, extra };
  const planBytes = Buffer.byteLength(JSON.stringify(damage));
  if (planBytes > MAX_PLAN_BYTES) {
    throw new IntegrityError(
      `the names of ${files.length + extra.length} damaged files have ${planBytes} bytes, more than the ${MAX_PLAN_BYTES} that can be dealt with one by one`,
      { hint: "Nothing was changed. Restore the directory as a whole from a backup." },
    );
  }
  return damage;
}

/** What is there under displayed names, which several paths could share: then it is none of them. */
function entriesCalled(
  fs: FileSystem,
  datadir: Datadir,
  names: ReadonlyMap<string, unknown>,
): ReadonlyMap<string, WalkEntry> {
  const found = new Map<string, WalkEntry>();
  const doubled = new Set<string>();
  if (names.size === 0) return found;
  const passOver = (): void => {};
  for (const entry of walkDatadir(fs, datadir.root, datadir, passOver)) {
    const name = displayPath(entry.path);
    if (!names.has(name)) continue;
    if (found.has(name)) doubled.add(name);
    found.set(name, entry);
  }
  for (const name of doubled) found.delete(name);
  return found;
}

/** @throws for what no decryption can do without. */
function assertCanDoWithout(
  entry: ManifestEntry,
  kinds: ReadonlySet<ProblemKind>,
  problem: NamedProblem | undefined,
): void {
  const { path } = entry;
  assertNotToAccept(path, entry, problem);
  // A page's slot that was damaged may name another key: then its sidecar does not hold either.
  const isKey = kinds.has("key") && !kinds.has("sidecar");
  const isUnreadableFolder =
    kinds.has("unreadable") && (entry.class === "D" || entry.class === "L");
  if (isKey || isUnreadableFolder) throw cannotDoWithout(displayPath(path), problem);
}

/** Configuration that was changed has an option of its own, which names it. */
function assertNotToAccept(
  path: BytePath,
  entry: ManifestEntry | undefined,
  problem: NamedProblem | undefined,
): void {
  const option = acceptOption(path, entry);
  if (option === undefined) return;
  const text = textOf(displayPath(path), problem);
  throw new IntegrityError(text, {
    file: displayPath(path),
    hint: `Nothing was changed. Configuration is no damage: if it was changed on purpose, give ${option}.`,
  });
}

function cannotDoWithout(
  name: string,
  problem: NamedProblem | undefined,
  hint = 'Nothing was changed. Without this nothing can be decrypted, whatever --damaged says. "tde verify" lists every problem.',
): TdeError {
  if (problem?.kind === "state") return stateDoubted(problem);
  const details = { file: name, hint };
  const text = textOf(name, problem);
  if (problem?.kind === "key") return new KeyError(text, details);
  if (problem?.kind === "unreadable") return new StorageError(text, details);
  return new IntegrityError(text, details);
}

/** Of the state file, beside the keyring. */
function stateDoubted({ message }: NamedProblem): TdeError {
  return new IntegrityError(message, {
    hint: "Nothing was changed. Bring the newest copy of the state file back. If there is none, give --without-state: then nothing tells an older copy of the directory from the newest.",
  });
}

function whyOf(problem: NamedProblem | undefined): string {
  if (problem === undefined) return "it is damaged";
  const { block, message } = problem;
  return block === undefined ? message : `block ${block}: ${message}`;
}

function textOf(name: string, problem: NamedProblem | undefined): string {
  return problem?.block === undefined
    ? `${name}: ${whyOf(problem)}`
    : `${name} block ${problem.block}: ${problem.message}`;
}

function refusal(
  count: number,
  firsts: ReadonlyMap<string, NamedProblem>,
  fileCount: number,
): TdeError {
  const state = [...firsts.values()].find(({ kind }) => kind === "state");
  if (state !== undefined) return stateDoubted(state);
  const [first] = firsts.values();
  const path = first?.path ?? "";
  const files = fileCount === 1 ? "1 file" : `${fileCount} files`;
  const more = count > 1 ? ` (${count} problems in ${files})` : "";
  const text = `${textOf(path, first)}${more}`;
  const option = acceptOption(path as BytePath, undefined);
  if (option !== undefined) {
    const hint = `Nothing was changed. If you did that on purpose, give ${option}. "tde verify" lists every problem.`;
    return new IntegrityError(text, { file: path, hint });
  }
  const details = {
    file: path,
    hint: `Nothing was changed. "tde verify" lists every problem. Restore what is damaged from a backup of the encrypted directory; or give --damaged=keep, which decrypts all else; with -n it says what becomes of each damaged file.`,
  };
  if (first?.kind === "key") return new KeyError(text, { file: path });
  if (first?.kind === "unreadable") return new StorageError(text, details);
  return new IntegrityError(text, details);
}
