/** Images that move, in all places that they can have in a chain, and what must be true of them afterwards. */
import { createHash } from 'node:crypto';
import { FORMATS } from '../../src/formats/index.ts';
import type { Format } from '../../src/image/contract.ts';
import { createImage, Disk, type ImageSource, inspect } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { TOYS, withToys } from '../formats/toys/registry.ts';

export const SIZE = 1024 ** 2;
/** Small units make small files. */
const SMALL: Readonly<Record<string, number>> = {
  AllocationBlockSize: 65_536,
  DataAlignment: 4096,
  cluster_size: 16_384,
};

/** A kind of image that is moved. */
export interface Kind {
  readonly title: string;
  readonly format: Format;
  /** True for an image with an external data file. */
  readonly data: boolean;
}

/** The formats of vdkit and the toys. */
export const registry = withToys();
const canMove = ({ create, capabilities }: Format): boolean => create !== undefined && capabilities.write;
const writable = FORMATS.filter(canMove);

/** Every format that can be written; those whose images can keep their data elsewhere twice. */
export const KINDS: readonly Kind[] = writable.flatMap((format) => [
  { title: format.name, format, data: false },
  ...(format.configKeys.some(({ name }) => name === 'data_file')
    ? [{ title: `${format.name} with a data file`, format, data: true }]
    : []),
]);

/** Those of the toys that can be made. */
export const TOY_KINDS: readonly Kind[] = TOYS.filter(canMove).map((format) => ({
  title: format.name,
  format,
  data: false,
}));

/** Places in a chain of three: which image moves, 0 = base. A format without parents has one image. */
export const ROLES = [
  { role: 'alone', images: 1, moved: 0 },
  { role: 'child', images: 2, moved: 1 },
  { role: 'parent', images: 2, moved: 0 },
  { role: 'middle', images: 3, moved: 1 },
] as const;
export type Role = (typeof ROLES)[number];

/** State of an image, whatever its name. */
export interface State {
  readonly hash: string;
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly comment: string | null;
  readonly snapshots: string;
  readonly bitmaps: string;
}

/** A chain in one directory. */
export interface Family {
  readonly kind: Kind;
  readonly provider: StorageProvider;
  /** Names, base first. */
  readonly names: readonly string[];
  /** The data file of the image that moves; null: it has none. */
  readonly dataName: string | null;
  readonly states: readonly State[];
  /** Children store no name of their parent: they find it by its UUID only, beside them. */
  readonly byUuid: boolean;
}

/** Makes the images, each with unique content; the moving one has snapshots, bitmaps and a comment if supported. */
export async function makeFamily(
  provider: StorageProvider,
  directory: string,
  kind: Kind,
  { images, moved }: Role,
): Promise<Family> {
  const names: string[] = [];
  const dataName = kind.data ? `${directory}/data-${moved}.bin` : null;
  const { name: format, extensions } = kind.format;
  for (let number = 0; number < images; number++) {
    const name = `${directory}/${number}.${extensions[0]?.extension ?? format}`;
    const units = Object.entries(SMALL).filter(([key]) => kind.format.configKeys.some((one) => one.name === key));
    const data = kind.data && number === moved ? { data_file: `data-${number}.bin` } : {};
    const config = { ...Object.fromEntries(units), ...data };
    const parent = names.at(-1);
    await createImage(
      { provider, name },
      {
        registry,
        format,
        size: SIZE,
        config,
        ...(parent === undefined ? {} : { parent: { provider, name: parent }, parentFormat: format }),
      },
    );
    names.push(name);
    const options = { registry, format, mode: 'write', allow: allowed(directory, images), flushAfterMs: 0 } as const;
    await using disk = await Disk.open({ provider, name }, options);
    await disk.write(number * 128 * 1024, new Uint8Array(256 * 1024).fill(number + 1));
    if (number === moved) await decorate(disk, kind.data);
  }
  const child = names[1];
  const stored = child === undefined ? null : await inspect({ provider, name: child }, { registry, format });
  const byUuid = stored !== null && stored.parentName === null;
  const family = { kind, provider, names, dataName, byUuid };
  const states: State[] = [];
  for (const name of names) states.push(await stateOf(family, { provider, name }, [directory]));
  return { ...family, states };
}

/** Data files may be written by their own names only. */
function allowed(directory: string, images: number): string[] {
  return [directory, ...Array.from({ length: images }, (_, number) => `${directory}/data-${number}.bin`)];
}

async function decorate(disk: Disk, data: boolean): Promise<void> {
  const { info } = disk.images.at(-1) ?? {};
  // Snapshots need the data in the image itself.
  if (info?.snapshots !== undefined && !data) {
    await disk.snapshots.create('monday');
    await disk.write(SIZE / 2, new Uint8Array(4096).fill(99));
  }
  if (info?.bitmaps !== undefined) await disk.bitmaps.add('since');
}

/** Everything of one image, opened with its parents. */
export async function stateOf(
  { kind }: Pick<Family, 'kind'>,
  source: ImageSource,
  allow: readonly string[],
): Promise<State> {
  const options = { registry, format: kind.format.name, allow, lock: false };
  await using disk = await Disk.open(source, options);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  const { uuid, modificationUuid, comment, snapshots = [], bitmaps = [] } = await inspect(source, options);
  const hash = createHash('sha256').update(bytes).digest('hex');
  return {
    hash,
    uuid,
    modificationUuid,
    comment,
    snapshots: snapshots.map(({ id, name }) => `${id} ${name}`).join(),
    bitmaps: bitmaps.map(({ name, enabled, inconsistent }) => `${name} ${enabled} ${inconsistent}`).join(),
  };
}
