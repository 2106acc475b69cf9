/** Opening of VHD images: a method of the format, loaded when it is first used. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import type { FormatOpenOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { scanBlocks, VhdBlocks } from './blocks.ts';
import { FixedVhd } from './fixed.ts';
import { type FoundFooter, findFooter } from './footer.ts';
import { Footers } from './footers.ts';
import { metadataEndBefore, readHeader, type VhdLayout, withoutSurplus } from './header.ts';
import { type DynamicState, DynamicVhd } from './image.ts';
import { DISK_TYPE } from './layout.ts';
import { parentNamesOf } from './locators.ts';

/** Opens an image. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  return openVhd(mainFile(files), files.directory, options);
}

/** Opens an image by its file and the directory of its parents. */
export async function openVhd(
  storage: Storage,
  directory: string,
  { mode, infoOnly = false, signal }: FormatOpenOptions,
): Promise<Image> {
  const found = await findFooter(storage, { signal });
  return found.footer.type === DISK_TYPE.fixed
    ? new FixedVhd(storage, mode, found)
    : openDynamic(storage, directory, found, { mode: infoOnly ? 'read' : mode, signal });
}

async function openDynamic(
  storage: Storage,
  directory: string,
  found: FoundFooter,
  { mode, signal }: Pick<FormatOpenOptions, 'mode' | 'signal'>,
): Promise<Image> {
  const guard = new ChangeGuard(storage.label);
  const state = await loadBlocks(storage, found, guard, { mode, signal });
  const load = async (): Promise<DynamicState> => loadBlocks(storage, await findFooter(storage), guard, { mode });
  return new DynamicVhd({ storage, directory, guard, mode, state, load });
}

async function loadBlocks(
  storage: Storage,
  found: FoundFooter,
  guard: ChangeGuard,
  { mode, signal }: Pick<FormatOpenOptions, 'mode' | 'signal'>,
): Promise<DynamicState> {
  const { footer, fileOffset: footerOffset } = found;
  const declared = await readHeader(storage, footer, { signal });
  const differencing = footer.type === DISK_TYPE.differencing;
  const parentNames = differencing ? await parentNamesOf(storage, declared, { signal }) : [];
  const { currentSize: virtualSize } = footer;
  const facts = { virtualSize, footerOffset, differencing };
  const scan = mode === 'write' ? await scanBlocks(storage, declared, facts, { signal }) : null;
  // A reader needs none of the entries behind those of the disk.
  const layout = scan?.layout ?? withoutSurplus(declared);
  const obstacle = scan === null ? null : (obstacleOf(found, layout) ?? scan.obstacle);
  const footers = new Footers(storage, footer, footerOffset);
  const blocks = new VhdBlocks({
    storage,
    layout,
    virtualSize,
    differencing,
    guard,
    scan: obstacle === null ? scan : null,
    dataOffset: scan?.dataOffset ?? metadataEndBefore(layout),
    footers,
  });
  return { found, layout, parentNames, footers, blocks, obstacle };
}

/** The reason why an image must not be written, or null. */
function obstacleOf({ end, footer, isRestorable }: FoundFooter, { checksumFits }: VhdLayout): string | null {
  if (end === 'wrong checksum' && !isRestorable) return 'the checksum of its footer is wrong';
  if (!checksumFits) return 'the checksum of its header is wrong';
  return footer.savedState === 0 ? null : 'it belongs to the saved state of a virtual machine';
}
