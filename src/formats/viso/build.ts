/** The tree of a VISO file: what its command line adds and takes out. */
import { type HostContent, openContent, readTree } from '../../blocks/iso9660/host-tree.ts';
import { stateOf } from '../../blocks/iso9660/storage.ts';
import { type BootImage, ISO_LIMITS, type IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError, withContext } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import type { Addition, BootWish, VisoCommand } from './command.ts';

const ROLE = 'file of the image';

/** Opens a file that the text names, or one that lies in a directory of these. */
export function openHost(files: ImageFiles, path: string): Promise<Storage> {
  return files.open({ name: path, role: ROLE }, 'read').catch((error: unknown) => {
    throw withContext(error, { path });
  });
}

/** Makes the tree. Throws `not-found`, `denied`, `invalid-format`, `limit`. */
export async function buildTree(command: VisoCommand, files: ImageFiles, options: OperationOptions): Promise<IsoNode> {
  const root = directory('');
  for (const addition of command.additions) {
    const { host } = addition;
    if (host === null) remove(root, addition, files.name);
    else await add(root, { ...addition, host }, files, options);
  }
  if ((root.children ?? []).length > 0) return root;
  throw new ImageError('invalid-format', 'The VISO file names no files', { path: files.name });
}

function directory(name: string): IsoNode {
  return { name, modifiedMs: 0, executable: true, children: [], content: null, target: null };
}

async function add(
  root: IsoNode,
  { name, host }: Addition & { readonly host: string },
  files: ImageFiles,
  options: OperationOptions,
): Promise<void> {
  const place = partsOf(name ?? host.replace(/[/\\]+$/, '').replace(/^.*[/\\]/, ''), files.name);
  const listed = await files.entries?.(host);
  if (listed === null || listed === undefined) return put(root, place, await fileNode(host, files), files.name);
  const list = async function* (path: string) {
    const entries = path === host ? listed : await files.entries?.(path);
    if (entries !== null && entries !== undefined) yield* entries;
  };
  const tree = await readTree(host, list, options);
  if (place.length > 0) return put(root, place, { ...tree, name: place.at(-1) ?? '' }, files.name);
  for (const child of tree.children ?? []) put(root, [child.name], child, files.name);
}

async function fileNode(host: string, files: ImageFiles): Promise<IsoNode> {
  const storage = await openHost(files, host);
  try {
    const { key, size, modifiedMs, revision } = await stateOf(storage);
    const content: HostContent = { path: host, key, size, modifiedMs: modifiedMs ?? 0, revision };
    return { name: '', modifiedMs: modifiedMs ?? 0, executable: false, children: null, content, target: null };
  } finally {
    await storage.close();
  }
}

/** Parts of a name in the image. */
function partsOf(name: string, path: string): string[] {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  const length = (part: string): number => new TextEncoder().encode(part).length;
  const isFine = parts.every((part) => part !== '..' && !part.includes('\0') && length(part) <= ISO_LIMITS.nameBytes);
  if (isFine && parts.length <= ISO_LIMITS.depth) return parts;
  throw new ImageError('invalid-format', 'A name of the VISO file is not valid', { path, found: name.slice(0, 80) });
}

/** Puts a node into the tree. Directories are made as needed, and those that are there get what is new. */
function put(root: IsoNode, place: readonly string[], node: IsoNode, path: string): void {
  const parent = parentOf(root, place, path, true);
  const name = place.at(-1);
  if (parent?.children === null || parent === null || name === undefined) {
    throw new ImageError('invalid-format', 'A file of the VISO file has no name in the image', {
      path,
      found: node.content === null ? node.name : (node.content as HostContent).path,
      hint: 'Only the content of a directory can be added as /.',
    });
  }
  const before = parent.children.findIndex((child) => child.name === name);
  const old = parent.children[before];
  if (old === undefined) parent.children.push({ ...node, name });
  else if (old.children !== null && node.children !== null) {
    for (const child of node.children) put(old, [child.name], child, path);
  } else parent.children[before] = { ...node, name };
}

function parentOf(root: IsoNode, place: readonly string[], path: string, makes: boolean): IsoNode | null {
  let parent = root;
  for (const part of place.slice(0, -1)) {
    let next = parent.children?.find((child) => child.name === part);
    if (next === undefined) {
      if (!makes) return null;
      next = directory(part);
      parent.children?.push(next);
    }
    if (next.children === null) {
      const found = place.join('/').slice(0, 80);
      throw new ImageError('invalid-format', 'A name of the VISO file leads through a file', { path, found });
    }
    parent = next;
  }
  return parent;
}

function remove(root: IsoNode, { name, must }: Addition, path: string): void {
  const place = partsOf(name ?? '', path);
  const parent = parentOf(root, place, path, false);
  const at = parent?.children?.findIndex((child) => child.name === place.at(-1)) ?? -1;
  if (at >= 0) parent?.children?.splice(at, 1);
  else if (must)
    throw new ImageError('not-found', 'The VISO file removes a name that is not there', { path, found: name ?? '' });
}

/** The boot images, which are files of the tree. */
export async function bootImages(tree: IsoNode, { boot }: VisoCommand, files: ImageFiles): Promise<BootImage[]> {
  const images: BootImage[] = [];
  for (const wish of boot) {
    if (wish.file === null) {
      throw new ImageError('invalid-format', 'The VISO file has options for a boot image, and no boot image', {
        path: files.name,
        expected: 'an option -b or -e with the name of a file in the image',
      });
    }
    images.push(await bootImage(tree, wish, wish.file, files));
  }
  return images;
}

async function bootImage(tree: IsoNode, wish: BootWish, file: string, files: ImageFiles): Promise<BootImage> {
  const node = partsOf(file, files.name).reduce<IsoNode | undefined>(
    (parent, part) => parent?.children?.find((child) => child.name === part),
    tree,
  );
  if (node === undefined || node.content === null || node.content.size === 0) {
    throw new ImageError('not-found', 'The boot image is not among the files', {
      path: files.name,
      found: file.slice(0, 80),
    });
  }
  const { platform, segment, media, infoTable } = wish;
  const size = node.content.size;
  const sectors = wish.sectors ?? (platform === 'efi' ? Math.min(Math.ceil(size / 512), 0xffff) : 4);
  const withInfo = infoTable ? await wholeFile(node.content as HostContent, files) : null;
  return { node, platform, sectors, segment: platform === 'efi' ? 0 : segment, media, withInfo };
}

async function wholeFile(content: HostContent, files: ImageFiles): Promise<Uint8Array> {
  const { path, size } = content;
  if (size > ISO_LIMITS.bootBytes || size < 64) {
    throw new ImageError('limit', 'The boot image cannot have a boot information table', { path, found: size });
  }
  const storage = await openContent(content, (name) => openHost(files, name));
  try {
    const bytes = new Uint8Array(size);
    await storage.read(0, bytes);
    return bytes;
  } finally {
    await storage.close();
  }
}
