import { describe, expect, it } from 'vitest';
import { defaultRegistry } from '../../formats/index.ts';
import { convert } from '../../operations/convert.ts';
import { createImage } from '../../operations/create.ts';
import { renameImage } from '../../operations/files.ts';
import { inspect } from '../../operations/inspect.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import type { EnvironmentOptions } from '../options.ts';
import { Environment, resolve } from './environment.ts';

const SIZE = 1024 ** 2;

/** Options that count how often each part of the environment is read. */
function counted(options: EnvironmentOptions): { options: EnvironmentOptions; reads: Map<string, number> } {
  const reads = new Map<string, number>();
  const own: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    Object.defineProperty(own, name, {
      enumerable: true,
      get: () => {
        reads.set(name, (reads.get(name) ?? 0) + 1);
        return value;
      },
    });
  }
  return { options: own as EnvironmentOptions, reads };
}

describe('the environment of a call', () => {
  const provider = new MemoryProvider();
  const registry = defaultRegistry();
  const given: EnvironmentOptions = { provider, registry, allow: ['/'], onMessage: () => {} };

  it.each([
    ['inspect', (options: EnvironmentOptions) => inspect('/a.vdi', options)],
    ['convert', (options: EnvironmentOptions) => convert('/a.vdi', '/new.qcow2', options)],
    ['renameImage', (options: EnvironmentOptions) => renameImage('/b.vdi', '/c.vdi', options)],
  ])('is resolved once by %s', async (_name, run) => {
    await createImage('/a.vdi', { ...given, size: SIZE, force: true });
    await createImage('/b.vdi', { ...given, size: SIZE, force: true });
    const { options, reads } = counted(given);
    await run(options);
    // Once to check it, once to resolve it; Node reads it again for the rest of a destructuring at first.
    for (const part of Object.keys(given)) expect(reads.get(part), part).toBeLessThanOrEqual(3);
  });

  it('has defaults for all that is absent', async () => {
    const environment = await Environment.of({});
    expect(environment).toMatchObject({ allow: 'none', lock: true, signal: undefined, onMessage: undefined });
    expect(environment.registry.find('vdi').name).toBe('vdi');
    expect((await Environment.of({})).registry).toBe(environment.registry);
  });

  it('changes only in the parts named', async () => {
    const { signal } = new AbortController();
    const { environment, ...rest } = await resolve({ ...given, signal, format: 'vdi' });
    expect(rest).toEqual({ format: 'vdi' });
    const other = environment.with({ lock: false, signal: undefined });
    expect(other).toMatchObject({ registry, allow: ['/'], lock: false, signal: undefined });
    expect(other.provider).toBe(provider);
    expect(environment.signal).toBe(signal);
  });
});
