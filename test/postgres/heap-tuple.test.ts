/**
 * Pages and rows of real tables taken apart, against what the server printed: pageinspect for line pointers and
 * headers, COPY for the values.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { TdeError } from "../../src/errors.ts";
import { parseArray } from "../../src/postgres/array-value.ts";
import {
  countLinePointers,
  LINE_POINTER_STATE,
  readLinePointer,
} from "../../src/postgres/heap-page.ts";
import {
  type Attribute,
  parseTupleHeader,
  type RawValue,
  TupleDecoder,
} from "../../src/postgres/heap-tuple.ts";
import { parseVarlena, toastContent, varlenaContent } from "../../src/postgres/varlena.ts";
import type { FixtureMajor } from "../support/fixture.ts";
import {
  attributesOf,
  catalogAt,
  relationsOf,
  sharedFixture,
  visibleRows,
} from "../support/fixture-catalog.ts";
import { truthRows, truthTable } from "../support/fixture-truth.ts";
import { assertProperty } from "../support/property.ts";

const MAJOR = 17;
/** The oldest, which knows no LZ4 and has no table for it, one between, and the newest. */
const VALUES_OF: readonly FixtureMajor[] = [13, MAJOR, 19];
const INT4: Attribute = { length: 4, align: "i" };
const TEXT: Attribute = { length: -1, align: "i" };
const BLOCK = 8192;

test("line pointers and tuple headers are those that pageinspect shows", () => {
  const pages = new Map<string, Buffer>();
  let seen = 0;
  for (const item of truthTable(MAJOR, "heap_items.csv")) {
    const table = item["relname"] ?? "";
    const page = pages.get(`${table} ${item["blk"]}`) ?? pageOf(table, Number(item["blk"]));
    pages.set(`${table} ${item["blk"]}`, page);
    const offsetNumber = Number(item["lp"]);
    assert.ok(offsetNumber <= countLinePointers(page, table));
    const line = readLinePointer(page, offsetNumber, table);
    assert.deepEqual([line.offset, line.state, line.lengthBytes].map(String), [
      item["lp_off"],
      item["lp_flags"],
      item["lp_len"],
    ]);
    if (line.state !== LINE_POINTER_STATE.normal) continue;
    const tuple = page.subarray(line.offset, line.offset + line.lengthBytes);
    const header = parseTupleHeader(tuple, table);
    const { xmin, xmax, field3, infomask2, infomask, dataOffset, ctid } = header;
    assert.deepEqual(
      [...[xmin, xmax, field3, infomask2, infomask, dataOffset].map(String), ctidText(ctid)],
      // prettier-ignore
      [
        item["t_xmin"], item["t_xmax"], item["t_field3"], item["t_infomask2"], item["t_infomask"], item["t_hoff"],
        item["t_ctid"],
      ],
    );
    seen++;
  }
  assert.ok(seen > 500);
});

for (const major of VALUES_OF) {
  test(`values of PostgreSQL ${major} in the row, compressed and in the TOAST table are those that the server printed`, () => {
    for (const table of major === 13 ? ["docs"] : ["docs", "docs_lz4"]) {
      const forms = new Set<string>();
      const expected = truthRows(major, "public", table);
      const attributes = attributesOf(major, "public", table);
      const found = rowsOf(major, "public", table, attributes);
      assert.equal(found.length, expected.length);
      for (const [i, values] of found.entries()) {
        for (const [column, { name }] of attributes.entries()) {
          // The text of jsonb is not its content.
          if (name === "j") continue;
          const wanted = expected[i]?.[name] ?? null;
          const value = values[column] ?? null;
          if (name === "id") assert.equal(String(value?.readInt32LE(0)), wanted);
          else if (value === null) assert.equal(wanted, null);
          else {
            forms.add(formOf(value));
            const content = fullContent(major, value);
            const text = name === "raw" ? `\\x${content.toString("hex")}` : content.toString();
            assert.equal(text, wanted);
          }
        }
      }
      const every = table === "docs" ? ["plain"] : ["lz4", "pglz", "plain"];
      for (const form of every) assert.ok(forms.has(form), `${table} has ${[...forms].join()}`);
    }
  });
}

