import { describe, expect, it, vi } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { CANCELED, inOrder, recording, sector, settle } from '../../test/conformance/queue-kit.ts';
import { ImageError } from '../errors.ts';
import { HeldDevice } from '../testing/held-device.ts';
import { IoIterator } from './iterator.ts';
import { IoQueue } from './queue.ts';

describe('a queue', () => {
  it('does what it is asked for and tells once, never inside the call', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    const { queue, done } = recording();
    queue.attach(device);
    const [write, read] = [queue.allocate({ id: 1 }), queue.allocate({ id: 2 })];
    write.write(512, sector().fill(3));
    const target = sector();
    read.read(512, target);
    expect([write.state, read.state, done, device.log]).toEqual(['waiting', 'waiting', [], []]);
    await settle();
    // The read is answered at once; that it comes after the write is a matter of the device.
    expect([write.state, read.state, done]).toEqual(['running', 'idle', ['2 ok']]);
    device.finish();
    await settle();
    expect([write.state, done]).toEqual(['idle', ['2 ok', '1 ok']]);
    read.read(512, target);
    await settle();
    expect(target).toEqual(sector().fill(3));
    expect(done).toHaveLength(3);
  });

  it('does all kinds of requests, with and without iterators', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device);
    const iterator = new IoIterator(device, [
      { start: 1024, size: 512 },
      { start: 0, size: 512 },
    ]);
    const requests = Array.from({ length: 10 }, (_, id) => queue.allocate({ id }));
    const [zero, discard, flush, write, ...others] = requests;
    zero?.zero(0, 512);
    discard?.discard(512, 512);
    write?.write(1024, [sector(), sector()]);
    flush?.flush();
    await settle();
    expect(device.log).toEqual(['zero 0 512', 'discard 512 512', 'write 1024 1024']);
    device.finish();
    await settle();
    device.finish();
    await settle();
    device.log.length = 0;
    const source = Uint8Array.from({ length: 1024 }, (_, at) => at % 255);
    others[0]?.submit('write', iterator, [source.subarray(0, 300), source.subarray(300)]);
    others[1]?.submit('zero', iterator);
    others[2]?.submit('discard', iterator);
    await settle();
    // Each of several pieces is a separate call, in the order of the segments; a discard is one call.
    expect(device.log.filter((line) => line.startsWith('write'))).toEqual(['write 1024 512', 'write 0 512']);
    expect(device.log.filter((line) => line.startsWith('zero'))).toEqual(['zero 1024 512', 'zero 0 512']);
    expect(device.log.filter((line) => line.startsWith('discard'))).toEqual(['discard 1024 1024']);
    device.finish();
    await settle();
    device.bytes.set(source.subarray(0, 512), 1024);
    device.bytes.set(source.subarray(512), 0);
    const target = new Uint8Array(1025).fill(9);
    others[3]?.submit('read', iterator, target);
    others[4]?.submit('flush');
    await settle();
    device.finish();
    await settle();
    device.finish();
    await settle();
    expect(target.subarray(0, 1024)).toEqual(source);
    expect(target[1024]).toBe(9);
    expect(done.every((line) => line.endsWith('ok'))).toBe(true);
    expect(done).toHaveLength(9);
  });

  it('fails with what the device says, and goes on', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device);
    const settled = Promise.allSettled([queue.read(0, sector()), queue.write(0, sector()), queue.flush()]);
    await settle();
    device.held.shift()?.fail(new ImageError('no-space', 'Full'));
    device.held.shift()?.fail(new TypeError('a bug of the device'));
    await settle();
    device.finish();
    expect(await settled).toMatchObject([
      { reason: { kind: 'no-space' } },
      { reason: { kind: 'io', cause: expect.any(TypeError) } },
      { status: 'fulfilled' },
    ]);
    expect([queue.activeCount, done]).toEqual([0, []]);
  });

  it('fails where the device has no discards', async () => {
    const device = Object.assign(new HeldDevice(4096), { discard: undefined });
    const queue = new IoQueue();
    queue.attach(device as unknown as HeldDevice);
    await expectKind(() => queue.discard([{ offset: 0, length: 512 }]), 'unsupported');
  });

  it('runs as many requests at once as it is told to, and the rest in order', async () => {
    const device = new HeldDevice(4096);
    const { queue } = recording();
    queue.attach(device, { atOnce: 2 });
    for (let at = 0; at < 5; at++) queue.allocate().read(at * 512, sector());
    await settle();
    expect(device.log).toEqual(['read 0 512', 'read 512 512']);
    device.finish(1);
    await settle();
    expect(device.log).toHaveLength(3);
    device.finish();
    await settle();
    device.finish();
    await settle();
    expect(device.log.map((line) => Number(line.split(' ')[1]))).toEqual([0, 512, 1024, 1536, 2048]);
  });

  it('serves the queue with the smallest priority first, and in a queue what came first', async () => {
    const device = new HeldDevice(65_536);
    const [low, high, middle] = [recording(9).queue, recording(1).queue, recording(5).queue];
    inOrder(device, low, high, middle);
    for (const [number, queue] of [low, middle, high, low, middle, high].entries()) {
      queue.allocate().read(number * 512, sector());
    }
    for (let step = 0; step < 6; step++) {
      await settle();
      device.finish();
    }
    expect(device.log).toEqual([2, 5, 1, 4, 0, 3].map((number) => `read ${number * 512} 512`));
  });

  it('serves queues of one priority in the order of submission', async () => {
    const device = new HeldDevice(65_536);
    const [one, two] = [recording(3).queue, recording(3).queue];
    inOrder(device, one, two);
    for (const [number, queue] of [two, one, one, two].entries()) queue.allocate().read(number * 512, sector());
    for (let step = 0; step < 4; step++) {
      await settle();
      device.finish();
    }
    expect(device.log).toEqual([0, 1, 2, 3].map((number) => `read ${number * 512} 512`));
  });

  it('does not let a queue starve: every 64th start goes to the request that waits longest', async () => {
    const device = new HeldDevice(65_536);
    device.atOnce = true;
    const low = recording(7);
    let urgent = 0;
    const high = new IoQueue({
      priority: 0,
      onComplete(request) {
        urgent++;
        // There always is another one that is more urgent.
        if (urgent < 1000) request.read(0, sector());
      },
    });
    inOrder(device, low.queue, high);
    for (let id = 0; id < 3; id++) low.queue.allocate({ id }).read(512, sector());
    high.allocate().read(0, sector());
    await vi.waitFor(() => expect(urgent).toBe(1000));
    const places = device.log.flatMap((line, index) => (line === 'now 512 512' ? [index] : []));
    expect(places).toEqual([63, 127, 191]);
  });

  it('lets a running request be, however urgent the next one is', async () => {
    const device = new HeldDevice(4096);
    const [low, high] = [recording(7), recording(0)];
    inOrder(device, low.queue, high.queue);
    low.queue.allocate({ id: 1 }).read(0, sector());
    await settle();
    high.queue.allocate({ id: 2 }).read(512, sector());
    await settle();
    expect(device.log).toEqual(['read 0 512']);
    device.finish();
    await settle();
    expect([low.done, device.log[1]]).toEqual([['1 ok'], 'read 512 512']);
  });

  it('begins a flush when what was submitted before has ended, and lets what follows overtake its end', async () => {
    const device = new HeldDevice(4096);
    const [one, other] = [recording(0), recording(1)];
    one.queue.attach(device);
    other.queue.attach(device);
    const [write, flush, read] = [1, 2, 3].map((id) => one.queue.allocate({ id }));
    write?.write(0, sector());
    flush?.flush();
    read?.read(0, sector());
    // Another queue is not held back.
    other.queue.allocate({ id: 4 }).write(512, sector());
    await settle();
    expect(device.log).toEqual(['write 0 512', 'write 512 512']);
    device.finish(1);
    await settle();
    expect(device.log.slice(2)).toEqual(['flush', 'read 0 512']);
    device.finish();
    await settle();
    expect([one.done, other.done]).toEqual([['1 ok', '2 ok', '3 ok'], ['4 ok']]);
  });

  it('lets timers and sockets have their turn, however fast requests come', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    let rounds = 0;
    let stop = false;
    const queue = new IoQueue({
      onComplete(request) {
        rounds++;
        if (!stop) request.read(0, sector());
      },
    });
    queue.attach(device);
    queue.allocate().read(0, sector());
    await new Promise<void>((resolve) => setImmediate(resolve));
    stop = true;
    await queue.detach();
    expect(rounds).toBeLessThan(2000);
  });

  it('does so in a page, too, where only messages come without delay', async () => {
    vi.resetModules();
    vi.stubGlobal('setImmediate', undefined);
    const { IoQueue: InPage } = await import('./queue.ts');
    vi.unstubAllGlobals();
    const device = new HeldDevice(4096);
    device.atOnce = true;
    await using queue = new InPage();
    queue.attach(device);
    await Promise.all(Array.from({ length: 2000 }, () => queue.read(0, sector())));
    expect(device.log).toHaveLength(2000);
  });

  it('says when all that could complete together has', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    const log: string[] = [];
    const queue = new IoQueue({
      onComplete: ({ id }) => log.push(String(id)),
      onTurnEnd: () => log.push('send'),
    });
    queue.attach(device);
    for (let id = 0; id < 3; id++) queue.allocate({ id }).read(0, sector());
    await settle();
    queue.allocate({ id: 3 }).write(0, sector());
    await settle();
    expect(log).toEqual(['0', '1', '2', 'send']);
    device.finish();
    await settle();
    expect(log).toEqual(['0', '1', '2', 'send', '3', 'send']);
  });

  it('goes on when a callback throws, which surfaces as an uncaught error', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    let calls = 0;
    const thrown: (() => void)[] = [];
    const spy = vi.spyOn(globalThis, 'queueMicrotask');
    const queue = new IoQueue({
      onComplete() {
        calls++;
        // From here on only what was thrown is put off.
        spy.mockImplementation((run) => void thrown.push(run));
        throw new Error('mine');
      },
    });
    queue.attach(device);
    try {
      queue.allocate().read(0, sector());
      queue.allocate().read(0, sector());
      await settle();
    } finally {
      spy.mockRestore();
    }
    expect([calls, queue.activeCount]).toEqual([2, 0]);
    expect(thrown).toHaveLength(2);
    expect(thrown[0]).toThrow('mine');
  });
});

