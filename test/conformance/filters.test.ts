/**
 * Conformance of every filter, and of every format's disk to filters: all that are registered and one for tests, with
 * every value of their options, over every format that can be written and every storage.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Filter, FilterConfig, FilterInstance } from '../../src/image/filter.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source } from '../../src/storage/contract.ts';
import { Random } from '../../src/testing/random.ts';
import { xorFilter } from '../../src/testing/xor-filter.ts';
import { expectSameBytes } from './expect-bytes.ts';
import { randomBytes, rounds } from './random.ts';
import { type Place, STORAGE_KINDS } from './storages.ts';

const SECTOR = 512;
const SIZE = 1024 * 1024 + 3 * SECTOR;

/** Values for the options of every registered filter; a filter that is missing here, or an option, fails below. */
const CONFIGS: Readonly<Record<string, readonly FilterConfig[]>> = {
  byteswap: [{}, { width: 2 }, { width: 4 }, { width: 8 }],
};

interface Case {
  readonly title: string;
  readonly filter: Filter;
  readonly config: FilterConfig;
}

const registered = defaultRegistry().filters;
const CASES: readonly Case[] = [
  ...registered.flatMap((filter) =>
    (CONFIGS[filter.name] ?? []).map((config) => ({
      title: `${filter.name} ${JSON.stringify(config)}`,
      filter,
      config,
    })),
  ),
  ...[{}, { slow: true }, { elsewhere: true }, { slow: true, elsewhere: true }].map((how) => ({
    title: `xor ${JSON.stringify(how)}`,
    filter: xorFilter(how),
    config: {},
  })),
];

const writable = defaultRegistry().formats.filter(
  ({ capabilities, create }) => capabilities.write && create !== undefined,
);

/** The filter, with everything noted that a disk must not do to it. */
function watched(filter: Filter): { readonly filter: Filter; readonly wrong: string[]; readonly closed: () => number } {
  const wrong: string[] = [];
  let closed = 0;
  const open: Filter['open'] = async (options) => {
    const inner = await filter.open(options);
    let running = 0;
    const pass = async (way: 'encode' | 'decode', offset: number, bytes: Uint8Array): Promise<Uint8Array> => {
      if (offset % SECTOR !== 0 || bytes.length % SECTOR !== 0) wrong.push(`${way} of ${bytes.length} at ${offset}`);
      if (bytes.length === 0 || offset + bytes.length > options.diskSize) wrong.push(`${way} outside of the disk`);
      if (closed > 0) wrong.push(`${way} after close`);
      running++;
      const result = await inner[way](offset, bytes);
      running--;
      return result;
    };
    return {
      encode: (offset, bytes) => pass('encode', offset, bytes),
      decode: (offset, bytes) => pass('decode', offset, bytes),
      async close() {
        if (running > 0) wrong.push('closed while a call runs');
        closed++;
        await inner.close();
      },
    };
  };
  return { filter: { ...filter, open }, wrong, closed: () => closed };
}

describe('filters', () => {
  describe.each(STORAGE_KINDS)('over $name', (kind) => {
    it('are tried with every option that they have', () => {
      expect(registered.map(({ name }) => name).sort()).toEqual(Object.keys(CONFIGS).sort());
      for (const { name, configKeys } of registered) {
        const tried = new Set((CONFIGS[name] ?? []).flatMap((config) => Object.keys(config)));
        expect([...tried].sort()).toEqual(configKeys.map((key) => key.name).sort());
      }
    });

    describe.each(CASES)('$title', ({ filter, config }) => {
      const make = (): FilterInstance | Promise<FilterInstance> =>
        filter.open({ config, info: false, keys: null, diskSize: SIZE });

      it('undoes itself, sector by sector, whatever runs beside', async () => {
        const one = await make();
        const random = new Random(5);
        const bytes = randomBytes(random, 40 * SECTOR);
        const at = 7 * SECTOR;
        const whole = (await one.encode(at, bytes.slice())).slice();
        expect(whole.length).toBe(bytes.length);
        const parts = await Promise.all(
          Array.from({ length: 40 }, (_, index) => {
            const part = bytes.slice(index * SECTOR, (index + 1) * SECTOR);
            return one.encode(at + index * SECTOR, part);
          }),
        );
        for (const [index, part] of parts.entries()) {
          expectSameBytes(part, whole.subarray(index * SECTOR, (index + 1) * SECTOR), `sector ${index}`);
        }
        expectSameBytes(await one.decode(at, whole.slice()), bytes);
        const other = await make();
        expectSameBytes(await other.decode(at + 512, whole.slice(512, 2048)), bytes.subarray(512, 2048));
        await one.close();
        await other.close();
      });

      describe.each(writable)('on $name', (format) => {
        let place: Place;
        let disk: ChainDisk | null;
        const image = (): Source => ({ provider: place.provider, name: place.path(`image.${format.name}`) });

        beforeEach(async () => {
          place = await kind.make();
          disk = null;
          await createImage(image(), { format: format.name, size: SIZE });
        });
        afterEach(async () => {
          await disk?.close().catch(() => {});
          await place.dispose();
        });

        it('reads what was written, stores another form, and is met as its contract says', async () => {
          const { filter: own, wrong, closed } = watched(filter);
          const random = new Random(11);
          const model = randomBytes(random, SIZE);
          const opened = await openDisk(image(), { mode: 'write', format: format.name });
          disk = opened;
          await opened.filters.add(own, { config });
          await opened.write(0, model);
          for (let round = 0; round < rounds(6, 200); round++) {
            const requests = Array.from({ length: 1 + random.below(4) }, (_, index) => {
              const offset = index * 200_000 + random.below(150_000);
              return { offset, bytes: randomBytes(random, 1 + random.below(5000)) };
            });
            const kept = requests.map(({ bytes }) => bytes.slice());
            await Promise.all(requests.map(({ offset, bytes }) => opened.write(offset, bytes)));
            for (const [index, { offset, bytes }] of requests.entries()) {
              expectSameBytes(bytes, kept[index] ?? bytes, 'the buffer of the caller');
              model.set(bytes, offset);
            }
            const [from, length] = [random.below(SIZE - 9000), 1 + random.below(9000)];
            if (random.chance(0.3)) {
              await opened.zero(from, length);
              model.fill(0, from, from + length);
            }
            const found = new Uint8Array(9000);
            await opened.read(from, found);
            expectSameBytes(found, model.subarray(from, from + 9000));
          }
          const all = new Uint8Array(SIZE);
          await opened.read(0, [all.subarray(0, 70_001), all.subarray(70_001)]);
          expectSameBytes(all, model);
          await opened.close();
          await opened.close();
          expect({ wrong, closed: closed() }).toEqual({ wrong: [], closed: 1 });

          const plain = await openDisk(image(), { format: format.name });
          disk = plain;
          const stored = new Uint8Array(SIZE);
          await plain.read(0, stored);
          expect(stored.every((byte, index) => byte === model[index])).toBe(false);
          await plain.filters.add(own, { config });
          await plain.read(0, stored);
          expectSameBytes(stored, model);
        });
      });
    });
  });
});
