/** Images that are written once: conversion appends, the end comes last, and everything out of order is refused. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ChainDisk } from '../../src/disk/disk.ts';
import { Environment } from '../../src/disk/open/environment.ts';
import type { EnvironmentOptions } from '../../src/disk/options.ts';
import { Chain } from '../../src/disk/path/chain.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { vdi } from '../../src/formats/vdi/index.ts';
import { vmdk } from '../../src/formats/vmdk/index.ts';
import { Registry } from '../../src/image/registry.ts';
import { Disk } from '../../src/index.ts';
import { convert } from '../../src/operations/convert.ts';
import { createImage, stageImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk, stackTools } from '../../src/operations/open.ts';
import { lengthOf } from '../../src/storage/checks.ts';
import type { Storage, StorageProvider } from '../../src/storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../../src/storage/forwarding.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { expectKind } from './expect-kind.ts';
import { randomBytes } from './random.ts';
import { GRAIN, grains } from './write-once.ts';

const SIZE = 10 * 2 ** 20 + 4096;
const registry = new Registry([grains, vdi, raw]);

/** Files that can be appended to, and nothing else: who writes elsewhere is told so. */
function appendOnly(files: StorageProvider, offsets: number[]): StorageProvider {
  const wrap = (inner: Storage): Storage =>
    forwardedStorage(inner, {
      async write(offset, source, options) {
        if (offset !== inner.size) throw new Error(`a write at ${offset} of a file of ${inner.size} bytes`);
        if (lengthOf(source) > 0) offsets.push(offset);
        await inner.write(offset, source, options);
      },
      zero: async () => {
        throw new Error('nothing can be zeroed here');
      },
      resize: async () => {
        throw new Error('no other size');
      },
    });
  return forwardedProvider(files, { create: async (name, how) => wrap(await files.create(name, how)) });
}

let files: MemoryProvider;
let offsets: number[];
let environment: { provider: StorageProvider; registry: Registry };
let content: Uint8Array;

beforeEach(async () => {
  files = new MemoryProvider();
  offsets = [];
  environment = { provider: appendOnly(files, offsets), registry };
  content = new Uint8Array(SIZE);
  const random = new Random(7);
  await createImage('/source.vdi', { size: SIZE, config: { AllocationBlockSize: 4096 }, provider: files, registry });
  await using disk = await openDisk('/source.vdi', { mode: 'write', provider: files, registry });
  for (let patch = 0; patch < 40; patch++) {
    const at = random.below(SIZE - 30_000);
    const bytes = randomBytes(random, 1 + random.below(30_000));
    content.set(bytes, at);
    await disk.write(at, bytes);
  }
  const end = randomBytes(random, 1000);
  content.set(end, SIZE - 1000);
  await disk.write(SIZE - 1000, end);
});

