/** Words of the command line in a VISO file, by the rules of the Bourne shell or of Microsoft's C runtime. */
import { ImageError } from '../../errors.ts';
import { VISO_LIMITS } from './limits.ts';

/** Splits a text. Nothing is expanded, and there are no comments. Throws `invalid-format`, `limit`. */
export function wordsOf(text: string, rules: 'bourne' | 'ms', path: string): string[] {
  const words: string[] = [];
  const splitter = rules === 'ms' ? microsoftWord : bourneWord;
  for (let at = skipBlanks(text, 0); at < text.length; at = skipBlanks(text, at)) {
    if (words.length === VISO_LIMITS.words) {
      throw new ImageError('limit', 'The VISO file has too many words', { path, expected: VISO_LIMITS.words });
    }
    const found = splitter(text, at);
    if (found === null) throw new ImageError('invalid-format', 'A quoted word of the VISO file does not end', { path });
    words.push(found.word);
    at = found.end;
  }
  return words;
}

interface Word {
  readonly word: string;
  readonly end: number;
}

function isBlank(character: string): boolean {
  return character === ' ' || character === '\t' || character === '\n' || character === '\r';
}

function skipBlanks(text: string, start: number): number {
  let at = start;
  while (at < text.length && isBlank(text.charAt(at))) at++;
  return at;
}

function bourneWord(text: string, start: number): Word | null {
  const word: string[] = [];
  let quote = '';
  let at = start;
  for (; at < text.length; at++) {
    const character = text.charAt(at);
    const next = text.charAt(at + 1);
    if (quote === '' && isBlank(character)) break;
    if (character === quote) quote = '';
    else if (quote === '' && (character === '"' || character === "'")) quote = character;
    else if (character === '\\' && (quote === '' || (quote === '"' && '"\\$`\n'.includes(next)))) {
      at++;
      // A line end behind a backslash goes on.
      if (next !== '\n') word.push(next);
    } else word.push(character);
  }
  return quote === '' ? { word: word.join(''), end: at } : null;
}

/** Backslashes count before a quote only: two stand for one, one makes the quote a letter. */
function microsoftWord(text: string, start: number): Word | null {
  const word: string[] = [];
  let quoted = false;
  let at = start;
  for (; at < text.length; at++) {
    const character = text.charAt(at);
    if (!quoted && isBlank(character)) break;
    if (character === '\\') {
      let end = at;
      while (text.charAt(end) === '\\') end++;
      const count = end - at;
      const beforeQuote = text.charAt(end) === '"';
      word.push('\\'.repeat(beforeQuote ? Math.floor(count / 2) : count));
      at = end - 1;
      if (beforeQuote && count % 2 === 1) {
        word.push('"');
        at = end;
      }
    } else if (character === '"' && quoted && text.charAt(at + 1) === '"') {
      word.push('"');
      at++;
    } else if (character === '"') quoted = !quoted;
    else word.push(character);
  }
  return quoted ? null : { word: word.join(''), end: at };
}
