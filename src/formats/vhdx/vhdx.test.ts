import { describe, expect, it } from 'vitest';
import { NULL_GUID } from '../../binary/guid.ts';
import { checkImage } from '../../operations/check.ts';
import { createImage } from '../../operations/create.ts';
import { openDisk } from '../../operations/open.ts';
import type { Storage } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { encodeHeader, findHeaders, Headers } from './headers.ts';
import { DATA_DESCRIPTOR, HEADER, HEADER_OFFSETS, LOG_ENTRY, MIB, PAGE, REGION_OFFSETS } from './layout.ts';
import { parseLocator } from './locator.ts';
import { encodeLocator, locatorPairs } from './locator-encoder.ts';
import { encodeEntry, type LogPage } from './log-entry.ts';
import { checkSequence, findSequence, replay } from './log-reader.ts';
import { LogWriter } from './log-writer.ts';
import { openVhdx } from './open.ts';

const LOG = { fileOffset: MIB, length: MIB };
const GUID = '11111111-2222-4333-8444-555555555555';
const TARGET = 8 * MIB;

async function emptyFile(size = 16 * MIB): Promise<Storage> {
  const storage = await new MemoryProvider().create('/log');
  await storage.resize(size);
  return storage;
}

function page(fill: number, fileOffset = TARGET): LogPage {
  return { fileOffset, bytes: new Uint8Array(PAGE).fill(fill) };
}

interface Entry {
  readonly at: number;
  readonly sequence: number;
  readonly tail: number;
  readonly pages?: readonly LogPage[];
}

async function putEntry(
  storage: Storage,
  { at, sequence, tail, pages = [] }: Entry,
  sizes = 16 * MIB,
): Promise<number> {
  const size = BigInt(sizes);
  const own = { tail, sequence: BigInt(sequence), logGuid: GUID, flushedSize: size, lastSize: size };
  const bytes = encodeEntry(own, pages);
  const first = bytes.subarray(0, Math.min(bytes.length, LOG.length - at));
  await storage.write(LOG.fileOffset + at, first);
  if (first.length < bytes.length) await storage.write(LOG.fileOffset, bytes.subarray(first.length));
  return (at + bytes.length) % LOG.length;
}

async function sequencesOf(storage: Storage): Promise<number[] | null> {
  const found = await findSequence(storage, LOG, GUID);
  return found?.map(({ sequence }) => Number(sequence)) ?? null;
}

