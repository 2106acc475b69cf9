/**
 * The timer that flushes by itself, and a user who flushes, while something has the whole disk to itself: whatever the
 * moment at which they come, the operation goes through, no two flushes run at once, no two writes meet in the file, the
 * disk reads right, takes further writes and is sound.
 *
 * The timer goes off as soon as it may: some turns after it was set, in every run another number of them.
 */
import { describe, expect, it } from 'vitest';
import { equalBytes } from '../../src/codec/bytes.ts';
import { checkImage, createImage, Disk, type DiskOpenOptions } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/index.ts';
import { overriding } from '../../src/testing/overriding.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';
import { unitsOf } from '../conformance/kits.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { RestlessProvider } from '../model/restless.ts';

const UNIT = 4096;
const SIZE = 96 * UNIT;
const HALF = SIZE / 2;
const BASE = '/base';
const DISK = '/disk';
/** Another moment in each. */
const TURNS = Array.from({ length: rounds(6, 300) }, (_, turns) => turns);

/** Goes off some turns after it was set. */
function hastyTimers(turns: number): NonNullable<DiskOpenOptions['timers']> {
  return {
    set(_, run) {
      const alarm = { on: true };
      void (async () => {
        for (let turn = 0; turn < turns; turn++) await null;
        if (alarm.on) run();
      })();
      return alarm;
    },
    clear(handle) {
      (handle as { on: boolean }).on = false;
    },
  };
}

/** Notes writes that run at the same time and touch the same bytes: what the file has then is left to chance. */
class MeetingProvider extends RestlessProvider {
  readonly meetings: string[] = [];

  override async open(name: string, mode: 'read' | 'write') {
    return this.#watched(name, await super.open(name, mode));
  }

  override async create(...how: Parameters<StorageProvider['create']>) {
    return this.#watched(how[0], await super.create(...how));
  }

  #watched(name: string, storage: Awaited<ReturnType<StorageProvider['open']>>) {
    const running = new Set<{ readonly start: number; readonly end: number }>();
    return overriding(storage, {
      write: async (offset, source) => {
        const length =
          source instanceof Uint8Array ? source.length : source.reduce((sum, part) => sum + part.length, 0);
        const own = { start: offset, end: offset + length };
        for (const { start, end } of running) {
          if (own.start < end && start < own.end) this.meetings.push(`${name}: ${offset} and ${start}`);
        }
        running.add(own);
        try {
          await storage.write(offset, source);
        } finally {
          running.delete(own);
        }
      },
    });
  }
}

interface Place {
  readonly provider: MeetingProvider;
  readonly disk: Disk;
  readonly format: string;
  /** Content of the disk. */
  bytes: Uint8Array;
}

interface Operation {
  readonly name: string;
  /** Formats that can; default: both. */
  readonly format?: 'qcow2' | 'vdi';
  /** Over a parent. */
  readonly child?: boolean;
  run(place: Place): Promise<unknown>;
}

const at = ({ provider }: Place, name: string) => ({ provider, name });
const resized = async (place: Place, size: number): Promise<void> => {
  await place.disk.resize(size, { shrink: true });
  const bytes = new Uint8Array(size);
  bytes.set(place.bytes.subarray(0, size));
  place.bytes = bytes;
};

const OPERATIONS: readonly Operation[] = [
  { name: 'compact', run: ({ disk }) => disk.compact() },
  { name: 'compact the parent', child: true, run: ({ disk }) => disk.compact({ image: 0 }) },
  { name: 'resize to more', run: (place) => resized(place, SIZE * 3) },
  { name: 'resize to much more', run: (place) => resized(place, SIZE * 60) },
  { name: 'resize to less', run: (place) => resized(place, HALF + 512) },
  {
    name: 'discard and flush',
    run: async (place) => {
      await place.disk.discard([{ offset: 0, length: 20 * UNIT }]);
      place.bytes.fill(0, 0, 20 * UNIT);
      await place.disk.flush();
    },
  },
  { name: 'create a snapshot', format: 'qcow2', run: ({ disk }) => disk.snapshots.create('second') },
  {
    name: 'apply a snapshot',
    format: 'qcow2',
    run: async (place) => {
      await place.disk.snapshots.create('second');
      await place.disk.write(0, new Uint8Array(10 * UNIT).fill(3));
      await place.disk.snapshots.apply('second');
    },
  },
  { name: 'delete a snapshot', format: 'qcow2', run: ({ disk }) => disk.snapshots.delete('first') },
  { name: 'rename a snapshot', format: 'qcow2', run: ({ disk }) => disk.snapshots.rename('first', 'other') },
  {
    name: 'bitmaps',
    format: 'qcow2',
    run: async ({ disk }) => {
      await disk.bitmaps.add('a');
      await disk.bitmaps.add('b', { enabled: false });
      await disk.bitmaps.merge('b', ['a']);
      await disk.bitmaps.clear('a');
      await disk.bitmaps.disable('a');
      await disk.bitmaps.enable('b');
      await disk.bitmaps.remove('a');
    },
  },
  { name: 'set', format: 'vdi', run: ({ disk }) => disk.set('last', { comment: 'other' }) },
  {
    name: 'make a differencing image and close it',
    run: async (place) => {
      const written = place.bytes.slice();
      await place.disk.createDiff(at(place, '/diff'), { format: place.format });
      await place.disk.write(0, new Uint8Array(9 * UNIT).fill(9));
      await place.disk.closeLast({ remove: true });
      place.bytes = written;
    },
  },
  {
    name: 'reopen',
    run: async ({ disk }) => {
      await disk.setOpenOptions('last', { mode: 'read' });
      await disk.setOpenOptions('last', { mode: 'write' });
    },
  },
  { name: 'merge forward', child: true, run: ({ disk }) => disk.merge(0, 'last') },
  { name: 'merge backward', child: true, run: ({ disk }) => disk.merge('last', 0) },
  { name: 'commit', child: true, run: ({ disk }) => disk.commit() },
  { name: 'rebase', child: true, format: 'qcow2', run: ({ disk }) => disk.rebase(null) },
  {
    name: 'prepare for filters',
    run: async ({ disk, format }) => {
      if (format === 'qcow2') await disk.snapshots.delete('first');
      // Both ways: what is stored stays the same.
      await disk.filters.add(xorFilter());
      await disk.filters.prepare();
      await disk.filters.removeAll();
    },
  },
  { name: 'nothing but closing', run: async () => {} },
];

