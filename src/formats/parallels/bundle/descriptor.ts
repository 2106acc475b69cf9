/**
 * DiskDescriptor.xml of a Parallels bundle: the size of the disk, its parts, the image of each snapshot in each part, and
 * the tree of snapshots. All of it comes from a file, so all of it is checked.
 */
import type { XmlElement } from '@rgrove/parse-xml';
import { SECTOR } from '../../../binary/numbers.ts';
import { ImageError, printable } from '../../../errors.ts';
import { LIMITS } from '../../../limits.ts';
import { DESCRIPTOR, DESCRIPTOR_ROOT } from '../layout.ts';
import { BUNDLE_LIMITS } from './limits.ts';
import { elementOf, elementsOf, parseDocument } from './xml.ts';

/** The image that is written, unless the descriptor names another one. */
export const DEFAULT_TOP = '5fbaabe3-6958-40ff-92a7-860e329aab41';
/** The image of a backup, which is never written. */
const BACKUP = '704718e1-2314-44c8-9087-d78ed36b0f4e';
/** The parent of the root. */
export const NO_PARENT = '00000000-0000-0000-0000-000000000000';
const VERSION = '1.0';
const GUID = /^\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?$/;

/** The two kinds of files. "Compressed" has nothing to do with compression. */
export type FileType = 'Plain' | 'Compressed';

/** One file: the image of a snapshot in a part of the disk. */
export interface BundleFile {
  readonly type: FileType;
  /** As it is stored. */
  readonly file: string;
  readonly element: XmlElement;
}

/** A part of the disk, in sectors. */
export interface BundlePart {
  readonly start: number;
  readonly end: number;
  /** Sectors of a cluster in its expandable images. */
  readonly blocksize: number;
  /** By the GUID of the snapshot. */
  readonly files: ReadonlyMap<string, BundleFile>;
  readonly element: XmlElement;
}

/** A snapshot. */
export interface Shot {
  /** Null: the root. */
  readonly parent: string | null;
  readonly element: XmlElement;
}

/** A descriptor that was checked. */
export interface Descriptor {
  readonly path: string;
  /** The text, without a byte order mark and carriage returns. */
  readonly text: string;
  /** Sectors. */
  readonly size: number;
  readonly geometry: { readonly cylinders: number; readonly heads: number; readonly sectors: number } | null;
  /** In the order of the disk, without gaps. */
  readonly parts: readonly BundlePart[];
  /** By GUID. */
  readonly shots: ReadonlyMap<string, Shot>;
  /** The snapshot that is written. */
  readonly top: string;
  readonly root: XmlElement;
}

/** Reads a descriptor from its bytes. Throws `corrupt`, `unsupported`, `limit`. */
export function parseDescriptor(bytes: Uint8Array, path: string): Descriptor {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ImageError('corrupt', 'The descriptor is not UTF-8 text', { path });
  }
  return parseText(text.replaceAll(/\r\n?/g, '\n'), path);
}

/** Reads a descriptor from its text. */
export function parseText(text: string, path: string): Descriptor {
  const root = parseDocument(text, path);
  if (root.name !== DESCRIPTOR_ROOT) throw damaged(path, 'root element', root.name, DESCRIPTOR_ROOT);
  const version = root.attributes['Version'];
  if (version !== VERSION) {
    throw new ImageError('unsupported', 'The version of the descriptor is not supported', {
      path,
      found: printable(version ?? 'none'),
      expected: VERSION,
    });
  }
  const facts = parametersOf(required(root, 'Disk_Parameters', path), path);
  const parts = partsOf(required(root, 'StorageData', path), facts.size, path);
  const snapshots = required(root, 'Snapshots', path);
  const shots = shotsOf(snapshots, path);
  checkTree(shots, path);
  const top = topOf(snapshots, shots, path);
  const descriptor = { path, text, ...facts, parts, shots, top, root };
  checkNames(descriptor);
  for (const id of chainOf(descriptor, top)) checkFiles(descriptor, id);
  return descriptor;
}

function parametersOf(parameters: XmlElement, path: string): Pick<Descriptor, 'size' | 'geometry'> {
  const size = numberIn(parameters, 'Disk_size', path);
  if (size === 0 || size > Math.floor(LIMITS.virtualSize / SECTOR))
    throw damaged(path, 'Disk_size', size, 'a disk size');
  if (elementOf(parameters, 'Padding', path) !== null) {
    const padding = numberIn(parameters, 'Padding', path);
    if (padding !== 0) {
      throw new ImageError('unsupported', 'The disk has padding, which is not supported', {
        path,
        field: 'Padding',
        found: padding,
        expected: 0,
      });
    }
  }
  refuseEncrypted(parameters, path);
  const [cylinders, heads, sectors] = ['Cylinders', 'Heads', 'Sectors'].map((name) =>
    elementOf(parameters, name, path) === null ? null : numberIn(parameters, name, path),
  );
  const whole = typeof cylinders === 'number' && typeof heads === 'number' && typeof sectors === 'number';
  return { size, geometry: whole ? { cylinders, heads, sectors } : null };
}

