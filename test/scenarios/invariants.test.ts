/** The invariants of disks and chains, each for every format that it concerns, with the numbers of the reference's list. */
import { describe, expect, it, vi } from 'vitest';
import { compare, convert, copyImage, createImage, Disk, inspect, type Progress } from '../../src/index.ts';
import { lengthOf } from '../../src/storage/checks.ts';
import type { Source } from '../../src/storage/contract.ts';
import { MemoryProvider, MemoryStorage } from '../../src/storage/memory.ts';
import { FaultProvider } from '../../src/testing/fault-storage.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import { fileBytes } from '../model/extents.ts';
import {
  allSpace,
  FIXED,
  GROWING,
  LARGE,
  mixedLayers,
  PAIRS,
  pairsInTurn,
  STAMPED,
  tablesOf,
  WRITABLE,
} from './formats.ts';
import { KIB, MIB, ShadowedDisk } from './shadowed-disk.ts';

const SIZE = 6 * MIB + 3 * 512;

/** Checks that the links of the images are consistent. */
function expectLinked(disk: Disk): void {
  disk.images.forEach(({ name, info }, number) => {
    const parent = disk.images[number - 1]?.info;
    // What stands on an image without identity cannot name it.
    if (parent?.uuid === null) return;
    expect(info.differencing, name).toBe(parent !== undefined);
    // Formats without UUIDs name the file.
    if (info.uuid === null) {
      expect(info.parentName === null, name).toBe(!info.differencing);
      return;
    }
    expect(info.parentUuid, name).toBe(parent?.uuid ?? null);
    const stamped = STAMPED.some(({ name: format }) => format === info.format);
    expect(info.parentModificationUuid, name).toBe(stamped ? (parent?.modificationUuid ?? null) : null);
  });
}

/** Bytes that an operation reads from files in memory. */
async function bytesRead(run: () => Promise<unknown>): Promise<number> {
  let bytes = 0;
  const { read, readNow } = MemoryStorage.prototype;
  const reading = vi.spyOn(MemoryStorage.prototype, 'read').mockImplementation(function (this: MemoryStorage, ...args) {
    bytes += lengthOf(args[1]);
    return read.apply(this, args);
  });
  const now = vi.spyOn(MemoryStorage.prototype, 'readNow').mockImplementation(function (this: MemoryStorage, ...args) {
    const done = readNow.apply(this, args);
    bytes += done ? args[1].length : 0;
    return done;
  });
  await run();
  reading.mockRestore();
  now.mockRestore();
  return bytes;
}

