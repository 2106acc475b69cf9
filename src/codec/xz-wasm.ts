/**
 * xz-embedded as WebAssembly, where the system's liblzma is not available. The package's own stream ends with the first
 * stream of a file and does not tell what it took, so its module is called directly.
 */
import type { XzDecoder, XzStep } from './system-xz.ts';

/** Exports of the module, in xz-decompress 0.2.3. */
interface Exports {
  readonly memory: WebAssembly.Memory;
  create_context(): number;
  destroy_context(context: number): void;
  supply_input(context: number, length: number): void;
  get_next_output(context: number): number;
}

/** The class of the package, with the members that load the module. */
interface Loader {
  _moduleInstance?: { readonly exports: Exports };
  _getModuleInstance(): Promise<void>;
}

interface Package {
  readonly XzReadableStream?: Loader;
}

/** Words of a context: size of each buffer, addresses of both, and how far they are used. */
const CONTEXT = { room: 0, input: 1, inputAt: 2, inputEnd: 3, output: 4, outputAt: 5 } as const;
/** `xz_ret` of xz-embedded. */
const STATUS = { ok: 0, end: 1, unsupportedCheck: 2, memory: 3, memoryLimit: 4, options: 6, buffer: 8 } as const;
/** Padding between and behind streams is a multiple of this. */
const PADDING = 4;

/** A refusal of the module. */
class WasmFailure extends Error {
  readonly memory: boolean;
  readonly unsupported: boolean;

  constructor(code: number) {
    super(`xz-embedded refuses with status ${code}`);
    this.memory = code === STATUS.memory || code === STATUS.memoryLimit;
    this.unsupported = code === STATUS.options || code === STATUS.unsupportedCheck;
  }
}

let loading: Promise<Exports> | null = null;

/** A decoder in WebAssembly. */
export async function wasmDecoder(): Promise<XzDecoder> {
  loading ??= load();
  return new WasmDecoder(await loading);
}

async function load(): Promise<Exports> {
  // A CommonJS module: some loaders see its names, others only the whole.
  const found = (await import('xz-decompress')) as unknown as Package & { readonly default?: Package };
  const loader = found.XzReadableStream ?? found.default?.XzReadableStream;
  if (loader === undefined) throw new Error('internal: xz-decompress has other exports');
  await loader._getModuleInstance();
  if (loader._moduleInstance === undefined) throw new Error('internal: the module of xz-decompress did not load');
  return loader._moduleInstance.exports;
}

/** Result of a step within one stream. */
interface WasmStep {
  readonly taken: number;
  readonly made: number;
  /** The stream has ended. */
  readonly complete: boolean;
}

class WasmDecoder implements XzDecoder {
  readonly #exports: Exports;
  /** Null: between streams. */
  #context: number | null = null;
  #padding = 0;
  #begun = false;

  constructor(exports: Exports) {
    this.#exports = exports;
  }

  async decode(input: Uint8Array, room: Uint8Array, end: boolean): Promise<XzStep> {
    let skipped = 0;
    if (this.#context === null) {
      // A stream begins with fd, so zeroes are padding. Nothing may precede the first.
      while (this.#begun && input[skipped] === 0) skipped++;
      this.#padding += skipped;
      if (skipped === input.length) return this.#between(skipped, end);
      if (this.#padding % PADDING !== 0) throw new Error('the padding between xz streams has a wrong length');
      this.#context = this.#exports.create_context();
      [this.#padding, this.#begun] = [0, true];
    }
    const { taken, made, complete } = this.#step(this.#context, input.subarray(skipped), room);
    if (end && taken + made === 0 && !complete) throw new Error('the xz data ends early');
    return { taken: skipped + taken, made, ended: end && complete && taken === input.length };
  }

  close(): void {
    if (this.#context !== null) this.#exports.destroy_context(this.#context);
    this.#context = null;
  }

  #between(taken: number, end: boolean): XzStep {
    if (end && (this.#padding % PADDING !== 0 || !this.#begun)) throw new Error('the xz data ends early');
    return { taken, made: 0, ended: end };
  }

  /** Output of the module for the input, as much as fits into its own buffers and the room. */
  #step(context: number, input: Uint8Array, room: Uint8Array): WasmStep {
    const before = this.#words(context);
    const size = before[CONTEXT.room] ?? 0;
    const rest = input.subarray(0, size);
    new Uint8Array(this.#exports.memory.buffer).set(rest, before[CONTEXT.input] ?? 0);
    this.#exports.supply_input(context, rest.length);
    let [made, taken] = [0, 0];
    for (;;) {
      const status = this.#exports.get_next_output(context);
      const words = this.#words(context);
      const count = words[CONTEXT.outputAt] ?? 0;
      taken = words[CONTEXT.inputAt] ?? 0;
      const at = words[CONTEXT.output] ?? 0;
      room.set(new Uint8Array(this.#exports.memory.buffer, at, count), made);
      made += count;
      words[CONTEXT.outputAt] = 0;
      if (status === STATUS.end) {
        this.close();
        return { taken, made, complete: true };
      }
      if (status !== STATUS.ok && status !== STATUS.buffer) throw new WasmFailure(status);
      // More may wait inside while the output was full; without room for it, the rest of the input is given again.
      if (status !== STATUS.ok || count < size || made + size > room.length) break;
    }
    return { taken, made, complete: false };
  }

  #words(context: number): Uint32Array {
    return new Uint32Array(this.#exports.memory.buffer, context, 6);
  }
}
