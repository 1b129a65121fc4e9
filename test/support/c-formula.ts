/** Arithmetic as C writes it, as far as fixtures/wal-structure needs it: `?:`, `&`, `+`, `*`, `!`, calls, numbers. */

export interface FormulaTerms {
  readonly values: Readonly<Record<string, number>>;
  readonly functions: Readonly<Record<string, (argument: number) => number>>;
}

export function computeFormula(text: string, terms: FormulaTerms): number {
  return new Formula(text, terms).whole();
}

class Formula {
  readonly #tokens: string[];
  readonly #terms: FormulaTerms;

  constructor(text: string, terms: FormulaTerms) {
    this.#tokens = text.match(/\w+|\S/g) ?? [];
    this.#terms = terms;
  }

  whole(): number {
    const value = this.#conditional();
    if (this.#tokens.length > 0) throw new Error(`unexpected "${this.#tokens.join("")}"`);
    return value;
  }

  #conditional(): number {
    const condition = this.#operators("&", () => this.#sum());
    if (!this.#takes("?")) return condition;
    const yes = this.#conditional();
    this.#expect(":");
    const no = this.#conditional();
    return condition === 0 ? no : yes;
  }

  #sum(): number {
    return this.#operators("+", () => this.#operators("*", () => this.#operand()));
  }

  #operators(sign: "&" | "+" | "*", operand: () => number): number {
    let value = operand();
    while (this.#takes(sign)) {
      const next = operand();
      if (sign === "&") value &= next;
      else value = sign === "+" ? value + next : value * next;
    }
    return value;
  }

  #operand(): number {
    if (this.#takes("!")) return this.#operand() === 0 ? 1 : 0;
    if (this.#takes("(")) return this.#closed();
    const word = this.#tokens.shift() ?? "";
    if (/^\d+$/.test(word)) return Number(word);
    const { values, functions } = this.#terms;
    const compute = functions[word];
    if (compute !== undefined) {
      this.#expect("(");
      return compute(this.#closed());
    }
    const value = values[word];
    if (value === undefined) throw new Error(`unknown word "${word}"`);
    return value;
  }

  #closed(): number {
    const value = this.#conditional();
    this.#expect(")");
    return value;
  }

  #takes(token: string): boolean {
    if (this.#tokens[0] !== token) return false;
    this.#tokens.shift();
    return true;
  }

  #expect(token: string): void {
    if (!this.#takes(token)) throw new Error(`"${token}" expected`);
  }
}
