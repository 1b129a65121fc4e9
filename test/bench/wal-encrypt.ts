/**
 * How long `tde wal encrypt` and `decrypt` take beside `cp` and a sync of the same segments, on WAL of transactions as
 * waldump.ts writes it.
 */
import { copyFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { compare, type Comparison } from "./measure.ts";
import { type WaldumpBench, writeWal } from "./waldump.ts";

export interface WalEncryptBench extends WaldumpBench {
  readonly keys: readonly string[];
  readonly run: (command: readonly string[]) => void;
}

export async function benchWalEncrypt(bench: WalEncryptBench): Promise<Comparison[]> {
  const { tde, keys, run, runs, path } = bench;
  const cluster = join(path, "wal-bench");
  const [first, last] = await writeWal(bench, cluster);
  const plain = join(path, "plain-wal");
  mkdirSync(plain);
  for (const name of readdirSync(join(cluster, "pg_wal"))) {
    const isWanted = name >= first && name <= last && name.length === first.length;
    if (isWanted) copyFileSync(join(cluster, "pg_wal", name), join(plain, name));
  }
  const work = join(path, "work-wal");
  const copy = join(path, "copy-wal");
  const renew = (): void => {
    rmSync(work, { recursive: true, force: true });
    run(["cp", "-a", plain, work]);
    run(["sync", "-f", work]);
  };
  const cp = {
    name: "cp + sync",
    prepare: () => rmSync(copy, { recursive: true, force: true }),
    run: { command: ["sh", "-c", `cp -a '${plain}' '${copy}' && sync '${copy}'/* '${copy}'`] },
  };
  const encrypt = tde("wal", "encrypt", work, ...keys);
  return [
    await compare(
      "wal encrypt",
      { name: "tde wal encrypt", prepare: renew, run: { command: encrypt } },
      cp,
      runs,
    ),
    await compare(
      "wal decrypt",
      {
        name: "tde wal decrypt",
        prepare: () => {
          renew();
          run(encrypt);
        },
        run: { command: tde("wal", "decrypt", work, ...keys) },
      },
      cp,
      runs,
    ),
  ];
}
