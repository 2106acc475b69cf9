/** The bench of a conformance case: an image made in one way, in an empty place, and assertions that any runner shows. */
import { alignUp } from '../binary/numbers.ts';
import type { ChainDisk } from '../disk/disk.ts';
import type { CreateImageOptions, DiskOpenOptions, InspectOptions, InspectReport } from '../disk/options.ts';
import { type ErrorKind, isImageError } from '../errors.ts';
import type { Format } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import { convert } from '../operations/convert.ts';
import { createImage } from '../operations/create.ts';
import { inspect } from '../operations/inspect.ts';
import { openDisk } from '../operations/open.ts';
import type { Source, StorageProvider } from '../storage/contract.ts';
import { Random } from './random.ts';
import { randomBytes } from './random-bytes.ts';

const MIB = 1024 * 1024;
/** Bytes of a disk: several blocks of every format, the last of them not whole. */
const SIZE = 5 * MIB + 3 * 512;

/** An empty place for the images of one case. */
export interface ConformancePlace {
  readonly provider: StorageProvider;
  /** A full name in that place. */
  path(name: string): string;
  dispose(): Promise<void>;
}

/** One way to make an image of a format. */
export interface ConformanceWay {
  readonly title: string;
  /** Words of the variant. */
  readonly variant: readonly string[];
  /** Bytes of the disk: several blocks, the last of them not whole where the variant has such sizes. */
  readonly size: number;
  /** A differencing image over another one of the format. */
  readonly diff: boolean;
  /** Written once, when it is made. */
  readonly once: boolean;
}

/** The default, each variant by itself, and a differencing image where the format has them. */
export function waysToMake(format: Format): ConformanceWay[] {
  const { variants, capabilities } = format;
  const words = variants.map(({ word }) => word).filter((word) => word !== 'diff');
  const ways = [[], ...words.map((word) => [word])].map((variant) => {
    const once = format.encodesAlways?.({ variant }) ?? false;
    const { sizeUnit = 512 } = variants.find(({ word }) => word === variant[0]) ?? {};
    return { title: variant[0] ?? 'default', variant, size: alignUp(SIZE, sizeUnit), diff: false, once };
  });
  return capabilities.diff ? [...ways, { title: 'diff', variant: [], size: SIZE, diff: true, once: false }] : ways;
}

/** Parts of a bench. */
export interface BenchParts {
  readonly registry: Registry;
  readonly format: Format;
  readonly way: ConformanceWay;
  readonly place: ConformancePlace;
  /** Number of random writes. */
  readonly rounds: number;
}

/** See the head of this file. */
export class Bench {
  readonly format: Format;
  readonly way: ConformanceWay;
  readonly place: ConformancePlace;
  readonly rounds: number;
  readonly disks: ChainDisk[] = [];
  /** Content of the disk before the first write. */
  initial: Uint8Array<ArrayBuffer>;
  readonly #registry: Registry;

  constructor({ registry, format, way, place, rounds }: BenchParts) {
    this.#registry = registry;
    this.format = format;
    this.way = way;
    this.place = place;
    this.rounds = rounds;
    this.initial = new Uint8Array(way.size);
  }

  /** Bytes of the disk. */
  get size(): number {
    return this.way.size;
  }

  at(name: string): Source {
    return { provider: this.place.provider, name: this.place.path(name) };
  }

  get image(): Source {
    return this.at(`image.${this.format.extensions[0]?.extension ?? this.format.name}`);
  }

  get base(): Source {
    return this.at('base.image');
  }

