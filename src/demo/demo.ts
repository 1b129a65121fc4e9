/**
 * `tde demo`: a real PostgreSQL cluster is made, filled, stopped, encrypted, searched, verified, damaged,
 * repaired, decrypted and started again, with an account of each step. Every claim in the account is checked as
 * it is made, and the demo fails where one is not true.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "../crypto/primitives.ts";
import { StateError } from "../errors.ts";
import { Account, Surprise } from "./account.ts";
import { EMBEDDED_MAJORS, findPostgres } from "./embedded-postgres.ts";
import { filesBelow, findTexts } from "./find-text.ts";
import { initializeCluster, PostgresServer, type ServerHome } from "./postgres-server.ts";
import { serverUser } from "./server-user.ts";
import { type TableChecksum, tableChecksums } from "./table-checksums.ts";
import { makeTemporaryFolder } from "./temporary-folder.ts";

export interface DemoOptions {
  /** Takes one line of the account, without its end. */
  readonly out: (text: string) => void;
  /** Leaves the demo's folder, with the decrypted cluster, where it is. */
  readonly keep: boolean;
  /** The major of PostgreSQL to run; the newest one installed when undefined. */
  readonly major: number | undefined;
}

/** Exit code of the demo when its account is not true: a bug (src/cli/exit-codes.ts). */
const SURPRISED = 70;
const FOUND_DAMAGE = 3;

const SECRET = "card 4929-1385-0077-2466 of Ada Lovelace";
const CUSTOMERS = 120_000;
const ORDERS = 240_000;

const SCHEMA = [
  `CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, payment text, born date)`,
  `INSERT INTO customers
     SELECT i, 'customer ' || i, 'card ' || md5(i::text), date '1940-01-01' + i % 25000
       FROM generate_series(1, ${CUSTOMERS}) AS i`,
  `UPDATE customers SET payment = '${SECRET}' WHERE id = 4711`,
  "CREATE INDEX customers_payment ON customers (payment)",
  `CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, placed timestamptz, items jsonb)`,
  `INSERT INTO orders
     SELECT i, 1 + i % ${CUSTOMERS}, timestamptz '2024-01-01 00:00:00+00' + i * interval '1 minute',
            jsonb_build_object('sku', 'A' || i % 977, 'count', 1 + i % 5)
       FROM generate_series(1, ${ORDERS}) AS i`,
  "CREATE INDEX orders_items ON orders USING gin (items)",
  "CREATE MATERIALIZED VIEW revenue AS SELECT customer, count(*) AS orders FROM orders GROUP BY customer",
  "VACUUM ANALYZE",
];

const KEYS = ["--keyring", "app.keyring", "--key-file", "kek.key"] as const;

/**
 * Runs the demo in a temporary folder, which is removed at the end, also when the demo is interrupted.
 * @returns the exit code: 0, or 70 when something was not as the account says.
 * @throws {StateError} when there is no PostgreSQL that could run here.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const folder = makeTemporaryFolder("tde-demo");
  const account = new Account(options.out, folder.path);
  try {
    const user = serverUser();
    const programs = findNewest(options.major, { user, scratch: folder.path });
    await tell(account, { programs, user, folder });
    return 0;
  } catch (error) {
    if (!(error instanceof Surprise)) throw error;
    account.say(`This should not have happened: ${error.message}.`);
    account.say("It is a bug: please report it with everything above.");
    return SURPRISED;
  } finally {
    if (options.keep) {
      folder.keep();
      account.say(`Everything is still in ${folder.path}.`);
    } else folder.remove();
  }
}

async function tell(account: Account, home: ServerHome): Promise<void> {
  const datadir = join(home.folder.path, "data");

  account.step(`A cluster of PostgreSQL ${home.programs.version}, with data checksums`);
  account.say(`Everything happens in ${home.folder.path}, which is removed at the end.`);
  initializeCluster(home, datadir, { checksums: true });
  const { before, table } = await load(account, home, datadir);

  account.step("What a thief of the disk reads today");
  const inPlain = search(account, datadir);
  account.expect(inPlain.length > 0, "the secret is not even in the plain files");
  const plainFiles = digests(datadir);

  account.step("Make a keyring and encrypt");
  account.tde(["keyring", "create", ...KEYS, "--new-key-file"], 0);
  account.tde(["encrypt-datadir", "-D", "data", ...KEYS], 0);

  account.step("What the thief reads now");
  const encrypted = search(account, datadir);
  account.expect(encrypted.length === 0, "the secret can still be read");

  account.step("PostgreSQL refuses to touch the encrypted directory");
  await showRefusal(account, home, datadir);
  showPageChecksums(account, home);

  account.step("Verify: every page, every entry, every file");
  account.tde(["verify", "-D", "data", ...KEYS], 0);

  account.step("Somebody changes one byte");
  damage(account, datadir, table);

  account.step("Decrypt");
  account.tde(["decrypt-datadir", "-D", "data", ...KEYS], 0);
  compareFiles(account, plainFiles, digests(datadir));

  account.step("Start PostgreSQL again and compare every table");
  const server = await PostgresServer.start(home, datadir);
  try {
    compareTables(account, before, await tableChecksums(server));
  } finally {
    await server.stop();
  }
  account.step("Done");
  account.say("A real cluster was encrypted, read by nobody, verified, and came back whole.");
}

/** @returns what the tables hold, and the file of the table with the secret, relative to the data directory. */
async function load(
  account: Account,
  home: ServerHome,
  datadir: string,
): Promise<{ before: ReadonlyMap<string, TableChecksum>; table: string }> {
  const server = await PostgresServer.start(home, datadir);
  try {
    await server.run("postgres", "CREATE DATABASE shop");
    await server.run("shop", ...SCHEMA);
    account.say(
      `${count(CUSTOMERS)} customers and ${count(ORDERS)} orders are in it; one customer has`,
    );
    account.say(`the ${SECRET}.`);
    const before = await tableChecksums(server);
    const [[table] = []] = await server.query("shop", "SELECT pg_relation_filepath('customers')");
    if (typeof table !== "string") throw new Surprise("the table customers has no file");
    return { before, table };
  } finally {
    await server.stop();
    account.say("The server has been stopped.");
  }
}

