/**
 * The user as whom a server runs. PostgreSQL refuses to run as root, so root lends it the identity of an existing
 * user without rights; nothing but spawn's own uid and gid is needed for that, neither su nor sudo.
 */
import { lchownSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { StateError } from "../errors.ts";

export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/** Who runs the servers: undefined, which is this user, unless this user is root. */
export function serverUser(): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync("/etc/passwd", "latin1")
    .split("\n")
    .map((line) => line.split(":"))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter(({ uid, gid }) => Number.isInteger(uid) && uid > 0 && Number.isInteger(gid));
  const user =
    users.find(({ name }) => name === "nobody") ??
    users.find(({ name }) => name === "postgres") ??
    users[0];
  if (user === undefined) {
    throw new StateError("no user but root exists to run PostgreSQL as", {
      hint: "PostgreSQL refuses to run as root. Add a user without rights, or run this as another user.",
    });
  }
  return { uid: user.uid, gid: user.gid };
}

/** Gives a tree to a user, links themselves instead of what they point to. No user: nothing to do. */
export function giveTree(path: string | Buffer, user: ServerUser | undefined): void {
  if (user === undefined) return;
  lchownSync(path, user.uid, user.gid);
  if (!lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path, { encoding: "buffer" })) {
    giveTree(Buffer.concat([Buffer.from(path), Buffer.from("/"), name]), user);
  }
}
