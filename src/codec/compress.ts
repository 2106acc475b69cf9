/** Compression in Node: on its thread pool, except for small pieces. Browsers have a separate version. */
import type * as zlib from 'node:zlib';
import { nodeZlib } from './node-zlib.ts';
import { systemZstd } from './system-zstd.ts';

/** Below this many bytes handing the work to a thread costs more than doing it. */
const AT_ONCE = 2 * 1024;
/** The library's own default level. */
const ZSTD_LEVEL = 3;
/** Streams with a window of 32 KiB made at a time: each takes 300 KiB, and there are four threads. */
const AT_A_TIME = 8;
/** More than any incompressible input can grow by. */
const ZSTD_SLACK = 1024;

/** Members of `node:zlib` from Node 22.15 on. */
interface NativeZstd {
  zstdCompress?(
    bytes: Uint8Array,
    options: { readonly chunkSize: number },
    done: (error: Error | null, result: Uint8Array) => void,
  ): void;
  zstdCompressSync?(bytes: Uint8Array, options: { readonly chunkSize: number }): Uint8Array;
}

let running = 0;
const waiting: (() => void)[] = [];

/** Compresses into a raw deflate stream with a window of 4 KiB, as readers of disk images require. */
export function deflateRaw(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array {
  const options: zlib.ZlibOptions = { windowBits: 12, memLevel: 9, chunkSize: Math.max(bytes.length, 64) };
  if (bytes.length <= AT_ONCE) return nodeZlib().deflateRawSync(bytes, options);
  return new Promise((resolve, reject) => {
    nodeZlib().deflateRaw(bytes, options, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
}

/** Compresses into a zlib stream (RFC 1950). `level`: 0, stored, 1, fastest, to 9, smallest. */
export function deflateZlib(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  // Most results fit into a half: one turn on the thread makes all of it, and little memory waits to be collected.
  const room = level === 0 ? bytes.length + (bytes.length >> 10) : bytes.length >> 1;
  const options: zlib.ZlibOptions = { level, chunkSize: room + 64 };
  return new Promise((resolve, reject) => {
    const start = (): void => {
      running++;
      nodeZlib().deflate(bytes, options, (error, result) => {
        running--;
        waiting.shift()?.();
        if (error === null) resolve(result);
        else reject(error);
      });
    };
    if (running < AT_A_TIME) start();
    else waiting.push(start);
  });
}

/** Compresses into one Zstandard frame. */
export function zstdCompress(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array {
  const { zstdCompress: compress, zstdCompressSync: compressSync } = nodeZlib() as NativeZstd;
  if (compress !== undefined && compressSync !== undefined) {
    const options = { chunkSize: Math.max(bytes.length, 64) };
    if (bytes.length <= AT_ONCE) return compressSync(bytes, options);
    return new Promise((resolve, reject) => {
      compress(bytes, options, (error, result) => (error === null ? resolve(result) : reject(error)));
    });
  }
  return zstdElsewhere(bytes);
}

async function zstdElsewhere(bytes: Uint8Array): Promise<Uint8Array> {
  const library = systemZstd();
  if (library === null) return (await wasmEncoder())(bytes);
  const target = new Uint8Array(bytes.length + Math.floor(bytes.length / 128) + ZSTD_SLACK);
  const length = await library.compress(target, bytes, ZSTD_LEVEL);
  // A copy, so that what is kept until it is written is no longer than it needs to be.
  return target.slice(0, length);
}

type Encoder = (bytes: Uint8Array) => Uint8Array;
let loading: Promise<Encoder> | null = null;

/** The WebAssembly encoder, which runs everywhere in Node but on the main thread. Loaded on first use. */
export function wasmEncoder(): Promise<Encoder> {
  loading ??= loadWasm();
  return loading;
}

async function loadWasm(): Promise<Encoder> {
  const { default: library } = await import('@foxglove/wasm-zstd');
  await library.isLoaded;
  return (bytes) => library.compress(bytes, ZSTD_LEVEL);
}
