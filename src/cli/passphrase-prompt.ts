/**
 * Asks for a passphrase at the terminal without showing it. The terminal is in raw mode, so the editing keys are
 * handled here; what is typed stays in buffers, which are wiped, and never becomes a string.
 */
import { openSync } from "node:fs";
import { ReadStream, WriteStream } from "node:tty";
import { KeyError } from "../errors.ts";
import { MAX_PASSPHRASE_BYTES } from "../keyring/providers/passphrase.ts";
import { Interrupted } from "./interrupt.ts";

/** What the prompt needs of a terminal; a test brings its own. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream & { setRawMode(on: boolean): unknown };
  readonly output: NodeJS.WritableStream;
  close(): void;
}

const TRIES = 3;

/**
 * @param label - what is asked for: `passphrase of app.keyring`.
 * @param twice - ask again and compare, for a new passphrase.
 * @returns the passphrase's bytes as the terminal sent them (UTF-8); the caller wipes them.
 * @throws {KeyError} when nothing, too much, or different things are typed; {Interrupted} on Ctrl-C.
 */
export async function askPassphrase(
  terminal: Terminal,
  label: string,
  twice: boolean,
): Promise<Buffer> {
  const session = new RawSession(terminal);
  try {
    for (let tries = 0; tries < TRIES; tries++) {
      const first = await session.readLine(`${label}: `);
      if (!twice) return first;
      const second = await session.readLine(`${label}, once more: `);
      const same = first.equals(second);
      second.fill(0);
      if (same) return first;
      first.fill(0);
      terminal.output.write("These differ. Try again.\n");
    }
    throw new KeyError("the passphrase and its repetition differ");
  } finally {
    session.end();
  }
}

/** The terminal that tde was started from, whatever its standard streams are. */
export function openTerminal(): Terminal {
  let input: ReadStream;
  let output: WriteStream;
  try {
    input = new ReadStream(openSync("/dev/tty", "r"));
    output = new WriteStream(openSync("/dev/tty", "w"));
  } catch (error) {
    throw new KeyError("there is no terminal to ask for a passphrase", {
      cause: error,
      hint: "Give --passphrase-file or --passphrase-fd.",
    });
  }
  return {
    input,
    output,
    close(): void {
      input.destroy();
      output.destroy();
    },
  };
}

/** Holds the terminal in raw mode; what is typed ahead is kept for the next line. */
class RawSession {
  readonly #terminal: Terminal;
  #pending: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #ended = false;
  readonly #onData = (chunk: Buffer): void => {
    const joined = Buffer.concat([this.#pending, chunk]);
    this.#pending.fill(0);
    chunk.fill(0);
    this.#pending = joined;
    this.#wake();
  };
  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#wake();
  };

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    terminal.input.setRawMode(true);
    terminal.input.on("data", this.#onData);
    terminal.input.on("end", this.#onEnd);
    terminal.input.on("error", this.#onEnd);
    terminal.input.resume();
  }

  async readLine(prompt: string): Promise<Buffer> {
    const editor = new LineEditor();
    this.#terminal.output.write(prompt);
    try {
      for (;;) {
        const { used, outcome } = editor.feed(this.#pending);
        this.#pending.fill(0, 0, used);
        this.#pending = this.#pending.subarray(used);
        if (outcome === "interrupted") throw new Interrupted();
        if (outcome === "line") return editor.take();
        if (outcome === "end" || this.#ended) throw new KeyError("no passphrase was given");
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      editor.wipe();
      this.#terminal.output.write("\n");
    }
  }

  end(): void {
    const { input } = this.#terminal;
    input.pause();
    input.setRawMode(false);
    input.removeListener("data", this.#onData);
    input.removeListener("end", this.#onEnd);
    input.removeListener("error", this.#onEnd);
    this.#pending.fill(0);
    this.#terminal.close();
  }
}

type Outcome = "more" | "line" | "end" | "interrupted";

const KEY = {
  ctrlC: 0x03,
  ctrlD: 0x04,
  backspace: 0x08,
  lineFeed: 0x0a,
  enter: 0x0d,
  ctrlU: 0x15,
  escape: 0x1b,
  delete: 0x7f,
} as const;

/** One line of typed bytes with the keys that edit it. */
export class LineEditor {
  // One byte more than allowed, so that too long a line is refused rather than cut.
  readonly #line: Buffer = Buffer.alloc(MAX_PASSPHRASE_BYTES + 1);
  #length = 0;
  #escape: "none" | "started" | "sequence" = "none";

  /** Takes bytes up to the end of the line; says how many it used. */
  feed(bytes: Buffer): { used: number; outcome: Outcome } {
    for (const [i, byte] of bytes.entries()) {
      const outcome = this.#key(byte);
      if (outcome !== "more") return { used: i + 1, outcome };
    }
    return { used: bytes.length, outcome: "more" };
  }

  /** A copy of the line. */
  take(): Buffer {
    return Buffer.from(this.#line.subarray(0, this.#length));
  }

  wipe(): void {
    this.#line.fill(0);
    this.#length = 0;
  }

  #key(byte: number): Outcome {
    if (this.#skipsEscape(byte)) return "more";
    switch (byte) {
      case KEY.ctrlC:
        return "interrupted";
      case KEY.ctrlD:
        return this.#length === 0 ? "end" : "more";
      case KEY.enter:
      case KEY.lineFeed:
        return "line";
      case KEY.ctrlU:
        this.wipe();
        return "more";
      case KEY.backspace:
      case KEY.delete:
        this.#removeCharacter();
        return "more";
      case KEY.escape:
        this.#escape = "started";
        return "more";
      default:
        // Other control characters are keys without a meaning here, a tab is text.
        if ((byte >= 0x20 || byte === 0x09) && this.#length < this.#line.length) {
          this.#line[this.#length++] = byte;
        }
        return "more";
    }
  }

  /** Arrow keys and the like send ESC [ ... letter (ECMA-48, section 5.4): unseen, they must not become text. */
  #skipsEscape(byte: number): boolean {
    if (this.#escape === "none") return false;
    if (byte === KEY.ctrlC || byte === KEY.enter || byte === KEY.lineFeed) {
      this.#escape = "none";
      return false;
    }
    const goesOn =
      this.#escape === "started" ? byte === 0x5b || byte === 0x4f : byte < 0x40 || byte > 0x7e;
    this.#escape = goesOn ? "sequence" : "none";
    return true;
  }

  /** The last character of UTF-8: its continuation bytes and the byte that leads them. */
  #removeCharacter(): void {
    let byte: number | undefined;
    do {
      if (this.#length === 0) return;
      this.#length--;
      byte = this.#line[this.#length];
      this.#line[this.#length] = 0;
    } while (byte !== undefined && (byte & 0xc0) === 0x80);
  }
}
