/** The form of a new stream, field by field: VMware's "Virtual Disk Format 5.0", and what ESXi, AWS and OVF tools take. */
import { inflateSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { randomBytes } from '../../../test/conformance/random.ts';
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { convert } from '../../operations/convert.ts';
import { openDisk } from '../../operations/open.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { Random } from '../../testing/random.ts';
import { GRAIN_MARKER, METADATA_MARKER, SPARSE_HEADER } from './layout.ts';

const MIB = 2 ** 20;
const GRAIN = 65_536;
/** Four tables of 32 MiB, the third one empty; the last grain is not whole. */
const DISK = 97 * MIB + 5 * SECTOR;
const GRAINS = [0, 1, 511, 512, 700, 1551, 1552] as const;

function content(): Uint8Array {
  const bytes = new Uint8Array(DISK);
  const random = new Random(3);
  for (const grain of GRAINS) bytes.set(randomBytes(random, 3 * SECTOR), Math.min(grain * GRAIN, DISK - 3 * SECTOR));
  return bytes;
}

async function streamOf(bytes: Uint8Array, options: object = {}): Promise<Uint8Array> {
  const provider = new MemoryProvider();
  const raw = await provider.create('/raw');
  await raw.write(0, bytes);
  await raw.close();
  await using source = await openDisk({ provider, name: '/raw' }, { format: 'raw' });
  await convert(source, { provider, name: '/made.vmdk' }, { format: 'vmdk', variant: ['stream'], ...options });
  const storage = await provider.open('/made.vmdk', 'read');
  const stream = new Uint8Array(storage.size);
  await storage.read(0, stream);
  return stream;
}

interface Piece {
  readonly at: number;
  readonly lba: number;
  readonly size: number;
  /** Null: a grain. */
  readonly type: number | null;
}

/** All pieces from the first grain on: nothing lies between them. */
function piecesOf(stream: Uint8Array): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 128 * SECTOR; at < stream.length; ) {
    const { lba, size } = GRAIN_MARKER.decode(stream.subarray(at));
    const type = size > 0 ? null : METADATA_MARKER.get(stream.subarray(at, at + SECTOR), 'type');
    pieces.push({ at, lba, size, type });
    at += type === null ? alignUp(GRAIN_MARKER.size + size, SECTOR) : SECTOR + lba * SECTOR;
  }
  return pieces;
}

function words(bytes: Uint8Array, at: number, count: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return Array.from({ length: count }, (_, index) => view.getUint32(at + index * 4, true));
}

