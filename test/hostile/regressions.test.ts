/** Findings of the hostile suite and the fuzzer, each reduced as far as possible. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HEADER as QCOW2_HEADER, SNAPSHOT } from '../../src/formats/qcow2/layout.ts';
import { vdi } from '../../src/formats/vdi/index.ts';
import { HEADER } from '../../src/formats/vdi/layout.ts';
import { checkImage } from '../../src/operations/check.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { checkWith } from '../../src/testing/format-files.ts';
import { expectKind } from '../conformance/expect-kind.ts';

const BLOCK = 4096;
const WRITE = { mode: 'write', format: 'vdi', flushAfterMs: 0 } as const;

describe('vdi', () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => {
    unhandled.push(error);
  };
  beforeEach(() => {
    unhandled.length = 0;
    process.on('unhandledRejection', note);
  });
  afterEach(() => {
    process.off('unhandledRejection', note);
  });

  it('refuses a block beyond the file once, without an unhandled rejection', async () => {
    const { source, patch } = await image(4, []);
    await patch(mapEntry(0), u32(7));
    await using disk = await openDisk(source);
    // The first request finds no part of the map in memory.
    await expectKind(() => disk.read(0, new Uint8Array(512)), 'corrupt');
    await using other = await openDisk(source);
    expect(other.readNow(0, new Uint8Array(512))).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).toEqual([]);
  });

  it('keeps a fixed image as long as it is when a block of it was free', async () => {
    const { source, patch } = await image(6, ['fixed']);
    await patch(mapEntry(2), u32(0xffff_ffff));
    const disk = await openDisk(source, WRITE);
    const { size } = await source.provider.open(source.name, 'read');
    await disk.write(4 * BLOCK, Uint8Array.of(1));
    await disk.close();
    expect((await source.provider.open(source.name, 'read')).size).toBe(size);
  });

  it.each([10, 400])('shows nothing of entries behind the disk when it grows to %i blocks', async (blocks) => {
    const { source, patch } = await image(6, []);
    const disk = await openDisk(source, WRITE);
    await disk.write(0, new Uint8Array(6 * BLOCK).fill(5));
    await disk.close();
    const shorter = new Uint8Array(HEADER.size);
    HEADER.put(shorter, 'diskSize', 3 * BLOCK);
    const { offset, size } = HEADER.fields.diskSize;
    await patch(offset, shorter.subarray(offset, offset + size));
    await using grown = await openDisk(source, WRITE);
    await grown.resize(blocks * BLOCK);
    const added = new Uint8Array((blocks - 3) * BLOCK);
    await grown.read(3 * BLOCK, added);
    expect(added.every((byte) => byte === 0)).toBe(true);
    await grown.close();
    expect((await checkWith(vdi, source))?.filter(({ severity }) => severity === 'corruption')).toEqual([]);
  });
});

describe('qcow2', () => {
  it('opens an image whose snapshot claims an L1 table of 32 GiB for reading, and says why', async () => {
    const source = { provider: new MemoryProvider(), name: '/image.qcow2' };
    await createImage(source, { format: 'qcow2', size: 2 ** 20, config: { cluster_size: 512 } });
    {
      await using disk = await openDisk(source, { mode: 'write', format: 'qcow2', flushAfterMs: 0 });
      await disk.write(0, new Uint8Array(512).fill(5));
      await disk.snapshots.create('then');
    }
    const storage = await source.provider.open(source.name, 'write');
    const place = new Uint8Array(8);
    await storage.read(QCOW2_HEADER.fields.snapshotsOffset.offset, place);
    const table = Number(new DataView(place.buffer).getBigUint64(0));
    await storage.write(table + SNAPSHOT.fields.l1Entries.offset, new Uint8Array(4).fill(0xff));
    await storage.close();
    await expectKind(() => openDisk(source, { mode: 'write', format: 'qcow2' }), 'read-only');
    await using disk = await openDisk(source);
    const bytes = new Uint8Array(512);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(512).fill(5));
    await expectKind(() => openDisk(source, { snapshot: 'then' }), 'limit');
    const { findings } = await checkImage(source);
    expect(findings.map(({ code, repairable }) => [code, repairable])).toContainEqual(['snapshot-l1', false]);
  });
});

async function image(blocks: number, variant: readonly string[]) {
  const source = { provider: new MemoryProvider(), name: '/image.vdi' };
  const config = { AllocationBlockSize: BLOCK, DataAlignment: 512 };
  await createImage(source, { format: 'vdi', size: blocks * BLOCK, variant, config });
  const patch = async (offset: number, bytes: Uint8Array): Promise<void> => {
    await (await source.provider.open(source.name, 'write')).write(offset, bytes);
  };
  return { source, patch };
}

/** Position of a block's map entry: the map begins in the second sector. */
function mapEntry(block: number): number {
  return 512 + 4 * block;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
