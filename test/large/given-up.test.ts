/**
 * Long lists of what is given up at once: a million clusters of QCOW2 or blocks of VDI between two flushes. Every way of
 * giving room up ends, leaves what it should, and a check finds nothing. The images are sparse: nothing but their tables
 * takes memory.
 */
import { describe, expect, it } from 'vitest';
import { isZero } from '../../src/codec/bytes.ts';
import { checkImage, createImage, Disk } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { rounds } from '../conformance/random.ts';

const NAME = '/disk';
const UNIT = 512;
/** More than a call takes as arguments. */
const UNITS = rounds(100_000, 1_000_000);
const SIZE = UNITS * UNIT;
/** Units that hold something else than zeroes, and stay. */
const KEPT = [0, 1, Math.floor(UNITS / 2), UNITS - 1];

interface Kind {
  readonly format: 'qcow2' | 'vdi';
  /** An image all units of which have a place in the file, in order. */
  make(provider: StorageProvider): Promise<void>;
}

const KINDS: readonly Kind[] = [
  {
    format: 'qcow2',
    async make(provider) {
      const config = { cluster_size: UNIT, preallocation: 'metadata' };
      await createImage({ provider, name: NAME }, { size: SIZE, format: 'qcow2', config });
    },
  },
  {
    format: 'vdi',
    async make(provider) {
      const config = { AllocationBlockSize: UNIT, DataAlignment: 512 };
      await createImage({ provider, name: NAME }, { size: SIZE, format: 'vdi', config });
      const storage = await provider.open(NAME, 'write');
      const header = new DataView(new ArrayBuffer(512));
      await storage.read(0, new Uint8Array(header.buffer));
      const [mapOffset, dataOffset] = [header.getUint32(0x154, true), header.getUint32(0x158, true)];
      await storage.write(mapOffset, new Uint8Array(Uint32Array.from({ length: UNITS }, (_, slot) => slot).buffer));
      header.setUint32(0x184, UNITS, true);
      await storage.write(0, new Uint8Array(header.buffer));
      await storage.resize(dataOffset + SIZE);
      await storage.close();
    },
  },
];

/** Everything but the kept units. */
function gaps(): { offset: number; length: number }[] {
  const borders = [-1, ...KEPT, UNITS];
  return borders.slice(1).map((unit, index) => {
    const start = (borders[index] ?? 0) + 1;
    return { offset: start * UNIT, length: (unit - start) * UNIT };
  });
}

/** Ranges freed by a file system with a few small files. */
function betweenFiles(): { offset: number; length: number }[] {
  const every = 8;
  return Array.from({ length: Math.floor(UNITS / every) }, (_, n) => ({
    offset: (n * every + 2) * UNIT,
    length: (every - 2) * UNIT,
  })).filter(({ offset, length }) => !KEPT.some((unit) => unit * UNIT >= offset && unit * UNIT < offset + length));
}

/** The remaining size of the disk. */
const CUT = KEPT.length * UNIT;

const WAYS: readonly { readonly name: string; readonly size: number; run(disk: Disk): Promise<unknown> }[] = [
  { name: 'a discard of nearly all', size: SIZE, run: (disk) => disk.discard(gaps()) },
  { name: 'discards between small files', size: SIZE, run: (disk) => disk.discard(betweenFiles()) },
  { name: 'compacting', size: SIZE, run: (disk) => disk.compact() },
  { name: 'a smaller size', size: CUT, run: (disk) => disk.resize(CUT, { shrink: true }) },
];

/** Units that are not zero, with their bytes. */
async function contentOf(disk: Disk): Promise<Map<number, Set<number>>> {
  const found = new Map<number, Set<number>>();
  const piece = new Uint8Array(1024 * 1024);
  for (let at = 0; at < disk.size; at += piece.length) {
    const bytes = piece.subarray(0, Math.min(piece.length, disk.size - at));
    await disk.read(at, bytes);
    if (isZero(bytes)) continue;
    for (let unit = 0; unit * UNIT < bytes.length; unit++) {
      const own = bytes.subarray(unit * UNIT, (unit + 1) * UNIT);
      if (!isZero(own)) found.set(at / UNIT + unit, new Set(own));
    }
  }
  return found;
}

describe.each(KINDS)('$format: room of many units', ({ format, make }) => {
  const open = (provider: StorageProvider, mode: 'read' | 'write'): Promise<Disk> =>
    Disk.open({ provider, name: NAME }, { format, mode, flushAfterMs: 0 });

  it.each(WAYS)('is given up by $name', async ({ size, run }) => {
    const provider = new MemoryProvider();
    await make(provider);
    {
      await using disk = await open(provider, 'write');
      for (const unit of KEPT) await disk.write(unit * UNIT, new Uint8Array(UNIT).fill(1 + (unit % 255)));
      await disk.flush();
      await run(disk);
      await disk.flush();
      await disk.write(UNIT, new Uint8Array(UNIT).fill(77));
    }
    const { findings } = await checkImage({ provider, name: NAME }, { format });
    expect(findings).toEqual([]);
    await using disk = await open(provider, 'read');
    expect(disk.size).toBe(size);
    const kept = KEPT.filter((unit) => unit * UNIT < size);
    const wanted = kept.map((unit): [number, Set<number>] => [unit, new Set([unit === 1 ? 77 : 1 + (unit % 255)])]);
    expect(await contentOf(disk)).toEqual(new Map(wanted));
  });
});
