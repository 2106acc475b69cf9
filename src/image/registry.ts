/** The formats that are known to one program, in probing order. */
import { ImageError } from '../errors.ts';
import type { Format } from './contract.ts';

/** An ordered set of formats. Names and aliases are compared without regard to case. */
export class Registry {
  readonly #formats: Format[];

  constructor(formats: readonly Format[]) {
    this.#formats = [...formats];
  }

  /** In probing order. */
  get formats(): readonly Format[] {
    return this.#formats;
  }

  /** Adds a format after the others; the last one stays last, since it takes what nobody else wants. */
  register(format: Format): void {
    for (const name of [format.name, ...format.aliases]) {
      if (this.#lookUp(name) === undefined) continue;
      throw new ImageError('exists', `A format named ${name} is registered already`);
    }
    this.#formats.splice(Math.max(this.#formats.length - 1, 0), 0, format);
  }

  /** The format of that name or alias. Throws `not-found`. */
  find(name: string): Format {
    const format = this.#lookUp(name);
    if (format !== undefined) return format;
    throw new ImageError('not-found', `There is no format named "${name}"`, {
      status: 'VERR_NOT_FOUND',
      hint: `Formats: ${this.#formats.map((one) => one.name).join(', ')}.`,
    });
  }

  /** The format that claims the extension of a file name. One that can make images wins. */
  byExtension(fileName: string): Format | undefined {
    const extension = /\.([^./\\]+)$/.exec(fileName)?.[1]?.toLowerCase();
    const claims = this.#formats.filter((format) => format.extensions.some((one) => one.extension === extension));
    return claims.find((format) => format.create !== undefined) ?? claims[0];
  }

  #lookUp(name: string): Format | undefined {
    const wanted = name.toLowerCase();
    return this.#formats.find((format) => format.name === wanted || format.aliases.includes(wanted));
  }
}