describe.each(pairsInTurn(0))('chains: $title', (pair) => {
  const { lower, upper } = pair;
  const chain = (seed: number, count: number): Promise<ShadowedDisk> =>
    ShadowedDisk.chain(mixedLayers(pair, count), { seed, size: SIZE });

  it('1: a chain has as many images as it counts, ends at a base, and only its last one is written', async () => {
    const disk = await chain(101, 4);
    expect(disk.disk.images).toHaveLength(4);
    expectLinked(disk.disk);
    const locks = await Promise.all(disk.names.map(async (name) => (await inspect(disk.at(name))).lock.held));
    expect(locks).toEqual(['shared', 'shared', 'shared', 'exclusive']);
    await disk.disk.close();
  });

  it('2: a range reads what the highest image has that holds it, else zero', async () => {
    const disk = await chain(102, 4);
    await disk.zero(MIB, 2 * MIB);
    await disk.stack({ format: upper });
    const expected = new Uint8Array(SIZE);
    for (const number of disk.names.keys()) {
      const layer = disk.disk.layers(number, number);
      for await (const { offset, length, state } of layer.extents()) {
        if (state === 'zero' && number > 0) expected.fill(0, offset, offset + length);
        if (state === 'data') await layer.read(offset, expected.subarray(offset, offset + length));
      }
    }
    const found = new Uint8Array(SIZE);
    await disk.disk.read(0, found);
    expectSameBytes(found, expected);
    await disk.verify();
    await disk.disk.close();
  });

  it('3: a write changes the files of the last image only', async () => {
    const disk = await chain(103, 3);
    const filesOf = () => Promise.all(disk.names.map((name) => fileBytes(disk.at(name))));
    const before = await filesOf();
    await disk.scatter(10);
    await disk.zero(MIB, MIB);
    await disk.discard([{ offset: 3 * MIB, length: MIB }]);
    await disk.disk.flush();
    const after = await filesOf();
    const same = before.map((bytes, number) => Buffer.compare(bytes, after[number] ?? bytes) === 0);
    expect(same).toEqual([true, true, false]);
    await disk.disk.close();
  });

  it('4: what is read stays the same when images are stacked, merged, compacted, resized and closed', async () => {
    const disk = await chain(104, 4);
    const steps = [
      () => disk.stack({ format: upper, block: LARGE }),
      () => disk.disk.closeLast({ remove: true }),
      () => disk.disk.merge(1, 2),
      () => disk.disk.merge(2, 1),
      ...(upper.capabilities.compact ? [() => disk.disk.compact()] : []),
      ...(upper.capabilities.resize ? [() => disk.resize(SIZE + 3 * MIB), () => disk.resize(SIZE)] : []),
      () => disk.disk.merge('last', 0),
    ];
    for (const step of steps) {
      await step();
      await disk.verify();
    }
    await disk.verifyTwice();
    await disk.disk.close();
  });

  const merges = [0, 1, 2, 3].flatMap((from) => [0, 1, 2, 3].map((to) => [from, to] as const));
  const apart = merges.filter(([from, to]) => from !== to);
  it.each(oneIn(3, apart, PAIRS.indexOf(pair)))(
    '5: a merge from %i to %i leaves fewer images, no file of those that went, and links that hold together',
    async (from, to) => {
      const disk = await chain(105, 4);
      const [low, high] = [Math.min(from, to), Math.max(from, to)];
      const stays = disk.names.filter((_, number) => number < low || number > high || number === to);
      await disk.disk.merge(from, to);
      expect(disk.names).toEqual(stays);
      expect(disk.names).toHaveLength(4 - (high - low));
      expect(await disk.files()).toEqual(stays);
      expectLinked(disk.disk);
      await disk.reopen({ linkage: 'strict' });
      expectLinked(disk.disk);
      if (lower.capabilities.uuid) expect(disk.disk.warnings).toEqual([]);
      await disk.verify();
      await disk.disk.close();
    },
  );

  it('6: a copy reads as its source, and zero behind it; where hints leave that to a parent, it shows', async () => {
    const disk = await chain(106, 3);
    const size = SIZE + 2 * MIB;
    const parent = disk.at('/parent');
    const made = await Disk.create(parent, { format: lower.name, size });
    // As the base of the chain, but longer.
    const below = new Uint8Array(size).fill(7);
    await disk.disk.layers(0, 0).read(0, below.subarray(0, SIZE));
    await made.write(0, below);
    await made.close();
    const over = { format: upper.name, parent, parentFormat: lower.name, size };
    for (const [name, options, fill] of [
      ['/base', { format: lower.name, size }, 0],
      ['/child', over, 0],
      ['/hinted', { ...over, fromSame: 0 }, 7],
    ] as const) {
      await copyImage(disk.disk, 'last', disk.at(name), options);
      await using copy = await Disk.open(name === '/base' ? disk.at(name) : [parent, disk.at(name)]);
      const wanted = new Uint8Array(size).fill(fill);
      disk.shadow.read(0, wanted.subarray(0, SIZE));
      const found = new Uint8Array(size);
      await copy.read(0, found);
      expectSameBytes(found, wanted, name);
    }
    await disk.disk.close();
  });

  it('7: what both chains have in common saves work, and the copy reads the same', async () => {
    const disk = await chain(107, 4);
    const made: Source[] = [];
    for (const number of [0, 1]) {
      const parent = made[number - 1];
      const target = disk.at(`/copy-${number}`);
      await copyImage(disk.disk, number, target, {
        format: number === 0 ? lower.name : upper.name,
        ...(parent === undefined ? {} : { parent, parentFormat: lower.name, fromSame: 0 }),
      });
      made.push(target);
    }
    const [, parent = disk.at('')] = made;
    const stored: number[] = [];
    const read: number[] = [];
    for (const hint of [{}, { fromSame: 1 }]) {
      const target = disk.at(`/last-${stored.length}`);
      const options = { format: upper.name, parent, parentChain: made };
      read.push(await bytesRead(() => copyImage(disk.disk, 'last', target, { ...options, ...hint })));
      await using copy = await Disk.open([...made, target]);
      await disk.verify(copy);
      stored.push((await inspect(target)).fileSize);
    }
    expect(stored[1]).toBeLessThanOrEqual(stored[0] ?? 0);
    expect(read[1]).toBeLessThan(read[0] ?? 0);
    await disk.disk.close();
  });

  it('8: after a creation or a copy that failed there is no new file, and the disk is as before', async () => {
    const memory = new MemoryProvider();
    const provider = new FaultProvider(memory);
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }], { seed: 108, size: SIZE, provider });
    // Its session ends here, so that only what is new can fail.
    await disk.reopen();
    const target = disk.at('/new');
    const attempts = [
      () => disk.stack({ format: upper }),
      () => copyImage(disk.disk, 'last', target, { format: upper.name }),
      () => createImage(target, { format: upper.name, size: SIZE }),
    ];
    for (const attempt of attempts) {
      for (const fail of [{ write: 0 }, { write: 1 }, { flush: 0 }, { names: 0 }]) {
        provider.plan({ fail });
        await expectKind(attempt, 'io');
        provider.plan({});
        expect(await disk.files()).toEqual(['/0', '/1']);
        expect(disk.names).toEqual(['/0', '/1']);
        await disk.verify();
      }
      const stop = AbortSignal.abort();
      await expectKind(() => copyImage(disk.disk, 'last', target, { format: upper.name, signal: stop }), 'aborted');
      expect(await disk.files()).toEqual(['/0', '/1']);
    }
    await disk.scatter(2);
    await disk.verifyTwice();
    await disk.disk.close();
  });

  it('9: data that the chain reads already takes no room, unless it is honoured', async () => {
    const disk = await chain(109, 2);
    await disk.stack({ format: upper });
    const same = new Uint8Array(SIZE);
    disk.shadow.read(0, same);
    const empty = await disk.fileSize('/2');
    for (const length of [512, 4096, SIZE]) await disk.write(0, same.subarray(0, length));
    await disk.disk.flush();
    expect([await disk.stored(2), await disk.fileSize('/2')]).toEqual([0, empty]);
    await disk.reopen({ honourSame: true });
    await disk.write(0, same.slice(0, 4096));
    expect(await disk.stored(2)).toBeGreaterThan(0);
    await disk.verifyTwice();
    await disk.disk.close();
  });

  it('15: a read that overlaps a block which is made meanwhile finds the state before or after, no mixture', async () => {
    const disk = await ShadowedDisk.make({ format: lower }, { seed: 115, size: 4 * MIB });
    await disk.write(0, new Uint8Array(MIB).fill(1));
    await disk.stack({ format: upper, block: LARGE });
    const written = { start: 300 * KIB, end: 310 * KIB };
    const writing = disk.disk.write(written.start, new Uint8Array(written.end - written.start).fill(2));
    const reads = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const bytes = new Uint8Array(MIB);
        await disk.disk.read(0, bytes);
        return bytes;
      }),
    );
    await writing;
    const before = new Uint8Array(MIB).fill(1);
    const after = before.slice().fill(2, written.start, written.end);
    for (const bytes of reads) {
      const state = bytes[written.start] === 2 ? after : before;
      expect(Buffer.compare(bytes, state)).toBe(0);
    }
    await disk.disk.close();
  });
});

