/** VMDK for the hostile suite: header, directories and tables of sparse extents, in sound images. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, FileSample, HostileKit, TablePlace } from '../../hostile/descriptor.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import { fileBytes } from '../../model/extents.ts';
import { deltaSample, hollowDelta, hollowSeSparse, seSparseSample, TEXT } from './hostile-esx.ts';
import { streamSample } from './hostile-stream.ts';
import { descriptorOf, lies } from './lies.ts';

const GRAIN = 4096;
const GRAINS = 12;
/** Its last grain is not whole. */
const DISK = GRAINS * GRAIN - 3 * SECTOR;
const NAME = '/image.vmdk';

const EFFECTS: Readonly<Record<string, Effect>> = {
  // Without it the file is a raw disk; the others decide where everything lies.
  magic: 'free',
  version: 'free',
  flags: 'free',
  capacity: 'free',
  grainSize: 'free',
  descriptorOffset: 'free',
  descriptorSize: 'free',
  entriesPerTable: 'free',
  redundantOffset: 'same',
  directoryOffset: 'free',
  overhead: 'same',
  unclean: 'exact',
  compression: 'exact',
  rest: 'exact',
};

/** VMDK's part of the hostile suite. */
export const hostile: HostileKit<FileSample> = {
  async samples() {
    const hosted = [await made('sparse', {}), { ...(await made('marked zeroes', { zeroed_grain: 'on' })), every: 3 }];
    const parts = [await split(), await deltaSample(), seSparseSample(), { ...(await flat()), every: 3 }];
    return [...hosted, await streamSample(), ...parts];
  },
  hollow: () => [hollow(), hollowDelta(), hollowSeSparse(), ...lies()],
  files: 260,
};

async function made(name: string, config: Readonly<Record<string, string>>): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  await createImage({ provider, name: NAME }, { format: 'vmdk', size: DISK, config: { grain_size: GRAIN, ...config } });
  await fill(provider, content);
  const storage = await provider.open(NAME, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  const sample = { name, format: 'vmdk', bytes, beside: [], anatomy: anatomyOf(bytes), golden: false, every: 2 };
  return { ...sample, virtualSize: DISK, content, differencing: false };
}

/** Two sparse extents beside their descriptor. */
async function split(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const lengths = [4 * GRAIN, 3 * GRAIN - SECTOR];
  const content = new Uint8Array(7 * GRAIN - SECTOR);
  const parts = [];
  const lines: string[] = [];
  for (const [index, size] of lengths.entries()) {
    const image = { provider, name: `/${index}.vmdk` };
    const start = index * 4 * GRAIN;
    await createImage(image, { format: 'vmdk', variant: ['split'], size, config: { grain_size: GRAIN } });
    const bytes = randomBytes(new Random(7 + index), 2 * GRAIN);
    await using disk = await openDisk(image, { mode: 'write', format: 'vmdk', flushAfterMs: 0 });
    await disk.write(GRAIN, bytes.subarray(0, size - GRAIN));
    await disk.close();
    content.set(bytes.subarray(0, size - GRAIN), start + GRAIN);
    const name = `image-s00${index + 1}.vmdk`;
    lines.push(`RW ${size / SECTOR} SPARSE "${name}"`);
    const file = await fileBytes({ provider, name: `/${index}-s001.vmdk` });
    parts.push({ name, bytes: file, anatomy: anatomyOf(file, start, size) });
  }
  const text = new TextDecoder().decode(await fileBytes({ provider, name: '/0.vmdk' }));
  const bytes = new TextEncoder().encode(text.replace(/^RW .*$/m, lines.join('\n')));
  const sample = { name: 'split', format: 'vmdk', bytes, parts, beside: [], anatomy: TEXT, golden: false, every: 4 };
  return { ...sample, virtualSize: content.length, content, differencing: false };
}

/** Grains in another order than the guest's. */
async function fill(provider: MemoryProvider, content: Uint8Array): Promise<void> {
  const random = new Random(3);
  await using disk = await openDisk({ provider, name: NAME }, { mode: 'write', format: 'vmdk', flushAfterMs: 0 });
  for (const grain of [7, 8, 1, 10, 11]) {
    const bytes = randomBytes(random, Math.min(GRAIN, DISK - grain * GRAIN) - 100);
    await disk.write(grain * GRAIN + 50, bytes);
    content.set(bytes, grain * GRAIN + 50);
  }
}

