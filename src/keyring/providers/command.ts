/**
 * A recipient that two shell commands serve: one gets 32 bytes on its standard input and prints them wrapped, the
 * other does the reverse. Any key service with a command-line client works so. The contract is that of EDB's wrap
 * and unwrap commands: where a command names `%p`, the wrapped key is in that file instead (`%%` is a percent
 * sign), so that existing scripts can be used.
 *
 * What a command prints is never shown, whatever happens. Its standard error is the terminal's: what a client
 * says about a refused login is the user's to read.
 */
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { bytePath } from "../../bytes/byte-path.ts";
import { equalInConstantTime, KEY_BYTES, randomBytes } from "../../crypto/primitives.ts";
import { KeyError } from "../../errors.ts";
import { readWholeFile, writeAll } from "../../storage/file-io.ts";
import type { FileSystem } from "../../storage/file-system.ts";
import type { KeyProvider, RecipientType, WrapContext, WrappedKey } from "../key-provider.ts";

export const MAX_WRAPPED_BYTES = 8192;
export const DEFAULT_TIMEOUT_MS = 60_000;

const TYPE_NAME = "command";

export const commandRecipient: RecipientType = {
  name: TYPE_NAME,
  parameterNames: [],
  shownParameters: [],
  wrappedLimitBytes: MAX_WRAPPED_BYTES,
  fault(key: WrappedKey): string | undefined {
    return key.wrapped.length === 0 ? "the wrapped key is empty" : undefined;
  },
};

export interface CommandOptions {
  /** Needed to make a recipient and to wrap a new keyring key. */
  readonly wrapCommand: string | undefined;
  readonly unwrapCommand: string | undefined;
  readonly timeoutMs?: number;
}

export class CommandProvider implements KeyProvider {
  readonly typeName: string = TYPE_NAME;
  readonly description: string = "the unwrap command";
  readonly #fs: FileSystem;
  readonly #options: CommandOptions;

  constructor(fs: FileSystem, options: CommandOptions) {
    this.#fs = fs;
    this.#options = options;
  }

  /** Wraps, and unwraps at once: a pair of commands that do not fit is found before anything depends on it. */
  async wrap(keyringKey: Uint8Array, context: WrapContext): Promise<WrappedKey> {
    const { wrapCommand } = this.#options;
    if (wrapCommand === undefined) {
      throw new KeyError("a wrap command is needed to wrap the keyring key", {
        hint: "Give --wrap-command or TDE_WRAP_COMMAND beside the unwrap command.",
      });
    }
    const wrapped = await this.#run("wrap", wrapCommand, keyringKey, undefined);
    const key = { parameters: new Map<string, string>(), wrapped };
    const again = await this.unwrap(key, context);
    const same = again !== undefined && equalInConstantTime(again, keyringKey);
    again?.fill(0);
    if (!same) {
      throw new KeyError("the unwrap command does not give back what the wrap command got", {
        hint: "Check that both commands use the same key.",
      });
    }
    return key;
  }

  async unwrap(key: WrappedKey, _context: WrapContext): Promise<Buffer | undefined> {
    const { unwrapCommand } = this.#options;
    if (unwrapCommand === undefined) {
      throw new KeyError("an unwrap command is needed", {
        hint: "Give --unwrap-command or TDE_UNWRAP_COMMAND.",
      });
    }
    const bytes = await this.#run("unwrap", unwrapCommand, key.wrapped, key.wrapped);
    if (bytes.length === KEY_BYTES) return bytes;
    const { length } = bytes;
    bytes.fill(0);
    throw new KeyError(`the unwrap command printed ${length} bytes instead of ${KEY_BYTES}`, {
      hint: "It must print the key as it is: no line end, no encoding.",
    });
  }

  reread(): undefined {
    // Wrapping has unwrapped already.
  }

  dispose(): void {
    // The secret is with the commands.
  }

