/**
 * The text of a descriptor, kept line by line: what is not understood stays as it was, byte for byte.
 *
 * Three sections in this order: header (`key=value`), extents, and the disk database (`ddb.key = "value"`). Keys are
 * compared without regard to case. The text ends at the first NUL; embedded descriptors are padded with them.
 */
import { parseKeyValue } from '../../../blocks/text.ts';
import { assert, ImageError } from '../../../errors.ts';
import { VMDK_LIMITS } from '../limits.ts';
import { binaryOf, bytesOf, type CodePage, codePage } from './code-page.ts';

const DEFAULT_CODE_PAGE = 'UTF-8';
const BOM = '\xef\xbb\xbf';
const EXTENT = /^\s*(RW|RDONLY|NOACCESS)\s/i;
const KEY = /^[\w.]+$/;
const DDB = 'ddb.';
/** First lines of descriptors, with the spelling that varies. */
const TITLE = /^#\s*disk\s+descriptor\s*file\b/i;
/** Longest value that makes sense: a path of Windows. */
const LINE_LENGTH = 65_536;

type Section = 'header' | 'extent' | 'ddb' | 'other';

/** One line without its end. */
interface Line {
  readonly text: string;
  readonly section: Section;
  /** Lower case; empty for lines without a key. */
  readonly key: string;
  /** As it stands in the line; empty for lines without a key. */
  readonly pair: { readonly key: string; readonly value: string };
}

const NO_PAIR = { key: '', value: '' } as const;

/** A line that describes an extent, for {@link parseExtent}. */
export interface ExtentText {
  /** From 1 on, as editors count. */
  readonly number: number;
  readonly text: string;
}

/** The lines of a descriptor; changes keep all others. */
export class DescriptorText {
  readonly codePage: CodePage;
  readonly #newline: string;
  readonly #bom: string;
  #lines: Line[];
  /** Indexes of the first lines of all keys; null: lines changed since they were looked up. */
  #places: ReadonlyMap<string, number> | null = null;