describe('the log', () => {
  it('is replayed from the tail of its last entry', async () => {
    const storage = await emptyFile();
    const second = await putEntry(storage, { at: 0, sequence: 1, tail: 0, pages: [page(1)] });
    const third = await putEntry(storage, { at: second, sequence: 2, tail: second, pages: [page(2)] });
    await putEntry(storage, { at: third, sequence: 3, tail: second, pages: [page(3, TARGET + PAGE)] });
    expect(await sequencesOf(storage)).toEqual([2, 3]);
  });

  it('goes past the end of its ring', async () => {
    const storage = await emptyFile();
    const at = LOG.length - PAGE;
    const next = await putEntry(storage, { at, sequence: 7, tail: at, pages: [page(1)] });
    expect(next).toBe(PAGE);
    await putEntry(storage, { at: next, sequence: 8, tail: at, pages: [page(2)] });
    expect(await sequencesOf(storage)).toEqual([7, 8]);
  });

  it('counts no entry whose tail lies outside of its run, but looks inside of it', async () => {
    const storage = await emptyFile();
    const second = await putEntry(storage, { at: 0, sequence: 4, tail: 64 * PAGE });
    await putEntry(storage, { at: second, sequence: 5, tail: 64 * PAGE });
    expect(await sequencesOf(storage)).toBeNull();
    await putEntry(storage, { at: 20 * PAGE, sequence: 2, tail: 20 * PAGE });
    expect(await sequencesOf(storage)).toEqual([2]);
  });

  it('takes the sequence with the greatest number', async () => {
    const storage = await emptyFile();
    await putEntry(storage, { at: 0, sequence: 9, tail: 0 });
    await putEntry(storage, { at: 8 * PAGE, sequence: 3, tail: 8 * PAGE });
    expect(await sequencesOf(storage)).toEqual([9]);
  });

  it.each([
    ['another GUID', LOG_ENTRY.fields.logGuid.offset],
    ['a changed length', LOG_ENTRY.fields.length.offset + 1],
    ['a changed byte of a page', 2 * PAGE - 9],
    ['a changed descriptor', LOG_ENTRY.size + DATA_DESCRIPTOR.fields.fileOffset.offset + 2],
  ])('has no entry with %s', async (_, at) => {
    const storage = await emptyFile();
    await putEntry(storage, { at: 0, sequence: 1, tail: 0, pages: [page(1)] });
    const byte = new Uint8Array(1);
    await storage.read(LOG.fileOffset + at, byte);
    await storage.write(LOG.fileOffset + at, Uint8Array.of((byte[0] ?? 0) ^ 1));
    expect(await sequencesOf(storage)).toBeNull();
  });

  it('brings back all bytes of its pages, however often it is replayed', async () => {
    const storage = await emptyFile();
    const bytes = Uint8Array.from({ length: PAGE }, (_, at) => at * 7);
    await putEntry(storage, { at: 0, sequence: 1, tail: 0, pages: [{ fileOffset: TARGET, bytes }] });
    const sequence = (await findSequence(storage, LOG, GUID)) ?? [];
    for (let round = 0; round < 2; round++) await replay(storage, sequence, checkSequence(sequence, storage, LOG));
    const found = new Uint8Array(PAGE);
    await storage.read(TARGET, found);
    expect(found).toEqual(bytes);
  });

  it('makes the file as long as it says', async () => {
    const storage = await emptyFile(4 * MIB);
    const size = 4 * MIB;
    const own = { tail: 0, sequence: 1n, logGuid: GUID, flushedSize: BigInt(size), lastSize: BigInt(2 * size) };
    await storage.write(LOG.fileOffset, encodeEntry(own, []));
    const sequence = (await findSequence(storage, LOG, GUID)) ?? [];
    await replay(storage, sequence, checkSequence(sequence, storage, LOG));
    expect(storage.size).toBe(2 * size);
  });

  it.each([
    ['a header', [page(1, HEADER_OFFSETS[0])], 16 * MIB],
    ['the log', [page(1, LOG.fileOffset)], 16 * MIB],
    ['what lies behind the file', [page(1, 17 * MIB)], 16 * MIB],
    ['nothing, in a file that was cut off', [], 32 * MIB],
  ])('never changes %s', async (_, pages, size) => {
    const storage = await emptyFile();
    await putEntry(storage, { at: 0, sequence: 1, tail: 0, pages }, size);
    const sequence = (await findSequence(storage, LOG, GUID)) ?? [];
    expect(() => checkSequence(sequence, storage, LOG)).toThrow(/log|cut off/);
  });

  it('of a session leaves a valid sequence whichever of its entries is torn', async () => {
    const storage = await emptyFile();
    const writer = new LogWriter(storage, LOG);
    const sizes = { flushed: 4 * MIB, last: 4 * MIB };
    for (let round = 0; round < 6; round++) {
      const pages = Array.from({ length: writer.capacity }, (_, at) => page(round, TARGET + at * PAGE));
      const writes = writer.entry(pages, sizes);
      for (const { fileOffset, bytes } of writes.slice(0, 1)) await storage.write(fileOffset, bytes.subarray(0, PAGE));
      if (round > 0) expect((await findSequence(storage, LOG, writer.logGuid))?.length).toBe(1);
      for (const { fileOffset, bytes } of writes) await storage.write(fileOffset, bytes);
      const found = await findSequence(storage, LOG, writer.logGuid);
      expect(found?.map(({ sequence }) => sequence)).toEqual([BigInt(round + 1)]);
    }
  });
});

describe('the headers', () => {
  it('count on from the greatest number', async () => {
    const storage = await emptyFile();
    const header = HEADER.decode(new Uint8Array(HEADER.size));
    const first = { ...header, signature: 0x6461_6568, version: 1, sequence: 0xffff_ffff_ffff_fffen };
    await storage.write(HEADER_OFFSETS[0], encodeHeader(first));
    await storage.write(HEADER_OFFSETS[1], encodeHeader({ ...first, sequence: 0xffff_ffff_ffff_ffffn }));
    const headers = new Headers(storage, await findHeaders(storage));
    await headers.change({ fileWriteGuid: GUID });
    const found = await findHeaders(storage);
    expect([found.header.sequence, found.header.fileWriteGuid, found.slot]).toEqual([1n, GUID, 1]);
  });

  it('are refused when both are as new and differ', async () => {
    const storage = await emptyFile();
    const header = { ...HEADER.decode(new Uint8Array(HEADER.size)), signature: 0x6461_6568, version: 1, sequence: 5n };
    await storage.write(HEADER_OFFSETS[0], encodeHeader(header));
    await storage.write(HEADER_OFFSETS[1], encodeHeader(header));
    expect((await findHeaders(storage)).header.sequence).toBe(5n);
    await storage.write(HEADER_OFFSETS[1], encodeHeader({ ...header, dataWriteGuid: GUID }));
    await expect(findHeaders(storage)).rejects.toMatchObject({ kind: 'corrupt' });
  });
});

describe('the parent locator', () => {
  it('has the relative name first, and the last part of a name for beside the image', () => {
    const pairs = new Map([
      ['absolute_win32_path', '\\\\?\\C:\\images\\base.vhdx'],
      ['volume_path', `\\\\?\\Volume{${GUID}}\\images\\base.vhdx`],
      ['relative_path', '..\\base.vhdx'],
      ['parent_linkage', `{${GUID.toUpperCase()}}`],
    ]);
    const { names, beside, linkage } = parseLocator(encodeLocator(pairs), 'x');
    expect(names).toEqual(['../base.vhdx', `//?/Volume{${GUID}}/images/base.vhdx`, 'C:/images/base.vhdx']);
    expect([beside, linkage]).toEqual(['base.vhdx', [GUID]]);
  });

  it('comes back as it was stored', () => {
    const stored = { relative: 'dir/base.vhdx', absolute: '/images/dir/base.vhdx', linkage: GUID, format: 'qcow2' };
    const { names, format } = parseLocator(encodeLocator(locatorPairs(stored)), 'x');
    expect([names, format]).toEqual([['dir/base.vhdx', '/images/dir/base.vhdx'], 'qcow2']);
  });
});

