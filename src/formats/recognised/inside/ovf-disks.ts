/** OVF (DMTF DSP0243): the disks that the description of an appliance names. */
import { parseXml, XmlElement } from '@rgrove/parse-xml';
import { ImageError, printable } from '../../../errors.ts';

/** A disk by its description. */
export interface DescribedDisk {
  /** Name of its file, relative to the description. */
  readonly href: string;
  readonly compression: string;
  /** It is split into files of this many bytes; undefined: it is one file. */
  readonly chunkSize: string | undefined;
  /** It has the changes of another disk alone. */
  readonly hasParent: boolean;
}

/** Bounds against hostile descriptions. */
export const OVF_LIMITS = { bytes: 4 * 1024 * 1024, depth: 64 } as const;

const DECLARATION = /<!(?:DOCTYPE|ENTITY)/i;

/** The disks that have files, each file once. Throws `corrupt`, `unsupported`, `limit`. */
export function describedDisks(bytes: Uint8Array, path: string): DescribedDisk[] {
  const all = elementsOf(parse(new TextDecoder().decode(bytes), path), path);
  const files = new Map<string, XmlElement>();
  for (const file of all) if (isNamed(file, 'File')) files.set(attribute(file, 'id') ?? '', file);
  const disks = new Map<string, DescribedDisk>();
  for (const disk of all) {
    const reference = isNamed(disk, 'Disk') ? attribute(disk, 'fileRef') : undefined;
    if (reference === undefined) continue;
    const file = files.get(reference);
    const href = file === undefined ? undefined : attribute(file, 'href');
    if (file === undefined || href === undefined) {
      throw wrong(path, 'Disk@fileRef', reference, 'the id of a File with an href');
    }
    disks.set(href, {
      href,
      compression: attribute(file, 'compression') ?? '',
      chunkSize: attribute(file, 'chunkSize'),
      hasParent: (attribute(disk, 'parentRef') ?? '') !== '',
    });
  }
  return [...disks.values()];
}

function parse(text: string, path: string): XmlElement {
  if (DECLARATION.test(text)) {
    throw new ImageError('unsupported', 'The OVF declares entities or a document type, which is not accepted', {
      path,
    });
  }
  try {
    const { root } = parseXml(text);
    if (root !== null && isNamed(root, 'Envelope')) return root;
  } catch (error) {
    // Elements inside each other, ten thousands deep.
    if (error instanceof RangeError) throw tooDeep(path);
    const [found = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1);
    throw wrong(path, 'OVF', found, 'well-formed XML');
  }
  throw wrong(path, 'OVF', 'another document', 'an Envelope');
}

/** All elements, level by level. */
function elementsOf(root: XmlElement, path: string): readonly XmlElement[] {
  const all: XmlElement[] = [];
  let level = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > OVF_LIMITS.depth) throw tooDeep(path);
    for (const one of level) all.push(one);
    level = level.flatMap(({ children }) => children.filter((child) => child instanceof XmlElement));
  }
  return all;
}

function isNamed({ name }: XmlElement, local: string): boolean {
  return localName(name) === local;
}

/** The value of an attribute in any namespace. */
function attribute({ attributes }: XmlElement, local: string): string | undefined {
  return Object.entries(attributes).find(([name]) => localName(name) === local)?.[1];
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

function tooDeep(path: string): ImageError {
  return new ImageError('limit', 'The OVF has elements inside each other too deep', {
    path,
    expected: `at most ${OVF_LIMITS.depth} levels`,
  });
}

function wrong(path: string, field: string, found: string, expected: string): ImageError {
  return new ImageError('corrupt', 'The OVF of the archive cannot be read', {
    path,
    field,
    found: printable(found),
    expected,
  });
}