function refuseEncrypted(parameters: XmlElement, path: string): void {
  const encryption = elementOf(parameters, 'Encryption', path);
  const engine = encryption === null ? null : elementOf(encryption, 'Engine', path);
  const found = engine?.text.trim() ?? '';
  if (found === '' || guidOf(found) === NO_PARENT) return;
  throw new ImageError('unsupported', 'The disk is encrypted, which is not supported', {
    path,
    field: 'Encryption',
    found: printable(found),
    hint: 'Remove the encryption with the program that made the disk.',
  });
}

function partsOf(data: XmlElement, size: number, path: string): BundlePart[] {
  const elements = elementsOf(data, 'Storage');
  refuseMany(elements.length, 'Storage', path);
  const parts = elements.map((one) => partOf(one, path)).sort((a, b) => a.start - b.start);
  let end = 0;
  for (const part of parts) {
    if (part.start !== end) throw damaged(path, 'Start', part.start, `${end}, where the part before it ends`);
    if (part.end <= part.start) throw damaged(path, 'End', part.end, `more than its Start, ${part.start}`);
    end = part.end;
  }
  if (end !== size) throw damaged(path, 'End of the last Storage', end, `Disk_size, ${size}`);
  return parts;
}

function partOf(storage: XmlElement, path: string): BundlePart {
  const images = elementsOf(storage, 'Image');
  refuseMany(images.length, 'Image', path);
  const files = new Map<string, BundleFile>();
  for (const image of images) {
    const id = guidIn(image, 'GUID', path);
    if (files.has(id)) throw damaged(path, 'Image/GUID', `{${id}} twice in one Storage`, 'one image of each snapshot');
    files.set(id, { type: typeIn(image, path), file: fileIn(image, path), element: image });
  }
  const [start, end, blocksize] = ['Start', 'End', 'Blocksize'].map((name) => numberIn(storage, name, path));
  return { start: start ?? 0, end: end ?? 0, blocksize: blocksize ?? 0, files, element: storage };
}

function typeIn(image: XmlElement, path: string): FileType {
  const type = textIn(image, 'Type', path);
  if (type === 'Plain' || type === 'Compressed') return type;
  throw new ImageError('unsupported', 'An image of the bundle has a type that is not supported', {
    path,
    field: 'Image/Type',
    found: printable(type),
    expected: 'Plain or Compressed',
  });
}

function fileIn(image: XmlElement, path: string): string {
  const file = textIn(image, 'File', path);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no file has such a name
  if (file !== '' && !/[\u0000-\u001f]/.test(file)) return file;
  throw damaged(path, 'Image/File', printable(file), 'the name of a file');
}

function shotsOf(snapshots: XmlElement, path: string): Map<string, Shot> {
  const elements = elementsOf(snapshots, 'Shot');
  refuseMany(elements.length, 'Shot', path);
  const shots = new Map<string, Shot>();
  for (const shot of elements) {
    const id = guidIn(shot, 'GUID', path);
    if (id === NO_PARENT) throw damaged(path, 'Shot/GUID', `{${id}}`, 'a GUID that is not zero');
    if (shots.has(id)) throw damaged(path, 'Shot/GUID', `{${id}} twice`, 'each snapshot once');
    const parent = guidIn(shot, 'ParentGUID', path);
    shots.set(id, { parent: parent === NO_PARENT ? null : parent, element: shot });
  }
  return shots;
}

/** Throws unless the snapshots form one tree. */
function checkTree(shots: ReadonlyMap<string, Shot>, path: string): void {
  const roots = [...shots].filter(([, { parent }]) => parent === null);
  if (roots.length !== 1) throw damaged(path, 'Snapshots', `${roots.length} without a parent`, 'one root');
  for (const [id, { parent }] of shots) {
    if (parent !== null && !shots.has(parent)) {
      throw damaged(path, 'Shot/ParentGUID', `{${parent}} of {${id}}`, 'a snapshot of the list');
    }
  }
  // With one root, what cannot be reached from there runs in a circle.
  const reached = new Set<string | null>([null]);
  const waiting = new Map<string | null, string[]>();
  for (const [id, { parent }] of shots) waiting.set(parent, [...(waiting.get(parent) ?? []), id]);
  for (const id of reached) for (const child of waiting.get(id) ?? []) reached.add(child);
  const lost = [...shots.keys()].find((id) => !reached.has(id));
  if (lost !== undefined) throw damaged(path, 'Shot/ParentGUID', `a circle with {${lost}}`, 'a tree');
}

