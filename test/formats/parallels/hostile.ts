/** Parallels for the hostile suite: header, table and format extension of sound images of both signatures. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { EXTENSION, HEADER, IN_USE, MAGIC, SECTION, VERSION } from '../../../src/formats/parallels/layout.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, FileSample, HostileKit, StructPlace } from '../../hostile/descriptor.ts';
import { readGolden } from '../../hostile/golden-bytes.ts';
import type { BaseImage } from '../../hostile/protocol.ts';
import { fileBytes } from '../../model/extents.ts';
import { bundleHollows, bundleSample } from './bundle.ts';
import { bitmapSection, type Section, withExtension } from './extension.ts';

const CLUSTERS = 12;

const EFFECTS: Readonly<Record<string, Effect>> = {
  // Without it the file is a raw disk; the other signature is another layout.
  magic: 'free',
  heads: 'exact',
  cylinders: 'exact',
  tracks: 'free',
  // Where no place of the data is stored it lies behind them.
  entries: 'free',
  sectors: 'prefix',
  inUse: 'exact',
  flags: 'exact',
  extensionOffset: 'exact',
};

function anatomyOf(bytes: Uint8Array): Anatomy {
  const { magic, tracks, sectors, dataOffset, entries, extensionOffset } = HEADER.decode(bytes);
  const extended = magic === MAGIC.extended;
  const clusterSize = tracks * SECTOR;
  const unit = extended ? clusterSize : SECTOR;
  const size = sectors * SECTOR;
  const count = Math.ceil(size / clusterSize);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const clusters = Array.from({ length: count }, (_, index) => ({
    index,
    place: view.getUint32(HEADER.size + index * 4, true) * unit,
  })).filter(({ place }) => place > 0);
  const tableEnd = Math.ceil((HEADER.size + entries * 4) / SECTOR) * SECTOR;
  const values = [0, tableEnd, dataOffset * SECTOR, bytes.length - clusterSize, bytes.length, bytes.length - SECTOR];
  const extension = Number(extensionOffset) * SECTOR;
  const place = (name: string, offset: number, table: StructPlace['table'], effects: StructPlace['effects']) => {
    return { name, table, offset, littleEndian: true, effects };
  };
  const exact = (fields: object) => Object.fromEntries(Object.keys(fields).map((name) => [name, 'exact' as const]));
  return {
    structs: [
      // Another half of the size counts with the extended signature only.
      place('header', 0, HEADER, { ...EFFECTS, sectorsHigh: extended ? 'prefix' : 'exact' }),
      ...(extension === 0
        ? []
        : [
            place('format extension', extension, EXTENSION, exact(EXTENSION.fields)),
            place('section', extension + EXTENSION.size, SECTION, exact(SECTION.fields)),
          ]),
    ],
    tables: [
      {
        name: 'block allocation table',
        offset: HEADER.size,
        count,
        entryBytes: 4,
        littleEndian: true,
        values: values.map((value) => BigInt(Math.max(Math.floor(value / unit), 0))),
        guestRange: (index) => [index * clusterSize, Math.min((index + 1) * clusterSize, size)],
      },
    ],
    edges: clusters.slice(0, 16).map((one) => one.place),
    // What is missing of the last cluster reads zero.
    lost: (length) =>
      clusters
        .filter((one) => one.place < length && one.place + clusterSize > length)
        .map(({ index }) => [index * clusterSize, Math.min((index + 1) * clusterSize, size)]),
  };
}

/** An image with some clusters; its last one is not whole. */
async function made(name: string, clusterSize: number, variant: readonly string[]): Promise<FileSample> {
  const provider = new MemoryProvider();
  const source = { provider, name: '/image.hdd' };
  const content = new Uint8Array(CLUSTERS * clusterSize - 3 * SECTOR);
  const config = { cluster_size: clusterSize };
  await createImage(source, { format: 'parallels', config, size: content.length, variant });
  const random = new Random(3);
  const disk = await openDisk(source, { mode: 'write', format: 'parallels', flushAfterMs: 0 });
  for (const cluster of [7, 8, 1, 10, 11]) {
    const bytes = randomBytes(random, Math.min(clusterSize, content.length - cluster * clusterSize) - 100);
    await disk.write(cluster * clusterSize + 50, bytes);
    content.set(bytes, cluster * clusterSize + 50);
  }
  await disk.close();
  return sampleOf(name, await fileBytes(source), content);
}

