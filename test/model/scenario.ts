/** Which disk a seed works on: format, variant, the images below, sizes, options, and where the files are. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreateImageOptions, DiskOpenOptions } from '../../src/disk/options.ts';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Config, Format } from '../../src/image/contract.ts';
import type { Registry } from '../../src/image/registry.ts';
import type { Source, StorageProvider } from '../../src/storage/contract.ts';
import { localFiles } from '../../src/storage/local/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { Random } from '../../src/testing/random.ts';
import { unitsOf } from '../conformance/kits.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { writableVariants } from '../formats/variants.ts';
import { RestlessProvider } from './restless.ts';

/** One way to make a disk. */
export interface Shape {
  readonly title: string;
  readonly format: Format;
  readonly variant: readonly string[];
  /** Formats of the images below, base first. */
  readonly below: readonly Format[];
  /** The test file that plays it, where it is not that of all formats. */
  readonly suite?: string;
  /** Beside what every scenario has. */
  readonly setUp?: (random: Random) => SetUp;
  /** Formats of a trial. Left out: those that vdkit has. */
  readonly registry?: Registry;
  /** Bytes have another form in the files than on the disk. */
  readonly encoded?: boolean;
}

/** Options of one format that a seed decides. */
export interface SetUp {
  readonly unit: number;
  /** Guest bytes of each image, base first. */
  readonly sizes: readonly number[];
  /** Of each image. */
  readonly configs: readonly Config[];
  /** Guest bytes that the disk does not grow beyond. */
  readonly most: number;
  /** Initial state of the image: empty, or a conversion of some content. */
  readonly start: 'empty' | 'converted' | 'compressed';
  /** The image keeps things inside: operations do something with them, and the chain stays. */
  readonly inner: boolean;
  /** Config of an image that the disk is converted into. */
  readonly other: (random: Random) => Config;
}

/** The formats of a shape, as an option. */
export function registryOf({ registry }: Shape): { readonly registry?: Registry } {
  return registry === undefined ? {} : { registry };
}

/** Everything that a seed decides beside the operations. */
export interface Scenario {
  readonly seed: number;
  readonly shape: Shape;
  /** Guest bytes of each image, base first. */
  readonly sizes: readonly number[];
  readonly unit: number;
  readonly local: boolean;
  /** Requests overtake each other. */
  readonly restless: boolean;
  /** Seed of how they do. */
  readonly timing: number;
  /** Naming of the images below: all in a list, or found in the directory. */
  readonly parents: 'listed' | 'found';
  readonly options: Pick<DiskOpenOptions, 'honourZeroes' | 'honourSame' | 'ignoreFlush' | 'flushAfterMs'>;
  readonly setUp: SetUp | null;
}

const SECTOR = 512;

/** Every format that can be written and made, in each of its variants, and its chains. */
export function allShapes(): Shape[] {
  const formats = defaultRegistry().formats;
  return formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined).flatMap(shapesOf);
}

function shapesOf(format: Format): Shape[] {
  const words = writableVariants(format);
  const plain = ['default', ...words].map((title) => ({
    title,
    format,
    variant: title === 'default' ? [] : [title],
    below: [],
  }));
  if (!format.capabilities.diff) return plain;
  const raw = defaultRegistry().find('raw');
  return [
    ...plain,
    { title: 'diff', format, variant: [], below: [format] },
    { title: 'diff over a diff', format, variant: [], below: [format, format] },
    { title: 'diff over raw', format, variant: [], below: [raw] },
  ];
}

/** The scenario of a seed, on one shape. */
export function makeScenario(seed: number, shape: Shape): Scenario {
  const random = new Random(seed);
  const unit = random.pick([4096, 4096, 4096, 1024, 16_384]);
  const top = randomSize(random);
  const sizes = shape.below.map(() => (random.chance(0.3) ? top : randomSize(random)));
  const local = random.chance(0.1);
  const setUp = shape.setUp?.(new Random(seed + 0x5e7)) ?? null;
  const maybe = (): boolean | undefined => random.pick([undefined, true, false]);
  return {
    seed,
    shape,
    sizes: setUp?.sizes ?? [...sizes, top],
    unit: setUp?.unit ?? unit,
    setUp,
    local,
    restless: !local && random.chance(0.7),
    timing: seed + 1,
    parents: random.chance(0.5) || shape.below.some(({ capabilities }) => !capabilities.uuid) ? 'listed' : 'found',
    options: dropUndefined({
      honourZeroes: maybe(),
      honourSame: maybe(),
      ignoreFlush: random.chance(0.2) ? true : undefined,
      flushAfterMs: random.pick([undefined, 0, 100, 2000]),
    }),
  };
}

/** 200 to 600 KiB; the last block is seldom whole. */
function randomSize(random: Random): number {
  return SECTOR * (400 + random.below(800));
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function dropUndefined<T extends object>(options: T): Partial<Defined<T>> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<Defined<T>>;
}

