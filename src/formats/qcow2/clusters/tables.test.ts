/** The header cluster and its lists, as bytes and back. Dumps are of images made by QEMU 7.2. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import type { ErrorKind } from '../../../errors.ts';
import { MemoryProvider } from '../../../storage/memory.ts';
import { parseBitmaps, readBitmaps, serializeBitmaps } from '../bitmaps/bitmaps.ts';
import { withExtension } from '../header/extensions.ts';
import { parseHeader, type Qcow2Header, serializeHeader } from '../header/header.ts';
import { EXTENSION_TYPE, HEADER } from '../layout.ts';
import { decodeEntry, findSnapshot, readSnapshots, serializeSnapshots } from '../snapshots/snapshots.ts';
import { getRefcount, refcountMax, refcountsPerBlock, setRefcount } from './refcounts.ts';

const KIB64 = 65_536;
const FILE = 196_616;

/** A fresh image of 1 MiB. */
function fresh(version = 3): Uint8Array {
  const bytes = new Uint8Array(KIB64);
  const v3 = { refcountOrder: 4, headerLength: 112 };
  bytes.set(
    HEADER.encode({
      ...HEADER.decode(new Uint8Array(HEADER.size)),
      ...{ magic: 0x5146_49fb, version, clusterBits: 16, size: 0x10_0000, l1Entries: 1, l1Offset: 0x3_0000 },
      ...{ refcountTableOffset: 0x1_0000, refcountTableClusters: 1, ...(version === 3 ? v3 : {}) },
    }),
  );
  return bytes;
}

function edited(edit: (bytes: Uint8Array) => void, version = 3): Uint8Array {
  const bytes = fresh(version);
  edit(bytes);
  return bytes;
}

function hexBytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
}

const parse = (bytes: Uint8Array): Qcow2Header => parseHeader(bytes, FILE, 'x.qcow2');