describe('cancelling', () => {
  it('takes a waiting request out by its id, and it is told as cancelled', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    inOrder(device, queue);
    for (let id = 0; id < 3; id++) queue.allocate({ id }).read(id * 512, sector());
    await settle();
    queue.cancel(1n);
    // It is active until it has been told, and cancelling it again changes nothing.
    queue.cancel(1);
    expect(done).toEqual([]);
    await settle();
    expect(done).toEqual([`1 ${CANCELED}`]);
    device.finish();
    await settle();
    device.finish();
    await settle();
    expect(device.log).toEqual(['read 0 512', 'read 1024 512']);
    expect(done).toEqual([`1 ${CANCELED}`, '0 ok', '2 ok']);
  });

  it('marks a running request by its handle, which completes as cancelled when the device is through', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device);
    const [write, failing] = [queue.allocate({ id: 1 }), queue.allocate({ id: 2 })];
    write.write(0, sector().fill(1));
    failing.read(0, sector());
    await settle();
    write.cancel();
    failing.cancel();
    await settle();
    expect([write.state, done]).toEqual(['running', []]);
    device.finish(1);
    device.held.shift()?.fail(new ImageError('io', 'Gone'));
    await settle();
    expect(done).toEqual([`1 ${CANCELED}`, `2 ${CANCELED}`]);
    expect(device.bytes[0]).toBe(1);
  });

  it('stops a discard between two steps, and begins no further piece of a request', async () => {
    const device = new HeldDevice(65_536);
    const { queue, done } = recording();
    queue.attach(device);
    const segments = Array.from({ length: 40 }, (_, at) => ({ start: at * 1024, size: 512 }));
    const [discard, pieces] = [queue.allocate({ id: 1 }), queue.allocate({ id: 2 })];
    discard.discard(0, 4096);
    pieces.submit('write', new IoIterator(device, segments), new Uint8Array(40 * 512));
    await settle();
    const { signal } = device.held[0] ?? {};
    expect(signal?.aborted).toBe(false);
    discard.cancel();
    pieces.cancel();
    expect(signal?.aborted).toBe(true);
    device.finish();
    await settle();
    expect(done).toEqual([`1 ${CANCELED}`, `2 ${CANCELED}`]);
    expect(device.log).toHaveLength(1 + 16);
  });

  it('refuses what is not active', async () => {
    const device = new HeldDevice(4096);
    device.atOnce = true;
    const { queue } = recording();
    queue.attach(device);
    const request = queue.allocate({ id: 5 });
    const notFound = { kind: 'not-found', status: 'VERR_PDM_MEDIAEX_IOREQID_NOT_FOUND' };
    const inactive = { kind: 'invalid-argument', status: 'VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE' };
    for (let time = 0; time < 2; time++) {
      expect(() => queue.cancel(5)).toThrow(expect.objectContaining(notFound));
      expect(() => request.cancel()).toThrow(expect.objectContaining(inactive));
      request.read(0, sector());
      await settle();
    }
  });

  it('is what the signal of a promised request does, waiting, running or fired before', async () => {
    const device = new HeldDevice(4096);
    const queue = new IoQueue();
    inOrder(device, queue);
    const [running, waiting] = [new AbortController(), new AbortController()];
    const promises = [
      queue.read(0, sector(), { signal: running.signal, id: 1 }),
      queue.read(0, sector(), { signal: waiting.signal, id: 2 }),
      queue.read(0, sector(), { signal: AbortSignal.abort(), id: 3 }),
    ];
    const settled = Promise.allSettled(promises);
    await settle();
    running.abort();
    waiting.abort();
    device.finish();
    for (const result of await settled) {
      expect(result).toMatchObject({ status: 'rejected', reason: { kind: 'aborted', status: CANCELED } });
    }
    expect(device.log).toEqual(['read 0 512']);
    // The ids are free again.
    const again = queue.read(0, sector(), { id: 1, signal: new AbortController().signal });
    await settle();
    device.finish();
    await again;
  });
});