test("rows older than their columns have the missing values, and NULL where there is none", () => {
  const attributes = withMissingValues(attributesOf(MAJOR, "public", "drift"));
  const expected = truthRows(MAJOR, "public", "drift");
  const found = rowsOf(MAJOR, "public", "drift", attributes);
  const read: Readonly<Record<string, (value: Buffer) => string>> = {
    a: (value) => String(value.readInt32LE(0)),
    e: (value) => varlenaContent(value, "e").toString(),
    f: (value) => String(value.readInt32LE(0)),
    nn: (value) => varlenaContent(value, "nn").toString(),
    kk: (value) => (value.readUInt8(0) === 1 ? "t" : "f"),
    h: (value) => `{${int4Array(value).join(",")}}`,
  };
  assert.deepEqual(
    found.map((values) =>
      Object.fromEntries(
        Object.entries(read).map(([name, text]) => {
          const value = values[attributes.findIndex((one) => one.name === name)] ?? null;
          return [name, value === null ? null : text(value)];
        }),
      ),
    ),
    expected.map((row) => Object.fromEntries(Object.keys(read).map((name) => [name, row[name]]))),
  );
  const kinds = new Set(expected.map(({ e }) => e));
  assert.ok(kinds.size > 1 && expected.some(({ nn }) => nn === null), "rows of several ages");
});

test("vectors and arrays of a catalog are those that the server printed", () => {
  // indkey and indclass are the first columns of pg_index behind those of fixed size.
  const truth = truthTable(MAJOR, "rows/pg_catalog.pg_index.csv");
  const names = Object.keys(truth[0] ?? {});
  const fixed = names.indexOf("indkey");
  const vector: Attribute = { length: -1, align: "i" };
  const attributes = names.map((name, i): Attribute => {
    if (i >= fixed) return vector;
    if (["indexrelid", "indrelid"].includes(name)) return INT4;
    return name.endsWith("atts") ? { length: 2, align: "s" } : { length: 1, align: "c" };
  });
  const found = rowsOf(MAJOR, "pg_catalog", "pg_index", attributes);
  const numbers = (value: RawValue | undefined, lengthBytes: 2 | 4): string => {
    const element: Attribute = { length: lengthBytes, align: lengthBytes === 2 ? "s" : "i" };
    const content = varlenaContent(value ?? Buffer.alloc(0), "pg_index");
    const elements = parseArray(content, element, "pg_index");
    return elements.map((one) => one?.readUIntLE(0, lengthBytes)).join(" ");
  };
  assert.deepEqual(
    found.map((row) => [
      String(row[0]?.readUInt32LE(0)),
      numbers(row[fixed], 2),
      numbers(row[names.indexOf("indclass")], 4),
    ]),
    truth.map((row) => [row["indexrelid"], row["indkey"], row["indclass"]]),
  );
});

test("a page of a real table with any bytes changed gives rows or an error of tde", () => {
  const page = pageOf("docs_lz4", 0);
  const attributes = attributesOf(MAJOR, "public", "docs_lz4");
  const decoder = new TupleDecoder(attributes);
  const readAll = (bytes: Buffer): void => {
    const count = countLinePointers(bytes, "a page");
    for (let offsetNumber = 1; offsetNumber <= count; offsetNumber++) {
      const { state, offset, lengthBytes } = readLinePointer(bytes, offsetNumber, "a page");
      if (state !== LINE_POINTER_STATE.normal) continue;
      const tuple = bytes.subarray(offset, offset + lengthBytes);
      const values = decoder.decode(tuple, parseTupleHeader(tuple, "a row"), "a row");
      for (const value of values.slice(1)) {
        if (value !== null && parseVarlena(value, "a row").form !== "external") {
          varlenaContent(value, "a row");
        }
      }
    }
  };
  readAll(page);
  let refused = 0;
  const change = fc.tuple(fc.nat(BLOCK - 1), fc.nat(255));
  assertProperty(
    fc.property(fc.array(change, { minLength: 1, maxLength: 40 }), (changes) => {
      const bytes = Buffer.from(page);
      for (const [at, value] of changes) bytes[at] = value;
      try {
        readAll(bytes);
      } catch (error) {
        assert.ok(error instanceof TdeError, String(error));
        refused++;
      }
    }),
    500,
  );
  assert.ok(refused > 0);
});

