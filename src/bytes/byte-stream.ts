/**
 * Bytes that come in parts of any size, taken in pieces of the size that a format asks for.
 */

export class ByteStream {
  readonly #parts: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  /** What has come and was not taken. */
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.#parts =
      Symbol.asyncIterator in parts ? parts[Symbol.asyncIterator]() : parts[Symbol.iterator]();
  }

  /** The next bytes without taking them; fewer where the stream ends. */
  async peek(count: number): Promise<Buffer> {
    if (this.#rest.length < count) await this.#fill(count);
    return this.#rest.subarray(0, count);
  }

  /** Takes the next bytes; fewer where the stream ends. They are the caller's own until the next call only. */
  async take(count: number): Promise<Buffer> {
    const taken = await this.peek(count);
    this.#rest = this.#rest.subarray(taken.length);
    return taken;
  }

  /** @returns how many bytes there were to skip. */
  async skip(count: number): Promise<number> {
    let left = count;
    while (left > 0) {
      const taken = await this.take(Math.min(left, SKIP_BYTES));
      if (taken.length === 0) break;
      left -= taken.length;
    }
    return count - left;
  }

  /** The rest, part by part; whoever stops before its end closes the stream. */
  async *parts(): AsyncGenerator<Buffer> {
    try {
      while ((await this.peek(1)).length > 0) {
        const part = this.#rest;
        this.#rest = Buffer.alloc(0);
        yield part;
      }
    } finally {
      await this.close();
    }
  }

  /** Lets go of where the bytes come from. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#parts.return?.();
  }

  async #fill(count: number): Promise<void> {
    const pieces = this.#rest.length === 0 ? [] : [this.#rest];
    let length = this.#rest.length;
    while (length < count && !this.#ended) {
      const { done, value } = await this.#parts.next();
      if (done === true) {
        this.#ended = true;
        break;
      }
      // Whoever gives a part may use its memory again.
      const piece = Buffer.from(value);
      pieces.push(piece);
      length += piece.length;
    }
    const [only] = pieces;
    this.#rest = pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
  }
}

const SKIP_BYTES = 2 ** 16;
