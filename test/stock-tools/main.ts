/**
 * `npm run stock-tools`: PostgreSQL's own tools of several majors on encrypted directories, as a matrix in Markdown.
 *
 *   npm run stock-tools -- [--tools DIR] [--majors 13,15,17,18,19] [--only TEXT]
 *
 * DIR (or TDE_STOCK_TOOLS) has the programs of each major in MAJOR/bin; majors that it lacks are taken from
 * /usr/lib/postgresql. What each row means is in docs/STOCK-TOOLS.md. Exit code 1 when a cell is not as documented.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { FIXTURE_MAJORS, type FixtureMajor } from "../support/fixture.ts";
import { stockToolsIn } from "../support/stock-tools.ts";
import { BACKUP_ROWS } from "./backup-rows.ts";
import { DATA_DIRECTORY_ROWS } from "./data-directory-rows.ts";
import type { Row } from "./rows.ts";
import { Site } from "./site.ts";

const { values: options } = parseArgs({
  options: {
    tools: { type: "string", default: process.env["TDE_STOCK_TOOLS"] ?? "" },
    majors: { type: "string", default: "13,15,17,18,19" },
    only: { type: "string", default: "" },
  },
});

const rows = [...DATA_DIRECTORY_ROWS, ...BACKUP_ROWS].filter(({ tool, situation }) =>
  `${tool} ${situation}`.includes(options.only),
);
const wanted = options.majors.split(",").map(Number);
const columns: { heading: string; cells: string[] }[] = [];
for (const major of FIXTURE_MAJORS.filter((one) => wanted.includes(one))) {
  const column = await tryMajor(major);
  if (column === undefined) process.exitCode = 1;
  else columns.push(column);
}
process.stdout.write(
  `${markdown(
    ["tool", "on", ...columns.map(({ heading }) => heading)],
    rows.map(({ tool, situation }, i) => [
      `\`${tool}\``,
      situation,
      ...columns.map(({ cells }) => cells[i] ?? ""),
    ]),
  )}\n`,
);

async function tryMajor(
  major: FixtureMajor,
): Promise<{ heading: string; cells: string[] } | undefined> {
  const folders = [
    join(resolve(options.tools), `${major}/bin`),
    `/usr/lib/postgresql/${major}/bin`,
  ];
  const binFolder = folders.find((folder) => existsSync(join(folder, "pg_checksums")));
  if (binFolder === undefined) {
    say(`no tools of PostgreSQL ${major} in ${folders.join(" or ")}`);
    return undefined;
  }
  const tools = stockToolsIn(major, binFolder);
  const version = /\d+[.\w]*/.exec(tools.run("pg_checksums", ["--version"]).stdout)?.[0];
  const site = new Site(major, tools);
  try {
    const cells: string[] = [];
    for (const row of rows) cells.push(await cell(row, site));
    return { heading: version ?? String(major), cells };
  } finally {
    site.remove();
  }
}

async function cell(row: Row, site: Site): Promise<string> {
  if (site.major < (row.since ?? 0)) return "–";
  try {
    return await row.run(site);
  } catch (error) {
    process.exitCode = 1;
    say(`${site.major}: ${row.tool}, ${row.situation}: ${String(error)}`);
    return "**differs**";
  }
}

function markdown(heading: readonly string[], lines: readonly (readonly string[])[]): string {
  const all = [heading, heading.map(() => "---"), ...lines];
  return all.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
