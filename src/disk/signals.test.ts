/** Signals of callers reach the storages, which may take for ever to answer. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { BlobStorage } from '../storage/blob.ts';
import type { OperationOptions, Storage, StorageProvider } from '../storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../storage/forwarding.ts';
import { defaultProvider } from '../storage/index.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import { orAborted } from '../storage/or-aborted.ts';
import { OverlayStorage } from '../storage/overlay.ts';
import { handleStorage, readableStorage } from '../vfs/index.ts';

const MIB = 2 ** 20;
const FOREVER = new Promise<never>(() => {});

/** Files whose reads or writes of some range never end, unless a signal ends them. */
class Stuck {
  readonly provider: StorageProvider;
  readonly seen: (OperationOptions | undefined)[] = [];
  reads = false;
  writes = false;
  #held: Promise<void> | undefined;

  constructor(files: StorageProvider) {
    this.provider = forwardedProvider(files, { open: async (name, mode) => this.#wrap(await files.open(name, mode)) });
  }

  /** From now on reads wait for the returned function, whatever their signals say. */
  holdReads(): () => void {
    let answer = (): void => {};
    this.#held = new Promise<void>((resolve) => {
      answer = resolve;
    });
    return () => {
      answer();
      this.#held = undefined;
    };
  }

  #wrap(inner: Storage): Storage {
    return forwardedStorage(inner, {
      readNow: () => false,
      read: async (offset, target, options) => {
        if (this.#held !== undefined) {
          await this.#held;
          return inner.read(offset, target);
        }
        await this.#step(this.reads, options, () => inner.read(offset, target, options));
      },
      write: (offset, source, options) => this.#step(this.writes, options, () => inner.write(offset, source, options)),
    });
  }

  async #step(stuck: boolean, options: OperationOptions | undefined, run: () => Promise<void>): Promise<void> {
    this.seen.push(options);
    await (stuck ? orAborted(FOREVER, options, 'The request') : run());
  }
}

async function stuckDisk(format: string) {
  const files = new MemoryProvider();
  const source = { provider: files, name: `/disk.${format}` };
  await createImage(source, { size: 4 * MIB, format });
  {
    await using disk = await openDisk(source, { mode: 'write', format });
    await disk.write(0, new Uint8Array(MIB).fill(1));
  }
  const stuck = new Stuck(files);
  const disk = await openDisk({ provider: stuck.provider, name: source.name }, { mode: 'write', format });
  return { stuck, disk };
}

