/** New ISO 9660 images of the files in a directory. */
import { checkArguments, FLAG, NAME, optional, TEXT, withFields } from '../../arguments.ts';
import { type HostContent, wholeFile } from '../../blocks/iso9660/host-files.ts';
import { readTree } from '../../blocks/iso9660/host-tree.ts';
import { PAD_BLOCKS, PLATFORM } from '../../blocks/iso9660/layout.ts';
import { planIso } from '../../blocks/iso9660/plan.ts';
import { IsoBytes } from '../../blocks/iso9660/storage.ts';
import { type BootImage, ISO_LIMITS, type IsoNode, type IsoTexts } from '../../blocks/iso9660/tree.ts';
import { SOURCE } from '../../disk/kinds.ts';
import { resolve } from '../../disk/open/environment.ts';
import type { CreateImageOptions, ImageSource } from '../../disk/options.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { StorageProvider } from '../../storage/contract.ts';
import { convertNew } from '../convert.ts';
import { IsoDevice } from './device.ts';

/** Options for a new ISO image. */
export interface CreateIsoOptions
  extends Pick<CreateImageOptions, 'provider' | 'registry' | 'lock' | 'signal' | 'onMessage' | 'onProgress' | 'force'> {
  /** Name of the volume, at most 32 letters, of which Joliet keeps 16. Default: the name of the directory. */
  readonly label?: string | undefined;
  /** File in the tree that a BIOS starts, without emulation: `isolinux/isolinux.bin`. */
  readonly boot?: string | undefined;
  /** Write the place of the image into that file, as ISOLINUX and GRUB need it. Default false. */
  readonly bootInfoTable?: boolean | undefined;
  /** File in the tree that UEFI starts: an image of a FAT file system. */
  readonly bootEfi?: string | undefined;
}

/** Report on a new ISO image. */
export interface CreateIsoResult {
  /** Bytes of the image. */
  readonly size: number;
  /** Files, directories and links in it, without the root. */
  readonly entries: number;
  readonly warnings: readonly string[];
}

const OPTIONS = withFields('an object with options', {
  label: optional(TEXT),
  boot: optional(NAME),
  bootEfi: optional(NAME),
  bootInfoTable: optional(FLAG),
  force: optional(FLAG),
});
const VOLUME_LETTERS = 32;
/** Sectors of 512 bytes that a BIOS loads: what other makers write, and boot loaders expect. */
const LOAD_SECTORS = 4;
const LOAD_SEGMENT = 0x7c0;

/**
 * Makes an ISO 9660 image of the files below a directory: level 3, with Joliet names, and Rock Ridge for POSIX names, modes
 * and links; files may be longer than 4 GiB. Links are stored as links. The image appears under its name only when it is
 * complete and durable; a failure, or a file that changes meanwhile, leaves nothing behind. Equal files with equal times
 * give equal images. Throws `exists`, `not-found`, `invalid-argument`, `limit`, `io`, `no-space`, `aborted`.
 */
export async function createIso(
  target: ImageSource,
  directory: string,
  options: CreateIsoOptions = {},
): Promise<CreateIsoResult> {
  checkArguments('createIso', { target: [target, SOURCE], directory: [directory, NAME], options: [options, OPTIONS] });
  const own = await resolve(options);
  const { environment } = own;
  throwIfAborted(environment.signal, 'Creating the image');
  const place = environment.sourceOf(target);
  const { provider, name: root } = environment.sourceOf(directory);
  await requireDirectory(provider, root);
  const skipped: string[] = [];
  const tree = await readTree(root, (path) => listOf(provider, path), {
    signal: environment.signal,
    except: new Set([place.name]),
    onSkipped: (path) => skipped.push(path),
  });
  const facts = factsOf(tree);
  const texts = textsOf(options.label ?? labelOf(root));
  const whole = { ...tree, modifiedMs: facts.newestMs };
  const plan = planIso({
    root: whole,
    texts,
    createdMs: facts.newestMs,
    level: 3,
    joliet: { root: whole, level: 3, texts },
    rockRidge: 'full',
    boot: await bootImages(tree, provider, options),
    catalog: null,
    system: null,
    pad: PAD_BLOCKS,
  });
  const bytes = await IsoBytes.of(plan, (path) => provider.open(path, 'read'));
  const device = new IsoDevice(root, bytes);
  try {
    const { force, onProgress } = options;
    const how = { environment, format: 'raw', type: 'optical', force, onProgress } as const;
    const { warnings } = await convertNew(device, place, how);
    return { size: plan.size, entries: facts.entries, warnings: [...skipped.map(skippedText), ...warnings] };
  } finally {
    await device.close();
  }
}

