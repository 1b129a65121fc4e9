/**
 * Makes instances of the program's own WebAssembly modules. A module has no memory of its own: whoever uses it lays
 * the memory out, and shows parts of it as buffers that files are read straight into.
 */
import { readFileSync } from "node:fs";

// The part of the WebAssembly interface that is used here: the types of Node 20 leave it out.
interface WasmMemory {
  readonly buffer: ArrayBuffer;
}
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => WasmMemory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { env: { memory: WasmMemory } }) => { exports: unknown };
};

const WASM_PAGE_BYTES = 65536;

/** By name: what is compiled serves for every instance. */
const compiled = new Map<string, object>();

export interface WasmInstance<Exports> {
  readonly exports: Exports;
  /** Never grows: that would detach the buffers that show it. */
  readonly memory: ArrayBuffer;
}

/**
 * @param source - `import.meta.url` of the file whose module it is: `<name>.wasm` lies beside it when it runs compiled,
 *   in dist/ when Node runs the source itself.
 * @param memoryBytes - at least so much.
 */
export function instantiateWasm<Exports>(
  source: string,
  name: string,
  memoryBytes: number,
): WasmInstance<Exports> {
  const pages = Math.ceil(memoryBytes / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  let module = compiled.get(name);
  if (module === undefined) {
    module = new WebAssembly.Module(readFileSync(new URL(`./${name}.wasm`, besides(source))));
    compiled.set(name, module);
  }
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { exports: exports as Exports, memory: memory.buffer };
}

function besides(source: string): string {
  if (!source.endsWith(".ts")) return source;
  const at = source.lastIndexOf("/src/");
  return `${source.slice(0, at)}/dist${source.slice(at)}`;
}
