/**
 * Apple's property lists in XML: dictionaries of keys and values. The document type that every property list names is
 * skipped: nothing is fetched, and no entities are declared.
 */
import { parseXml, XmlElement } from '@rgrove/parse-xml';
import { ImageError, printable } from '../errors.ts';

const DOCTYPE = /<!DOCTYPE\s[^<>[\]]*>/;
const DECLARATION = /<!(?:DOCTYPE|ENTITY)/i;
const END = '</plist>';

/** A property list, for messages. */
export interface PlistPlace {
  readonly path: string;
  /** The beginning of a sentence: `The property list of the DMG`. */
  readonly what: string;
  /** Elements inside each other that are accepted. */
  readonly depth: number;
}

/** Parses a property list, up to its end: what follows is ignored. Throws `corrupt`, `unsupported`, `limit`. */
export function parsePlist(bytes: Uint8Array, place: PlistPlace): XmlElement {
  const { path, what, depth: most } = place;
  const text = textOf(bytes, place);
  if (DECLARATION.test(text)) {
    throw new ImageError('unsupported', `${what} declares entities, which is not accepted`, { path });
  }
  let root: XmlElement | null;
  try {
    ({ root } = parseXml(text));
  } catch (error) {
    // Elements inside each other, ten thousands deep.
    if (error instanceof RangeError) throw tooDeep(place);
    const [found = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1);
    throw plistError(place, 'property list', printable(found), 'well-formed XML');
  }
  if (root?.name !== 'plist') throw plistError(place, 'property list', 'another document', 'a plist');
  let level = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > most) throw tooDeep(place);
    level = level.flatMap(plistElements);
  }
  return root;
}

function textOf(bytes: Uint8Array, place: PlistPlace): string {
  const text = new TextDecoder().decode(bytes);
  const end = text.lastIndexOf(END);
  if (end < 0) throw plistError(place, 'property list', 'no end', END);
  return text.slice(0, end + END.length).replace(DOCTYPE, '');
}

/** Elements directly inside another one. */
export function plistElements({ children }: XmlElement): XmlElement[] {
  return children.filter((child): child is XmlElement => child instanceof XmlElement);
}

/** The dictionary that a property list consists of. */
export function plistTop(root: XmlElement): XmlElement | undefined {
  return plistElements(root).find(({ name }) => name === 'dict');
}

/** The value behind a key of a dictionary. */
export function plistEntry(dictionary: XmlElement, key: string): XmlElement | undefined {
  const inside = plistElements(dictionary);
  const at = inside.findIndex((element) => element.name === 'key' && element.text.trim() === key);
  return at < 0 ? undefined : inside[at + 1];
}

function tooDeep({ path, depth }: PlistPlace): ImageError {
  return new ImageError('limit', 'The elements of the property list are nested too deeply', {
    path,
    expected: `at most ${depth} levels`,
  });
}

/** A property list that cannot be right. */
export function plistError({ path, what }: PlistPlace, field: string, found: string, expected: string): ImageError {
  return new ImageError('corrupt', `${what} is damaged`, { path, field, found, expected });
}
