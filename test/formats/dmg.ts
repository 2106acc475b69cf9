/** DMG images for the test suites: made by hand, a chunk of each kind. */
import { CHUNK, TABLE, TRAILER, TYPE } from '../../src/formats/dmg/layout.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, Effect, HostileKit, Sample, StructPlace } from '../hostile/descriptor.ts';
import { buildDmg, type DmgRecipe, type MadeChunk, type MadeTable, storedContent } from './dmg/build.ts';
import { splitDmg } from './dmg/split.ts';
import type { FormatKit } from './kit.ts';

const TRAILER_EFFECTS: Readonly<Record<string, Effect>> = {
  // Without these the file is a raw disk.
  magic: 'free',
  version: 'free',
  headerSize: 'free',
  // Each of these is another place of the data, or of the tables.
  dataOffset: 'free',
  dataLength: 'free',
  forkOffset: 'free',
  forkLength: 'free',
  xmlOffset: 'free',
  xmlLength: 'free',
  sectorCount: 'prefix',
};
const TABLE_EFFECTS: Readonly<Record<string, Effect>> = {
  magic: 'free',
  firstSector: 'free',
  dataOffset: 'free',
  chunkCount: 'free',
};
const CHUNK_EFFECTS: Readonly<Record<string, Effect>> = {
  type: 'free',
  sector: 'free',
  sectorCount: 'free',
  offset: 'free',
  length: 'free',
};

function chunk(type: number, sectors: number, seed = type): MadeChunk {
  const isZero = type === TYPE.zero || type === TYPE.ignore;
  const bytes = isZero ? new Uint8Array(sectors * 512) : randomBytes(new Random(seed), sectors * 512);
  return { type, content: bytes };
}

/** A chunk of each kind, in two tables out of order, with a gap before the second. */
const TABLES: readonly MadeTable[] = [
  {
    name: 'second & last',
    firstSector: 40,
    chunks: [
      { type: TYPE.bzip2, content: storedContent() },
      { type: TYPE.lzma, content: storedContent() },
      chunk(TYPE.lzfse, 6),
      chunk(TYPE.adc, 5),
    ],
  },
  {
    name: 'first',
    firstSector: 0,
    chunks: [
      chunk(TYPE.zlib, 8),
      chunk(TYPE.zero, 4),
      chunk(TYPE.raw, 3),
      chunk(TYPE.ignore, 7),
      chunk(TYPE.zlib, 2, 9),
    ],
  },
];

function sample(name: string, recipe: Omit<DmgRecipe, 'sectors'>): Sample {
  const { bytes, content, trailerOffset, tableOffsets } = buildDmg({ ...recipe, sectors: 60 });
  const place = (
    what: string,
    table: StructPlace['table'],
    offset: number,
    effects: StructPlace['effects'],
  ): StructPlace => {
    return { name: what, table, offset, littleEndian: false, effects };
  };
  return {
    name,
    format: 'dmg',
    bytes,
    beside: [],
    anatomy: {
      structs: [
        place('trailer', TRAILER, trailerOffset, TRAILER_EFFECTS),
        ...tableOffsets
          .slice(0, 1)
          .flatMap((offset) => [
            place('block table', TABLE, offset, TABLE_EFFECTS),
            place('chunk', CHUNK, offset + TABLE.size, CHUNK_EFFECTS),
          ]),
      ],
      tables: [],
      edges: [trailerOffset, ...tableOffsets, bytes.length],
      // Without its end the file is a raw disk.
      length: 'free',
    },
    virtualSize: content.length,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

/** The same as three files. */
function splitSample(): Sample {
  const { segments, content } = splitDmg({ tables: TABLES, where: 'xml', sectors: 60 }, [1500, 4000]);
  const anatomies = segments.map(({ bytes, trailerOffset }): Anatomy => {
    const effects = TRAILER_EFFECTS;
    return {
      structs: [{ name: 'trailer', table: TRAILER, offset: trailerOffset, littleEndian: false, effects }],
      tables: [],
      edges: [trailerOffset, bytes.length],
      length: 'free',
    };
  });
  const nothing: Anatomy = { structs: [], tables: [], edges: [] };
  const [first, ...others] = segments.map(({ bytes }, index) => ({ bytes, anatomy: anatomies[index] ?? nothing }));
  if (first === undefined) throw new Error('an image has a file');
  return {
    name: 'three files',
    format: 'dmg',
    ...first,
    parts: others.map((part, index) => ({ ...part, name: `image.00${index + 2}.dmgpart` })),
    beside: [],
    virtualSize: content.length,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

const hostile: HostileKit = {
  async samples() {
    return [
      sample('a property list', { tables: TABLES, where: 'xml' }),
      sample('a resource fork', { tables: TABLES, where: 'fork' }),
      sample('data behind other bytes', { tables: TABLES, where: 'fork', dataOffset: 777 }),
      splitSample(),
    ];
  },
  damagedFlips: 60,
  files: 260,
  hollow: () => {
    const { bytes } = buildDmg({ tables: [], where: 'xml', sectors: 1 });
    const size = 2 ** 24;
    const trailer = bytes.slice(-TRAILER.size);
    TRAILER.put(trailer, 'xmlOffset', 0);
    TRAILER.put(trailer, 'xmlLength', size - TRAILER.size);
    const image = {
      name: 'a property list of 16 MiB of zeroes',
      size,
      pieces: [{ offset: size - TRAILER.size, bytes: trailer }],
    };
    return [{ name: image.name, image, beside: [], content: null, differencing: false }];
  },
};

export const kit: FormatKit = {
  format: 'dmg',
  golden: { without: 'the images of Apple are too large, and not free', cases: 'dmg' },
  hostile,
  conformance: { without: 'new images are written once, from front to back: test/peers/dmg.test.ts' },
};
