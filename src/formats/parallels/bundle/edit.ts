/** Changes of a descriptor: each gives a new text, in which everything else stays as it is, and checks it like one from a file. */
import { assert, ImageError } from '../../../errors.ts';
import { type Descriptor, NO_PARENT, parseText } from './descriptor.ts';
import { element, elementOf, elementsOf, escaped, insertion, removal, type Splice, spliced } from './xml.ts';

const INDENT = '    ';

/** A new disk. */
export interface NewDisk {
  /** Sectors. */
  readonly size: number;
  readonly geometry: { readonly cylinders: number; readonly heads: number; readonly sectors: number };
  /** Sectors of a cluster. */
  readonly blocksize: number;
  readonly id: string;
  readonly file: string;
}

/** The descriptor of a new disk with one image. */
export function newText({ size, geometry, blocksize, id, file }: NewDisk): string {
  const { cylinders, heads, sectors } = geometry;
  const lines = [
    "<?xml version='1.0' encoding='UTF-8'?>",
    '<Parallels_disk_image Version="1.0">',
    `${INDENT}<Disk_Parameters>`,
    ...numbers(2, { Disk_size: size, Cylinders: cylinders, Heads: heads, Sectors: sectors, Padding: 0 }),
    `${INDENT}</Disk_Parameters>`,
    `${INDENT}<StorageData>`,
    `${INDENT.repeat(2)}<Storage>`,
    ...numbers(3, { Start: 0, End: size, Blocksize: blocksize }),
    `${INDENT.repeat(3)}${imageElement(id, file)}`,
    `${INDENT.repeat(2)}</Storage>`,
    `${INDENT}</StorageData>`,
    `${INDENT}<Snapshots>`,
    `${INDENT.repeat(2)}${shotElement(id, null)}`,
    `${INDENT}</Snapshots>`,
    '</Parallels_disk_image>',
  ];
  return `${lines.join('\n')}\n`;
}

function numbers(depth: number, values: Readonly<Record<string, number>>): string[] {
  return Object.entries(values).map(([name, value]) => `${INDENT.repeat(depth)}${element(name, String(value))}`);
}

function braced(id: string | null): string {
  return `{${id ?? NO_PARENT}}`;
}

function imageElement(id: string, file: string): string {
  return `<Image>${element('GUID', braced(id))}${element('Type', 'Compressed')}${element('File', file)}</Image>`;
}

function shotElement(id: string, parent: string | null): string {
  return `<Shot>${element('GUID', braced(id))}${element('ParentGUID', braced(parent))}</Shot>`;
}

/** A new snapshot over the top, which takes its place. Throws `unsupported` for a disk of several parts. */
export function withShot(descriptor: Descriptor, id: string, file: string): Descriptor {
  const { text, parts, shots, top } = descriptor;
  const [part, second] = parts;
  if (part === undefined || second !== undefined) throw split(descriptor);
  const lastImage = [...part.files.values()].at(-1)?.element;
  const lastShot = [...shots.values()].at(-1)?.element;
  assert(lastImage !== undefined && lastShot !== undefined, 'a checked descriptor has an image and a snapshot');
  return changed(descriptor, [
    insertion(text, lastImage, imageElement(id, file)),
    insertion(text, lastShot, shotElement(id, top)),
    ...topped(descriptor, id),
  ]);
}

/**
 * Without some snapshots. Those that were made from them get the nearest one that stays as their parent; so does the disk
 * that is written.
 */
export function withoutShots(descriptor: Descriptor, ids: ReadonlySet<string>): Descriptor {
  const { text, parts, shots, top } = descriptor;
  const nearest = (from: string | null): string | null => {
    let at = from;
    while (at !== null && ids.has(at)) at = shots.get(at)?.parent ?? null;
    return at;
  };
  const splices: Splice[] = [];
  for (const [id, { parent, element: shot }] of shots) {
    if (ids.has(id)) splices.push(removal(text, shot));
    else if (nearest(parent) !== parent) splices.push(reparented(descriptor, id, nearest(parent)));
  }
  for (const { files } of parts) {
    for (const [id, { element: image }] of files) if (ids.has(id)) splices.push(removal(text, image));
  }
  const stays = nearest(top);
  assert(stays !== null, 'the root stays, or what was made from it is written');
  return changed(descriptor, [...splices, ...(stays === top ? [] : topped(descriptor, stays))]);
}

/** With another parent for a snapshot. */
export function withParent(descriptor: Descriptor, id: string, parent: string): Descriptor {
  return changed(descriptor, [reparented(descriptor, id, parent)]);
}

/** With another size of the disk, which has one part. */
export function withSize(descriptor: Descriptor, size: number, geometry: NewDisk['geometry']): Descriptor {
  const { root, path, parts } = descriptor;
  const [part] = parts;
  const parameters = elementOf(root, 'Disk_Parameters', path);
  assert(part !== undefined && parameters !== null, 'a checked descriptor has a part');
  const { cylinders, heads, sectors } = geometry;
  const values = { Disk_size: size, Cylinders: cylinders, Heads: heads, Sectors: sectors };
  const splices = Object.entries(values).flatMap(([name, value]) => {
    const found = elementOf(parameters, name, path);
    return found === null ? [] : [replacement(found.name, found, String(value))];
  });
  const end = elementOf(part.element, 'End', path);
  assert(end !== null, 'a checked part has an end');
  return changed(descriptor, [...splices, replacement('End', end, String(size))]);
}

function reparented({ shots, path }: Descriptor, id: string, parent: string | null): Splice {
  const shot = shots.get(id)?.element;
  const old = shot === undefined ? null : elementOf(shot, 'ParentGUID', path);
  assert(old !== null, 'a checked snapshot names its parent');
  return replacement('ParentGUID', old, braced(parent));
}

function topped({ root, shots, text, path }: Descriptor, id: string): Splice[] {
  const snapshots = elementOf(root, 'Snapshots', path);
  const [first] = shots.values();
  assert(snapshots !== null && first !== undefined, 'a checked descriptor has snapshots');
  const old = elementOf(snapshots, 'TopGUID', path);
  if (old !== null) return [replacement('TopGUID', old, braced(id))];
  const { start } = elementsOf(snapshots, 'Shot')[0] ?? first.element;
  const space = /\s*$/.exec(text.slice(0, start))?.[0] ?? '';
  return [{ start, end: start, text: `${element('TopGUID', braced(id))}${space}` }];
}

function replacement(
  name: string,
  { start, end }: { readonly start: number; readonly end: number },
  value: string,
): Splice {
  return { start, end, text: `<${name}>${escaped(value)}</${name}>` };
}

function changed(descriptor: Descriptor, splices: readonly Splice[]): Descriptor {
  return parseText(spliced(descriptor.text, splices), descriptor.path);
}

function split({ path, parts }: Descriptor): ImageError {
  return new ImageError('unsupported', 'The disk lies in several parts, over which no image can be made', {
    path,
    found: `${parts.length} parts`,
    expected: 'one',
    hint: 'Convert the disk into a bundle of one part (convert --variant bundle).',
  });
}
