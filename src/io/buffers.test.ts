import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { totalLength } from '../disk/path/buffers.ts';
import { ImageError } from '../errors.ts';
import { lockedMemory } from '../storage/local/locked-memory.ts';
import { Random } from '../testing/random.ts';
import { type IoBuffer, type IoBufferCallbacks, IoBufferManager } from './buffers.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const sizes = (buffer: IoBuffer) => buffer.segments.map(({ length }) => length);
/** True when the system permits locking a whole slab in memory. */
function canLock(): boolean {
  const memory = lockedMemory(MIB);
  memory.unlock();
  return memory.locked;
}
/** Memory locked by this process, as reported by Linux. */
const lockedKib = () => Number(/VmLck:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
/** Lets all pending promises run. */
const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await null;
};

describe('a buffer manager', () => {
  it('hands out pieces that are powers of two, and takes what they are from the limit', () => {
    const manager = new IoBufferManager({ limit: 4 * MIB });
    const lengths = [1, 4 * KIB, 4 * KIB + 1, 28 * KIB, MIB, 2 * MIB + 5000];
    const buffers = lengths.map((length) => manager.allocateNow(length));
    expect(buffers.map(sizes)).toEqual([
      [1],
      [4 * KIB],
      [4 * KIB + 1],
      [16 * KIB, 8 * KIB, 4 * KIB],
      [MIB],
      // No slab is left that is whole: what is free goes together.
      expect.any(Array),
    ]);
    expect(buffers.map(({ segments }) => totalLength(segments))).toEqual(lengths);
    expect(manager.usedBytes).toBe((1 + 1 + 2 + 7 + 256 + 514) * 4 * KIB);
    expect(manager.bufferCount).toBe(6);
    for (const buffer of buffers) expect(buffer.release()).toBe(0);
    expect([manager.usedBytes, manager.bufferCount]).toEqual([0, 0]);
    manager.destroy();
    expect(manager.heldBytes).toBe(0);
  });

  it('uses memory again', () => {
    const manager = new IoBufferManager();
    const first = manager.allocateNow(64 * KIB);
    const memory = first.segments[0]?.buffer;
    first.release();
    expect(manager.allocateNow(64 * KIB).segments[0]?.buffer).toBe(memory);
    expect(manager.heldBytes).toBe(MIB);
  });

  it('never holds more than its limit, nor gives one byte to two', () => {
    const random = new Random(20);
    for (const limit of [4 * KIB, 5000, 100 * KIB, 3 * MIB + 12 * KIB]) {
      const manager = new IoBufferManager({ limit });
      const buffers: { buffer: IoBuffer; mark: number }[] = [];
      for (let step = 0; step < 2000; step++) {
        const length = 1 + random.below(random.chance(0.2) ? limit : Math.min(limit, 20_000));
        const pages = Math.ceil(length / 4096) * 4096;
        const fits = manager.usedBytes + pages <= limit;
        if (random.chance(0.55)) {
          if (!fits) {
            expect(() => manager.allocateNow(length)).toThrow(expect.objectContaining({ status: 'VERR_NO_MEMORY' }));
            continue;
          }
          const buffer = manager.allocateNow(length);
          expect(totalLength(buffer.segments)).toBe(length);
          const mark = 1 + random.below(255);
          for (const segment of buffer.segments) segment.fill(mark);
          buffers.push({ buffer, mark });
        } else if (buffers.length > 0) {
          const [{ buffer, mark } = { buffer: null, mark: 0 }] = buffers.splice(random.below(buffers.length), 1);
          expect(buffer?.segments.every((segment) => segment.every((byte) => byte === mark))).toBe(true);
          buffer?.release();
        }
        expect(manager.heldBytes).toBeLessThanOrEqual(limit);
        expect(manager.usedBytes).toBeLessThanOrEqual(manager.heldBytes);
      }
    }
  });

  it('keeps 16 MiB at most for later', () => {
    const manager = new IoBufferManager();
    const buffers = Array.from({ length: 40 }, () => manager.allocateNow(MIB));
    expect(manager.heldBytes).toBe(40 * MIB);
    for (const buffer of buffers) buffer.release();
    expect(manager.heldBytes).toBe(16 * MIB);
  });

  it('makes those wait for whom there is no room, and serves them in their order', async () => {
    const manager = new IoBufferManager({ limit: 64 * KIB });
    const first = await manager.allocate(64 * KIB);
    const order: string[] = [];
    const wait = async (name: string, length: number, signal?: AbortSignal) => {
      try {
        const buffer = await manager.allocate(length, { signal });
        order.push(name);
        return buffer;
      } catch (error) {
        order.push(`${name} ${(error as ImageError).kind}`);
        return null;
      }
    };
    const abort = new AbortController();
    const waiting = [wait('large', 64 * KIB, abort.signal), wait('small', 4 * KIB), wait('middle', 32 * KIB)];
    await settle();
    expect([manager.waitingCount, order]).toEqual([3, []]);
    // No request overtakes, not even one that would fit.
    first.release();
    await settle();
    expect(order).toEqual(['large']);
    await expectKind(() => manager.allocateNow(4 * KIB), 'limit');
    (await waiting[0])?.release();
    await settle();
    expect(order).toEqual(['large', 'small', 'middle']);
    expect(manager.usedBytes).toBe(36 * KIB);
  });

  it('lets those behind go on when the first of them gives up', async () => {
    const manager = new IoBufferManager({ limit: 64 * KIB });
    const first = manager.allocateNow(32 * KIB);
    const abort = new AbortController();
    const large = manager.allocate(64 * KIB, { signal: abort.signal });
    const small = manager.allocate(4 * KIB);
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(large).rejects.toMatchObject({ kind: 'aborted', cause: reason });
    expect((await small).length).toBe(4 * KIB);
    await expectKind(() => manager.allocate(1, { signal: abort.signal }), 'aborted');
    expect([manager.waitingCount, manager.bufferCount]).toEqual([0, 2]);
    first.release();
  });

  it('refuses with VERR_NO_MEMORY what does not fit', async () => {
    const manager = new IoBufferManager({ limit: 8 * KIB });
    // Waiting for more than there will ever be has no end.
    await expect(manager.allocate(8 * KIB + 1)).rejects.toMatchObject({ kind: 'limit', status: 'VERR_NO_MEMORY' });
    const buffer = manager.allocateNow(1);
    expect(() => manager.allocateNow(8 * KIB)).toThrow(
      expect.objectContaining({ kind: 'limit', status: 'VERR_NO_MEMORY' }),
    );
    buffer.release();
    manager.allocateNow(8 * KIB);
  });

  it('counts references, and is not destroyed while a buffer lives', async () => {
    const manager = new IoBufferManager();
    const buffer = manager.allocateNow(10);
    expect([buffer.references, buffer.retain(), buffer.release()]).toEqual([1, 2, 1]);
    expect(() => manager.destroy()).toThrow(expect.objectContaining({ kind: 'busy', status: 'VERR_INVALID_STATE' }));
    expect(buffer.release()).toBe(0);
    for (const use of [() => buffer.release(), () => buffer.retain(), () => buffer.segments]) {
      expect(use).toThrow(expect.objectContaining({ kind: 'invalid-argument', status: 'VERR_INVALID_HANDLE' }));
    }
    manager.destroy();
    await expectKind(() => manager.allocate(1), 'invalid-argument');
  });

  it('lives as long as a block that has it', () => {
    let seen: IoBufferManager;
    {
      using manager = new IoBufferManager();
      using buffer = manager.allocateNow(10);
      expect(buffer.references).toBe(1);
      seen = manager;
    }
    expect(() => seen.allocateNow(1)).toThrow(ImageError);
  });

  it('wraps memory of the caller without taking any', () => {
    const manager = new IoBufferManager({ limit: 4 * KIB });
    const parts = [new Uint8Array(3000), new Uint8Array(3000)];
    const buffer = manager.wrap(parts, { length: 4000, userData: 'mine' });
    expect(sizes(buffer)).toEqual([3000, 1000]);
    expect(buffer).toMatchObject({ length: 4000, userData: 'mine' });
    buffer.segments[1]?.fill(7);
    expect(parts[1]?.[999]).toBe(7);
    expect([manager.usedBytes, manager.bufferCount]).toEqual([0, 1]);
    buffer.release();
    expect(parts[1]?.[999]).toBe(7);
    expect(() => manager.wrap(parts, { length: 6001 })).toThrow(expect.objectContaining({ kind: 'invalid-argument' }));
  });

  it('keeps something of the caller with every buffer', () => {
    const manager = new IoBufferManager<{ address: number }>();
    const buffer = manager.allocateNow(1, { userData: { address: 5 } });
    expect([buffer.userData, manager.allocateNow(1).userData]).toEqual([{ address: 5 }, undefined]);
    buffer.userData = { address: 6 };
    expect(buffer.userData).toEqual({ address: 6 });
  });

  it.each([-1, 1, 4095, 1.5, Number.NaN])('refuses a limit of %d', async (limit) => {
    await expectKind(() => new IoBufferManager({ limit }), 'invalid-argument');
  });

  it.each([0, -1, 1.5])('refuses a buffer of %d bytes', async (length) => {
    await expectKind(() => new IoBufferManager().allocate(length), 'invalid-argument');
    await expectKind(() => new IoBufferManager().allocateNow(length), 'invalid-argument');
  });
});