/** Of an extent that begins at this place of the disk. */
function anatomyOf(bytes: Uint8Array, start = 0, length = DISK): Anatomy {
  const directory = Number(SPARSE_HEADER.get(bytes, 'directoryOffset')) * SECTOR;
  const redundant = Number(SPARSE_HEADER.get(bytes, 'redundantOffset')) * SECTOR;
  const view = new DataView(bytes.buffer);
  const tableAt = (place: number): number => view.getUint32(place, true) * SECTOR;
  const end = BigInt(bytes.length / SECTOR);
  const table = (name: string, offset: number, count: number, range: TablePlace['guestRange']): TablePlace => {
    const values = [0n, 1n, end - 8n, end - 1n, end, end + 1n];
    return { name, offset, count, entryBytes: 4, littleEndian: true, values, guestRange: range };
  };
  const grains = Math.ceil(length / GRAIN);
  const all: TablePlace['guestRange'] = () => [start, start + length];
  const grain: TablePlace['guestRange'] = (index) => {
    return [start + index * GRAIN, start + Math.min((index + 1) * GRAIN, length)];
  };
  return {
    structs: [{ name: 'header', table: SPARSE_HEADER, offset: 0, littleEndian: true, effects: EFFECTS }],
    tables: [
      table('directory', directory, 1, all),
      table('second directory', redundant, 1, all),
      table('grain table', tableAt(directory), grains, grain),
      table('second grain table', tableAt(redundant), grains, grain),
    ],
    // The last grain of a file may be short: what is missing reads zero.
    lost: (size) =>
      Array.from({ length: grains }, (_, index) => index).flatMap((index) => {
        const place = view.getUint32(tableAt(directory) + index * 4, true) * SECTOR;
        return place < size && size < place + GRAIN ? [grain(index)] : [];
      }),
    edges: [directory, redundant, SPARSE_HEADER.get(bytes, 'overhead') * SECTOR, bytes.length],
  };
}

/** A descriptor of two flat extents: its text is changed, and the extents lose their ends, which then read zero. */
async function flat(): Promise<FileSample> {
  const size = 2 * GRAIN;
  const [first, second] = ['image-f001.vmdk', 'image-f002.vmdk'];
  const random = new Random(5);
  const parts = [first, second].map((name, index) => {
    const bytes = randomBytes(random, size);
    const lost: Anatomy['lost'] = (left) => [[index * size + Math.min(left, size), (index + 1) * size]];
    return { name, bytes, anatomy: { structs: [], tables: [], edges: [SECTOR, GRAIN], lost } };
  });
  const lines = [first, second].map((name) => `RW ${size / SECTOR} FLAT "${name}" 0`);
  const bytes = new TextEncoder().encode(descriptorOf(lines).replace('custom', 'twoGbMaxExtentFlat'));
  const content = new Uint8Array(2 * size);
  parts.forEach((part, index) => {
    content.set(part.bytes, index * size);
  });
  const anatomy: Anatomy = { structs: [], tables: [], edges: [30, 60, 90, 120], length: 'free' };
  const sample = { name: 'flat', format: 'vmdk', bytes, parts, beside: [], anatomy, golden: false };
  return { ...sample, every: 1, virtualSize: 2 * size, content, differencing: false };
}

/** A header, and directories of a million tables that are holes. */
function hollow(): BaseImage {
  const tables = 2 ** 20;
  const bytes = new Uint8Array(SECTOR);
  const base = SPARSE_HEADER.decode(bytes);
  const sizes = { capacity: tables * 512 * 8, grainSize: 8, entriesPerTable: 512 };
  const places = { directoryOffset: 1n, overhead: 1 + (tables * 4) / SECTOR };
  bytes.set(SPARSE_HEADER.encode({ ...base, magic: 0x564d_444b, version: 1, ...sizes, ...places }));
  const image = { name: 'hollow', size: (places.overhead + 8) * SECTOR, pieces: [{ offset: 0, bytes }] };
  return { name: 'a million tables', image, beside: [], content: null, differencing: false };
}
