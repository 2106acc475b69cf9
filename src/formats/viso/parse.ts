/** The words of a VISO file, and of the files with more words that it names, as one command. */
import { ImageError } from '../../errors.ts';
import { emptyCommand, type IsoSource, type VisoCommand } from './command.ts';
import type { Views } from './iso-source.ts';
import { VISO_LIMITS } from './limits.ts';
import { addition } from './names.ts';
import { optionOf } from './options.ts';

/** Reads the words of another file. */
export type ReadWords = (name: string) => Promise<readonly string[]>;

/** Reads the names of another image. */
export type ReadIso = (name: string, views: Views) => Promise<IsoSource>;

/** Files that the words name, and that tell more of the command. */
export interface Readers {
  readonly words: ReadWords;
  readonly iso: ReadIso;
}

/** Understands the words. Throws `unsupported` for options that would change what is not changed here, `limit`. */
export async function commandOf(words: readonly string[], path: string, readers: Readers): Promise<VisoCommand> {
  const parser = new Parser(path, readers);
  await parser.add(words);
  return parser.command;
}

class Parser {
  readonly command = emptyCommand();
  readonly #path: string;
  readonly #readers: Readers;
  #words = 0;
  #files = 0;
  #isos = 0;

  constructor(path: string, readers: Readers) {
    this.#path = path;
    this.#readers = readers;
  }

  async add(words: readonly string[]): Promise<void> {
    this.#words += words.length;
    if (this.#words > VISO_LIMITS.words) throw this.#tooMany('words', VISO_LIMITS.words);
    for (let at = 0; at < words.length; at++) {
      const word = words[at] ?? '';
      if (word.startsWith('@')) await this.#addFile(word.slice(1));
      else if (!word.startsWith('-')) this.command.steps.push(addition(this.command, word));
      else if (await this.#option(word, words[at + 1])) at++;
    }
  }

  async #addFile(name: string): Promise<void> {
    if (++this.#files > VISO_LIMITS.argumentFiles) throw this.#tooMany('files with words', VISO_LIMITS.argumentFiles);
    const words = await this.#readers.words(name);
    // Such a file may have the marker of a VISO file.
    const marker = /^--iprt-iso-maker-file-marker[a-z-]*([=:])?/i.exec(words[0] ?? '');
    await this.add(marker === null ? words : words.slice(marker[1] === undefined ? 2 : 1));
  }

  /** Applies an option; true: the next word is its value. */
  async #option(word: string, next: string | undefined): Promise<boolean> {
    const whole = optionOf(word);
    const [, name = word, inline] = whole === null ? (/^(--?[^-=:][^=:]+)[=:](.*)$/s.exec(word) ?? []) : [];
    const option = whole ?? optionOf(name);
    if (option === null || (inline !== undefined && !option.takesValue)) throw unknown(word, this.#path);
    const value = option.takesValue ? (inline ?? next) : '';
    if (value === undefined) {
      throw new ImageError('invalid-format', `The option ${name} lacks its value`, { path: this.#path });
    }
    await option.apply(this.command, value, name, (file, views) => this.#openIso(file, views));
    return option.takesValue && inline === undefined;
  }

  #openIso(name: string, views: Views): Promise<IsoSource> {
    if (++this.#isos > VISO_LIMITS.isoFiles) throw this.#tooMany('ISO images', VISO_LIMITS.isoFiles);
    return this.#readers.iso(name, views);
  }

  #tooMany(what: string, expected: number): ImageError {
    return new ImageError('limit', `The VISO file has too many ${what}`, { path: this.#path, expected });
  }
}

function unknown(word: string, path: string): ImageError {
  const option = word.slice(0, 80);
  return new ImageError('unsupported', `The option ${option} of the VISO file is not supported`, {
    path,
    hint: hintFor(word),
  });
}

function hintFor(word: string): string {
  if (/^(-o|--output)\b/.test(word)) return 'The image is the file itself: remove the option.';
  return 'Remove the option if the image does without it.';
}