describe('the header', () => {
  it('is read as QEMU writes it', () => {
    expect(parse(fresh())).toMatchObject({
      ...{ version: 3, clusterSize: KIB64, virtualSize: 0x10_0000, l1Entries: 1, l2Entries: 8192, warnings: [] },
      ...{ refcountOrder: 4, compression: 'zlib', extendedL2: false, backingName: null, backingFormat: null },
    });
    expect(parse(fresh(2))).toMatchObject({ version: 2, refcountOrder: 4, headerLength: 72, incompatible: 0n });
  });

  it('takes bytes behind 72 of a version 2 header for extensions only', () => {
    const overlay = edited((bytes) => {
      bytes.set(hexBytes('e2792aca 00000005 71636f7732 000000 00000000 00000000'), 72);
      HEADER.put(bytes, 'backingOffset', 0x100);
      HEADER.put(bytes, 'backingLength', 7);
      bytes.set(new TextEncoder().encode('w.qcow2'), 0x100);
    }, 2);
    expect(parse(overlay)).toMatchObject({ backingName: 'w.qcow2', backingFormat: 'qcow2', refcountOrder: 4 });
  });

  it('keeps what it does not know when it is written again', () => {
    const bytes = edited((all) => {
      HEADER.put(all, 'headerLength', 128);
      all.fill(0xab, 112, 128);
      all.set(hexBytes('00c0ffee 00000003 616263 0000000000'), 128);
    });
    const header = parse(bytes);
    expect(header.extensions).toEqual([{ type: 0x00c0_ffee, data: new TextEncoder().encode('abc') }]);
    expect(serializeHeader(header)).toEqual(bytes);
    const extensions = withExtension(header.extensions, EXTENSION_TYPE.backingFormat, new TextEncoder().encode('raw'));
    const linked = parse(serializeHeader({ ...header, extensions, backingName: 'base.raw' }));
    expect(linked).toMatchObject({ backingName: 'base.raw', backingFormat: 'raw' });
    expect(linked.extensions).toHaveLength(2);
    expect(linked.unknownFields).toEqual(header.unknownFields);
  });

  it('says when a name does not fit into the header cluster', async () => {
    const header = { ...parse(fresh()), clusterSize: 512, backingName: 'x'.repeat(500) };
    await expectKind(() => serializeHeader(header), 'limit');
  });

  const refused: [ErrorKind, string, (bytes: Uint8Array) => void][] = [
    ['invalid-format', 'another magic', (bytes) => HEADER.put(bytes, 'magic', 1)],
    ['unsupported', 'version 4', (bytes) => HEADER.put(bytes, 'version', 4)],
    ['invalid-format', 'clusters of 256 bytes', (bytes) => HEADER.put(bytes, 'clusterBits', 8)],
    ['invalid-format', 'clusters of 4 MiB', (bytes) => HEADER.put(bytes, 'clusterBits', 22)],
    ['invalid-format', 'a header that is too short', (bytes) => HEADER.put(bytes, 'headerLength', 96)],
    ['invalid-format', 'a header beyond its cluster', (bytes) => HEADER.put(bytes, 'headerLength', KIB64 + 8)],
    ['unsupported', 'an unknown incompatible feature', (bytes) => HEADER.put(bytes, 'incompatible', 32n)],
    ['invalid-format', 'a compression type without its bit', (bytes) => HEADER.put(bytes, 'compressionType', 1)],
    ['invalid-format', 'a compression bit without a type', (bytes) => HEADER.put(bytes, 'incompatible', 8n)],
    ['unsupported', 'an unknown encryption', (bytes) => HEADER.put(bytes, 'cryptMethod', 3)],
    ['invalid-format', 'LUKS without its header', (bytes) => HEADER.put(bytes, 'cryptMethod', 2)],
    ['invalid-format', 'refcounts of 128 bits', (bytes) => HEADER.put(bytes, 'refcountOrder', 7)],
    ['invalid-format', 'an L1 table that is too short', (bytes) => HEADER.put(bytes, 'l1Entries', 0)],
    ['limit', 'an L1 table that is too long', (bytes) => HEADER.put(bytes, 'l1Entries', 4_194_305)],
    ['invalid-format', 'an L1 table off its cluster', (bytes) => HEADER.put(bytes, 'l1Offset', 0x3_0200)],
    ['corrupt', 'an L1 table behind the file', (bytes) => HEADER.put(bytes, 'l1Offset', 0x4_0000)],
    ['limit', 'a refcount table that is too long', (bytes) => HEADER.put(bytes, 'refcountTableClusters', 129)],
    ['invalid-format', 'no refcount table', (bytes) => HEADER.put(bytes, 'refcountTableClusters', 0)],
    ['limit', 'a size beyond 2^53', (bytes) => bytes.fill(0xff, 24, 32)],
    ['invalid-format', 'a backing name outside its cluster', (bytes) => putBacking(bytes, KIB64 - 3, 8)],
    ['invalid-format', 'a backing name inside the header', (bytes) => putBacking(bytes, 8, 8)],
    ['invalid-format', 'a backing name that is too long', (bytes) => putBacking(bytes, 1024, 1024)],
    ['invalid-format', 'a backing name with a NUL', (bytes) => putBacking(bytes, 1024, 8)],
    ['invalid-format', 'an extension beyond its cluster', (bytes) => bytes.set(hexBytes('00c0ffee 00010000'), 112)],
    ['invalid-format', 'an extension twice', (bytes) => bytes.set(hexBytes('00c0ffee 00000000'.repeat(2)), 112)],
    ['invalid-format', 'a bitmaps extension of 8 bytes', (bytes) => bytes.set(hexBytes('23852875 00000008'), 112)],
    ['invalid-format', 'a format name of 16 bytes', (bytes) => bytes.set(hexBytes('e2792aca 00000010'), 112)],
  ];
  it.each(refused)('answers %s to %s', async (kind, _what, edit) => {
    await expectKind(() => parse(edited(edit)), kind);
  });

  it('names a feature it does not know', () => {
    const bytes = edited((all) => {
      HEADER.put(all, 'incompatible', 1n << 7n);
      all.set(hexBytes(`6803f857 00000030 0007 ${Buffer.from('time travel').toString('hex')}`), 112);
    });
    expect(() => parse(bytes)).toThrow('time travel');
  });
});

function putBacking(bytes: Uint8Array, offset: number, length: number): void {
  HEADER.put(bytes, 'backingOffset', offset);
  HEADER.put(bytes, 'backingLength', length);
}

