/** Boot images of a VISO file: files of its trees. */
import { type HostContent, wholeFile } from '../../blocks/iso9660/host-files.ts';
import { PLATFORM } from '../../blocks/iso9660/layout.ts';
import { type BootImage, ISO_LIMITS, type IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import { partsOf, type Trees } from './build.ts';
import type { BootWish, VisoCommand } from './command.ts';
import { openHost } from './host.ts';

/** Lengths of floppies, each with its number in a boot catalog. */
const FLOPPIES: ReadonlyMap<number, number> = new Map([
  [1_228_800, 1],
  [1_474_560, 2],
  [2_949_120, 3],
]);
/** Sectors of 512 bytes that a BIOS loads unless told otherwise. */
const LOAD_SECTORS = 4;
/** A length of 16 bits tells 32 MiB. */
const MOST_SECTORS = 0xffff;
/** Entries in the one block of the catalog, besides those of the first image. */
const MOST_IMAGES = 1 + (2048 / 32 - 2) / 2;

/** Finds the boot images. Throws `invalid-format`, `not-found`, `limit`. */
export async function bootImages(trees: Trees, { boot }: VisoCommand, files: ImageFiles): Promise<BootImage[]> {
  const path = files.name;
  if (boot.length === 0 && trees.catalog !== null) {
    throw new ImageError('invalid-format', 'The VISO file names a boot catalog, and no boot image', { path });
  }
  if (boot.length > MOST_IMAGES) {
    throw new ImageError('limit', 'The VISO file has too many boot images', { path, expected: MOST_IMAGES });
  }
  const images: BootImage[] = [];
  for (const wish of boot) {
    if (wish.file === null) {
      throw new ImageError('invalid-format', 'The VISO file has options for a boot image, and no boot image', {
        path,
        expected: 'an option -b or -e with the name of a file in the image',
      });
    }
    images.push(await bootImage(trees, wish, wish.file, files));
  }
  return images;
}

async function bootImage(trees: Trees, wish: BootWish, file: string, files: ImageFiles): Promise<BootImage> {
  const parts = wish.node === undefined ? partsOf(file, files.name) : [];
  const node: IsoNode | undefined = wish.node ?? trees.iso.find(parts) ?? trees.joliet?.find(parts);
  if (node === undefined || node.content === null || node.content.size === 0 || node.content === trees.catalog) {
    const about = { path: files.name, found: file.slice(0, 80) };
    throw new ImageError('not-found', 'The boot image is not among the files', about);
  }
  const { platform, bootable, segment, infoTable } = wish;
  const isEfi = platform === PLATFORM.efi;
  const size = node.content.size;
  const media = wish.media ?? (isEfi ? 0 : (FLOPPIES.get(size) ?? 0));
  const sectors = wish.sectors ?? (isEfi ? Math.min(Math.ceil(size / 512), MOST_SECTORS) : LOAD_SECTORS);
  const withInfo = infoTable ? await bootBytes(node.content as HostContent, files) : null;
  return { node, platform, bootable, sectors, segment: isEfi ? 0 : segment, media, withInfo };
}

async function bootBytes(content: HostContent, files: ImageFiles): Promise<Uint8Array> {
  const { path, size, bytes: made } = content;
  if (size > ISO_LIMITS.bootBytes || size < 64) {
    throw new ImageError('limit', 'The boot image cannot have a boot information table', { path, found: size });
  }
  return made ?? wholeFile(content, (name) => openHost(files, name));
}