describe('a new VMDK stream', () => {
  const disk = content();
  let stream: Uint8Array = new Uint8Array(0);
  beforeAll(async () => {
    stream = await streamOf(disk);
  });

  it('has a header of version 3 whose directory is at the end', () => {
    const { rest, ...header } = SPARSE_HEADER.decode(stream);
    expect(header).toEqual({
      magic: 0x564d_444b,
      version: 3,
      flags: 0x3_0001,
      capacity: alignUp(DISK, GRAIN) / SECTOR,
      grainSize: 128,
      descriptorOffset: 1,
      descriptorSize: 2,
      entriesPerTable: 512,
      redundantOffset: 0n,
      directoryOffset: 0xffff_ffff_ffff_ffffn,
      overhead: 128,
      unclean: 0,
      singleEndLine: 0x0a,
      nonEndLine: 0x20,
      doubleEndLine1: 0x0d,
      doubleEndLine2: 0x0a,
      compression: 1,
    });
    expect(rest.every((byte) => byte === 0)).toBe(true);
  });

  it('has a descriptor with the exact size of the disk', () => {
    const text = new TextDecoder().decode(stream.subarray(SECTOR, 128 * SECTOR)).replace(/\0+$/, '');
    // Only its own two sectors; zeroes to the first grain.
    expect(text).not.toContain('\0');
    expect(text.split('\n').slice(0, 8)).toEqual([
      '# Disk DescriptorFile',
      'version=1',
      expect.stringMatching(/^CID=[0-9a-f]{8}$/),
      'parentCID=ffffffff',
      'createType="streamOptimized"',
      '',
      '# Extent description',
      `RDONLY ${DISK / SECTOR} SPARSE "made.vmdk"`,
    ]);
    expect(text).toMatch(/^ddb\.adapterType = "ide"$/m);
    expect(text).toMatch(/^ddb\.geometry\.cylinders = "\d+"$/m);
    expect(text).toMatch(/^ddb\.virtualHWVersion = "4"$/m);
  });

  it('has whole grains in ascending order, and none for zeroes', () => {
    const grains = piecesOf(stream).filter(({ type }) => type === null);
    expect(grains.map(({ lba }) => lba)).toEqual(GRAINS.map((grain) => grain * 128));
    const padded = new Uint8Array(alignUp(DISK, GRAIN));
    padded.set(disk);
    for (const { at, lba, size } of grains) {
      const start = at + GRAIN_MARKER.size;
      const stored = stream.subarray(start, start + size);
      expect(stored[0]).toBe(0x78);
      expect(Buffer.from(inflateSync(stored)).equals(padded.subarray(lba * SECTOR, lba * SECTOR + GRAIN))).toBe(true);
      const padding = stream.subarray(start + size, at + alignUp(GRAIN_MARKER.size + size, SECTOR));
      expect(padding.every((byte) => byte === 0)).toBe(true);
    }
  });

  it('has each table behind its grains, then directory, footer and end, each behind its marker', () => {
    const pieces = piecesOf(stream);
    expect(pieces.map(({ type }) => type)).toEqual([null, null, null, 1, null, null, 1, null, null, 1, 2, 3, 0]);
    expect(pieces.flatMap(({ type, lba }) => (type === null ? [] : [lba]))).toEqual([4, 4, 4, 1, 1, 0]);
    const tables = pieces.filter(({ type }) => type === 1).map(({ at }) => at / SECTOR + 1);
    const places = new Map(pieces.filter(({ type }) => type === null).map(({ at, lba }) => [lba / 128, at / SECTOR]));
    for (const [index, number] of [0, 1, 3].entries()) {
      const entries = words(stream, (tables[index] ?? 0) * SECTOR, 512);
      expect(entries).toEqual(entries.map((_, entry) => places.get(number * 512 + entry) ?? 0));
    }
    const directory = pieces.find(({ type }) => type === 2)?.at ?? 0;
    expect(words(stream, directory + SECTOR, 128)).toEqual([
      ...[tables[0], tables[1], 0, tables[2]],
      ...Array.from({ length: 124 }, () => 0),
    ]);
    const [footerMarker, footer, end] = [3, 2, 1].map((sectors) => stream.length - sectors * SECTOR);
    expect(pieces.find(({ type }) => type === 3)?.at).toBe(footerMarker);
    expect(pieces.at(-1)?.at).toBe(end);
    expect(stream.subarray(end).every((byte) => byte === 0)).toBe(true);
    expect(SPARSE_HEADER.decode(stream.subarray(footer))).toEqual({
      ...SPARSE_HEADER.decode(stream),
      directoryOffset: BigInt(directory / SECTOR + 1),
    });
  });

  it('of an empty disk is what VirtualBox writes', async () => {
    const empty = await streamOf(new Uint8Array(DISK));
    expect(piecesOf(empty).map(({ at, type }) => [at, type])).toEqual([
      [0x1_0000, 2],
      [0x1_0400, 3],
      [0x1_0800, 0],
    ]);
    expect(SPARSE_HEADER.get(empty.subarray(-2 * SECTOR), 'directoryOffset')).toBe(0x81n);
  });

  it('is smaller the higher the level, with the same content', async () => {
    // Lines of a log: what they have in common is found further back at higher levels.
    const lines = Array.from(
      { length: 30_000 },
      (_, at) => `${at * 7919} read ${(at * at) % 991} of disk ${at % 13}\n`,
    );
    const text = new TextEncoder().encode(lines.join('')).slice(0, MIB);
    const sizes = [];
    for (const compress of [1, 5, 9]) sizes.push((await streamOf(text, { compress })).length);
    expect(sizes[0]).toBeGreaterThan(sizes[1] ?? 0);
    expect(sizes[1]).toBeGreaterThan(sizes[2] ?? 0);
    expect((await streamOf(text)).length).toBe(sizes[1]);
    expect((await streamOf(text, { compress: true })).length).toBe(sizes[1]);
    expect((await streamOf(text, { compress: 'zlib' })).length).toBe(sizes[1]);
    expect((await streamOf(text, { config: { compression_level: 9 } })).length).toBe(sizes[2]);
  });

  it('refuses levels and methods that there are not, and other variants', async () => {
    const small = new Uint8Array(MIB);
    for (const [options, message, hint] of [
      [{ compress: 'zstd' }, 'compresses with zlib, not with zstd', undefined],
      [{ compress: 3, variant: [] }, 'The format vmdk cannot store compressed data', '--variant stream'],
      [{ compress: true, variant: ['split'] }, 'The format vmdk cannot store compressed data', '--variant stream'],
      [{ compress: 3, format: 'qcow2', variant: [] }, 'The format qcow2 has no levels of compression', 'or its level'],
      [{ compress: 3, config: { compression_level: 4 } }, 'compression_level contradicts option compress', 'Omit one'],
    ] as const) {
      const hinted = hint === undefined ? {} : { hint: expect.stringContaining(hint) };
      await expect(streamOf(small, options)).rejects.toMatchObject({
        message: expect.stringContaining(message),
        ...hinted,
      });
    }
    await expect(streamOf(small, { compress: 10 })).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(streamOf(small, { config: { compression_level: 0 } })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
  });
});
