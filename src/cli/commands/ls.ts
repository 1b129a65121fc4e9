/**
 * `tde ls`: options and help only; ls-action.ts does the work.
 */
import { Command, InvalidArgumentError, Option } from "commander";
import { RELATION_KINDS } from "../../catalog/database-catalog.ts";
import { type NamePart, parseNamePattern } from "../../catalog/name-pattern.ts";
import { kindOption } from "../../engine/listed-relations.ts";
import { TdeError } from "../../errors.ts";
import {
  addKeyringOptions,
  addOutputOptions,
  addScopeOptions,
  addSecretOptions,
} from "../options.ts";
import { pathArgument } from "../raw-arguments.ts";

const KINDS = [...Object.values(RELATION_KINDS).map(kindOption), "orphan"];

export function lsCommand(): Command {
  const command = new Command("ls")
    .description("list relations, or databases, by name: sizes, and the keys that they are under")
    .argument("[datadir]", "the data directory", pathArgument)
    .argument("[relation]", "only this one, as --relation takes it", pathArgument)
    .option("-D, --pgdata <directory>", "the data directory (or PGDATA)", pathArgument)
    .addOption(
      new Option("--by <what>", "a line for each of these")
        .choices(["relation", "schema", "database", "tablespace"])
        .default("relation"),
    )
    .addOption(
      new Option("--sort <order>", "within each database; the largest first, the least encrypted")
        .choices(["name", "size", "pages", "share", "oid"])
        .default("name"),
    )
    .option("--schema <name>", "only what is in this schema, or belongs to it", collectNames)
    .option("--kind <kind>", `only of this kind: ${KINDS.join(", ")}`, collectKinds)
    .option("--system", "catalogs and other relations of the system, too");
  addSecretOptions(addKeyringOptions(addScopeOptions(command)));
  return addOutputOptions(command)
    .addHelpText(
      "after",
      `
Sizes are in bytes: size is all forks of a relation, total is with its TOAST table and its indexes.
Without a keyring an encrypted directory is listed by path.

Examples:
  tde ls /srv/pg/17/main --by database
  tde ls /srv/pg/17/main shop.public.orders --keyring app.keyring --key-file kek.key
  tde ls /srv/pg/17/main --database shop --kind table --sort size --keyring app.keyring --key-file kek.key`,
    )
    .action(async (datadir, relation, flags) =>
      (await import("../ls-action.ts")).ls([datadir, relation], flags),
    );
}

function collectNames(text: string, before: readonly NamePart[] = []): NamePart[] {
  try {
    return [...before, parseNamePattern(text)];
  } catch (error) {
    throw error instanceof TdeError ? new InvalidArgumentError(`${error.message}.`) : error;
  }
}

function collectKinds(text: string, before: readonly string[] = []): string[] {
  if (KINDS.includes(text)) return [...before, text];
  throw new InvalidArgumentError(`It must be one of ${KINDS.join(", ")}.`);
}