describe.each(GROWING)('room: $name', (format) => {
  it('10: zeroes written to what a base does not hold take no room, unless they are honoured', async () => {
    for (const how of [{}, { honourZeroes: true }, { honourSame: true }]) {
      const disk = await ShadowedDisk.make({ format }, { seed: 110, size: SIZE, open: how });
      const empty = await disk.fileSize('/0');
      for (const length of [512, MIB]) await disk.write(0, new Uint8Array(length));
      await disk.disk.flush();
      const grown = (await disk.fileSize('/0')) - empty;
      if (how.honourZeroes === true || how.honourSame === true) expect(grown).toBeGreaterThan(0);
      else expect(grown).toBe(0);
      await disk.verifyTwice();
      await disk.disk.close();
    }
  });
});

const discarding = GROWING.filter(({ capabilities }) => capabilities.discard);
describe.each(discarding)('discards: $name', (format) => {
  it('13: a file never grows by the discard of a block, and shrinks by it where it can be packed', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 113, size: SIZE });
    const block = disk.disk.blockSize;
    await disk.write(0, disk.bytes(MIB));
    await disk.write(2 * MIB, disk.bytes(MIB));
    await disk.disk.flush();
    const before = await disk.fileSize('/0');
    await disk.discard([{ offset: 2 * MIB, length: block }]);
    await disk.disk.flush();
    expect(await disk.fileSize('/0')).toBeLessThanOrEqual(before);
    if (format.capabilities.compact) await disk.disk.compact();
    const after = await disk.fileSize('/0');
    // A table of several blocks at the end fills no hole of one.
    const isPacked = format.capabilities.compact && tablesOf(format, 1) <= block;
    expect(after).toBeLessThanOrEqual(isPacked ? before - block : before);
    await disk.verifyTwice();
    await disk.disk.close();
  });

  it('14: what was written after the discard of a part of its block stays, whatever becomes of the block', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 114, size: 64 * MIB });
    const block = disk.disk.blockSize;
    const half = block / 2;
    for (let at = 0; at < 24 * block; at += block) await disk.write(at, disk.bytes(block));
    await disk.discard([{ offset: 0, length: half }]);
    await disk.write(1024, disk.bytes(1024));
    // So much is pending then that the first blocks are pushed out.
    for (let n = 1; n < 24; n++) {
      await disk.discard([{ offset: n * block, length: half }]);
      await disk.write(n * block + 512, disk.bytes(512));
    }
    // The second halves make the blocks whole, but for what was written.
    for (let n = 0; n < 24; n++) await disk.discard([{ offset: n * block + half, length: half }]);
    for (let n = 0; n < 24; n++) await disk.compare(n * block + 1024, n === 0 ? 1024 : 0);
    for (let n = 1; n < 24; n++) await disk.compare(n * block + 512, 512);
    await disk.reopen();
    await disk.verify();
    await disk.disk.close();
  });
});

