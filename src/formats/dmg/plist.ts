/**
 * The block tables in a property list: `resource-fork`, in it `blkx`, an array of dictionaries with a name and base64 data.
 * The document type that every property list names is skipped: nothing is fetched, and no entities are declared.
 */
import { parseXml, XmlElement } from '@rgrove/parse-xml';
import { ImageError, printable } from '../../errors.ts';
import { DMG_LIMITS } from './layout.ts';
import type { NamedTable } from './tables.ts';

const DOCTYPE = /<!DOCTYPE\s[^<>[\]]*>/;
const DECLARATION = /<!(?:DOCTYPE|ENTITY)/i;
const END = '</plist>';

/** The block tables of a property list, in its order. Throws `corrupt`, `unsupported`, `limit`. */
export function tablesIn(bytes: Uint8Array, path: string): NamedTable[] {
  const root = parse(textOf(bytes, path), path);
  const top = elements(root).find(({ name }) => name === 'dict');
  const fork = top === undefined ? undefined : entryOf(top, 'resource-fork');
  const list = fork === undefined ? undefined : entryOf(fork, 'blkx');
  if (list === undefined) return [];
  return elements(list).map((entry, index) => {
    const data = entryOf(entry, 'Data');
    const name = entryOf(entry, 'Name') ?? entryOf(entry, 'CFName');
    if (data === undefined) throw wrong(path, `blkx ${index}`, 'no Data', 'a block table');
    return { name: name?.text.trim() ?? '', bytes: decodeBase64(data.text, index, path) };
  });
}

/** The stored length may run past the end of the document. */
function textOf(bytes: Uint8Array, path: string): string {
  const text = new TextDecoder().decode(bytes);
  const end = text.lastIndexOf(END);
  if (end < 0) throw wrong(path, 'property list', 'no end', END);
  return text.slice(0, end + END.length).replace(DOCTYPE, '');
}

function parse(text: string, path: string): XmlElement {
  if (DECLARATION.test(text)) {
    throw new ImageError('unsupported', 'The property list of the DMG declares entities, which is not accepted', {
      path,
    });
  }
  let root: XmlElement | null;
  try {
    ({ root } = parseXml(text));
  } catch (error) {
    // Elements inside each other, ten thousands deep.
    if (error instanceof RangeError) throw tooDeep(path);
    const [found = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1);
    throw wrong(path, 'property list', printable(found), 'well-formed XML');
  }
  if (root?.name !== 'plist') throw wrong(path, 'property list', 'another document', 'a plist');
  let level = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > DMG_LIMITS.depth) throw tooDeep(path);
    level = level.flatMap(elements);
  }
  return root;
}

/** Elements directly inside another one. */
function elements({ children }: XmlElement): XmlElement[] {
  return children.filter((child): child is XmlElement => child instanceof XmlElement);
}

/** The value behind a key of a dictionary. */
function entryOf(dictionary: XmlElement, key: string): XmlElement | undefined {
  const inside = elements(dictionary);
  const at = inside.findIndex((element) => element.name === 'key' && element.text.trim() === key);
  return at < 0 ? undefined : inside[at + 1];
}

function decodeBase64(text: string, index: number, path: string): Uint8Array {
  const compact = text.replace(/\s+/g, '');
  try {
    return Uint8Array.from(atob(compact), (letter) => letter.charCodeAt(0));
  } catch {
    throw wrong(path, `blkx ${index}`, 'other letters', 'base64');
  }
}

function tooDeep(path: string): ImageError {
  return new ImageError('limit', 'The elements of the property list are nested too deeply', {
    path,
    expected: `at most ${DMG_LIMITS.depth} levels`,
  });
}

function wrong(path: string, field: string, found: string, expected: string): ImageError {
  const message = 'The property list of the DMG, which says where the disk lies, is damaged';
  return new ImageError('corrupt', message, { path, field, found, expected });
}