  async open(source: Source, options: DiskOpenOptions = {}): Promise<ChainDisk> {
    const parents = this.way.diff ? { allow: ['same-directory'] } : {};
    const named = { registry: this.#registry, format: this.format.name };
    const disk = await openDisk(source, { ...named, ...parents, ...options });
    this.disks.push(disk);
    return disk;
  }

  /** Makes the image; for a differencing one, a parent with content below it. */
  async create(): Promise<ChainDisk> {
    if (this.way.diff) {
      await createImage(this.base, { registry: this.#registry, format: this.format.name, size: SIZE });
      this.initial = patchwork();
      const parent = await this.open(this.base, { mode: 'write' });
      await parent.write(0, this.initial);
      await parent.close();
    }
    await this.make(this.image);
    return this.open(this.image, { mode: 'write' });
  }

  /** Makes the image, with this content, which must be shorter than the disk. */
  async convert(content: Uint8Array): Promise<void> {
    const from = this.at('source.raw');
    const raw = { registry: this.#registry, format: 'raw' };
    await createImage(from, { ...raw, size: this.size });
    await using disk = await openDisk(from, { ...raw, mode: 'write' });
    await disk.write(0, content);
    await convert(disk, this.image, this.makeOptions());
  }

  make(source: Source, options: CreateImageOptions = {}): Promise<unknown> {
    return createImage(source, { ...this.makeOptions(), ...options });
  }

  makeOptions(): CreateImageOptions {
    const { way, format } = this;
    const from = way.diff ? { parent: this.base, parentFormat: format.name } : { size: this.size };
    return { registry: this.#registry, format: format.name, variant: way.variant, ...from };
  }

  inspect(source: Source, options: InspectOptions = {}): Promise<InspectReport> {
    return inspect(source, { registry: this.#registry, allow: ['same-directory'], ...options });
  }

  /** Ends all disks and removes the place. */
  async dispose(): Promise<void> {
    await Promise.allSettled(this.disks.map((disk) => disk.close()));
    await this.place.dispose();
  }
}

/** Content with data, zeroes and everything between in all places. */
function patchwork(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIZE);
  bytes.set(randomBytes(new Random(6), SIZE));
  bytes.fill(0, MIB + 4096, 2 * MIB + 4096);
  bytes.fill(0, 4 * MIB, 4 * MIB + 512);
  return bytes;
}

/** Throws unless the condition holds. */
export function expectThat(condition: boolean, problem: string): void {
  if (!condition) throw new Error(problem);
}

/** Throws unless the values are the same; tells both. */
export function expectEqual(found: unknown, wanted: unknown, what: string): void {
  expectThat(Object.is(found, wanted), `${what}: found ${String(found)}, expected ${String(wanted)}`);
}

/** Throws unless the bytes are equal; tells the first difference. */
export function expectBytes(found: Uint8Array, wanted: Uint8Array, what = 'the bytes'): void {
  expectEqual(found.length, wanted.length, `length of ${what}`);
  // A separate loop, since the fast comparison of the library is under test.
  for (let at = sameWords(found, wanted); at < wanted.length; at++) {
    if (found[at] !== wanted[at]) throw new Error(`${what} differ at ${at}: ${found[at]}, expected ${wanted[at]}`);
  }
}

/** The number of bytes that are surely the same, from the start. */
function sameWords(a: Uint8Array, b: Uint8Array): number {
  if (a.byteOffset % 4 !== 0 || b.byteOffset % 4 !== 0) return 0;
  const length = Math.min(a.length, b.length) >> 2;
  const [one, other] = [
    new Uint32Array(a.buffer, a.byteOffset, length),
    new Uint32Array(b.buffer, b.byteOffset, length),
  ];
  let at = 0;
  while (at < length && one[at] === other[at]) at++;
  return at * 4;
}

/** True when bytes `[start, end)` are zero. */
function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end && bytes[at] === 0) at++;
  return at === end;
}

/** Throws unless the work fails with an `ImageError` of one of these kinds. */
export async function expectFailure(work: () => unknown, ...kinds: readonly ErrorKind[]): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isImageError(error) && kinds.includes(error.kind)) return;
    throw new Error(`Failed with ${String(error)}, expected a failure of kind ${kinds.join(' or ')}`, { cause: error });
  }
  throw new Error(`Nothing failed, expected a failure of kind ${kinds.join(' or ')}`);
}

/** All of the disk. */
export async function readAll(disk: ChainDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Throws unless the extents cover the disk in order, and what they call zero or absent reads zero. */
export async function expectExtents(disk: ChainDisk): Promise<void> {
  const bytes = await readAll(disk);
  let end = 0;
  for await (const extent of disk.extents()) {
    expectEqual(extent.offset, end, 'start of an extent');
    expectThat(extent.length > 0, `the extent at ${end} is empty`);
    end += extent.length;
    if (extent.state === 'data') continue;
    expectThat(isZero(bytes, extent.offset, end), `the extent at ${extent.offset} is ${extent.state}, but holds data`);
  }
  expectEqual(end, disk.size, 'end of the extents');
}