function topOf(snapshots: XmlElement, shots: ReadonlyMap<string, Shot>, path: string): string {
  const named = elementOf(snapshots, 'TopGUID', path);
  const top = named === null ? DEFAULT_TOP : guidIn(snapshots, 'TopGUID', path);
  if (top === BACKUP) throw damaged(path, 'TopGUID', `{${top}}, a backup`, 'the snapshot that is written');
  if (shots.has(top)) return top;
  throw damaged(
    path,
    'TopGUID',
    named === null ? `none, and no snapshot {${top}}` : `{${top}}`,
    'a snapshot of the list',
  );
}

/** Throws unless a snapshot has a file in each part, of a type that it can have. */
function checkFiles({ parts, shots, path }: Pick<Descriptor, 'parts' | 'shots' | 'path'>, id: string): void {
  for (const { files, start, blocksize } of parts) {
    const file = files.get(id);
    if (file === undefined) throw damaged(path, 'Image', `none of {${id}} in the Storage from ${start}`, 'one');
    if (file.type === 'Compressed') {
      const fits = blocksize > 0 && blocksize * SECTOR <= LIMITS.blockSizeMax;
      if (!fits) throw damaged(path, 'Blocksize', blocksize, 'sectors of a cluster');
    } else if (shots.get(id)?.parent !== null) {
      throw damaged(path, 'Image/Type', `Plain in {${id}}, which has a parent`, 'Compressed');
    }
  }
}

/** Throws where a file is that of two images, or the descriptor: what is written to one would change the other. */
function checkNames({ parts, path }: Pick<Descriptor, 'parts' | 'path'>): void {
  const names = new Set([DESCRIPTOR]);
  for (const { files } of parts) {
    for (const { file } of files.values()) {
      const name = nameInside(file);
      if (names.has(name)) throw damaged(path, 'Image/File', `${printable(name)} twice`, 'a file of each image');
      names.add(name);
    }
  }
}

/** A snapshot and those below it, itself first. */
export function chainOf({ shots }: Pick<Descriptor, 'shots'>, id: string): string[] {
  const chain: string[] = [];
  for (let at: string | null = id; at !== null; at = shots.get(at)?.parent ?? null) chain.push(at);
  return chain;
}

/** The name of a file in the bundle, for a stored name. */
export function nameInside(stored: string): string {
  const isPath = /^[/\\]|^[a-z]:|(?:^|[/\\])\.\.?(?:[/\\]|$)/i.test(stored);
  return isPath ? (stored.split(/[/\\]/).at(-1) ?? stored) : stored;
}

/** Snapshots that are made from another one. */
export function childrenOf({ shots }: Pick<Descriptor, 'shots'>, id: string): string[] {
  return [...shots].flatMap(([child, { parent }]) => (parent === id ? [child] : []));
}

function required(parent: XmlElement, name: string, path: string): XmlElement {
  const found = elementOf(parent, name, path);
  if (found !== null) return found;
  throw damaged(path, `${parent.name}/${name}`, 'nothing', 'one element');
}

function textIn(parent: XmlElement, name: string, path: string): string {
  return required(parent, name, path).text.trim();
}

function numberIn(parent: XmlElement, name: string, path: string): number {
  const text = textIn(parent, name, path);
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw damaged(path, `${parent.name}/${name}`, printable(text.slice(0, 40)), 'a number');
}

function guidIn(parent: XmlElement, name: string, path: string): string {
  const text = textIn(parent, name, path);
  const guid = guidOf(text);
  if (guid !== null) return guid;
  throw damaged(path, `${parent.name}/${name}`, printable(text.slice(0, 60)), 'a GUID');
}

function guidOf(text: string): string | null {
  return GUID.exec(text.toLowerCase())?.[1] ?? null;
}

function refuseMany(count: number, what: string, path: string): void {
  if (count <= BUNDLE_LIMITS.entries) return;
  throw new ImageError('limit', `The descriptor has too many elements ${what}`, {
    path,
    found: count,
    expected: `at most ${BUNDLE_LIMITS.entries}`,
  });
}

function damaged(path: string, field: string, found: string | number, expected: string | number): ImageError {
  return new ImageError('corrupt', 'The descriptor of the bundle is not valid', {
    path,
    field,
    found,
    expected,
    hint: 'Restore DiskDescriptor.xml, or correct it in an editor.',
  });
}
