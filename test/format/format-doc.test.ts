/** docs/FORMAT.md against the code: offset tables, names, labels and limits cannot drift apart. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { OWN_FILES } from "../../src/datadir/classify.ts";
import { sidecarName, workingName } from "../../src/datadir/relation-path.ts";
import { bytePath } from "../../src/bytes/byte-path.ts";
import { ABSENT_CONTEXT, AUTO_CONF } from "../../src/engine/guard.ts";
import { CONTEXT_LIMIT_BYTES, fileContext, linkContext } from "../../src/format/container.ts";
import { FORK, IDENTITY_BYTES } from "../../src/format/identity.ts";
import { SEALED_PAGE_MARK, wrongOnPurpose } from "../../src/format/page-message.ts";
import { GUARD_SETTING, guardFileContent, isGuardFile } from "../../src/format/postgres-conf.ts";
import {
  SIDECAR_FLAG_LAST,
  SIDECAR_MAC_BYTES,
  SIDECAR_MAGIC,
  SIDECAR_VERSION,
  slotsPerPage,
  SPECIAL,
  SPECIAL_BYTES,
} from "../../src/format/sidecar-page.ts";
import {
  SLOT,
  SLOT_AAD_BYTES,
  SLOT_BYTES,
  SLOT_FLAG,
  SLOT_KIND,
  SUITE_AES_256_GCM,
} from "../../src/format/slot.ts";
import { CARRY, SEALED_CRC_OFFSET, WAL_SLOT_FLAG } from "../../src/format/wal/wal-slot.ts";
import { KEYRING_LIMIT_BYTES, RECIPIENT_LIMIT } from "../../src/keyring/keyring-file.ts";
import { recipientTypes } from "../../src/keyring/recipient-types.ts";
import { STATE_LIMIT_BYTES } from "../../src/keyring/state-file.ts";
import { CONTROL_FILE_BYTES, parseControlFile } from "../../src/postgres/control-file.ts";
import { crc32c } from "../../src/postgres/crc32c.ts";
import { PAGE_HEADER, PAGE_HEADER_BYTES } from "../../src/postgres/page.ts";
import { SUPPORTED_MAJORS } from "../../src/postgres/version.ts";
import {
  JOURNAL_HEADER,
  JOURNAL_HEADER_BYTES,
  JOURNAL_NAME,
  JOURNAL_OPERATION,
  NEW_JOURNAL_NAME,
  RECORD_TYPE,
} from "../../src/storage/journal.ts";
import { walFormatOf } from "../../src/wal/wal-format.ts";
import { readFixture } from "../support/fixtures.ts";
import { FORMAT_DOCUMENT, section, tablesOf } from "../support/format-document.ts";

interface Row {
  readonly offset: string;
  readonly size: string;
  readonly field: string;
  readonly meaning: string;
}

function structure(heading: string, index = 0): Row[] {
  return (tablesOf(heading)[index] ?? []).map(
    ([offset = "", size = "", , field = "", meaning = ""]) => ({ offset, size, field, meaning }),
  );
}

function assertSame(
  rows: readonly Row[],
  offsets: Readonly<Record<string, number>>,
  totalBytes: number,
): void {
  const documented = Object.fromEntries(rows.map(({ field, offset }) => [field, Number(offset)]));
  assert.deepEqual(documented, { ...offsets });
  let end = 0;
  for (const { offset, size, field } of rows) {
    assert.equal(Number(offset), end, `no gap and no overlap before ${field}`);
    end += Number(size);
  }
  assert.equal(end, totalBytes);
}

function meaningOf(rows: readonly Row[], field: string): string {
  return rows.find((row) => row.field === field)?.meaning ?? "";
}

/** `0 main, 1 fsm` as { main: 0, fsm: 1 }. */
function codesIn(text: string): Record<string, number> {
  const pairs = [...text.matchAll(/\b(\d+) ([a-z]\w*)/g)];
  return Object.fromEntries(pairs.map(([, code, name]) => [name ?? "", Number(code)]));
}