describe.each(STAMPED)('modification identity: $name', (format) => {
  it('11: changes with the first write and at most once for each flush, never by reading', async () => {
    const disk = await ShadowedDisk.make({ format }, { seed: 111, size: SIZE });
    const stored = async () => (await inspect(disk.at('/0'))).modificationUuid;
    const seen: (string | null)[] = [await stored()];
    /** True when it has changed since the last call. */
    const changed = async () => {
      const before = seen.at(-1);
      seen.push(await stored());
      return before !== seen.at(-1);
    };
    const read = () => disk.compare(0, MIB);
    await read();
    await disk.disk.flush();
    expect(await changed(), 'after reading and a flush of nothing').toBe(false);
    await disk.write(0, disk.bytes(512));
    expect(await changed(), 'after the first write').toBe(true);
    await disk.write(512, disk.bytes(512));
    await disk.zero(MIB, MIB);
    expect(await changed(), 'after more of them').toBe(false);
    await disk.disk.flush();
    await changed();
    await disk.disk.flush();
    await read();
    expect(await changed(), 'after a second flush').toBe(false);
    await disk.write(1024, disk.bytes(512));
    await disk.reopen();
    await changed();
    await read();
    expect(await changed(), 'after opening again').toBe(false);
    await disk.disk.close();
    await using reader = await Disk.open(disk.at('/0'));
    await disk.verify(reader);
    await reader.close();
    expect(await changed(), 'after reading').toBe(false);
    await using again = await Disk.open(disk.at('/0'), { mode: 'write' });
    await again.write(0, new Uint8Array(512).fill(1));
    expect(await changed(), 'after the first write of another session').toBe(true);
    expect(new Set(seen).size).toBeLessThanOrEqual(5);
  });
});

