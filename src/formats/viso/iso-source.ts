/** ISO images whose files a VISO file takes: `--import-iso`, `--push-iso`. */
import { type HostContent, stateOf } from '../../blocks/iso9660/host-files.ts';
import { BLOCK, BOOT_INFO, BOOT_INFO_AT, SYSTEM_BLOCKS } from '../../blocks/iso9660/layout.ts';
import { contentWithin, type IsoNames, readNames } from '../../blocks/iso9660/reader/names.ts';
import {
  type CatalogEntry,
  type IsoVolume,
  isoCorrupt,
  readAt,
  readCatalog,
  readVolume,
} from '../../blocks/iso9660/reader/volume.ts';
import type { IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import type { BootWish, IsoSource } from './command.ts';
import { openHost } from './host.ts';

/** Lengths of emulated floppies by their numbers in a boot catalog. */
const FLOPPY_BYTES: Readonly<Record<number, number>> = { 1: 1_228_800, 2: 1_474_560, 3: 2_949_120 };
const HARD_DISK = 4;

/** Name spaces that are looked at. */
export interface Views {
  readonly joliet: boolean;
  readonly rock: boolean;
}

/** Reads the names of an image. Throws `denied`, `not-found`, `corrupt`, `unsupported`, `limit`. */
export async function readIsoSource(
  files: ImageFiles,
  path: string,
  views: Views,
  count: { entries: number },
): Promise<IsoSource> {
  const storage = await openHost(files, path);
  try {
    const { key, size, modifiedMs, revision } = await stateOf(storage);
    const file: HostContent = { path, key, size, modifiedMs: modifiedMs ?? 0, revision };
    const volume = await readVolume(storage);
    const names = await bestNames(storage, volume, views, file, count);
    const boot = volume.catalog === null ? [] : await bootOf(storage, volume.catalog, names, file);
    return {
      path,
      root: names.root,
      hasJoliet: volume.joliet !== null,
      texts: { iso: volume.primary.texts, joliet: (volume.joliet ?? volume.primary).texts },
      boot,
      catalog: volume.catalog === null ? null : (names.contents.get(volume.catalog * BLOCK) ?? null),
      hasSystem: (await readAt(storage, 0, SYSTEM_BLOCKS * BLOCK)).some((byte) => byte !== 0),
    };
  } finally {
    await storage.close();
  }
}

/** Rock Ridge tells most; without it Joliet has the longer names. */
async function bestNames(
  storage: Storage,
  { primary, joliet }: IsoVolume,
  views: Views,
  file: HostContent,
  count: { entries: number },
): Promise<IsoNames> {
  const common = { file, count };
  const plain = await readNames(storage, { ...common, space: primary, isJoliet: false, rock: views.rock });
  if (plain.hasRock || joliet === null || !views.joliet) return plain;
  return readNames(storage, { ...common, space: joliet, isJoliet: true, rock: false });
}

async function bootOf(storage: Storage, catalog: number, names: IsoNames, file: HostContent): Promise<BootWish[]> {
  const wishes: BootWish[] = [];
  for (const entry of await readCatalog(storage, catalog)) {
    const { platform, bootable, media, segment, sectors, block } = entry;
    const node = names.contents.get(block * BLOCK) ?? hiddenNode(storage, entry, file);
    const infoTable = await hasInfoTable(storage, node, block);
    wishes.push({ file: `block ${block}`, node, platform, bootable, media, segment, sectors, infoTable });
  }
  return wishes;
}

/** A boot image that no name leads to: its length is that of what it emulates, or is loaded. */
function hiddenNode(storage: Storage, { media, sectors, block }: CatalogEntry, file: HostContent): IsoNode {
  if (media === HARD_DISK) {
    throw new ImageError('unsupported', 'The ISO image has an image of a hard disk for booting, of unknown length', {
      path: storage.label,
      hint: 'Extract the files of the image into a directory, and name that instead.',
    });
  }
  const size = FLOPPY_BYTES[media] ?? sectors * 512;
  if (size === 0 || block === 0) throw isoCorrupt(storage, 'a boot image without bytes', 'its block and length');
  const content = contentWithin(storage, file, block * BLOCK, size);
  return { name: '', modifiedMs: 0, executable: false, children: null, content, target: null };
}

/** A boot image that has a table with its own place gets it again, since the place is another one. */
async function hasInfoTable(storage: Storage, { content }: IsoNode, block: number): Promise<boolean> {
  const size = content?.size ?? 0;
  if (size < BOOT_INFO_AT + BOOT_INFO.size) return false;
  const table = BOOT_INFO.decode(await readAt(storage, block * BLOCK + BOOT_INFO_AT, BOOT_INFO.size));
  return table.descriptor === SYSTEM_BLOCKS && table.block === block && table.length === size;
}

/** Entries of directories by their names: many words may look for them in a long one. */
const byName = new WeakMap<IsoNode, ReadonlyMap<string, IsoNode>>();

function childOf(directory: IsoNode, name: string): IsoNode | undefined {
  if (directory.children === null) return undefined;
  const known = byName.get(directory) ?? new Map(directory.children.map((child) => [child.name, child]));
  byName.set(directory, known);
  return known.get(name);
}

/** The file or directory with that name in an image. Throws `not-found`. */
export function nodeIn({ root, path }: IsoSource, name: string): IsoNode {
  let node: IsoNode | undefined = root;
  for (const part of name.split('/').filter((one) => one !== '' && one !== '.')) {
    node = node === undefined ? undefined : childOf(node, part);
  }
  if (node !== undefined) return node;
  throw new ImageError('not-found', 'The ISO image has no file of this name', { path, found: name.slice(0, 80) });
}