test("the table of the special space agrees with the code", () => {
  const rows = structure("### Sidecar page", 1);
  assertSame(rows, SPECIAL, SPECIAL_BYTES);
  assert.ok(meaningOf(rows, "magic").startsWith(spaced(SIDECAR_MAGIC)));
  assert.equal(Number(meaningOf(rows, "version")), SIDECAR_VERSION);
  assert.match(meaningOf(rows, "flags"), /^bit 0, LAST/);
  assert.equal(SIDECAR_FLAG_LAST, 1);
  assert.equal(SPECIAL.mac + SIDECAR_MAC_BYTES, SPECIAL_BYTES);
});

test("the table of a sidecar page agrees with PostgreSQL's page header and the special space", () => {
  const rows = structure("### Sidecar page", 0);
  const names = ["lsn", "checksum", "flags", "lower", "upper", "special"];
  for (const [i, name] of names.entries()) {
    assert.equal(rows[i]?.field, `pd_${name}`);
    assert.equal(Number(rows[i]?.offset), PAGE_HEADER[name as keyof typeof PAGE_HEADER]);
  }
  assert.equal(Number(rows[6]?.offset), PAGE_HEADER.pageSizeVersion);
  assert.equal(Number(rows[7]?.offset), PAGE_HEADER.pruneXid);
  assert.equal(Number(rows[8]?.offset), PAGE_HEADER_BYTES);
  assert.equal(rows[8]?.size, `S × ${SLOT_BYTES}`);
  assert.equal(rows[9]?.offset, `BS − ${SPECIAL_BYTES}`);
  assert.equal(Number(rows[9]?.size), SPECIAL_BYTES);
});

test("the slots of a sidecar page are as many as the conventions say", () => {
  const named = /\((\d+), (\d+), (\d+), (\d+), (\d+) or (\d+)\)/.exec(section("## Conventions"));
  const counts = [1, 2, 4, 8, 16, 32].map((kilobytes) => slotsPerPage(1024 * kilobytes));
  assert.deepEqual(named?.slice(1).map(Number), counts);
});

test("the table of a slot agrees with the code", () => {
  const rows = structure("### Slot");
  assertSame(rows, SLOT, SLOT_BYTES);
  assert.equal(SLOT.nonce, SLOT_AAD_BYTES);
  const { unused, page, zeroPage, tail } = SLOT_KIND; // those of WAL have a table of their own
  assert.equal(
    meaningOf(rows, "kind"),
    `${unused} unused: then all 128 bytes are zero. ${page} page, ${zeroPage} zero page, ${tail} tail`,
  );
  assert.equal(Number(meaningOf(rows, "suite")), SUITE_AES_256_GCM);
  assert.match(
    meaningOf(rows, "flags"),
    /Bit 0: WRONG-CHECKSUM\. Bit 1: ORIGINAL-MARK\. Other bits are reserved$/,
  );
  assert.deepEqual(SLOT_FLAG, { wrongChecksum: 1, originalMark: 2 });
});

test("the tables of WAL slots agree with the code", () => {
  const rows = structure("### Sidecar of a segment", 0);
  for (const { offset, field } of rows) {
    const expected = { ...SLOT, sealedCrc: SEALED_CRC_OFFSET, reserved: SEALED_CRC_OFFSET + 4 };
    assert.equal(Number(offset), expected[field as keyof typeof expected], field);
  }
  const { walBlock, walZeroBlock, walCarry } = SLOT_KIND;
  assert.match(meaningOf(rows, "kind"), new RegExp(`^${walBlock} WAL block, ${walZeroBlock} zero`));
  assert.match(meaningOf(rows, "flags"), /Bit 0: SEALED-CRC\. Bit 1: OPEN-HEADER\. /);
  assert.deepEqual(WAL_SLOT_FLAG, { sealedCrc: 1, openHeader: 2 });
  const carry = structure("### Sidecar of a segment", 1);
  assertSame(carry, CARRY, SLOT_BYTES);
  assert.equal(Number(meaningOf(carry, "kind")), walCarry);
});

