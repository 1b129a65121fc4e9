/**
 * What `npm run mutate` is told to do can still be done: `npm test` makes no mutation, but says which row no longer
 * fits the code.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isProgram } from "./campaign.ts";
import { editOfRow } from "./edit.ts";
import { ROWS } from "./rows.ts";
import { editsByRule } from "./rules.ts";
import { filesInScope, testsNamed } from "./scope.ts";
import { SURVIVORS } from "./survivors.ts";

for (const row of ROWS) {
  test(`a row still fits the code: ${row.file}: ${row.what}`, () => {
    assert.ok(isProgram(editOfRow(row).compile()), "what comes of it is no program");
    for (const name of row.tests)
      assert.notDeepEqual(testsNamed([name]), [], `no test is called ${name}`);
  });
}

test("no two rows have the same name", () => {
  const ids = ROWS.map((row) => editOfRow(row).id);
  assert.deepEqual(
    ids.filter((id, i) => ids.indexOf(id) < i),
    [],
  );
});

test("the rules still find each edit that is known to go unnoticed", () => {
  const found = new Set(
    filesInScope()
      .flatMap(editsByRule)
      .map(({ id }) => id),
  );
  const stale = SURVIVORS.flatMap(({ edits }) => edits).filter((id) => !found.has(id));
  assert.deepEqual(stale, [], "stale: take them out of test/mutate/survivors.ts");
});
