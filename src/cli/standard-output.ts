/**
 * Output of any length on standard output: written at once, so that memory does not fill with what a slow reader has
 * yet to take.
 */
import { writeSync } from "node:fs";

const STDOUT = 1;
const RETRY_WAIT_MS = 5;

/** @returns whether anybody still reads: false when the pipe was closed (`tde waldump | head`). */
export function writeToStandardOutput(bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(STDOUT, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return false;
      // Another process has made the pipe non-blocking.
      if (code !== "EAGAIN") throw error;
      pause ??= new Int32Array(new SharedArrayBuffer(4));
      Atomics.wait(pause, 0, 0, RETRY_WAIT_MS);
    }
  }
  return true;
}

let pause: Int32Array | undefined;

/** Lines, in pieces of some size: a call of the system for each would take longer than the lines. */
export class LineWriter {
  #text = "";
  #isRead = true;

  /** @returns as writeToStandardOutput. */
  line(text: string): boolean {
    this.#text += `${text}\n`;
    return this.#text.length < PIECE_CHARACTERS || this.flush();
  }

  flush(): boolean {
    const bytes = Buffer.from(this.#text, "utf8");
    this.#text = "";
    this.#isRead &&= writeToStandardOutput(bytes);
    return this.#isRead;
  }
}

const PIECE_CHARACTERS = 65536;