test("pg_control's fields are read where the page says, under the CRC that it says", () => {
  assert.match(
    section("### Constants of PostgreSQL"),
    new RegExp(`has ${CONTROL_FILE_BYTES} bytes`),
  );
  const rows = (tablesOf("### Constants of PostgreSQL")[0] ?? []).map((row) => row.map(Number));
  assert.deepEqual(
    rows.map(([major]) => major),
    [...SUPPORTED_MAJORS],
  );
  // Of 32-bit builds, by version alone.
  const packed = (tablesOf("### Constants of PostgreSQL")[2] ?? []).map((row) => row.map(Number));
  assert.equal(packed.length, 3);
  const folders = [...rows.map(([major]) => `${major}`), "15-i386", "17-i386", "18-i386"];
  const all = [...rows.map(([, ...row]) => row), ...packed];
  for (const [index, [version, ...offsets]] of all.entries()) {
    const major = folders[index];
    const control = Buffer.from(readFixture(`control/${major}/pg_control`));
    assert.equal(control.readUInt32LE(8), version);
    const crcAt = offsets.pop() ?? assert.fail();
    const values = [4096, 77, 1024, 2 ** 21, 1 - control.readUInt32LE(offsets[4])];
    for (const [i, value] of values.entries()) control.writeUInt32LE(value, offsets[i]);
    control.writeBigUInt64LE(7391234567890123456n, 0);
    control.writeUInt32LE(crc32c(control, 0, crcAt), crcAt);
    const read = parseControlFile(control);
    assert.equal(read.systemIdentifier, 7391234567890123456n);
    assert.deepEqual(
      [
        read.blockSizeBytes,
        read.blocksPerSegment,
        read.walBlockSizeBytes,
        read.walSegmentSizeBytes,
        read.dataChecksumVersion,
      ],
      values,
      `${major}`,
    );
  }
});

test("the table of what differs in WAL agrees with the code", () => {
  const rows = (tablesOf("### Constants of PostgreSQL")[1] ?? []).map(([major, ...bits]) => [
    Number(major),
    ...bits.map((hex) => Number.parseInt(hex, 16)),
  ]);
  const expected = SUPPORTED_MAJORS.map((major) => {
    const { pageMagic, allPageFlags, overwriteContrecord, image } = walFormatOf(major);
    const compressed = image.pglz | image.lz4 | image.zstd;
    return [major, pageMagic, allPageFlags, overwriteContrecord, compressed];
  });
  assert.deepEqual(rows, expected);
});

test("the table of the identity agrees with the code", () => {
  const rows = structure("### Identity");
  let end = 0;
  for (const { offset, size } of rows) {
    assert.equal(Number(offset), end);
    end += Number(size);
  }
  assert.equal(end, IDENTITY_BYTES);
  const fields = rows.map(({ field }) => field);
  const inSpecial = Object.keys(SPECIAL).filter((field) => fields.includes(field));
  assert.deepEqual(fields.toSorted(), inSpecial.toSorted());
  const { wal, ...forks } = FORK;
  assert.deepEqual(codesIn(meaningOf(rows, "fork")), forks);
  assert.match(section("### Identity of a segment"), new RegExp(`fork is ${wal},`));
});

test("the tables of the journal agree with the code", () => {
  const rows = structure("### Journal header");
  assertSame(rows, JOURNAL_HEADER, JOURNAL_HEADER_BYTES);
  assert.deepEqual(codesIn(meaningOf(rows, "operation")), JOURNAL_OPERATION);
  const record = structure("### Records");
  assert.deepEqual(codesIn(meaningOf(record, "type")), RECORD_TYPE);
});