const SIZE = 6 * MIB;
const NAME = '/image.vhdx';

async function made(): Promise<{ readonly provider: MemoryProvider; readonly bytes: Uint8Array }> {
  const provider = new MemoryProvider();
  const base = { provider, name: '/base.vhdx' };
  await createImage(base, { format: 'vhdx', size: SIZE });
  const source = { provider, name: NAME };
  await createImage(source, { format: 'vhdx', parent: base });
  const disk = await openDisk(source, { mode: 'write', allow: ['same-directory'] });
  await disk.write(MIB + 4096, new Uint8Array(8192).fill(1));
  await disk.write(3 * MIB, new Uint8Array(MIB).fill(2));
  await disk.close();
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return { provider, bytes };
}

it('gives two writers of a new block one place, whenever the first of them ends', async () => {
  const [one, two] = [148 * 512, 182 * 512];
  for (let turns = 0; turns < 24; turns++) {
    const provider = new MemoryProvider();
    const base = { provider, name: '/base.vhdx' };
    await createImage(base, { format: 'vhdx', size: SIZE });
    await createImage({ provider, name: NAME }, { format: 'vhdx', parent: base });
    const image = await openVhdx(await provider.open(NAME, 'write'), '/', { mode: 'write' });
    await image.beginChanges?.({ content: true });
    const first = await image.prepareWrite?.(one, 512);
    const waiting = image.prepareWrite?.(two, 512);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    first?.commit();
    const second = await waiting;
    expect((second?.fileOffset ?? 0) - (first?.fileOffset ?? 0), `after ${turns} turns`).toBe(two - one);
    second?.commit();
    await image.close();
  }
});

describe('a damaged image', () => {
  it('is repaired as far as it can be', async () => {
    const { provider, bytes } = await made();
    const changed = bytes.slice();
    const view = new DataView(changed.buffer);
    view.setBigUint64(3 * MIB + 3 * 8, 0x30_0006n, true);
    view.setBigUint64(3 * MIB + 5 * 8, 0x7f_f000_0006n, true);
    changed.fill(0xee, HEADER_OFFSETS[0], HEADER_OFFSETS[0] + 512);
    changed.fill(0xee, REGION_OFFSETS[1], REGION_OFFSETS[1] + 512);
    const storage = await provider.open(NAME, 'write');
    await storage.write(0, changed);
    await storage.close();
    const source = { provider, name: NAME };
    const { findings } = await checkImage(source, { format: 'vhdx' });
    expect(findings.map(({ code }) => code).sort()).toEqual([
      'block-beyond-end',
      'block-state',
      'header-damaged',
      'region-table-damaged',
    ]);
    await checkImage(source, { format: 'vhdx', repair: true });
    expect((await checkImage(source, { format: 'vhdx' })).findings).toEqual([]);
  });
});

it('gets new headers where both are damaged, in a place for the log that nothing takes', async () => {
  const { provider, bytes } = await made();
  const source = { provider, name: NAME };
  const read = async (): Promise<Uint8Array> => {
    const chain = [{ provider, name: '/base.vhdx' }, source];
    await using disk = await openDisk(chain, { linkage: 'off', format: 'vhdx' });
    const content = new Uint8Array(disk.size);
    await disk.read(0, content);
    return content;
  };
  const before = await read();
  const storage = await provider.open(NAME, 'write');
  const identity = (await findHeaders(storage)).header.dataWriteGuid;
  for (const at of HEADER_OFFSETS) await storage.write(at, new Uint8Array(512).fill(0xee));
  await expect(openDisk(source, { format: 'vhdx' })).rejects.toMatchObject({ kind: 'corrupt' });
  const { findings } = await checkImage(source, { format: 'vhdx' });
  expect(findings.map(({ code }) => code)).toContain('headers-lost');
  await checkImage(source, { format: 'vhdx', repair: true });
  expect((await checkImage(source, { format: 'vhdx' })).findings).toEqual([]);
  const { header, log } = await findHeaders(storage);
  expect([header.dataWriteGuid === identity, header.logGuid, log]).toEqual([false, NULL_GUID, LOG]);
  expect([storage.size, Buffer.compare(await read(), before)]).toEqual([bytes.length, 0]);
  await storage.close();
});

it('leaves an empty log behind when it is closed', async () => {
  const { provider } = await made();
  const storage = await provider.open(NAME, 'read');
  expect((await findHeaders(storage)).header.logGuid).toBe(NULL_GUID);
});