/** Simpler scenarios to try, for a failure that does not need all of it. */
export function simplerScenarios(scenario: Scenario): Scenario[] {
  const { options } = scenario;
  const simpler: Scenario[] = [];
  if (scenario.local) simpler.push({ ...scenario, local: false });
  if (scenario.restless) simpler.push({ ...scenario, restless: false });
  const { setUp } = scenario;
  if (setUp !== null && setUp.start !== 'empty') simpler.push({ ...scenario, setUp: { ...setUp, start: 'empty' } });
  for (const key of Object.keys(setUp?.configs.at(-1) ?? {})) {
    if (setUp === null || key === 'cluster_size') continue;
    const configs = setUp.configs.map((config) =>
      // What belongs to a data file goes with it.
      Object.fromEntries(Object.entries(config).filter(([other]) => !other.startsWith(key))),
    );
    simpler.push({ ...scenario, setUp: { ...setUp, configs } });
  }
  for (const key of Object.keys(options)) {
    const rest = Object.fromEntries(Object.entries(options).filter(([name]) => name !== key));
    simpler.push({ ...scenario, options: rest });
  }
  return simpler;
}

/** The scenario as lines of a program. */
export function describeScenario(scenario: Scenario): string {
  const { shape, sizes, options, local, restless, parents } = scenario;
  const images = [...shape.below, shape.format].map((format, level) => {
    const create = {
      ...makeOptions(scenario, level),
      ...(level > 0 ? { parent: imageName(scenario, level - 1) } : {}),
    };
    const isTop = level === shape.below.length;
    if (isTop && scenario.setUp !== null && scenario.setUp.start !== 'empty') {
      const how = { format: format.name, ...create, compress: scenario.setUp.start === 'compressed' };
      return `await convert(someContent, '${imageName(scenario, level)}', ${JSON.stringify(how)});`;
    }
    return `await createImage('${imageName(scenario, level)}', ${JSON.stringify({ format: format.name, ...create })});${isTop ? '' : ' // with content'}`;
  });
  const place = local ? 'local files' : restless ? 'memory that takes its time' : 'memory';
  const named = sizes.length === 1 ? '' : ` // parents ${parents}`;
  return [`// ${place}`, ...images, `let disk = await open(${JSON.stringify(options)});${named}`].join('\n');
}

/** The file of image `level`, without its directory. */
export function imageName({ shape }: Scenario, level: number): string {
  const format = [...shape.below, shape.format][level] ?? shape.format;
  const extension = format.extensions[0]?.extension ?? format.name;
  return `${level === shape.below.length ? 'image' : `below${level}`}.${extension}`;
}

/** Options of `createImage` for image `level`, apart from its parent. */
export function makeOptions(scenario: Scenario, level: number): CreateImageOptions {
  const { shape, sizes, unit } = scenario;
  const format = [...shape.below, shape.format][level] ?? shape.format;
  const config = knownConfig(format, scenario.setUp?.configs[level] ?? unitsOf(format.name, unit));
  const size = sizes[level] ?? 0;
  const variant = level === shape.below.length ? shape.variant : [];
  return {
    format: format.name,
    size,
    ...(variant.length > 0 ? { variant } : {}),
    ...(Object.keys(config).length > 0 ? { config } : {}),
  };
}

/** Config of an image that is put on top. */
export function stackedConfig({ shape, setUp }: Scenario, unit: number): Config {
  const own = { ...(setUp?.configs.at(-1) ?? unitsOf(shape.format.name, unit)) };
  // Only one image can have the data file, and none with a parent its room at once.
  const apart = new Set(['data_file', 'data_file_raw', 'preallocation']);
  return knownConfig(shape.format, Object.fromEntries(Object.entries(own).filter(([key]) => !apart.has(key))));
}

function knownConfig({ configKeys }: Format, config: Config): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => configKeys.some(({ name }) => name === key)));
}

/** Place of the files of one run. */
export interface Place {
  readonly provider: StorageProvider;
  source(name: string): Source;
  /** Copies of all files as they are now, under the same names. */
  copy(): Promise<MemoryProvider>;
  dispose(): Promise<void>;
}

/** An empty place of the kind that the scenario wants. */
export async function makePlace(scenario: Scenario): Promise<Place> {
  if (scenario.local) return localPlace();
  const memory = new MemoryProvider();
  const named = new Set<string>();
  const provider = scenario.restless ? new RestlessProvider(memory, new Random(scenario.timing)) : memory;
  return {
    provider,
    source: (name) => noted(named, { provider, name: `/${name}` }),
    async copy() {
      const copied = new MemoryProvider();
      for (const name of await filesBelow(memory, '/', named)) await addFile(copied, name, await bytesOf(memory, name));
      return copied;
    },
    dispose: async () => {},
  };
}

async function localPlace(): Promise<Place> {
  const directory = await mkdtemp(join(memoryFolder(), 'vdkit-model-'));
  const provider = localFiles();
  const named = new Set<string>();
  return {
    provider,
    source: (name) => noted(named, { provider, name: join(directory, name) }),
    async copy() {
      const copied = new MemoryProvider();
      for (const name of await filesBelow(provider, directory, named)) {
        await addFile(copied, name, new Uint8Array(await readFile(name)));
      }
      return copied;
    },
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
}

function noted(named: Set<string>, source: Source): Source {
  named.add(source.name);
  return source;
}

/** All files of a directory, and of images in it that are directories. */
async function filesBelow(provider: StorageProvider, directory: string, images: Iterable<string>): Promise<string[]> {
  const found: string[] = [];
  for (const place of [directory, ...images]) {
    if ((await provider.lookUp(place))?.kind !== 'directory') continue;
    for await (const name of provider.list(place)) {
      if ((await provider.lookUp(name))?.kind === 'file') found.push(name);
    }
  }
  return found;
}

async function bytesOf(provider: StorageProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

async function addFile(provider: MemoryProvider, name: string, bytes: Uint8Array): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, bytes);
  await storage.close();
}