describe('buffers that are not to be swapped out', () => {
  it('are overwritten when they come back', () => {
    const manager = new IoBufferManager({ limit: 4 * KIB, notPageable: true });
    const buffer = manager.allocateNow(4 * KIB);
    const [memory] = buffer.segments;
    memory?.fill(1);
    buffer.retain();
    buffer.release();
    expect(memory?.every((byte) => byte === 1)).toBe(true);
    buffer.release();
    expect(memory?.every((byte) => byte === 0)).toBe(true);
  });

  it.runIf(canLock())('are locked where the system can', () => {
    const before = lockedKib();
    const manager = new IoBufferManager({ notPageable: true });
    expect(manager.isLocked).toBe(false);
    const buffer = manager.allocateNow(100 * KIB);
    expect([manager.isLocked, lockedKib() - before]).toEqual([true, 1024]);
    buffer.release();
    manager.destroy();
    expect([manager.isLocked, lockedKib() - before]).toEqual([false, 0]);
  });

  it('are memory like any other where it cannot', () => {
    vi.stubEnv('VDKIT_NO_NATIVE', '1');
    try {
      const manager = new IoBufferManager({ notPageable: true });
      manager.allocateNow(100).release();
      expect([manager.isLocked, manager.heldBytes]).toEqual([false, MIB]);
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('callbacks of a buffer manager', () => {
  const memory = Uint8Array.from({ length: 10_000 }, (_, at) => at % 251);
  const callbacks = (more: Partial<IoBufferCallbacks> = {}): IoBufferCallbacks => ({
    copyFromBuffer: () => 0,
    copyToBuffer: () => 0,
    ...more,
  });

  it('lend memory, in one piece or in several, and nothing is copied', () => {
    const queryBuffer = (_buffer: IoBuffer, offset: number, length: number) =>
      memory.subarray(offset, offset + Math.min(length, 6000));
    const manager = new IoBufferManager({ callbacks: callbacks({ queryBuffer }) });
    const buffer = manager.allocateNow(10_000);
    expect(sizes(buffer)).toEqual([6000, 4000]);
    expect(buffer.segments[1]?.buffer).toBe(memory.buffer);
    expect(manager.usedBytes).toBe(0);
    buffer.fill(10_000);
    buffer.drain(10_000);
  });

  it('may have no memory to lend', () => {
    const answers = [
      () => null,
      () => new Uint8Array(0),
      () => {
        throw new ImageError('unsupported', 'No');
      },
    ];
    for (const queryBuffer of answers) {
      const manager = new IoBufferManager({ callbacks: callbacks({ queryBuffer }) });
      expect(sizes(manager.allocateNow(100))).toEqual([100]);
      expect(manager.usedBytes).toBe(4096);
    }
    const failing = () => {
      throw new ImageError('io', 'Gone');
    };
    const manager = new IoBufferManager({ callbacks: callbacks({ queryBuffer: failing }) });
    expect(() => manager.allocateNow(100)).toThrow('Gone');
    expect(manager.bufferCount).toBe(0);
  });

  it('copy between the memory of the caller and that of the pool', () => {
    const seen: string[] = [];
    const manager = new IoBufferManager<string>({
      callbacks: {
        copyToBuffer(buffer, offset, target) {
          seen.push(`to ${buffer.userData} ${offset} ${totalLength(target)}`);
          let at = offset;
          for (const part of target) {
            part.set(memory.subarray(at, at + part.length));
            at += part.length;
          }
          return at - offset;
        },
        copyFromBuffer(buffer, offset, source) {
          seen.push(`from ${buffer.userData} ${offset} ${totalLength(source)}`);
          return totalLength(source);
        },
      },
    });
    const buffer = manager.allocateNow(10_000, { userData: 'guest' });
    buffer.fill(9000);
    expect(buffer.segments[0]?.subarray(0, 8192)).toEqual(memory.subarray(0, 8192));
    buffer.drain(10_000);
    expect(seen).toEqual(['to guest 0 9000', 'from guest 0 10000']);
  });

  it('tell with fewer bytes that the caller has too little', () => {
    const manager = new IoBufferManager({
      callbacks: { copyToBuffer: () => 99, copyFromBuffer: () => 99 },
    });
    const buffer = manager.allocateNow(100);
    expect(() => buffer.fill(100)).toThrow(
      expect.objectContaining({ kind: 'out-of-bounds', status: 'VERR_PDM_MEDIAEX_IOBUF_UNDERRUN' }),
    );
    expect(() => buffer.drain(100)).toThrow(
      expect.objectContaining({ kind: 'out-of-bounds', status: 'VERR_PDM_MEDIAEX_IOBUF_OVERFLOW' }),
    );
    buffer.fill(99);
    // Memory of the caller needs no copying.
    manager.wrap(new Uint8Array(100)).fill(100);
  });
});
