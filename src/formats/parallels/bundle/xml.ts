/** XML of descriptors: parsed by a library, with places of elements in the text, so that a change leaves the rest as it is. */
import { parseXml, XmlElement } from '@rgrove/parse-xml';
import { ImageError, printable } from '../../../errors.ts';
import { BUNDLE_LIMITS } from './limits.ts';

/** A document type declares entities, which descriptors have no use for. */
const DECLARATION = /<!(?:DOCTYPE|ENTITY)/i;

/**
 * Parses a document. Returns its root, whose offsets count in the given text, which has no byte order mark and no carriage
 * returns. Throws `corrupt`, `unsupported` for a document type, `limit`.
 */
export function parseDocument(text: string, path: string): XmlElement {
  if (DECLARATION.test(text)) {
    throw new ImageError('unsupported', 'The descriptor declares a document type, which is not accepted', {
      path,
      hint: 'Remove the declaration: a descriptor needs none.',
    });
  }
  const root = rootOf(text, path);
  refuseDepth(root, path);
  return root;
}

function rootOf(text: string, path: string): XmlElement {
  try {
    const { root } = parseXml(text, { includeOffsets: true });
    if (root !== null) return root;
  } catch (error) {
    // Elements inside each other, ten thousands deep.
    if (error instanceof RangeError) throw tooDeep(path);
    throw new ImageError('corrupt', 'The descriptor is not well-formed XML', {
      path,
      found: printable(firstLine(error)),
      hint: 'Restore DiskDescriptor.xml, or open the disk files in the directory one by one.',
    });
  }
  throw new ImageError('corrupt', 'The descriptor has no content', { path });
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n', 1)[0] ?? '';
}

function refuseDepth(root: XmlElement, path: string): void {
  let level = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > BUNDLE_LIMITS.depth) throw tooDeep(path);
    level = level.flatMap(elementsIn);
  }
}

function tooDeep(path: string): ImageError {
  return new ImageError('limit', 'The elements of the descriptor are nested too deeply', {
    path,
    expected: `at most ${BUNDLE_LIMITS.depth} levels`,
  });
}

/** Elements directly inside another one. */
export function elementsIn({ children }: XmlElement): XmlElement[] {
  return children.filter((child): child is XmlElement => child instanceof XmlElement);
}

/** Elements of a name directly inside another one. */
export function elementsOf(parent: XmlElement, name: string): XmlElement[] {
  return elementsIn(parent).filter((child) => child.name === name);
}

/** The only element of a name; null for none. Throws `corrupt` for several. */
export function elementOf(parent: XmlElement, name: string, path: string): XmlElement | null {
  const [first, second] = elementsOf(parent, name);
  if (second === undefined) return first ?? null;
  throw new ImageError('corrupt', 'An element of the descriptor occurs twice', {
    path,
    field: `${parent.name}/${name}`,
  });
}

/** Replacement of a stretch of text. */
export interface Splice {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The text with stretches replaced, which do not overlap. */
export function spliced(text: string, splices: readonly Splice[]): string {
  let result = text;
  for (const { start, end, text: other } of [...splices].sort((a, b) => b.start - a.start)) {
    result = result.slice(0, start) + other + result.slice(end);
  }
  return result;
}

/** The removal of an element, with the space before it. */
export function removal(text: string, { start, end }: XmlElement): Splice {
  let from = start;
  while (from > 0 && /\s/.test(text[from - 1] ?? '')) from--;
  return { start: from, end, text: '' };
}

/** A new element behind another one, in a line of equal indentation. */
export function insertion(text: string, after: XmlElement, element: string): Splice {
  return { start: after.end, end: after.end, text: `${spaceBefore(text, after)}${element}` };
}

function spaceBefore(text: string, { start }: XmlElement): string {
  return /\s*$/.exec(text.slice(Math.max(0, start - 100), start))?.[0] ?? '';
}

/** An element with text. */
export function element(name: string, content: string): string {
  return `<${name}>${escaped(content)}</${name}>`;
}

/** Text as it stands in a document. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