describe('the life of a queue', () => {
  it('purges: all that are active complete as cancelled before it resolves', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device, { atOnce: 1 });
    for (let id = 0; id < 4; id++) queue.allocate({ id }).read(0, sector());
    await settle();
    queue.cancel(3);
    let purged = false;
    const purge = Promise.all([queue.purge(), queue.purge()]).then(() => {
      purged = true;
    });
    await settle();
    expect([purged, done.sort()]).toEqual([false, [1, 2, 3].map((id) => `${id} ${CANCELED}`)]);
    device.finish();
    await purge;
    expect([done.at(-1), queue.activeCount]).toEqual([`0 ${CANCELED}`, 0]);
    await queue.purge();
  });

  it('purges only what is active then: what is submitted meanwhile stays', async () => {
    const device = new HeldDevice(4096);
    const seen: (string | null)[] = [];
    const queue = new IoQueue({
      onComplete(request, error) {
        seen.push(error?.status ?? null);
        if (seen.length === 1) request.read(0, sector());
      },
    });
    queue.attach(device);
    queue.allocate().read(0, sector());
    await queue.purge();
    await settle();
    device.finish();
    await settle();
    expect(seen).toEqual([CANCELED, null]);
  });

  it('is attached to one disk at a time', async () => {
    const [one, two] = [new HeldDevice(4096), new HeldDevice(4096)];
    const queue = new IoQueue();
    expect(queue.device).toBe(null);
    const state = (kind: string) => expect.objectContaining({ kind, status: 'VERR_INVALID_STATE' });
    await expect(queue.detach()).rejects.toEqual(state('invalid-argument'));
    await expect(queue.purge()).rejects.toEqual(state('invalid-argument'));
    await expect(queue.read(0, sector())).rejects.toEqual(state('invalid-argument'));
    queue.attach(one);
    expect(queue.device).toBe(one);
    expect(() => queue.attach(two)).toThrow(state('busy'));
    await queue.detach();
    queue.attach(two);
    expect(queue.device).toBe(two);
    // And it works there.
    two.atOnce = true;
    await queue.read(0, sector());
  });

  it('detaches when what is active has ended, and takes nothing more meanwhile', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device, { atOnce: 1 });
    const requests = [1, 2, 3].map((id) => queue.allocate({ id }));
    requests[0]?.read(0, sector());
    requests[1]?.read(0, sector());
    await settle();
    let detached = false;
    const leaving = queue.detach().then(() => {
      detached = true;
    });
    expect(() => requests[2]?.read(0, sector())).toThrow(expect.objectContaining({ status: 'VERR_INVALID_STATE' }));
    device.finish();
    await settle();
    expect([detached, done]).toEqual([false, ['1 ok']]);
    device.finish();
    await leaving;
    expect([done, queue.device]).toEqual([['1 ok', '2 ok'], null]);
  });

  it('detaches with a purge, also after one without', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    queue.attach(device, { atOnce: 1 });
    for (const id of [1, 2]) queue.allocate({ id }).read(0, sector());
    await settle();
    const both = Promise.all([queue.detach(), queue.detach({ purge: true })]);
    await settle();
    expect(done).toEqual([`2 ${CANCELED}`]);
    device.finish();
    await both;
    expect([done, queue.device]).toEqual([[`2 ${CANCELED}`, `1 ${CANCELED}`], null]);
  });

  it('is not destroyed while it is attached or has requests', async () => {
    const { queue } = recording();
    const busy = expect.objectContaining({ kind: 'busy', status: 'VERR_INVALID_STATE' });
    queue.attach(new HeldDevice(4096));
    expect(() => queue.destroy()).toThrow(busy);
    await queue.detach();
    const request = queue.allocate();
    expect([queue.requestCount, () => queue.destroy()]).toEqual([1, expect.any(Function)]);
    expect(() => queue.destroy()).toThrow(busy);
    request.free();
    queue.destroy();
    for (const use of [() => queue.allocate(), () => queue.attach(new HeldDevice(1)), () => queue.read(0, sector())]) {
      await expectKind(use, 'invalid-argument');
    }
  });

  it('ends with the block that has it, whatever is still active', async () => {
    const device = new HeldDevice(4096);
    const { queue, done } = recording();
    {
      await using held = queue;
      held.attach(device, { atOnce: 1 });
      for (const id of [1, 2]) held.allocate({ id }).read(0, sector());
      await settle();
      queueMicrotask(() => device.finish());
    }
    expect(done.sort()).toEqual([`1 ${CANCELED}`, `2 ${CANCELED}`]);
    await expectKind(() => queue.allocate(), 'invalid-argument');
  });

  it.each([-1, 2 ** 32, 0.5])('refuses the priority %d', async (priority) => {
    await expectKind(() => new IoQueue({ priority }), 'invalid-argument');
  });

  it('refuses to run less than one request, and to allocate without a callback', async () => {
    await expectKind(() => new IoQueue().attach(new HeldDevice(1), { atOnce: 0 }), 'invalid-argument');
    await expectKind(() => new IoQueue().allocate(), 'invalid-argument');
  });
});
