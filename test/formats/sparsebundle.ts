/** Apple's sparse bundles for the test suites. No program makes them here, so they are put together by hand. */
import { SECTOR } from '../../src/binary/numbers.ts';
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, HostileKit, Sample, SamplePart } from '../hostile/descriptor.ts';
import type { FormatKit } from './kit.ts';

/** A bundle to put together. */
interface Recipe {
  readonly band: number;
  readonly size: number;
  /** Stored bytes of bands, by number. */
  readonly bands: Readonly<Record<number, number>>;
  /** It has a copy of the property list, and an empty token. */
  readonly whole?: boolean;
}

/** The property list as Apple's programs write it. */
export function propertyList({ band, size }: Pick<Recipe, 'band' | 'size'>): string {
  const entries = [
    ['CFBundleInfoDictionaryVersion', '<string>6.0</string>'],
    ['band-size', `<integer>${band}</integer>`],
    ['bundle-backingstore-version', '<integer>1</integer>'],
    ['diskimage-bundle-type', '<string>com.apple.diskimage.sparsebundle</string>'],
    ['size', `<integer>${size}</integer>`],
  ].map(([key, value]) => `\t<key>${key}</key>\n\t${value}\n`);
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
${entries.join('')}</dict>
</plist>
`;
}

/** The values of a property list, each of them as a field. */
function listAnatomy(text: string): Anatomy {
  const fields: Record<string, { offset: number; size: number }> = {};
  for (const { 0: line, 1: key = '', index } of text.matchAll(/<key>(.*?)<\/key>\n\t(<.*>)\n/g)) {
    const value = line.indexOf('\t') + line.slice(line.indexOf('\t')).indexOf('>') + 1;
    fields[key] = { offset: index + value, size: line.lastIndexOf('<') - value };
    fields[`key ${key}`] = { offset: index, size: line.indexOf('\n') };
  }
  const effects = Object.fromEntries(
    Object.keys(fields).map((name) => [name, name.includes('CFBundle') ? ('same' as const) : ('free' as const)]),
  );
  const table = { size: text.length, fields };
  const edges = [...text.matchAll(/\n/g)].map(({ index }) => index);
  return {
    structs: [{ name: 'property list', table, offset: 0, littleEndian: true, effects }],
    tables: [],
    edges,
    length: 'free',
  };
}

/** A band that is shorter reads zero at its end, and one that is longer has more of the disk. */
const BAND_ANATOMY: Anatomy = { structs: [], tables: [], edges: [0, 1, SECTOR - 1, SECTOR], length: 'free' };

function sample(name: string, recipe: Recipe): Sample {
  const { band, size, bands, whole = false } = recipe;
  const text = propertyList(recipe);
  const bytes = new TextEncoder().encode(text);
  const content = new Uint8Array(size);
  const stored = Object.entries(bands).map(([number, length]): SamplePart => {
    const data = randomBytes(new Random(Number(number) + 1), length);
    content.set(data.subarray(0, Math.max(0, size - Number(number) * band)), Number(number) * band);
    return { name: `bands/${Number(number).toString(16)}`, bytes: data, anatomy: BAND_ANATOMY };
  });
  const nothing: Anatomy = { structs: [], tables: [], edges: [], length: 'exact' };
  const others = [
    { name: 'Info.bckup', bytes, anatomy: nothing },
    { name: 'token', bytes: new Uint8Array(0), anatomy: nothing },
  ];
  return {
    name,
    format: 'sparsebundle',
    bytes: null,
    parts: [{ name: 'Info.plist', bytes, anatomy: listAnatomy(text) }, ...(whole ? others : []), ...stored],
    beside: [],
    anatomy: { structs: [], tables: [], edges: [] },
    virtualSize: size,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

const BAND = 4096;

const hostile: HostileKit = {
  async samples() {
    return [
      sample('some bands', { band: BAND, size: 40 * BAND - 3 * SECTOR, bands: { 0: BAND, 11: BAND, 39: BAND } }),
      sample('short bands', { band: BAND, size: 6 * BAND, bands: { 1: SECTOR, 2: 700, 5: BAND }, whole: true }),
    ];
  },
  // A band that is cut off reads zero at its end.
  damagedLeast: [2, 0],
  hollow: () => [],
};

export const kit: FormatKit = {
  format: 'sparsebundle',
  golden: { without: 'no program makes them here', cases: 'sparsebundle' },
  hostile,
};
