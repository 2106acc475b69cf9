import { expect, it, vi } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { orAborted } from './or-aborted.ts';

const never = (): Promise<never> => new Promise(() => {});

it('ends all that wait with one signal, which gets one listener', async () => {
  const stop = new AbortController();
  const listening = vi.spyOn(stop.signal, 'addEventListener');
  const waiting = Array.from({ length: 100 }, () => orAborted(never(), { signal: stop.signal }, 'The read'));
  expect(listening).toHaveBeenCalledTimes(1);
  stop.abort();
  for (const one of waiting) await expectKind(() => one, 'aborted');
  await expectKind(() => orAborted(never(), { signal: stop.signal }, 'The read'), 'aborted');
});

it('leaves no listener behind, and listens again for later work', async () => {
  const { signal } = new AbortController();
  const [listening, leaving] = [vi.spyOn(signal, 'addEventListener'), vi.spyOn(signal, 'removeEventListener')];
  for (const round of [1, 2]) {
    const results = await Promise.all([1, 2, 3].map((n) => orAborted(Promise.resolve(n), { signal }, 'The read')));
    expect(results).toEqual([1, 2, 3]);
    await Promise.resolve();
    expect([listening.mock.calls.length, leaving.mock.calls.length]).toEqual([round, round]);
  }
  await expect(orAborted(Promise.reject(new Error('own')), { signal }, 'The read')).rejects.toThrow('own');
});