function pageOf(table: string, block: number): Buffer {
  const file = placeOf(MAJOR, "public", table);
  const path = `base/${file.databaseOid}/${file.relfilenumber}`;
  return readFileSync(join(sharedFixture(MAJOR), path)).subarray(
    block * BLOCK,
    (block + 1) * BLOCK,
  );
}

function placeOf(
  major: FixtureMajor,
  schema: string,
  table: string,
): Parameters<typeof visibleRows>[1] {
  const shop = relationsOf(catalogAt(sharedFixture(major)), "shop");
  const relation = [...shop.relations()].find((one) => one.schema === schema && one.name === table);
  assert.ok(relation?.file !== undefined, table);
  return relation.file;
}

function rowsOf(
  major: FixtureMajor,
  schema: string,
  table: string,
  attributes: readonly Attribute[],
): RawValue[][] {
  const decoder = new TupleDecoder(attributes);
  const rows = visibleRows(sharedFixture(major), placeOf(major, schema, table));
  return rows.map(({ tuple, header, where }) => decoder.decode(tuple, header, where));
}

function formOf(value: Buffer): string {
  const varlena = parseVarlena(value, "a row");
  if (varlena.form === "external") return varlena.method ?? "plain";
  return varlena.form === "compressed" ? varlena.method : "plain";
}

function fullContent(major: FixtureMajor, value: Buffer): Buffer {
  const varlena = parseVarlena(value, "a row");
  if (varlena.form !== "external") return varlenaContent(value, "a row");
  const chunks = chunksOf(major, varlena.toastOid).get(varlena.valueId) ?? [];
  return toastContent(varlena, chunks, "a row");
}

const toastTables = new Map<string, Map<number, Buffer[]>>();

/** chunk_id, chunk_seq, chunk_data of a TOAST table; its rows stand in their order in these small tables. */
function chunksOf(major: FixtureMajor, toastOid: number): Map<number, Buffer[]> {
  const key = `${major} ${toastOid}`;
  let chunks = toastTables.get(key);
  if (chunks === undefined) {
    chunks = new Map();
    const attributes = [INT4, INT4, TEXT];
    for (const [id, sequence, data] of rowsOf(
      major,
      "pg_toast",
      toastName(major, toastOid),
      attributes,
    )) {
      assert.ok(id != null && sequence != null && data != null);
      const parts = chunks.get(id.readUInt32LE(0)) ?? [];
      chunks.set(id.readUInt32LE(0), parts);
      parts[sequence.readInt32LE(0)] = varlenaContent(data, "a chunk");
    }
    toastTables.set(key, chunks);
  }
  return chunks;
}

function toastName(major: FixtureMajor, toastOid: number): string {
  const shop = relationsOf(catalogAt(sharedFixture(major)), "shop");
  return shop.relationByOid(toastOid)?.name ?? "";
}

/** As pg_attribute has them, which stands as text in the truth: an array with the one value. */
function withMissingValues<T extends Attribute & { readonly name: string }>(
  attributes: readonly T[],
): (T & Attribute)[] {
  const int4 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    return bytes;
  };
  const missing: Readonly<Record<string, Buffer>> = {
    e: Buffer.from([(4 + 1) * 2 + 1, ...Buffer.from("dflt")]),
    f: int4(77),
    kk: Buffer.from([1]),
    // One dimension of two elements from index 1 on, as a varlena with a long header.
    h: Buffer.concat([4 * (4 + 12 + 8 + 8), 1, 0, 23, 2, 1, 1, 2].map(int4)),
  };
  return attributes.map((attribute) => ({ ...attribute, missing: missing[attribute.name] }));
}

function int4Array(value: Buffer): (number | undefined)[] {
  return parseArray(varlenaContent(value, "h"), INT4, "h").map((one) => one?.readInt32LE(0));
}

function ctidText({ block, offsetNumber }: { block: number; offsetNumber: number }): string {
  return `(${block},${offsetNumber})`;
}
