import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  GUARD_SETTING,
  guardFileContent,
  isGuardFile,
  readSettings,
  secretHbaOptions,
  secretSettings,
  settingsBesideGuard,
} from "../../src/format/postgres-conf.ts";
import { assertProperty } from "../support/property.ts";

function settings(text: string): string[] {
  return readSettings(Buffer.from(text, "latin1")).map(
    ({ name, value, line, commented }) => `${line} ${commented ? "#" : ""}${name}=${value}`,
  );
}

function secrets(text: string): string[] {
  return secretSettings(Buffer.from(text, "latin1")).map(
    ({ name, line, commented, reason }) => `${line} ${commented ? "#" : ""}${name} ${reason}`,
  );
}

test("settings are read in every form that PostgreSQL takes", () => {
  const text = [
    "port = 5432",
    "  Work_Mem 4MB   # comment",
    "a.b='it''s \\'quoted\\' # no comment' # comment",
    "search_path='\"$user\", public'",
    "#max_connections = 100",
    "# this is prose",
    "",
    "include_dir 'conf.d'",
    "octal = '\\101\\n'",
    "broken = 'no end",
    "shared_buffers=128MB\r",
  ].join("\n");
  assert.deepEqual(settings(text), [
    "1 port=5432",
    "2 work_mem=4MB",
    "3 a.b=it's 'quoted' # no comment",
    '4 search_path="$user", public',
    "5 #max_connections=100",
    "8 include_dir=conf.d",
    "9 octal=A\n",
    "11 shared_buffers=128MB",
  ]);
});

test("settings that may carry a password are named by line, in comments too, and never with their value", () => {
  const text = [
    "primary_conninfo = 'host=a user=b password=hunter2'",
    "primary_conninfo = 'host=a user=b'",
    "primary_conninfo = 'postgresql://bob:hunter2@host/db'",
    "primary_conninfo = 'host=a sslpassword=''hunter2'''",
    "archive_command = 'cp %p /x'",
    "restore_command=''",
    "#restore_command = 'fetch --token hunter2'",
    "ssl_passphrase_command = 'echo hunter2'",
    "password_encryption = scram-sha-256",
    "ssl_passphrase_command_supports_reload = off",
    "my_extension.api_key = 'hunter2'",
    "cron.host = 'password = hunter2'",
    "# the password is in the safe",
    "# old: primary_conninfo password=hunter2",
    "primary_conninfo = 'password=hunter2",
    "port = 5432",
  ].join("\n");
  assert.deepEqual(secrets(text), [
    "1 primary_conninfo password",
    "3 primary_conninfo password",
    "4 primary_conninfo password",
    "5 archive_command command",
    "7 #restore_command command",
    "8 ssl_passphrase_command command",
    "11 my_extension.api_key password",
    "12 cron.host password",
    "14 #a line that is no setting password",
    "15 a line that is no setting password",
  ]);
  assert.ok(!JSON.stringify(secretSettings(Buffer.from(text))).includes("hunter2"));
});

test("passwords in pg_hba.conf are named by option and line", () => {
  const text = [
    "# TYPE  DATABASE  USER  ADDRESS  METHOD",
    'host all all 0.0.0.0/0 ldap ldapserver=x ldapbindpasswd="hunter2"',
    "host all all 0.0.0.0/0 ldap \\",
    "  ldapbindpasswd=hunter2",
    "#host all all ::/0 radius radiusservers=a radiussecrets=hunter2",
    "host all all ::/0 password",
  ].join("\n");
  const found = secretHbaOptions(Buffer.from(text));
  assert.deepEqual(
    found.map(({ name, line, commented }) => `${line} ${commented ? "#" : ""}${name}`),
    ["2 ldapbindpasswd", "4 ldapbindpasswd", "5 #radiussecrets"],
  );
  assert.ok(!JSON.stringify(found).includes("hunter2"));
});

test("the guard is known as such, alone and with settings that a restore tool added", () => {
  const guard = guardFileContent();
  assert.deepEqual(readSettings(guard), [
    { name: GUARD_SETTING, value: "on", line: 4, commented: false },
  ]);
  assert.ok(!GUARD_SETTING.includes("."));
  assert.equal(isGuardFile(guard), true);
  assert.deepEqual(settingsBesideGuard(guard), []);
  const added = Buffer.concat([guard, Buffer.from("restore_command = 'fetch %f %p'\n")]);
  assert.equal(isGuardFile(added), true);
  assert.deepEqual(
    settingsBesideGuard(added).map(({ name, line }) => `${line} ${name}`),
    ["5 restore_command"],
  );
  assert.equal(isGuardFile(Buffer.from("port = 1\n")), false);
  assert.equal(isGuardFile(Buffer.from(`#${GUARD_SETTING} = on\n`)), false);
  assert.equal(isGuardFile(Buffer.alloc(0)), false);
});

test("the guard's name fits into what a server keeps of a name", () => {
  // A longer name would still stop the server; all of it should appear in the log.
  assert.ok(GUARD_SETTING.length < 200 && /^[a-z_]+$/.test(GUARD_SETTING));
});

test("any bytes are read without an error", () => {
  const pieces = fc.constantFrom(
    "'",
    "\\",
    "=",
    "#",
    " ",
    "\n",
    "a",
    "password",
    "''",
    "\xff",
    "\0",
  );
  const texts = fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join(""));
  assertProperty(
    fc.property(texts, (text) => {
      const bytes = Buffer.from(text, "latin1");
      const lines = text.split("\n").length;
      for (const { line } of [
        ...readSettings(bytes),
        ...secretSettings(bytes),
        ...secretHbaOptions(bytes),
      ]) {
        assert.ok(line >= 1 && line <= lines);
      }
    }),
    300,
  );
});

test("a value of megabytes is read to its end", () => {
  const value = "a''\\101".repeat(2 ** 20);
  const [setting] = readSettings(Buffer.from(`x = '${value}'`, "latin1"));
  assert.equal(setting?.value.length, 3 * 2 ** 20);
  assert.equal(setting.value.slice(0, 6), "a'Aa'A");
  assert.deepEqual(settings(`x = '${value}`), []);
});
