/**
 * The look at a directory before anything is written: what there is to do, how much, and whether there is a reason
 * not to begin. Refusals come before the first change, so that a refused directory is as it was.
 */
import { type BytePath, displayPath, joinPath } from "../bytes/byte-path.ts";
import type { Datadir } from "../datadir/datadir.ts";
import { sidecarName } from "../datadir/relation-path.ts";
import { containerHeaderOf } from "../datadir/sealed-file.ts";
import { walkDatadir, type WalkEntry } from "../datadir/walk.ts";
import { StateError } from "../errors.ts";
import { fileContext } from "../format/container.ts";
import { SEALED_PAGE_MARK } from "../format/page-message.ts";
import { secretSettings, secretHbaSettings } from "../format/postgres-conf.ts";
import { PAGE_HEADER } from "../postgres/page.ts";
import { pageChecksum } from "../postgres/page-checksum.ts";
import { readUpTo, readWholeFile, withFile } from "../storage/file-io.ts";
import type { FileSystem } from "../storage/file-system.ts";