  /** @param fileContent - what `%p` holds before the command runs. */
  async #run(
    verb: "wrap" | "unwrap",
    command: string,
    input: Uint8Array,
    fileContent: Uint8Array | undefined,
  ): Promise<Buffer> {
    const timeoutMs = this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    if (!/%p/.test(command.replaceAll("%%", ""))) {
      const output = await runShell(verb, command.replaceAll("%%", "%"), input, timeoutMs);
      return requireLength(verb, output);
    }
    return this.#withExchangeFile(fileContent, async (path) => {
      const filled = command.replace(/%[%p]/g, (match) => (match === "%%" ? "%" : path));
      const output = await runShell(verb, filled, input, timeoutMs);
      if (verb === "unwrap") return requireLength(verb, output);
      output.fill(0);
      if (this.#fs.stat(bytePath(path)) === undefined) return requireLength(verb, Buffer.alloc(0));
      return requireLength(verb, readWholeFile(this.#fs, bytePath(path), MAX_WRAPPED_BYTES + 1));
    });
  }

  /** A file in a folder of its own. It only ever holds the wrapped key, which is no secret. */
  async #withExchangeFile<T>(
    content: Uint8Array | undefined,
    use: (path: string) => Promise<T>,
  ): Promise<T> {
    const folderText = `${tmpdir()}/tde-${randomBytes(8).toString("hex")}`;
    const pathText = `${folderText}/wrapped-key`;
    const folder = bytePath(folderText);
    const path = bytePath(pathText);
    this.#fs.makeDirectory(folder, 0o700);
    try {
      if (content !== undefined) {
        const file = this.#fs.create(path, 0o600);
        try {
          writeAll(file, content, 0, content.length, 0);
        } finally {
          file.close();
        }
      }
      return await use(pathText);
    } finally {
      this.#fs.remove(path);
      this.#fs.removeDirectory(folder);
    }
  }
}

function requireLength(verb: string, output: Buffer): Buffer {
  if (output.length >= 1 && output.length <= MAX_WRAPPED_BYTES) return output;
  const printed =
    output.length === 0 ? "gave nothing" : `gave more than ${MAX_WRAPPED_BYTES} bytes`;
  output.fill(0);
  throw new KeyError(`the ${verb} command ${printed}`, {
    hint: `Try the ${verb} command by hand.`,
  });
}

/** Runs a shell command to its end; at most one byte more than the limit is taken from it. */
function runShell(
  verb: string,
  command: string,
  input: Uint8Array,
  timeoutMs: number,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn("/bin/sh", ["-c", command], { stdio: ["pipe", "pipe", "inherit"] });
    const chunks: Buffer[] = [];
    let length = 0;
    const fail = (message: string, hint: string, cause?: unknown): void => {
      clearTimeout(timer);
      for (const chunk of chunks) chunk.fill(0);
      child.kill("SIGKILL");
      // A grandchild may keep the pipe open for ever.
      child.stdout.destroy();
      reject(new KeyError(message, { hint, cause }));
    };
    const timer = setTimeout(() => {
      fail(
        `the ${verb} command did not end within ${timeoutMs / 1000} seconds`,
        "Try the command by hand: does it wait for input?",
      );
    }, timeoutMs);
    child.on("error", (error) =>
      fail(`could not start the ${verb} command`, "Check that /bin/sh works.", error),
    );
    // A command that does not read its input (it has %p) is no error.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    child.stdout.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_WRAPPED_BYTES) {
        fail(`the ${verb} command gave more than ${MAX_WRAPPED_BYTES} bytes`, "Try it by hand.");
      }
    });
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      if (status !== 0) {
        const end =
          status === null ? `was ended by ${signal}` : `failed with exit status ${status}`;
        return fail(`the ${verb} command ${end}`, `Try the ${verb} command by hand.`);
      }
      const output = Buffer.concat(chunks);
      for (const chunk of chunks) chunk.fill(0);
      resolve(output);
    });
  });
}
