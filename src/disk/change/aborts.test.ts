/** Signals end long operations, and opening, while a storage does not answer; the images stay whole. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { checkImage } from '../../operations/check.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { rebaseImage } from '../../operations/rebase-image.ts';
import type { Storage, StorageProvider } from '../../storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../../storage/forwarding.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import type { ChainDisk } from '../disk.ts';

const MIB = 2 ** 20;

/** Files whose reads, once a trap is set, are never answered, whatever their signals say. */
class Deaf {
  readonly provider: StorageProvider;
  #trap: ((offset: number, length: number) => boolean) | null = null;
  #sprung: (() => void) | null = null;

  constructor(files: StorageProvider) {
    this.provider = forwardedProvider(files, { open: async (name, mode) => this.#wrap(await files.open(name, mode)) });
  }

  /** Resolves with the first read that is not answered. All others are. */
  trap(which: (offset: number, length: number) => boolean): Promise<void> {
    this.#trap = which;
    return new Promise((resolve) => {
      this.#sprung = resolve;
    });
  }

  #wrap(inner: Storage): Storage {
    return forwardedStorage(inner, {
      readNow: () => false,
      read: async (offset, target, options) => {
        const length = target instanceof Uint8Array ? target.length : target.reduce((sum, one) => sum + one.length, 0);
        if (this.#trap?.(offset, length) !== true) return inner.read(offset, target, options);
        this.#trap = null;
        this.#sprung?.();
        await new Promise<never>(() => {});
      },
    });
  }
}

const LARGE = (_offset: number, length: number): boolean => length >= 64 * 1024;

/** Base, middle and top with some data in each. */
async function family(format: string) {
  const files = new MemoryProvider();
  const at = (name: string) => ({ provider: files, name: `/${name}.${format}` });
  await createImage(at('base'), { size: 8 * MIB });
  for (const [name, parent] of [
    ['middle', 'base'],
    ['top', 'middle'],
    ['other', null],
  ] as const) {
    await createImage(at(name), parent === null ? { size: 8 * MIB } : { parent: at(parent), parentFormat: format });
  }
  for (const [number, name] of ['base', 'middle', 'top'].entries()) {
    await using disk = await openDisk(at(name), { mode: 'write', allow: ['/'] });
    await disk.write(number * MIB, new Uint8Array(2 * MIB).fill(number + 1));
    if (name === 'top') await disk.write(5 * MIB, new Uint8Array(MIB));
  }
  const deaf = new Deaf(files);
  const stuck = (name: string) => ({ provider: deaf.provider, name: at(name).name });
  return { files, deaf, at, stuck };
}

async function contentOf(source: { provider: StorageProvider; name: string }): Promise<Uint8Array> {
  await using disk = await openDisk(source, { allow: ['/'] });
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

const OPERATIONS: readonly (readonly [string, (disk: ChainDisk, signal: AbortSignal) => Promise<unknown>])[] = [
  ['a merge into the parent', (disk, signal) => disk.merge(2, 1, { signal })],
  ['a merge into the child', (disk, signal) => disk.merge(1, 2, { signal })],
  ['a commit', (disk, signal) => disk.commit({ signal })],
  ['a compaction', (disk, signal) => disk.compact({ signal })],
  ['a rebase', (disk, signal) => disk.rebase(null, { signal })],
];

describe.each(['vdi', 'qcow2'])('a storage that never answers (%s)', (format) => {
  it.each(OPERATIONS)('does not hold up the abort of %s', async (_name, run) => {
    const { deaf, at, stuck } = await family(format);
    const before = await contentOf(at('top'));
    const disk = await openDisk(stuck('top'), { mode: 'write', allow: ['/'], flushAfterMs: 0 });
    const stop = new AbortController();
    const sprung = deaf.trap(LARGE);
    const running = run(disk, stop.signal);
    await Promise.race([sprung, running]);
    stop.abort();
    await expectKind(() => running, 'aborted');
    // The disk goes on, and so does everything after it.
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expectSameBytes(bytes, before);
    await disk.close();
    expectSameBytes(await contentOf(at('top')), before);
    for (const name of ['base', 'middle', 'top']) {
      const { findings } = await checkImage(at(name));
      expect(findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
    }
  });

  it.each([
    [
      'opening',
      (source: { provider: StorageProvider; name: string }, signal: AbortSignal) =>
        openDisk(source, { signal, allow: ['/'] }),
    ],
    ['opening for writing', (source, signal) => openDisk(source, { signal, allow: ['/'], mode: 'write' })],
    ['a report', (source, signal) => inspect(source, { signal })],
    ['a check', (source, signal) => checkImage(source, { signal })],
    ['a rebase', (source, signal) => rebaseImage(source, null, { signal, allow: ['/'] })],
  ] as readonly (readonly [
    string,
    (source: { provider: StorageProvider; name: string }, signal: AbortSignal) => Promise<unknown>,
  ])[])('does not hold up the abort of %s while headers are read', async (_name, run) => {
    const { deaf, at, stuck } = await family(format);
    const before = await contentOf(at('top'));
    for (let skip = 0; skip < 3; skip++) {
      let count = 0;
      const stop = new AbortController();
      const sprung = deaf.trap(() => count++ === skip);
      const running = run(stuck('top'), stop.signal);
      await Promise.race([sprung, running]);
      stop.abort();
      await expectKind(() => running, 'aborted');
    }
    // Locks are free, and nothing has changed.
    await using disk = await openDisk(at('top'), { mode: 'write', allow: ['/'] });
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expectSameBytes(bytes, before);
  });
});
