/** A stream for the hostile suite: header and footer, markers of grains, directory and table behind the grains. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { GRAIN_MARKER, SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { convert } from '../../../src/operations/convert.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, FileSample, TablePlace } from '../../hostile/descriptor.ts';
import { fileBytes } from '../../model/extents.ts';

const GRAIN = 4096;
const GRAINS = 6;
const DISK = GRAINS * GRAIN;
/** Bytes of the footer and what ends the stream. */
const END = 2 * SECTOR;

/** Everything decides what is read, but for what no stream needs. */
const FREE: Readonly<Record<string, Effect>> = {
  ...Object.fromEntries(Object.keys(SPARSE_HEADER.fields).map((name) => [name, 'free' as const])),
  unclean: 'exact',
  rest: 'exact',
};

/** Grains with data but two, which are holes. */
export async function streamSample(): Promise<FileSample> {
  const provider = new MemoryProvider();
  const content = new Uint8Array(DISK);
  const random = new Random(6);
  for (const grain of [0, 2, 3, 5]) content.set(randomBytes(random, 300), grain * GRAIN + 77);
  const raw = await provider.create('/content.raw');
  await raw.write(0, content);
  await raw.close();
  const how = { format: 'vmdk', variant: ['stream'], sourceFormat: 'raw', config: { grain_size: GRAIN } };
  await convert({ provider, name: '/content.raw' }, { provider, name: '/image.vmdk' }, how);
  const bytes = await fileBytes({ provider, name: '/image.vmdk' });
  const sample = { name: 'stream', format: 'vmdk', bytes, beside: [], anatomy: anatomyOf(bytes), golden: false };
  return { ...sample, every: 3, virtualSize: DISK, content, differencing: false };
}

function anatomyOf(bytes: Uint8Array): Anatomy {
  const footer = bytes.length - END;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const directory = Number(SPARSE_HEADER.get(bytes.subarray(footer), 'directoryOffset')) * SECTOR;
  const grainTable = view.getUint32(directory, true) * SECTOR;
  const end = BigInt(bytes.length / SECTOR);
  const values = [0n, 1n, end - 3n, end - 1n, end, end + 1n];
  const common = { entryBytes: 4, littleEndian: true, values } as const;
  const grain: TablePlace['guestRange'] = (index) => [index * GRAIN, (index + 1) * GRAIN];
  const places = Array.from({ length: GRAINS }, (_, index) => view.getUint32(grainTable + index * 4, true) * SECTOR);
  const struct = { littleEndian: true } as const;
  return {
    structs: [
      { ...struct, name: 'header', table: SPARSE_HEADER, offset: 0, effects: FREE },
      { ...struct, name: 'footer', table: SPARSE_HEADER, offset: footer, effects: FREE },
      // The place and the length of a grain lead to its bytes, or to none.
      ...places.flatMap((offset, index) =>
        offset === 0 ? [] : [{ ...struct, name: `marker ${index}`, table: GRAIN_MARKER, offset, effects: {} }],
      ),
    ],
    tables: [
      { ...common, name: 'directory', offset: directory, count: 1, guestRange: () => [0, DISK] },
      { ...common, name: 'grain table', offset: grainTable, count: GRAINS, guestRange: grain },
    ],
    edges: [directory, grainTable, footer, bytes.length],
  };
}