const CASES = OPERATIONS.flatMap((operation) =>
  (['qcow2', 'vdi'] as const)
    .filter((format) => operation.format === undefined || operation.format === format)
    .map((format) => ({ name: operation.name, format, operation })),
);

/** An image with something in it, over a parent or alone. */
async function made(format: string, child: boolean): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const config = unitsOf(format, UNIT);
  const how = { format, mode: 'write', flushAfterMs: 0, allow: ['/'] } as const;
  const first = { provider, name: child ? BASE : DISK };
  await createImage(first, { format, config, size: SIZE });
  {
    await using disk = await Disk.open(first, how);
    await disk.write(0, randomBytes(new Random(5), SIZE));
  }
  if (child) await createImage({ provider, name: DISK }, { format, config, parent: first, allow: ['/'] });
  if (format === 'vdi' || child) return provider;
  await using disk = await Disk.open(first, how);
  await disk.snapshots.create('first');
  return provider;
}

/** Someone who flushes again and again while the operation runs. */
async function flushing(disk: Disk, turns: number, ended: { readonly is: boolean }): Promise<void> {
  while (!ended.is) {
    for (let turn = 0; turn < 1 + turns * 3; turn++) await null;
    await disk.flush();
  }
}

async function read(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

describe('flushes that come while something has the disk to itself', () => {
  it.each(CASES)('$format: $name', async ({ format, operation }) => {
    for (const turns of TURNS) {
      const inner = await made(format, operation.child === true);
      const random = new Random(turns + 1);
      const provider = new MeetingProvider(inner, random);
      const messages: unknown[] = [];
      const disk = await Disk.open(
        operation.child === true
          ? [
              { provider, name: BASE },
              { provider, name: DISK },
            ]
          : { provider, name: DISK },
        {
          mode: 'write',
          format,
          flushAfterMs: 1,
          timers: hastyTimers(turns),
          onMessage: (message) => message.level === 'error' && messages.push(message),
        },
      );
      const place: Place = { provider, disk, format, bytes: await read(disk) };
      const write = async (offset: number, length: number): Promise<void> => {
        const bytes = randomBytes(random, length);
        await disk.write(offset, bytes);
        place.bytes.set(bytes, offset);
      };
      await Promise.all([write(UNIT, 3 * UNIT), write(10 * UNIT + 512, UNIT), write(HALF - UNIT, 6 * UNIT)]);
      await disk.zero(30 * UNIT, 20 * UNIT);
      place.bytes.fill(0, 30 * UNIT, 50 * UNIT);
      const ended = { is: false };
      const flushes = flushing(disk, turns, ended);
      try {
        await operation.run(place);
      } finally {
        ended.is = true;
      }
      await flushes;
      await write(2 * UNIT, 4 * UNIT);
      expect(equalBytes(await read(disk), place.bytes), `${turns} turns`).toBe(true);
      await disk.close();
      expect({ turns, messages, meetings: provider.meetings }).toEqual({ turns, messages: [], meetings: [] });
      await soundAndSame(inner, place);
    }
  });
});

async function soundAndSame(provider: StorageProvider, { format, bytes }: Place): Promise<void> {
  for (const name of [BASE, DISK]) {
    if ((await provider.lookUp(name)) === null) continue;
    const { findings } = await checkImage({ provider, name }, { format });
    expect(findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
  }
  const name = (await provider.lookUp(DISK)) === null ? BASE : DISK;
  await using disk = await Disk.open({ provider, name }, { format, allow: ['/'] });
  expect(equalBytes(await read(disk), bytes)).toBe(true);
}