test("mark and checksum rule are those of the code", () => {
  const text = section("### Page message");
  assert.ok(text.includes(`0x${SEALED_PAGE_MARK.toString(16)}`));
  assert.ok(text.includes("valid XOR 1, or 2 where valid XOR 1 is 0"));
  assert.equal(wrongOnPurpose(1), 2);
  for (const valid of [2, 3, 4, 65534, 65535]) assert.equal(wrongOnPurpose(valid), valid ^ 1);
});

test("every label of a derivation in the source is in the document, and none besides", () => {
  const source = new URL("../../../src/", import.meta.url);
  const labels = new Set<string>();
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts")) continue;
    const text = readFileSync(new URL(name, source), "utf8");
    for (const [, label] of text.matchAll(/from\(\s*"(tde\/v1\/[a-z-]+)"/g))
      labels.add(label ?? "");
  }
  const documented = new Set(
    [...FORMAT_DOCUMENT.matchAll(/"(tde\/v1\/[a-z-]+)"/g)].map(([, label]) => label ?? ""),
  );
  assert.ok(labels.size >= 12);
  assert.deepEqual(documented, labels);
});

test("names of files are those of the code", () => {
  const names = (tablesOf("## Names of files")[0] ?? []).map(([name = ""]) => name).join(" ");
  for (const name of [...Object.values(OWN_FILES), JOURNAL_NAME])
    assert.ok(names.includes(`\`${name}\``), name);
  const text = section("## Names of files");
  assert.ok(text.includes(`\`${NEW_JOURNAL_NAME}\``));
  for (const [path, sidecar, working] of [
    ["16397", "16397_tde", "16397_tdenew"],
    ["16397_fsm.1", "16397_fsm_tde.1", undefined],
    ["16397.1", undefined, "16397_tdenew.1"],
    ["postgresql.auto.conf", undefined, "postgresql_tdenew.auto.conf"],
    ["16397_tde.1", undefined, "16397_tdenew_tde.1"],
  ] as const) {
    for (const [name, made] of [
      [sidecar, sidecarName(bytePath(path))],
      [working, workingName(bytePath(path))],
    ] as const) {
      if (name === undefined) continue;
      assert.equal(made, name);
      assert.ok(text.includes(`\`${name}\``), name);
    }
  }
});

test("the guard's line and contexts are those of the code", () => {
  const text = section("## Guard");
  const line = `${GUARD_SETTING} = on`;
  assert.ok(text.includes(`\n    ${line}\n`));
  assert.ok(isGuardFile(Buffer.from(`${line}\n`)));
  assert.ok(guardFileContent().includes(`\n${line}\n`));
  const contexts = (tablesOf("## Guard")[0] ?? []).map(([context]) => context);
  const expected = [fileContext(AUTO_CONF), linkContext(AUTO_CONF), ABSENT_CONTEXT];
  assert.deepEqual(
    contexts,
    expected.map((context) => `\`${context}\``),
  );
});

test("limits and kinds of recipients are those of the code", () => {
  const limits = new Map(
    (tablesOf("## Limits")[0] ?? []).map(([what = "", limit = ""]) => [what, limit]),
  );
  assert.equal(limits.get("context of a container"), `${CONTEXT_LIMIT_BYTES} bytes`);
  assert.equal(
    limits.get("keyring file"),
    `${KEYRING_LIMIT_BYTES / 2 ** 20} MiB, ${RECIPIENT_LIMIT} recipients`,
  );
  assert.equal(limits.get("state file"), `${STATE_LIMIT_BYTES / 2 ** 20} MiB`);
  const types = (tablesOf("### Keys of a keyring")[0] ?? []).map(([type]) => type);
  assert.deepEqual(
    types,
    [...recipientTypes.keys()].map((type) => `\`${type}\``),
  );
});

function spaced(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
