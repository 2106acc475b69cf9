import { describe, expect, it, vi } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { recording, sector, settle } from '../../test/conformance/queue-kit.ts';
import { ImageError } from '../errors.ts';
import { HeldDevice } from '../testing/held-device.ts';
import { IoBufferManager } from './buffers.ts';
import { IoIterator } from './iterator.ts';
import { IoQueue, type IoRequest } from './queue.ts';

describe('a request', () => {
  it('is submitted again, or freed, from inside its callback', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    let left = 10_000;
    const queue = new IoQueue({
      onComplete(request) {
        left--;
        if (left > 0) request.read(0, sector());
        else request.free();
      },
    });
    queue.attach(device);
    const request = queue.allocate({ id: 1, userData: 'mine' });
    request.read(0, sector());
    await vi.waitFor(() => expect(left).toBe(0));
    expect([request.state, request.userData, queue.requestCount]).toEqual(['freed', 'mine', 0]);
    for (const use of [() => request.read(0, sector()), () => request.free(), () => request.cancel()]) {
      expect(use).toThrow(
        expect.objectContaining({ kind: 'invalid-argument', status: 'VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE' }),
      );
    }
  });

  it('is neither submitted nor freed while it is active', async () => {
    const device = new HeldDevice(4096);
    const { queue } = recording();
    queue.attach(device);
    const request = queue.allocate();
    request.read(0, sector());
    for (const use of [() => request.flush(), () => request.free()]) {
      expect(use).toThrow(expect.objectContaining({ kind: 'busy', status: 'VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE' }));
    }
    await settle();
    expect(() => request.free()).toThrow(ImageError);
  });

  it('refuses what does not fit together', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device);
    const request = queue.allocate();
    const iterator = new IoIterator(device, [{ start: 0, size: 512 }]);
    const elsewhere = new IoIterator(new HeldDevice(4096), [{ start: 0, size: 512 }]);
    const wrong: (() => void)[] = [
      () => request.submit('read', iterator),
      () => request.submit('write', null, sector()),
      () => request.submit('discard', iterator, sector()),
      () => request.submit('discard'),
      () => request.submit('flush', iterator),
      () => request.submit('flush', null, sector()),
      () => request.submit('invalid' as 'read', iterator, sector()),
      () => request.submit('read', elsewhere, sector()),
    ];
    for (const submit of wrong) {
      expect(submit).toThrow(expect.objectContaining({ kind: 'invalid-argument', status: 'VERR_INVALID_PARAMETER' }));
    }
    const small = new Uint8Array(511);
    expect(() => request.submit('read', iterator, small)).toThrow(
      expect.objectContaining({ kind: 'out-of-bounds', status: 'VERR_PDM_MEDIAEX_IOBUF_OVERFLOW' }),
    );
    expect(() => request.submit('write', iterator, small)).toThrow(
      expect.objectContaining({ kind: 'out-of-bounds', status: 'VERR_PDM_MEDIAEX_IOBUF_UNDERRUN' }),
    );
    await expectKind(() => queue.run('read', iterator), 'invalid-argument');
    await settle();
    expect([request.state, queue.activeCount, done, device.log]).toEqual(['idle', 0, [], []]);
  });

  it('shares an iterator with others', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    device.bytes.fill(6);
    const queue = new IoQueue();
    queue.attach(device);
    const iterator = new IoIterator(device, [
      { start: 0, size: 10 },
      { start: 100, size: 10 },
    ]);
    const targets = [new Uint8Array(20), new Uint8Array(20)];
    await Promise.all(targets.map((target) => queue.run('read', iterator, target)));
    for (const target of targets) expect(target).toEqual(new Uint8Array(20).fill(6));
  });

  it('holds its buffer until it was told, and gives it back then', async () => {
    const device = new HeldDevice(4096);
    device.bytes.fill(4);
    const manager = new IoBufferManager({ limit: 4096 });
    const seen: number[][] = [];
    let buffer = manager.allocateNow(512);
    const queue = new IoQueue({
      onComplete: () => seen.push([buffer.references, buffer.segments[0]?.[511] ?? 0]),
    });
    queue.attach(device);
    const request = queue.allocate();
    const iterator = new IoIterator(device, [{ start: 0, size: 512 }]);
    request.submit('read', iterator, buffer);
    // The caller needs it no more.
    expect(buffer.release()).toBe(1);
    await settle();
    device.finish();
    await settle();
    expect([seen, manager.bufferCount]).toEqual([[[1, 4]], 0]);
    // A request that is refused, or cancelled, keeps nothing.
    buffer = manager.allocateNow(512);
    expect(() => request.submit('flush', iterator, buffer)).toThrow(ImageError);
    request.submit('read', iterator, buffer);
    request.cancel();
    await settle();
    expect(buffer.references).toBe(1);
  });

  it('has its buffer filled before a write, and emptied after a read', async () => {
    const device = new HeldDevice(4096);
    const log: string[] = [];
    let there = 512;
    const manager = new IoBufferManager({
      callbacks: {
        copyToBuffer(_, offset, target) {
          log.push(`fill ${offset}`);
          for (const part of target) part.fill(8);
          return there;
        },
        copyFromBuffer(_, offset, source) {
          log.push(`drain ${offset} ${source[0]?.[0]}`);
          return there;
        },
      },
    });
    const queue = new IoQueue();
    queue.attach(device);
    const iterator = new IoIterator(device, [{ start: 512, size: 512 }]);
    const buffer = manager.allocateNow(512);
    const done = async (type: 'read' | 'write') => {
      const running = queue.run(type, iterator, buffer);
      await settle();
      device.finish();
      await running;
    };
    await done('write');
    expect(device.bytes.subarray(512, 1024)).toEqual(new Uint8Array(512).fill(8));
    device.bytes.fill(9);
    await done('read');
    expect(log).toEqual(['fill 0', 'drain 0 9']);
    there = 100;
    await expect(done('write')).rejects.toMatchObject({ status: 'VERR_PDM_MEDIAEX_IOBUF_UNDERRUN' });
    await expect(done('read')).rejects.toMatchObject({ status: 'VERR_PDM_MEDIAEX_IOBUF_OVERFLOW' });
    expect([device.log.length, buffer.references]).toEqual([3, 1]);
  });

  it('tells of a request for nothing', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    const queue = new IoQueue<IoRequest>();
    queue.attach(device);
    await queue.read(0, new Uint8Array(0));
  });
});