describe.each(['raw', 'vdi', 'qcow2'])('a disk of format %s', (format) => {
  it('ends a read that its storage never answers, and goes on', async () => {
    const { stuck, disk } = await stuckDisk(format);
    const target = new Uint8Array(512);
    await disk.read(0, target);
    stuck.reads = true;
    const stop = new AbortController();
    const options = { signal: stop.signal };
    const reading = disk.read(0, target, options);
    const spanning = disk.read(0, new Uint8Array(2 * MIB), options);
    stop.abort();
    await expectKind(() => reading, 'aborted');
    await expectKind(() => spanning, 'aborted');
    // The very object of the caller: none is made for each request.
    expect(stuck.seen).toContain(options);
    stuck.reads = false;
    await disk.read(0, target);
    expect(target[0]).toBe(1);
    await disk.close();
  });

  it('ends a read at once though its storage ignores the signal, and leaves the buffer alone', async () => {
    const { stuck, disk } = await stuckDisk(format);
    const target = new Uint8Array(1024);
    // Its tables are in memory then: what waits below is the data itself.
    await disk.read(0, target);
    target.fill(9);
    const answer = stuck.holdReads();
    const stop = new AbortController();
    const reading = disk.read(0, target, { signal: stop.signal });
    const list = disk.read(512, [target.subarray(0, 10), target.subarray(10, 20)], { signal: stop.signal });
    for (let turn = 0; turn < 50; turn++) await null;
    stop.abort();
    await expectKind(() => reading, 'aborted');
    await expectKind(() => list, 'aborted');
    // A change of what is being read waits for the storage, as if the caller had not cancelled.
    const order: string[] = [];
    const writing = disk.write(0, new Uint8Array(512).fill(2)).then(() => order.push('written'));
    for (let turn = 0; turn < 50; turn++) await null;
    order.push('answered');
    answer();
    await writing;
    expect(order).toEqual(['answered', 'written']);
    expect(target.every((byte) => byte === 9)).toBe(true);
    await disk.read(0, target, { signal: new AbortController().signal });
    expect([target[0], target[512]]).toEqual([2, 1]);
    await disk.close();
  });

  it('ends a write that its storage never answers, and goes on', async () => {
    const { stuck, disk } = await stuckDisk(format);
    await disk.write(0, new Uint8Array(512).fill(2));
    stuck.writes = true;
    const stop = new AbortController();
    const options = { signal: stop.signal };
    const requests = [
      disk.write(0, new Uint8Array(512).fill(3), options),
      // Room for it has to be made, and given back.
      disk.write(3 * MIB + 512, new Uint8Array(512).fill(3), options),
      // Waits for the first.
      disk.read(0, new Uint8Array(512), options),
      disk.zero(100, 100, options),
    ];
    const settled = Promise.allSettled(requests);
    for (let turn = 0; turn < 50; turn++) await null;
    stop.abort();
    for (const result of await settled) {
      expect(result).toMatchObject({ status: 'rejected', reason: { kind: 'aborted' } });
    }
    stuck.writes = false;
    await disk.write(0, new Uint8Array(512).fill(4));
    await disk.write(3 * MIB, new Uint8Array(2048).fill(5));
    await disk.flush();
    const target = new Uint8Array(512);
    await disk.read(3 * MIB + 512, target);
    expect(target[0]).toBe(5);
    await disk.read(0, target);
    expect(target[0]).toBe(4);
    await disk.close();
  });
});

describe('storages', () => {
  const bytes = new Uint8Array(100);
  const kinds: readonly (readonly [string, () => Promise<Storage>])[] = [
    ['memory', async () => new MemoryStorage()],
    ['an overlay', async () => new OverlayStorage(new MemoryStorage())],
    ['a Blob', async () => new BlobStorage(new Blob([bytes]))],
    ['a local file', () => defaultProvider().open(import.meta.filename, 'read')],
    ['a handle', () => handleStorage({ read: async () => ({ bytesRead: 1 }), stat: async () => ({ size: 100 }) })],
    ['a stream', async () => readableStorage(new Blob([bytes]).stream(), { size: 100 })],
  ];

  it.each(kinds)('%s looks at the signal before it starts', async (_, open) => {
    const storage = await open();
    if (storage.size === 0) await storage.write(0, bytes);
    await expectKind(() => storage.read(0, new Uint8Array(10), { signal: AbortSignal.abort() }), 'aborted');
    await storage.read(0, new Uint8Array(10), { signal: new AbortController().signal });
    await storage.close();
  });

  it('a Blob, and a stream, honour it while they wait', async () => {
    const blob = Object.assign(new Blob([bytes]), { slice: () => ({ arrayBuffer: () => FOREVER }) });
    const waiting = [
      new BlobStorage(blob as unknown as Blob),
      readableStorage(new ReadableStream<Uint8Array>({ pull: () => FOREVER }), { size: 100 }),
    ];
    for (const storage of waiting) {
      const stop = new AbortController();
      const reading = storage.read(0, new Uint8Array(10), { signal: stop.signal });
      stop.abort();
      await expectKind(() => reading, 'aborted');
      await storage.close();
    }
  });

  it('a stream gives what came after the abort to the next read', async () => {
    let give = (_chunk: Uint8Array): void => {};
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        give = (chunk) => controller.enqueue(chunk);
      },
    });
    const storage = readableStorage(stream, { size: 3 });
    const stop = new AbortController();
    const reading = storage.read(0, new Uint8Array(3), { signal: stop.signal });
    stop.abort();
    await expectKind(() => reading, 'aborted');
    give(Uint8Array.of(1, 2, 3));
    const target = new Uint8Array(3);
    await storage.read(0, target);
    expect([...target]).toEqual([1, 2, 3]);
    await storage.close();
  });
});