async function requireDirectory(provider: StorageProvider, path: string): Promise<void> {
  const found = await provider.lookUp(path);
  if (found?.kind === 'directory') return;
  throw new ImageError(found === null ? 'not-found' : 'invalid-argument', 'The files must lie in a directory', {
    path,
    found: found === null ? 'nothing' : `a ${found.kind}`,
  });
}

function listOf(provider: StorageProvider, path: string) {
  if (provider.entries !== undefined) return provider.entries(path);
  throw new ImageError('unsupported', 'The directories of this storage cannot be read', { path });
}

function skippedText(path: string): string {
  return `${path} is neither a file nor a directory nor a link: it is left out.`;
}

/** The last part of a name, in letters that a volume may have. */
function labelOf(root: string): string {
  const base = root.split(/[/\\]/).findLast((part) => part !== '') ?? '';
  return (
    base
      .toUpperCase()
      .replace(/[^A-Z0-9_]/g, '_')
      .slice(0, VOLUME_LETTERS) || 'CDROM'
  );
}

function textsOf(label: string): IsoTexts {
  if (label.length === 0 || label.length > VOLUME_LETTERS) {
    throw new ImageError('invalid-argument', 'The label of the volume is not valid', {
      field: 'label',
      found: `${label.length} letters`,
      expected: `1 to ${VOLUME_LETTERS}`,
    });
  }
  const none = { volumeSet: '', publisher: '', preparer: '', copyright: '', abstract: '', bibliography: '' };
  return { ...none, volume: label, system: '', application: 'VDKIT' };
}

function factsOf(root: IsoNode): { readonly newestMs: number; readonly entries: number } {
  let [newestMs, entries] = [0, -1];
  const waiting = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    newestMs = Math.max(newestMs, node.modifiedMs);
    entries++;
    for (const child of node.children ?? []) waiting.push(child);
  }
  return { newestMs, entries };
}

async function bootImages(tree: IsoNode, provider: StorageProvider, options: CreateIsoOptions): Promise<BootImage[]> {
  const { boot, bootEfi, bootInfoTable = false } = options;
  if (bootInfoTable && boot === undefined) {
    throw new ImageError('invalid-argument', 'A boot information table needs a boot image', { field: 'bootInfoTable' });
  }
  const images: BootImage[] = [];
  const common = { segment: LOAD_SEGMENT, media: 0, bootable: true };
  if (boot !== undefined) {
    const node = fileIn(tree, boot, 'boot');
    const withInfo = bootInfoTable ? await bootBytes(node, provider) : null;
    images.push({ ...common, node, platform: PLATFORM.x86, sectors: LOAD_SECTORS, withInfo });
  }
  if (bootEfi !== undefined) {
    const node = fileIn(tree, bootEfi, 'bootEfi');
    // Firmware that does not look at the file system needs the length; one of 16 bits tells 32 MiB.
    const sectors = Math.min(Math.ceil((node.content?.size ?? 0) / 512), 0xffff);
    images.push({ ...common, segment: 0, node, platform: PLATFORM.efi, sectors, withInfo: null });
  }
  return images;
}

/** The file of that name in the tree; it must not be empty. */
function fileIn(tree: IsoNode, name: string, field: string): IsoNode {
  let node: IsoNode | undefined = tree;
  for (const part of name.split('/').filter((one) => one !== '' && one !== '.')) {
    node = node.children?.find((child) => child.name === part);
    if (node === undefined) break;
  }
  if (node !== undefined && node.content !== null && node.content.size > 0) return node;
  throw new ImageError('not-found', 'The boot image is not among the files', {
    field,
    found: name,
    expected: 'the name of a file, counted from the directory: isolinux/isolinux.bin',
  });
}

async function bootBytes({ content }: IsoNode, provider: StorageProvider): Promise<Uint8Array> {
  const { path, size } = content as HostContent;
  if (size <= ISO_LIMITS.bootBytes && size >= 64) {
    return wholeFile(content as HostContent, (name) => provider.open(name, 'read'));
  }
  throw new ImageError('limit', 'The boot image cannot have a boot information table', {
    path,
    found: `${size} bytes`,
    expected: `64 to ${ISO_LIMITS.bootBytes}`,
  });
}