describe('ids', () => {
  it('are kept apart among active requests only', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device);
    const [one, two] = [queue.allocate({ id: 7 }), queue.allocate({ id: 7n })];
    const conflict = expect.objectContaining({ kind: 'exists', status: 'VERR_PDM_MEDIAEX_IOREQID_CONFLICT' });
    one.read(0, sector());
    expect(() => two.read(0, sector())).toThrow(conflict);
    expect(() => queue.allocate({ id: 7 })).toThrow(conflict);
    await expect(queue.read(0, sector(), { id: 7 })).rejects.toMatchObject({ kind: 'exists' });
    expect(two.state).toBe('idle');
    // Another queue has separate ids.
    recording().queue.allocate({ id: 7 });
    await settle();
    device.finish();
    await settle();
    two.read(0, sector());
    await settle();
    device.finish();
    await settle();
    expect(done).toEqual(['7 ok', '7 ok']);
  });

  it('have 64 bits', async () => {
    const { queue } = recording();
    expect([queue.allocate({ id: 2n ** 64n - 1n }).id, queue.allocate({ id: 5n }).id]).toEqual([2n ** 64n - 1n, 5]);
    for (const id of [-1, 0.5, 2 ** 53, -1n, 2n ** 64n])
      await expectKind(() => queue.allocate({ id }), 'invalid-argument');
  });
});
