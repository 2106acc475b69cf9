/** A new image as a disk: while it is made, and left open for writing. */
import { checkArguments } from '../arguments.ts';
import { ChainDisk, type DiskEnding } from '../disk/disk.ts';
import { SOURCE } from '../disk/kinds.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { entryList, openParents } from '../disk/open/parents.ts';
import type {
  ConvertOptions,
  CreateImageOptions,
  DiskOpenOptions,
  EnvironmentOptions,
  ImageSource,
} from '../disk/options.ts';
import { Chain, closeImages } from '../disk/path/chain.ts';
import type { Source } from '../storage/contract.ts';
import { denyAll } from '../storage/gate.ts';
import { finishImage, type StagedImage, stageImage } from './create.ts';
import { openIn, stackTools } from './open.ts';
import { OPTIONS } from './option-kinds.ts';

/**
 * Creates an image and opens it for writing. An image that is written once, from front to back, appears under its name
 * when the disk is closed; without `close` nothing is left of it.
 */
export async function createDisk(
  target: ImageSource,
  options: CreateImageOptions & DiskOpenOptions,
): Promise<ChainDisk> {
  checkArguments('Disk.create', { target: [target, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  const { environment } = own;
  const source = environment.sourceOf(target);
  const made = await stageImage(source, own);
  if (made.image.access === 'ascending-once') {
    const parent = own.parent === undefined ? undefined : environment.sourceOf(own.parent);
    const disk = await diskOfNew(made, parent, own, made.staged).catch(async (error: unknown) => {
      await made.staged.discard();
      throw error;
    });
    for (const text of [...made.warnings, ...disk.warnings]) environment.warn(text, source.name);
    return disk;
  }
  const lost = await finishImage(made);
  for (const text of [...made.warnings, ...lost]) environment.warn(text, source.name);
  // An image that a directory lists finds its parents there.
  const { parent, ...rest } = own;
  const opening = made.target === source ? own : rest;
  return openIn(made.target, { ...opening, format: made.format.name, mode: 'write' });
}

/** Parents of a new image, as they were named. */
export type NewDiskOptions = Resolved<
  EnvironmentOptions & Pick<ConvertOptions, 'parentChain' | 'parentFormat' | 'forceShare'>
>;

/** The new image as a disk, over its parents if it has any. Takes over the image. */
export async function diskOfNew(
  made: StagedImage,
  parent: Source | undefined,
  options: NewDiskOptions,
  ending?: DiskEnding,
): Promise<ChainDisk> {
  const name = made.target.name;
  const last: OpenedImage = {
    image: made.image,
    name,
    format: made.format.name,
    key: `new:${name}`,
    source: made.target,
    settings: { mode: 'write' },
    recognisedBy: 'it was just made',
    guessed: false,
    warnings: [],
    gate: denyAll(),
  };
  const opened = [last];
  try {
    const { environment, parentChain = [], parentFormat, forceShare } = options;
    const below = parent === undefined ? [] : entryList([...parentChain.slice(0, -1), parent]);
    const warnings = await openParents(opened, below, { environment, forceShare, parentFormat });
    const own = environment.with({ signal: undefined });
    const disk: Resolved<DiskOpenOptions> = { environment: own, mode: 'write', flushAfterMs: 0 };
    const chain = new Chain([...opened].reverse(), null);
    return new ChainDisk({ chain, tools: stackTools(disk), warnings, options: disk, ending });
  } catch (error) {
    await closeImages(opened);
    throw error;
  }
}