/** A classic image that leaves open where its data begins, with rubbish in the upper half of the size. */
function placeless(from: FileSample): FileSample {
  const header = HEADER.decode(from.bytes);
  const clusterSize = header.tracks * SECTOR;
  const shift = header.dataOffset - 1;
  const bytes = new Uint8Array(from.bytes.length - shift * SECTOR);
  bytes.set(from.bytes.subarray(0, SECTOR));
  bytes.set(from.bytes.subarray(header.dataOffset * SECTOR), SECTOR);
  bytes.set(HEADER.encode({ ...header, dataOffset: 0, sectorsHigh: 0xdead_beef, inUse: IN_USE.unaware }));
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < CLUSTERS; index++) {
    const at = HEADER.size + index * 4;
    const entry = view.getUint32(at, true);
    if (entry !== 0) view.setUint32(at, entry - shift, true);
  }
  return { ...sampleOf('without a place of the data', bytes, contentOf(from)), every: clusterSize > 0 ? 2 : 1 };
}

function contentOf({ content }: FileSample): Uint8Array {
  if (content instanceof Uint8Array) return content;
  throw new Error('the content is bytes');
}

function extended(name: string, from: FileSample, sections: readonly Section[]): FileSample {
  return { ...sampleOf(name, withExtension(from.bytes, sections), contentOf(from)), every: 2 };
}

function sampleOf(name: string, bytes: Uint8Array, content: Uint8Array): FileSample {
  return {
    name,
    format: 'parallels',
    bytes,
    beside: [],
    anatomy: anatomyOf(bytes),
    golden: false,
    every: 1,
    virtualSize: content.length,
    content,
    differencing: false,
  };
}

function goldenSamples(): FileSample[] {
  return readGolden('parallels', ['parallels-empty.hdd']).map(({ name, bytes, virtualSize, content }) => {
    const base = { name, format: 'parallels', bytes, beside: [], golden: true, differencing: false, every: 15 };
    return { ...base, anatomy: anatomyOf(bytes), virtualSize, content };
  });
}

/** A header, and a table of 256 MiB that is a hole. */
function hollow(name: string, magic: string): BaseImage {
  const entries = 2 ** 26;
  const bytes = HEADER.encode({
    magic,
    version: VERSION,
    heads: 16,
    cylinders: 1,
    tracks: 1,
    entries,
    sectors: entries,
    sectorsHigh: 0,
    inUse: IN_USE.open,
    dataOffset: 0,
    flags: 0,
    extensionOffset: 0n,
  });
  const image = { name: 'image.hdd', size: HEADER.size + entries * 4 + SECTOR, pieces: [{ offset: 0, bytes }] };
  return { name, image, beside: [], content: null, differencing: false };
}

export const hostile: HostileKit = {
  async samples() {
    const classic = await made('classic', 4096, []);
    const odd = await made('clusters of 6 sectors', 3072, ['ext']);
    return [
      classic,
      odd,
      placeless(classic),
      extended('dirty bitmap', odd, [bitmapSection(odd.virtualSize)]),
      extended('unknown section', classic, [{ id: 0x1234n, flags: 0n, data: new Uint8Array(20).fill(7) }]),
      await bundleSample(),
      ...goldenSamples(),
    ];
  },
  damagedEvery: 8,
  files: 120,
  hollow: () => [
    hollow('a classic table of nothing', MAGIC.classic),
    hollow('a table of nothing', MAGIC.extended),
    ...bundleHollows(),
  ],
};
