import { describe, expect, it } from 'vitest';
import { ImageError } from '../errors.ts';
import { raw } from '../formats/raw/index.ts';
import { vdi } from '../formats/vdi/index.ts';
import { HEADER } from '../formats/vdi/layout.ts';
import { Registry } from '../image/registry.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { checkImage } from './check.ts';
import { createImage } from './create.ts';
import { openDisk } from './open.ts';

const BLOCK = 4096;

interface At {
  readonly provider: MemoryProvider;
  readonly name: string;
}

/** Eight blocks, of which the first three hold data. */
async function make(name = '/disk.vdi'): Promise<At> {
  const source = { provider: new MemoryProvider(), name };
  await createImage(source, {
    format: 'vdi',
    size: 8 * BLOCK,
    config: { AllocationBlockSize: BLOCK, DataAlignment: 512 },
  });
  await using disk = await openDisk(source, { mode: 'write' });
  await disk.write(0, new Uint8Array(3 * BLOCK).fill(7));
  return source;
}

async function bytesOf(source: At): Promise<Uint8Array> {
  const storage = await source.provider.open(source.name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function patch(source: At, offset: number, bytes: Uint8Array): Promise<void> {
  const storage = await source.provider.open(source.name, 'write');
  await storage.write(offset, bytes);
  await storage.close();
}

/** Sets map entry `index` to `value`. */
async function damage(source: At, index: number, value: number): Promise<void> {
  const { mapOffset } = HEADER.decode((await bytesOf(source)).subarray(0, 512));
  const entry = new Uint8Array(4);
  new DataView(entry.buffer).setUint32(0, value, true);
  await patch(source, mapOffset + index * 4, entry);
}

async function pin(source: At, mode: 'shared' | 'exclusive'): Promise<() => Promise<void>> {
  const storage = await source.provider.open(source.name, 'read');
  await storage.lock(mode);
  return () => storage.close();
}

describe('a check', () => {
  it('finds nothing in a sound image', async () => {
    const source = await make();
    expect(await checkImage(source)).toEqual({
      file: '/disk.vdi',
      format: 'vdi',
      clean: true,
      findings: [],
      repaired: false,
      repairs: [],
    });
  });

  it('says where the damage is, and changes nothing', async () => {
    const source = await make();
    await damage(source, 2, 0);
    const before = await bytesOf(source);
    const report = await checkImage(source);
    expect(report).toMatchObject({ clean: false, repaired: false, repairs: [] });
    expect(report.findings[0]).toMatchObject({ code: 'shared-block', guestOffset: 2 * BLOCK, repairable: true });
    expect(await bytesOf(source)).toEqual(before);
  });

  it('takes a header that cannot be understood for a finding', async () => {
    const source = await make();
    await patch(source, HEADER.fields.blockSize.offset, new Uint8Array(4));
    const { findings, clean } = await checkImage(source, { repair: true });
    expect(clean).toBe(false);
    expect(findings).toEqual([
      {
        severity: 'corruption',
        code: 'header',
        message: expect.stringContaining('block size'),
        fileOffset: HEADER.fields.blockSize.offset,
        guestOffset: null,
        repairable: false,
      },
    ]);
  });

  it.each([0, 100])('believes the name of a file that nothing identifies, of %i bytes', async (size) => {
    const provider = new MemoryProvider();
    const storage = await provider.create('/broken.vdi');
    await storage.resize(size);
    await storage.close();
    const { format, findings } = await checkImage({ provider, name: '/broken.vdi' });
    expect(format).toBe('vdi');
    expect(findings.map(({ code }) => code)).toEqual(['header']);
  });

  it('is unsupported for formats without one', async () => {
    const provider = new MemoryProvider();
    const storage = await provider.create('/disk.raw');
    await storage.resize(4096);
    await storage.close();
    await expect(checkImage({ provider, name: '/disk.raw' })).rejects.toMatchObject({ kind: 'unsupported' });
    await expect(checkImage({ provider, name: '/none.vdi' })).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('hands on what is no fault of the image', async () => {
    const source = await make();
    const check = () => Promise.reject(new ImageError('io', 'The medium is gone'));
    const registry = new Registry([{ ...raw, check }]);
    await expect(checkImage(source, { registry })).rejects.toMatchObject({ kind: 'io' });
  });

  it('waits for no writer, unless told that sharing is fine', async () => {
    const source = await make();
    const release = await pin(source, 'exclusive');
    await expect(checkImage(source)).rejects.toMatchObject({ kind: 'locked' });
    expect(await checkImage(source, { forceShare: true })).toMatchObject({ clean: true });
    await release();
    expect(await checkImage(source)).toMatchObject({ clean: true });
  });
});

describe('a repair', () => {
  it('says what it will do, does it, and reports what is left', async () => {
    const source = await make();
    await damage(source, 2, 0);
    await damage(source, 5, 1000);
    const seen: string[] = [];
    const before = await bytesOf(source);
    const report = await checkImage(source, {
      repair: true,
      beforeRepair: async (findings) => {
        expect(await bytesOf(source)).toEqual(before);
        seen.push(...findings.map(({ code }) => code));
      },
    });
    expect(seen).toContain('shared-block');
    expect(report).toMatchObject({ clean: true, repaired: true, findings: [] });
    expect(report.repairs.map(({ code }) => code)).toEqual(
      expect.arrayContaining(['shared-block', 'block-beyond-file']),
    );
    await using disk = await openDisk(source);
    const bytes = new Uint8Array(3 * BLOCK);
    await disk.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(3 * BLOCK).fill(7).fill(0, 2 * BLOCK));
  });

  it('changes no byte as a dry run, nor when the caller stops it, nor when nothing is wrong', async () => {
    const sound = await make();
    const soundBytes = await bytesOf(sound);
    expect(await checkImage(sound, { repair: true })).toMatchObject({ clean: true, repaired: false });
    expect(await bytesOf(sound)).toEqual(soundBytes);

    const source = await make();
    await damage(source, 2, 0);
    const before = await bytesOf(source);
    const dry = await checkImage(source, { repair: true, dryRun: true });
    expect(dry).toMatchObject({ clean: false, repaired: false });
    expect(dry.repairs.length).toBeGreaterThan(0);
    expect(await bytesOf(source)).toEqual(before);

    const controller = new AbortController();
    const stopped = checkImage(source, {
      repair: true,
      signal: controller.signal,
      beforeRepair: () => controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ kind: 'aborted' });
    expect(await bytesOf(source)).toEqual(before);
  });

  it('leaves an image alone that can only be read, and says so', async () => {
    const source = await make();
    await damage(source, 2, 0);
    await patch(source, HEADER.fields.type.offset, Uint8Array.of(3, 0, 0, 0));
    const before = await bytesOf(source);
    const report = await checkImage(source, { repair: true });
    expect(report).toMatchObject({ clean: false, repaired: false, repairs: [] });
    expect(report.findings.map(({ code }) => code)).toEqual(
      expect.arrayContaining(['shared-block', 'read-only-layout']),
    );
    expect(await bytesOf(source)).toEqual(before);
  });

  it('is refused while somebody reads, and keeps others away meanwhile', async () => {
    const source = await make();
    await damage(source, 2, 0);
    const release = await pin(source, 'shared');
    await expect(checkImage(source, { repair: true })).rejects.toMatchObject({ kind: 'locked' });
    await expect(checkImage(source, { repair: true, forceShare: true })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
    await release();
    const beforeRepair = () => expect(openDisk(source)).rejects.toMatchObject({ kind: 'locked' });
    expect(await checkImage(source, { repair: true, beforeRepair })).toMatchObject({ repaired: true });
  });

  it('throws VERR_VD_IMAGE_REPAIR_NOT_SUPPORTED where a format has none', async () => {
    const { repair: _repair, ...without } = vdi;
    const registry = new Registry([without]);
    await expect(checkImage(await make(), { registry, repair: true })).rejects.toMatchObject({
      kind: 'unsupported',
      status: 'VERR_VD_IMAGE_REPAIR_NOT_SUPPORTED',
    });
  });
});