describe('snapshots', () => {
  const entry = hexBytes(
    `0000000000007000 00000001 0001 0005 01020304 00000007 0000000000000000 00000000 00000018
     0000000000000000 0000000000100000 ffffffffffffffff 31 6669727374 0000`,
  );

  it('are read and written as QEMU does', async () => {
    const padded = new Uint8Array(4096 * 80);
    padded.set(entry);
    padded.set(entry, entry.length);
    const header = { ...parse(fresh()), snapshotCount: 2, snapshotsOffset: 0 };
    const all = await readSnapshots(await memory(padded), header);
    expect(all).toHaveLength(2);
    expect(all[0]).toMatchObject({ id: '1', name: 'first', l1Offset: 0x7000, l1Entries: 1, diskSize: 0x10_0000 });
    expect(serializeSnapshots(all)).toEqual(padded.slice(0, 2 * entry.length));
    expect(findSnapshot(all, 'first')).toBe(all[0]);
    expect(findSnapshot(all, 'second')).toBeNull();
  });

  it('have the size of the disk where none is stored', () => {
    const short = new Uint8Array(2048);
    short.set(
      hexBytes('0000000000007000 00000001 0001 0001 00000000 00000000 0000000000000000 00000005 00000000 3161'),
    );
    const { snapshot, length } = decodeEntry(short, 0, { size: 4096 });
    expect(snapshot).toMatchObject({ id: '1', name: 'a', diskSize: 4096, vmStateSize: 5 });
    expect(length).toBe(48);
    expect(serializeSnapshots([snapshot])).toEqual(short.slice(0, 48));
  });

  it('are refused where their table ends early, or is too large', async () => {
    const header = parse(fresh());
    const storage = await memory(entry);
    await expectKind(() => readSnapshots(storage, { ...header, snapshotCount: 2, snapshotsOffset: 0 }), 'corrupt');
    await expectKind(() => readSnapshots(storage, { ...header, snapshotCount: 65_537 }), 'limit');
  });
});

describe('bitmaps', () => {
  const directory = hexBytes('0000000000010000 00000001 00000002 01 10 0003 00000000 626d30 0000000000');

  it('are read and written as QEMU does', async () => {
    const header = parse(fresh());
    const bitmaps = { count: 1, reserved: 0, directoryBytes: directory.length, directoryOffset: 0 };
    const all = await readBitmaps(await memory(directory), { ...header, bitmaps });
    expect(all).toMatchObject([{ name: 'bm0', granularityBits: 16, flags: 2, tableOffset: 0x1_0000 }]);
    expect(serializeBitmaps(all)).toEqual(directory);
  });

  it.each([
    ['another type', 16, 2],
    ['an unknown flag', 15, 8],
    ['a granularity of 256 bytes', 17, 8],
    ['no name', 19, 0],
    ['a name beyond the directory', 18, 1],
  ])('are refused with %s', async (_what, at, value) => {
    const bytes = directory.slice();
    bytes[at] = value;
    await expectKind(() => parseBitmaps(bytes, 1, { header: { clusterSize: KIB64 } }), 'corrupt');
  });
});

describe('refcounts', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])('of 2^%i bits lie where QEMU has them', (order) => {
    const block = new Uint8Array(512);
    const view = new DataView(block.buffer);
    for (let index = 0; index < 9; index++) setRefcount(view, index, order, 1);
    const starts = ['ff0100', '555501', '1111111101', '01'.repeat(9), '0001'.repeat(9), '00000001'.repeat(9)];
    const start = hexBytes(starts[order] ?? '0000000000000001'.repeat(9));
    expect(block.subarray(0, start.length)).toEqual(start);
    const last = refcountsPerBlock(512, order) - 1;
    setRefcount(view, last, order, refcountMax(order));
    expect(getRefcount(view, last, order)).toBe(refcountMax(order));
    expect(getRefcount(view, last - 1, order)).toBe(0);
    setRefcount(view, last, order, 0);
    expect(getRefcount(view, last, order)).toBe(0);
    expect(getRefcount(view, 8, order)).toBe(1);
  });
});

async function memory(bytes: Uint8Array) {
  const provider = new MemoryProvider();
  const storage = await provider.create('/x');
  await storage.write(0, bytes);
  return storage;
}
