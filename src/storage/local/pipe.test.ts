import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Storage } from '../contract.ts';
import { StreamStorage, stdinSpool } from './pipe.ts';

const PIECE = 64 * 1024;

describe('stdinSpool', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vdkit-spool-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  async function contentOf(storage: Storage): Promise<Uint8Array> {
    const bytes = new Uint8Array(storage.size);
    await storage.read(0, bytes);
    return bytes;
  }

  /** Data, zeroes, data, zeroes to the end, in chunks that fit no unit. */
  function sample(): Uint8Array {
    const bytes = new Uint8Array(40 * PIECE + 123);
    bytes.fill(1, 0, 10);
    bytes.fill(2, 20 * PIECE + 5, 20 * PIECE + 9);
    return bytes;
  }

  function chunksOf(bytes: Uint8Array, size: number): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    return chunks;
  }

  it.each([1000, PIECE, 3_000_000])('keeps every byte, and holes, with chunks of %d', async (size) => {
    const bytes = sample();
    const seen: number[] = [];
    const storage = await stdinSpool(Readable.from(chunksOf(bytes, size)), {
      directory,
      onBytes: (count) => seen.push(count),
    });
    expect(storage.label).toBe('standard input');
    expect(storage.can).toMatchObject({ write: false, random: true });
    expect(Buffer.compare(await contentOf(storage), bytes)).toBe(0);
    expect((await storage.identity()).allocatedSize).toBeLessThanOrEqual(4 * PIECE);
    expect(seen.at(-1)).toBe(bytes.length);
    expect(readdirSync(directory)).toEqual([]);
    await expect(storage.write(0, Uint8Array.of(1))).rejects.toMatchObject({ kind: 'read-only' });
    await storage.close();
  });

  it('takes nothing for an empty file', async () => {
    const storage = await stdinSpool(Readable.from([]), { directory });
    expect(storage.size).toBe(0);
    await storage.close();
  });

  it('ends when it is aborted, though no data arrives', async () => {
    const controller = new AbortController();
    const spooling = stdinSpool(new PassThrough(), { directory, signal: controller.signal });
    controller.abort();
    await expect(spooling).rejects.toMatchObject({ kind: 'aborted' });
    await expect(stdinSpool(new PassThrough(), { signal: controller.signal })).rejects.toMatchObject({
      kind: 'aborted',
    });
  });

  it('reports a failing stream, and a directory that is missing', async () => {
    const failing = new Readable({
      read() {
        this.destroy(Object.assign(new Error('read EIO'), { code: 'EIO' }));
      },
    });
    await expect(stdinSpool(failing, { directory })).rejects.toMatchObject({
      kind: 'io',
      context: { path: 'standard input' },
    });
    await expect(stdinSpool(Readable.from([]), { directory: join(directory, 'gone') })).rejects.toMatchObject({
      kind: 'not-found',
    });
  });
});

/** A stream that accepts a chunk only when told to. */
class SlowStream extends Writable {
  readonly taken: Buffer[] = [];
  readonly #waiting: (() => void)[] = [];
  #flowing = false;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const take = (): void => {
      this.taken.push(Buffer.from(chunk));
      done();
    };
    if (this.#flowing) take();
    else this.#waiting.push(take);
  }

  flow(): void {
    this.#flowing = true;
    for (const take of this.#waiting.splice(0)) take();
  }

  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.taken));
  }
}

describe('StreamStorage', () => {
  function flowing(): { stream: SlowStream; storage: StreamStorage } {
    const stream = new SlowStream();
    stream.flow();
    return { stream, storage: new StreamStorage(stream) };
  }

  it('writes in order and fills gaps with zeroes', async () => {
    const { stream, storage } = flowing();
    await Promise.all([
      storage.write(2, [Uint8Array.of(1), Uint8Array.of(2)]),
      storage.zero(5, 2, { punch: true }),
      storage.write(PIECE + 100, Uint8Array.of(3)),
      storage.resize(PIECE + 102),
      storage.flush(),
    ]);
    const expected = new Uint8Array(PIECE + 102);
    expected.set([0, 0, 1, 2]);
    expected[PIECE + 100] = 3;
    expect(Buffer.compare(stream.bytes, expected)).toBe(0);
    expect(storage.size).toBe(PIECE + 102);
    expect(storage.can.random).toBe(false);
  });

  it('does not go back, and nothing is read', async () => {
    const { stream, storage } = flowing();
    await storage.write(0, new Uint8Array(10));
    await expect(storage.write(9, Uint8Array.of(1))).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(storage.zero(0, 1, { punch: false })).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(storage.resize(9)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(storage.read()).rejects.toMatchObject({ kind: 'unsupported' });
    await storage.write(10, Uint8Array.of(1));
    expect(stream.bytes).toHaveLength(11);
  });

  it('keeps the buffer until the stream has taken it', async () => {
    const stream = new SlowStream();
    const storage = new StreamStorage(stream);
    const settled: string[] = [];
    const writing = storage.write(0, Uint8Array.of(1)).then(() => settled.push('write'));
    const flushing = storage.flush().then(() => settled.push('flush'));
    expect(storage.size).toBe(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toEqual([]);
    stream.flow();
    await Promise.all([writing, flushing]);
    expect(settled).toEqual(['write', 'flush']);
  });

  it('reports a reader that went away, from then on', async () => {
    const stream = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      },
    });
    const storage = new StreamStorage(stream);
    const failure = {
      kind: 'io',
      message: 'The reader of the pipe has closed it',
      context: { path: 'standard output' },
    };
    await expect(storage.write(0, Uint8Array.of(1))).rejects.toMatchObject(failure);
    await expect(storage.write(1, Uint8Array.of(1))).rejects.toMatchObject(failure);
    await expect(storage.flush()).rejects.toMatchObject(failure);
    await storage.close();
  });

  it('leaves the stream open when it is closed', async () => {
    const { stream, storage } = flowing();
    await storage.close();
    await storage.close();
    expect(stream.writableEnded).toBe(false);
    await expect(storage.write(0, Uint8Array.of(1))).rejects.toMatchObject({ kind: 'io' });
    await expect(storage.flush()).rejects.toMatchObject({ kind: 'io' });
  });
});