async function contentOf(name: string): Promise<Uint8Array> {
  await using disk = await openDisk(name, { provider: files, registry });
  expect(disk.can.random).toBe(true);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** A new image as a disk, still under construction. */
async function freshDisk(onMessage?: EnvironmentOptions['onMessage']): Promise<ChainDisk> {
  const resolved = await Environment.of(environment);
  const made = await stageImage(resolved.sourceOf('/fresh.grains'), { environment: resolved, size: SIZE });
  const options = { environment: await Environment.of({ onMessage }), mode: 'write', flushAfterMs: 0 } as const;
  const entry = {
    image: made.image,
    name: '/fresh.grains',
    format: 'grains',
    key: 'fresh',
    source: made.target,
    settings: { mode: 'write' } as const,
  };
  const chain = new Chain([entry], null);
  const disk = new ChainDisk({ chain, tools: stackTools(options), warnings: [], options });
  return Object.assign(disk, { publish: () => made.staged.publish() });
}

describe('a conversion into an image that is written once', () => {
  it('appends grain by grain, and the end last', async () => {
    // The disk can be verified before its end is written: what was written is read back.
    await convert('/source.vdi', '/target.grains', { ...environment, verify: true });
    expect(offsets.length).toBeGreaterThan(5);
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
    expect(await inspect('/target.grains', environment)).toMatchObject({ format: 'grains', virtualSize: SIZE });
    expectSameBytes(await contentOf('/target.grains'), content);
  });

  it('leaves nothing behind when it fails, not even an end', async () => {
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    const how = { ...environment, signal: stop.signal, onProgress };
    await expectKind(() => convert('/source.vdi', '/target.grains', how), 'aborted');
    expect(await files.lookUp('/target.grains')).toBeNull();
  });

  it('makes an empty image that has an end', async () => {
    await createImage('/empty.grains', { ...environment, size: SIZE });
    expectSameBytes(await contentOf('/empty.grains'), new Uint8Array(SIZE));
  });
});

describe('a disk over an image that is written once', () => {
  it('goes forwards only, and says so', async () => {
    const disk = await freshDisk();
    expect(disk.can).toMatchObject({ write: true, random: false });
    await disk.write(GRAIN, content.subarray(0, 2 * GRAIN));
    await expect(disk.write(2 * GRAIN, content.subarray(0, GRAIN))).rejects.toMatchObject({
      kind: 'unsupported',
      message: 'This image can only be written sequentially',
      context: { guestOffset: 2 * GRAIN, expected: `${3 * GRAIN} or more` },
    });
    await expectKind(() => disk.zero(0, GRAIN), 'unsupported');
    await disk.zero(3 * GRAIN, GRAIN);
    await expectKind(() => disk.write(3 * GRAIN, content.subarray(0, GRAIN)), 'unsupported');
    // A refused write does no harm.
    await disk.write(5 * GRAIN, [content.subarray(0, 1000), content.subarray(1000, GRAIN)]);
    await disk.close();
    await (disk as ChainDisk & { publish: () => Promise<unknown> }).publish();
    const found = await contentOf('/fresh.grains');
    const wanted = new Uint8Array(SIZE);
    wanted.set(content.subarray(0, 2 * GRAIN), GRAIN);
    wanted.set(content.subarray(0, GRAIN), 5 * GRAIN);
    expectSameBytes(found, wanted);
  });

  it('has an end only if it was closed: the end of its scope does not tell success from failure', async () => {
    const messages: string[] = [];
    const made = await freshDisk((message) => messages.push(message.text));
    const fail = async (): Promise<void> => {
      await using disk = made;
      await disk.write(0, content.subarray(0, GRAIN));
      throw new Error('the caller gave up');
    };
    await expect(fail()).rejects.toThrow('the caller gave up');
    await (made as ChainDisk & { publish: () => Promise<unknown> }).publish();
    await expectKind(() => inspect('/fresh.grains', environment), 'corrupt');
    expect(messages).toEqual(['/fresh.grains was left without close, so its end is missing.']);
  });

  it('has an end when it was closed inside its scope', async () => {
    const messages: string[] = [];
    {
      await using disk = await freshDisk((message) => messages.push(message.text));
      await disk.write(0, content.subarray(0, GRAIN));
      await disk.close();
      await (disk as ChainDisk & { publish: () => Promise<unknown> }).publish();
    }
    expect(await inspect('/fresh.grains', environment)).toMatchObject({ format: 'grains' });
    expect(messages).toEqual([]);
  });

  describe.each([
    ['grains', {}],
    ['vmdk', { variant: ['stream'] }],
  ])('created as a disk: %s', (format, more) => {
    const own = () => ({
      provider: files,
      registry: new Registry([grains, vmdk]),
      format,
      size: 4 * GRAIN,
      ...more,
    });

    it('is filled from its start with a block of random bytes, and is there when it was closed', async () => {
      const disk = await Disk.create('/filled', own());
      const block = content.slice(0, GRAIN);
      for (const guestOffset of [0, GRAIN, 3 * GRAIN]) await disk.write(guestOffset, block);
      expect(await files.lookUp('/filled')).toBe(null);
      await expectKind(() => disk.write(0, block), 'unsupported');
      await disk.close();
      await using again = await Disk.open('/filled', own());
      const found = new Uint8Array(4 * GRAIN);
      await again.read(0, found);
      const wanted = new Uint8Array(4 * GRAIN);
      for (const guestOffset of [0, GRAIN, 3 * GRAIN]) wanted.set(block, guestOffset);
      expectSameBytes(found, wanted);
    });

    it('leaves nothing behind after a scope that ends early, and says so', async () => {
      const messages: string[] = [];
      {
        await using disk = await Disk.create('/gone', { ...own(), onMessage: ({ text }) => messages.push(text) });
        await disk.write(0, content.slice(0, GRAIN));
      }
      expect(await files.lookUp('/gone')).toBe(null);
      expect(messages).toEqual(['/gone was left without close, so it was not created.']);
    });

    it('leaves nothing behind after a failed write', async () => {
      const disk = await Disk.create('/gone', own());
      await disk.write(0, content.slice(0, GRAIN));
      // Whole units only.
      await expectKind(() => disk.write(GRAIN, content.slice(0, 512).fill(1)), 'unsupported');
      await expectKind(() => disk.close(), 'io');
      expect(await files.lookUp('/gone')).toBe(null);
    });
  });

  it('stores whole units only, and has no end after a failure', async () => {
    const disk = await freshDisk();
    await expectKind(() => disk.write(0, content.subarray(0, GRAIN / 2).fill(1)), 'unsupported');
    await expectKind(() => disk.write(GRAIN, content.subarray(0, GRAIN)), 'io');
    await disk.close();
    await (disk as ChainDisk & { publish: () => Promise<unknown> }).publish();
    await expectKind(() => inspect('/fresh.grains', environment), 'corrupt');
  });

  it('keeps requests in order that run at the same time', async () => {
    const disk = await freshDisk();
    const writes: Promise<void>[] = [];
    for (let at = 0; at + GRAIN <= SIZE; at += GRAIN) writes.push(disk.write(at, content.subarray(at, at + GRAIN)));
    await Promise.all(writes);
    await disk.write(SIZE - (SIZE % GRAIN), content.subarray(SIZE - (SIZE % GRAIN)));
    await disk.close();
    await (disk as ChainDisk & { publish: () => Promise<unknown> }).publish();
    expectSameBytes(await contentOf('/fresh.grains'), content);
  });
});
