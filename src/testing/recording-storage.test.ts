import { describe, expect, it } from 'vitest';
import { MemoryProvider } from '../storage/memory.ts';
import { FaultProvider } from './fault-storage.ts';
import { describeFlush, describeOperation } from './operation-log.ts';
import { RecordingProvider } from './recording-storage.ts';

describe('recording', () => {
  it('writes down operations with their starts and ends, and buffers of one write as one', async () => {
    const provider = new RecordingProvider(new MemoryProvider(), { turns: () => 5 });
    const storage = await provider.create('/tmp');
    const write = storage.write(0, [new Uint8Array(3).fill(1), new Uint8Array(5).fill(2)]);
    const flush = storage.flush();
    await Promise.all([write, flush]);
    await storage.zero(0, 4, { punch: false });
    await storage.resize(100);
    await provider.rename('/tmp', '/disk', { replace: false });
    await provider.syncNames('/');
    const { log } = provider;
    expect(log.operations.map(describeOperation)).toEqual([
      'create 0 of /tmp',
      'write 1 of /disk [0x0, 0x8)',
      'zero 3 of /disk [0x0, 0x4)',
      'resize 4 of /disk from 8 to 100',
      'rename 5 of /tmp to /disk',
    ]);
    expect(log.flushes.map(describeFlush)).toEqual(['flush 0 of /disk', 'flush 1, names in /']);
    const [written, flushed] = [log.operations[1], log.flushes[0]];
    expect(written?.kind === 'write' && [...written.bytes]).toEqual([1, 1, 1, 2, 2, 2, 2, 2]);
    expect(flushed?.startedAt).toBeLessThan(written?.endedAt ?? 0);
    expect(log.hazards).toEqual([]);
  });

  it('never ends what failed', async () => {
    const faults = new FaultProvider(new MemoryProvider());
    const provider = new RecordingProvider(faults);
    const storage = await provider.create('/file');
    faults.plan({ fail: { write: 0, flush: 0 } });
    await expect(storage.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'io' });
    await expect(storage.flush()).rejects.toMatchObject({ kind: 'io' });
    expect(provider.log.operations[1]?.endedAt).toBe(Number.POSITIVE_INFINITY);
    expect(provider.log.flushes[0]?.endedAt).toBe(Number.POSITIVE_INFINITY);
  });

  it('notices a buffer that changes while it is being written', async () => {
    const provider = new RecordingProvider(new MemoryProvider(), { turns: () => 2 });
    const storage = await provider.create('/file');
    const buffer = new Uint8Array(512);
    const write = storage.write(0, buffer);
    buffer[0] = 1;
    await write;
    expect(provider.log.hazards).toHaveLength(1);
  });
});

describe('faults', () => {
  it('fail the operation whose turn it is, once or for good', async () => {
    const provider = new FaultProvider(new MemoryProvider(), { fail: { write: 1 } });
    const storage = await provider.create('/file');
    await storage.write(0, new Uint8Array(512));
    await expect(storage.write(0, new Uint8Array(512))).rejects.toMatchObject({ kind: 'io' });
    await storage.write(0, new Uint8Array(512));
    expect(provider.counts).toEqual({ read: 0, write: 3, growth: 1, flush: 0, names: 1 });

    provider.plan({ fail: { read: 0 }, forGood: true });
    for (let n = 0; n < 3; n++) {
      await expect(storage.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
    }
  });

  it('count the bytes of all files against the capacity', async () => {
    const provider = new FaultProvider(new MemoryProvider(), { capacity: 2048 });
    const [one, other] = [await provider.create('/one'), await provider.create('/other')];
    await one.write(0, new Uint8Array(1536));
    await expect(other.write(0, new Uint8Array(513))).rejects.toMatchObject({ kind: 'no-space' });
    await other.write(0, new Uint8Array(512));
    await one.write(0, new Uint8Array(1536));
    await expect(one.resize(1537)).rejects.toMatchObject({ kind: 'no-space' });
  });
});