  private constructor(lines: Line[], newline: string, bom: string) {
    this.#lines = lines;
    this.#newline = newline;
    this.#bom = bom;
    this.codePage = codePage(this.#raw('encoding') ?? DEFAULT_CODE_PAGE);
  }

  /** Splits a descriptor. Throws `limit` for one with too many or too long lines. */
  static parse(bytes: Uint8Array, path: string): DescriptorText {
    const end = bytes.indexOf(0);
    const all = binaryOf(end === -1 ? bytes : bytes.subarray(0, end));
    const bom = all.startsWith(BOM) ? BOM : '';
    const text = all.slice(bom.length);
    const newline = text.includes('\r\n') ? '\r\n' : '\n';
    const lines = text.split(/\r\n|\n|\r/);
    // What stands behind the last line end is a line only if there is something.
    if (lines.at(-1) === '') lines.pop();
    if (lines.length > VMDK_LIMITS.descriptorLines || lines.some((line) => line.length > LINE_LENGTH)) {
      throw new ImageError('limit', 'The descriptor is too long', {
        path,
        found: `${lines.length} lines`,
        expected: `at most ${VMDK_LIMITS.descriptorLines} lines of ${LINE_LENGTH} bytes`,
      });
    }
    return new DescriptorText(lines.map(lineOf), newline, bom);
  }

  /** Value of a key, decoded; null if there is no such line. The first line of a key counts. */
  value(key: string): string | null {
    const raw = this.#raw(key);
    return raw === null ? null : this.codePage.decode(raw);
  }

  /** All lines that describe extents. */
  get extents(): readonly ExtentText[] {
    const found: ExtentText[] = [];
    this.#lines.forEach(({ section, text }, index) => {
      if (section === 'extent') found.push({ number: index + 1, text: this.codePage.decode(text) });
    });
    return found;
  }

  /** Keys of the disk database with their values, in the order of the file. */
  get database(): readonly (readonly [key: string, value: string])[] {
    return this.#lines
      .filter(({ section }) => section === 'ddb')
      .map(({ pair }) => [pair.key, this.codePage.decode(pair.value)] as const);
  }

  /**
   * Sets or, with null, removes a key. A line that exists keeps its place and spelling; a new one comes last in its
   * section. Throws `invalid-argument` for a value that the text cannot hold.
   */
  set(key: string, value: string | null, path: string): void {
    const at = this.#indexOf(key);
    this.#places = null;
    if (value === null) {
      if (at !== -1) this.#lines.splice(at, 1);
      return;
    }
    const raw = this.#encoded(key, value, path);
    const old = this.#lines[at];
    if (old !== undefined) this.#lines[at] = lineOf(replaceValue(old.text, raw));
    else this.#insert(key, lineOf(newLine(key, raw)));
  }

  /** Replaces the lines of the extents, in their place. */
  setExtents(texts: readonly string[], path: string): void {
    const first = this.#lines.findIndex(({ section }) => section === 'extent');
    const at = first === -1 ? this.#endOf('header') : first;
    const isOther = ({ section }: Line): boolean => section !== 'extent';
    const added = texts.map((text) => lineOf(this.#encoded('extent', text, path)));
    this.#places = null;
    this.#lines = [...this.#lines.slice(0, at), ...added, ...this.#lines.slice(at).filter(isOther)];
  }

  /** The text as it is stored, without padding. */
  bytes(): Uint8Array {
    return bytesOf(this.#bom + this.#lines.map(({ text }) => text + this.#newline).join(''));
  }

  #raw(key: string): string | null {
    return this.#lines[this.#indexOf(key)]?.pair.value ?? null;
  }

  #indexOf(key: string): number {
    // The last line of a key is entered first.
    this.#places ??= new Map(this.#lines.map((line, index) => [line.key, index] as const).reverse());
    return this.#places.get(key.toLowerCase()) ?? -1;
  }

  #encoded(field: string, value: string, path: string): string {
    const raw = this.codePage.encode(value);
    const isLine = field === 'extent';
    if (raw !== null && !/[\r\n\0]/.test(raw) && (isLine || !raw.includes('"'))) return raw;
    throw new ImageError('invalid-argument', 'A value cannot be stored in the descriptor of a VMDK image', {
      path,
      field,
      found: value,
      expected:
        raw === null ? `characters of the code page ${this.codePage.name}` : 'text without quotes and line ends',
    });
  }

  #insert(key: string, line: Line): void {
    this.#lines.splice(this.#endOf(key.toLowerCase().startsWith(DDB) ? 'ddb' : 'header'), 0, line);
  }

  /** Index behind the last line of a section. */
  #endOf(section: 'header' | 'ddb'): number {
    const last = this.#lines.findLastIndex((line) => line.section === section);
    if (last !== -1) return last + 1;
    if (section === 'ddb') return this.#lines.length;
    const title = this.#lines.findIndex(({ text }) => TITLE.test(text.trim()));
    return title + 1;
  }
}

function lineOf(text: string): Line {
  if (EXTENT.test(text)) return { text, section: 'extent', key: '', pair: NO_PAIR };
  const pair = text.trim().startsWith('#') ? null : parseKeyValue(text);
  if (pair === null || !KEY.test(pair.key)) return { text, section: 'other', key: '', pair: NO_PAIR };
  const key = pair.key.toLowerCase();
  return { text, section: key.startsWith(DDB) ? 'ddb' : 'header', key, pair };
}

/** Keeps the blanks around the equals sign, and the quotes if there are any. */
function replaceValue(text: string, value: string): string {
  const parts = /^(?<before>[^=]*=\s*)(?<quote>"?)/.exec(text);
  assert(parts?.groups !== undefined, 'a line with a key has an equals sign');
  const { before = '', quote = '' } = parts.groups;
  return `${before}${quote}${value}${quote}`;
}

/** Numbers of the header stand without quotes, all else with. */
function newLine(key: string, value: string): string {
  if (key.toLowerCase().startsWith(DDB)) return `${key} = "${value}"`;
  return /^(version|cid|parentcid)$/i.test(key) ? `${key}=${value}` : `${key}="${value}"`;
}