function search(account: Account, datadir: string): string[] {
  account.say(`$ grep -r '${SECRET}' data`);
  const paths = findTexts(datadir, { secret: SECRET }).map(({ path }) => `data/${path}`);
  if (paths.length === 0) account.say("Nothing found.");
  else account.quote(paths.map((path) => `${path}: binary file matches`).join("\n"));
  return paths;
}

async function showRefusal(account: Account, home: ServerHome, datadir: string): Promise<void> {
  const digestsBefore = digests(datadir);
  account.say("$ postgres -D data");
  let server: PostgresServer;
  try {
    server = await PostgresServer.start(home, datadir);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    account.quote(error.message.replace(/^.*did not start: /, ""));
    const changed = differences(digestsBefore, digests(datadir));
    account.expect(changed.length === 0, `the refused server changed ${changed.join(", ")}`);
    account.say("No file was changed by the attempt.");
    return;
  }
  await server.stop();
  throw new Surprise("PostgreSQL started on an encrypted directory");
}

/** Only where the system has the stock tool of the same major: npm's servers come without it. */
function showPageChecksums(account: Account, { programs: { major } }: ServerHome): void {
  const tool = `/usr/lib/postgresql/${major}/bin/pg_checksums`;
  if (!existsSync(tool)) return;
  account.step("Stock pg_checksums still accepts every page, without any key");
  account.program(tool, ["--check", "-D", "data"], 0);
}

function damage(account: Account, datadir: string, table: string): void {
  const file = join(datadir, table);
  const offset = 42 * 8192 + 4321;
  const original = readByte(file, offset);
  writeByte(file, offset, original ^ 0x10);
  account.say(`One bit of byte ${offset} (block 42) of data/${table} is flipped.`);
  const { output } = account.tde(["verify", "-D", "data", ...KEYS], FOUND_DAMAGE);
  account.expect(output.includes(table), "verify did not name the damaged file");
  writeByte(file, offset, original);
  account.say("The byte is put back.");
  account.tde(["verify", "-D", "data", ...KEYS, "-q"], 0);
}

function compareFiles(account: Account, before: Digests, after: Digests): void {
  const changed = differences(before, after);
  account.expect(changed.length === 0, `${changed.slice(0, 5).join(", ")} came back otherwise`);
  account.say(`All ${count(before.size)} files are back, byte for byte.`);
}

function compareTables(
  account: Account,
  before: ReadonlyMap<string, TableChecksum>,
  after: ReadonlyMap<string, TableChecksum>,
): void {
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const [was, is] = [before.get(name), after.get(name)];
    const same = was?.rows === is?.rows && was?.checksum === is?.checksum;
    account.expect(same, `table ${name} does not hold what it held`);
  }
  const tables = [...after].filter(([name]) => name.startsWith("shop.public."));
  for (const [name, { rows, checksum }] of tables.sort(([a], [b]) => (a < b ? -1 : 1))) {
    account.say(
      `${name.padEnd(24)} ${count(rows).padStart(8)} rows, checksum ${checksum}: the same`,
    );
  }
  account.say(`All ${count(after.size)} tables are as they were, system catalogs included.`);
}

type Digests = ReadonlyMap<string, string>;

function digests(datadir: string): Digests {
  const folder = Buffer.from(datadir);
  const paths = filesBelow(folder, "");
  return new Map(
    paths.map((path) => {
      const file = Buffer.concat([folder, Buffer.from(`/${path}`, "latin1")]);
      return [path, sha256(readFileSync(file)).toString("hex")];
    }),
  );
}

function differences(before: Digests, after: Digests): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].filter(
    (path) => before.get(path) !== after.get(path),
  );
}

function readByte(path: string, offset: number): number {
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(1);
    readSync(file, buffer, 0, 1, offset);
    return buffer.readUInt8();
  } finally {
    closeSync(file);
  }
}

function writeByte(path: string, offset: number, value: number): void {
  const file = openSync(path, "r+");
  try {
    writeSync(file, Buffer.of(value), 0, 1, offset);
  } finally {
    closeSync(file);
  }
}

function findNewest(
  major: number | undefined,
  options: Parameters<typeof findPostgres>[1],
): ServerHome["programs"] {
  if (major !== undefined) return findPostgres(major, options);
  let last: unknown;
  for (const candidate of EMBEDDED_MAJORS) {
    try {
      return findPostgres(candidate, options);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}