describe.each(WRITABLE)('requests: $name', (format) => {
  it('12: every request ends exactly once, also when the disk is closed meanwhile', async () => {
    for (let round = 0; round < rounds(6, 60); round++) {
      const disk = await ShadowedDisk.make({ format }, { seed: 112 + round, size: SIZE });
      const { random } = disk;
      const ends: string[][] = [];
      const issue = (work: Promise<unknown>): void => {
        const own: string[] = [];
        ends.push(own);
        work.then(
          () => own.push('done'),
          (error: unknown) => own.push(`${error}`),
        );
      };
      for (let n = 0; n < 40; n++) {
        const offset = 512 * random.below(SIZE / 512 - 300);
        const length = 512 * (1 + random.below(300));
        issue(
          random.pick<() => Promise<unknown>>([
            () => disk.disk.read(offset, new Uint8Array(length)),
            () => disk.disk.write(offset, disk.bytes(length)),
            () => disk.disk.zero(offset, length),
            () => disk.disk.discard([{ offset, length }]),
            () => disk.disk.flush(),
          ])(),
        );
      }
      const closing = disk.disk.close();
      issue(closing);
      issue(disk.disk.close());
      await closing;
      await new Promise(setImmediate);
      expect(ends).toEqual(ends.map(() => ['done']));
      await expectKind(() => disk.disk.read(0, new Uint8Array(512)), 'invalid-argument');
    }
  });
});

/** Expects values that never fall and end at the total. */
function expectProgress(seen: readonly Progress[]): void {
  expect(seen.length).toBeGreaterThan(0);
  const done = seen.map((progress) => progress.done);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  expect(seen.at(-1)?.done).toBe(seen.at(-1)?.total);
}

describe.each(pairsInTurn(1))('progress: $title', ({ lower, upper }) => {
  it('17: never falls within one operation, and ends with all', async () => {
    const disk = await ShadowedDisk.chain([{ format: lower }, { format: upper }, { format: upper }], {
      seed: 117,
      size: SIZE,
    });
    const { capabilities } = upper;
    const provider = new MemoryProvider();
    type Watch = { readonly onProgress: (progress: Progress) => void };
    const operations: ((watch: Watch) => Promise<unknown>)[] = [
      (watch) => copyImage(disk.disk, 'last', { provider, name: '/copy' }, { format: upper.name, ...watch }),
      (watch) => convert(disk.disk, { provider, name: '/converted' }, { format: lower.name, ...watch }),
      (watch) => disk.disk.merge(1, 2, watch),
      ...(capabilities.compact ? [(watch: Watch) => disk.disk.compact(watch)] : []),
      (watch) => disk.disk.merge('last', 0, watch),
      (watch) => compare(disk.disk, disk.disk, watch),
    ];
    for (const run of operations) {
      const byOperation = new Map<string, Progress[]>();
      await run({
        onProgress(progress) {
          byOperation.set(progress.operation, [...(byOperation.get(progress.operation) ?? []), progress]);
        },
      });
      expect(byOperation.size, `${run}`).toBeGreaterThan(0);
      for (const seen of byOperation.values()) expectProgress(seen);
    }
    await disk.disk.close();
  });
});

describe.each(FIXED)('progress: $name', (format) => {
  it('17: of a fixed image ends with all', async () => {
    const seen: Progress[] = [];
    await createImage(
      { provider: new MemoryProvider(), name: '/image' },
      {
        format: format.name,
        variant: ['fixed'],
        config: allSpace(format),
        size: 4 * MIB,
        onProgress: (progress) => seen.push(progress),
      },
    );
    expectProgress(seen);
  });
});
