/**
 * Descriptor texts: lines of `key = value` and of words, some of them quoted. For the descriptors of VMDK, CUE sheets and
 * VISO lists. Bounded and total: nothing here throws, whatever the text; a line that is not of the form gives null.
 */

/** Bounds of a text. */
export interface TextBounds {
  /** Lines that are looked at. */
  readonly lines: number;
  /** Characters of a line; longer ones are left out. */
  readonly lineLength: number;
}

/** One line. */
export interface TextLine {
  /** From 1 on, as editors count. */
  readonly number: number;
  /** Without blanks at either end. */
  readonly text: string;
}

/** Quoting rules of a format. */
export interface WordRules {
  /** Characters that quote. Default: `"`. */
  readonly quotes?: string | undefined;
  /** A backslash outside of single quotes takes the next character as it is. Default false. */
  readonly escapes?: boolean | undefined;
  /** Words of a line at most. Default 64. */
  readonly words?: number | undefined;
}

/** Result of {@link splitLines}. */
export interface SplitText {
  readonly lines: readonly TextLine[];
  /** True when some lines exceeded the bounds and are missing. */
  readonly isCut: boolean;
}

/** Lines of a text, ended by LF, CR LF, CR or NUL; empty ones are left out. */
export function splitLines(text: string, bounds: TextBounds): SplitText {
  const lines: TextLine[] = [];
  let isCut = false;
  let start = 0;
  for (let number = 1; start <= text.length; number++) {
    if (number > bounds.lines) return { lines, isCut: isCut || start < text.length };
    const end = endOfLine(text, start);
    if (end - start > bounds.lineLength) {
      isCut = true;
    } else {
      const line = text.slice(start, end).trim();
      if (line !== '') lines.push({ number, text: line });
    }
    start = end + (text[end] === '\r' && text[end + 1] === '\n' ? 2 : 1);
  }
  return { lines, isCut };
}

/**
 * Key and value of a line, without blanks and quotes around them; null: it has no key, or no end of a quoted value. That
 * ends at the last quote: VirtualBox stores quotes of a comment as they are.
 */
export function parseKeyValue(line: string): { readonly key: string; readonly value: string } | null {
  const equals = line.indexOf('=');
  const key = line.slice(0, Math.max(equals, 0)).trim();
  if (key === '') return null;
  const value = line.slice(equals + 1).trim();
  if (!value.startsWith('"')) return { key, value };
  const close = value.lastIndexOf('"');
  return close === 0 ? null : { key, value: value.slice(1, close) };
}

/** Words of a line, their quotes taken off; null: a quoted word does not end, or there are too many. */
export function splitWords(line: string, rules: WordRules = {}): string[] | null {
  const { quotes = '"', escapes = false, words: most = 64 } = rules;
  const words: string[] = [];
  let word: string | null = null;
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const character = line.charAt(at);
    if (escapes && character === '\\' && quote !== "'") {
      at++;
      if (at === line.length) return null;
      word = (word ?? '') + line.charAt(at);
    } else if (quote !== '') {
      if (character === quote) quote = '';
      else word += character;
    } else if (quotes.includes(character)) {
      quote = character;
      word ??= '';
    } else if (character === ' ' || character === '\t') {
      if (word !== null) words.push(word);
      word = null;
      if (words.length > most) return null;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (quote !== '') return null;
  if (word !== null) words.push(word);
  return words.length > most ? null : words;
}

function endOfLine(text: string, start: number): number {
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x0a || code === 0x0d || code === 0) return at;
  }
  return text.length;
}
