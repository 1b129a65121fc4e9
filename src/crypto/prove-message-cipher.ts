/**
 * What a cipher has to show before a page is entrusted to it: known answers, and agreement with the reference in both
 * directions, on right tags and on wrong ones.
 */
import { createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { KEY_BYTES, type MessageCipher, NONCE_BYTES, TAG_BYTES } from "./message-cipher.ts";

interface KnownAnswer {
  readonly key: string;
  readonly nonce: string;
  readonly aad: string;
  readonly plaintext: string;
  readonly ciphertext: string;
  readonly tag: string;
}

/** McGrew and Viega, "The Galois/Counter Mode of Operation", submitted to NIST: test cases 13, 14 and 16. */
const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  {
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    aad: "",
    plaintext: "",
    ciphertext: "",
    tag: "530f8afbc74536b9a963b4f1c4cb738b",
  },
  {
    key: "00".repeat(32),
    nonce: "00".repeat(12),
    aad: "",
    plaintext: "00".repeat(16),
    ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
    tag: "d0d1c8a799996bf0265b98b5d48ab919",
  },
  {
    key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
    nonce: "cafebabefacedbaddecaf888",
    aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    plaintext:
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    ciphertext:
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
    tag: "76fc6ece0f4e1768cddf8853bb2d551b",
  },
];

/** Of text and AAD: none, parts of a cipher's block and whole ones, a page's message, more than a page. */
const LENGTHS: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 187],
  [1, 15],
  [16, 16],
  [8170, 187],
  [31, 4096],
];
const MOST_TEXT_BYTES = 8170 + 1;
const ZEROS = Buffer.alloc(MOST_TEXT_BYTES);

/** @returns what is wrong with the cipher; undefined when it may be used. */
export function defectOf(cipher: MessageCipher, reference: MessageCipher): string | undefined {
  for (const answer of KNOWN_ANSWERS) {
    if (!givesKnownAnswer(cipher, answer)) return "it does not give a known answer";
  }
  // Two keys by turns: each message is one of the key it is given.
  const keys = [randomKey(), randomKey()] as const;
  for (const [i, [textBytes, aadBytes]] of LENGTHS.entries()) {
    const message = new Message(keys[i % 2 === 0 ? 0 : 1], textBytes, aadBytes);
    const defect = message.defectIn(cipher, reference);
    if (defect !== undefined) return `${defect}, in a message of ${textBytes} bytes`;
  }
  return undefined;
}

function givesKnownAnswer(cipher: MessageCipher, answer: KnownAnswer): boolean {
  const bytes = (hex: string): Buffer => Buffer.from(hex, "hex");
  const key = createSecretKey(bytes(answer.key));
  const nonce = bytes(answer.nonce);
  const aad = bytes(answer.aad);
  const tag = Buffer.alloc(TAG_BYTES);
  const ciphertext = cipher.encrypt(key, nonce, aad, bytes(answer.plaintext), tag);
  const plaintext = cipher.decrypt(key, nonce, aad, bytes(answer.ciphertext), bytes(answer.tag));
  return (
    ciphertext.equals(bytes(answer.ciphertext)) &&
    tag.equals(bytes(answer.tag)) &&
    plaintext?.equals(bytes(answer.plaintext)) === true
  );
}

class Message {
  readonly #key: KeyObject;
  readonly #aad: Buffer;
  readonly #plaintext: Buffer;
  readonly #nonce: Buffer = randomBytes(NONCE_BYTES);
  readonly #tag: Buffer = Buffer.alloc(TAG_BYTES);

  constructor(key: KeyObject, textBytes: number, aadBytes: number) {
    this.#key = key;
    this.#aad = randomBytes(aadBytes);
    this.#plaintext = randomBytes(textBytes);
  }

  defectIn(cipher: MessageCipher, reference: MessageCipher): string | undefined {
    const plaintext = this.#plaintext;
    const theirs = this.#encrypt(reference);
    const tag = Buffer.from(this.#tag);
    if (!this.#encrypt(cipher).equals(theirs) || !this.#tag.equals(tag))
      return "it encrypts otherwise than node:crypto";
    const inPlace = Buffer.from(plaintext);
    if (!this.#encrypt(cipher, inPlace).equals(theirs) || !this.#tag.equals(tag))
      return "it encrypts otherwise in place";
    if (!theirs.equals(inPlace)) return "it does not encrypt in place";
    const output = Buffer.alloc(plaintext.length);
    if (this.#decrypt(cipher, theirs, tag, this.#aad, output) !== output)
      return "a right tag does not hold";
    if (!output.equals(plaintext)) return "it does not decrypt what node:crypto encrypts";
    if (this.#decrypt(reference, theirs, this.#tag, this.#aad)?.equals(plaintext) !== true)
      return "node:crypto does not decrypt what it encrypts";
    return this.#forgeryIn(cipher, theirs, tag);
  }

  #forgeryIn(cipher: MessageCipher, ciphertext: Buffer, tag: Buffer): string | undefined {
    const flipped = (bytes: Buffer, at: number): Buffer => {
      const other = Buffer.from(bytes);
      other.writeUInt8(other.readUInt8(at) ^ 1, at);
      return other;
    };
    const last = ciphertext.length - 1;
    const forgeries: (readonly [Buffer, Buffer, Buffer])[] = [
      [ciphertext, flipped(tag, 0), this.#aad],
      [ciphertext, flipped(tag, TAG_BYTES - 1), this.#aad],
      [Buffer.concat([ciphertext, Buffer.alloc(1)]), tag, this.#aad],
      [ciphertext, tag, Buffer.concat([this.#aad, Buffer.alloc(1)])],
    ];
    if (last >= 0) {
      forgeries.push(
        [ciphertext.subarray(0, last), tag, this.#aad],
        [flipped(ciphertext, last), tag, this.#aad],
      );
    }
    for (const [text, textTag, aad] of forgeries) {
      const output = Buffer.alloc(text.length, 1);
      const zeros = ZEROS.subarray(0, text.length);
      if (this.#decrypt(cipher, text, textTag, aad, output) !== undefined)
        return "a wrong tag holds";
      if (!output.equals(zeros)) return "a wrong tag leaves plaintext behind";
    }
    return undefined;
  }

  #encrypt(cipher: MessageCipher, inPlace?: Buffer): Buffer {
    this.#tag.fill(0);
    const plaintext = inPlace ?? this.#plaintext;
    return cipher.encrypt(this.#key, this.#nonce, this.#aad, plaintext, this.#tag, inPlace);
  }

  #decrypt(
    cipher: MessageCipher,
    ciphertext: Buffer,
    tag: Buffer,
    aad: Buffer,
    output?: Buffer,
  ): Buffer | undefined {
    return cipher.decrypt(this.#key, this.#nonce, aad, ciphertext, tag, output);
  }
}

function randomKey(): KeyObject {
  const bytes = randomBytes(KEY_BYTES);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}
