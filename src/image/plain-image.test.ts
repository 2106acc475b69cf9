import { describe, expect, it } from 'vitest';
import { Disk, Registry } from '../index.ts';
import { MemoryProvider, MemoryStorage } from '../storage/memory.ts';
import type { Mapping } from './contract.ts';
import { defineFormat } from './define-format.ts';
import { mainFile } from './files.ts';
import { PlainImage } from './plain-image.ts';
import { plainInfo } from './plain-info.ts';

/** Sectors that stand in a file backwards: a read-only format of four methods. */
class Backwards extends PlainImage {
  get info() {
    return plainInfo({ format: 'backwards', virtualSize: this.storage.size, blockSize: null });
  }

  map(guestOffset: number, length: number): Mapping {
    const within = guestOffset % 512;
    const fileOffset = this.storage.size - 512 - (guestOffset - within) + within;
    const { storage, writable } = this;
    return { kind: 'data', storage, fileOffset, length: Math.min(length, 512 - within), writable };
  }
}

const backwards = defineFormat({
  name: 'backwards',
  title: 'Sectors from behind',
  probe: () => ({ match: 'maybe', reason: 'its size' }),
  open: async (files) => new Backwards(mainFile(files)),
});

class Growing extends Backwards {
  prepareWrite(): never {
    throw new Error('full');
  }
}

describe('PlainImage', () => {
  it('leaves four methods to a read-only format', async () => {
    const provider = new MemoryProvider();
    const file = await provider.create('/a');
    await file.write(0, new Uint8Array(512).fill(2));
    await file.write(512, new Uint8Array(512).fill(1));
    await file.close();
    const registry = new Registry([backwards]);
    await using disk = await Disk.open({ provider, name: '/a' }, { registry });
    const bytes = new Uint8Array(1024);
    await disk.read(0, bytes);
    expect([bytes[0], bytes[511], bytes[512], bytes[1023]]).toEqual([1, 1, 2, 2]);
    await disk.close();
    await expect(Disk.open({ provider, name: '/a' }, { registry, mode: 'write' })).rejects.toMatchObject({
      kind: 'read-only',
    });
  });

  it('derives what it can from its methods and its file', () => {
    expect(new Backwards(new MemoryStorage()).can).toMatchObject({ write: false, allocate: false });
    const { can } = new Growing(new MemoryStorage(), 'write');
    expect(can).toMatchObject({ write: true, allocate: true, discard: false, resize: false, compact: false });
  });

  it('takes no more writes after a failed flush', () => {
    const image = new Growing(new MemoryStorage(), 'write');
    expect(image.map(0, 512)).toMatchObject({ writable: true });
    image.settle(image.seal(), true);
    expect(image.map(0, 512)).toMatchObject({ writable: true });
    image.settle(image.seal(), false);
    expect(image.map(0, 512)).toMatchObject({ writable: false });
  });
});

describe('defineFormat', () => {
  it('derives capabilities from methods and variants', () => {
    const create = () => Promise.reject(new Error('not made here'));
    const full = defineFormat({
      ...{ name: 'full', title: 'all', probe: backwards.probe, open: backwards.open, create },
      variants: [
        { word: 'flat', description: '', allocation: 'fixed' },
        { word: 'child', description: '', differencing: true },
      ],
      check: async () => [],
      can: { write: true },
    });
    expect(full.capabilities).toMatchObject({ createFixed: true, createDynamic: false, diff: true, write: true });
    expect(full.capabilities).toMatchObject({ read: true, check: true, repair: false });
    expect(backwards.capabilities).toMatchObject({ read: true, write: false, createDynamic: false, diff: false });
    expect(defineFormat({ ...backwards, create }).capabilities.createDynamic).toBe(true);
  });
});
