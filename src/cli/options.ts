/** Reads the values that the parser found, by the long names of the options. */
import { parseCount, parseSize } from './size.ts';

/** Options of one call. */
export class OptionValues {
  readonly #values: Readonly<Record<string, unknown>>;

  /** Keys are camel-cased long names, as the parser makes them. */
  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#value(name) === true;
  }

  /** The first of these options that was given. */
  firstGiven(names: readonly string[]): string | undefined {
    return names.find((name) => this.flag(name) || this.text(name) !== undefined || this.list(name).length > 0);
  }

  /** True when `--no-NAME` was given. */
  declined(name: string): boolean {
    return this.#value(name) === false;
  }

  text(name: string): string | undefined {
    const value = this.#value(name);
    return typeof value === 'string' ? value : undefined;
  }

  /** Every text of every option. */
  get texts(): readonly string[] {
    return Object.values(this.#values).flatMap((value) => {
      return (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string');
    });
  }

  /** All values of an option that may be repeated. */
  list(name: string): readonly string[] {
    const value = this.#value(name);
    return Array.isArray(value) ? value.map(String) : [];
  }

  /** Bytes; a usage error if the text is not a size. */
  size(name: string): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseSize(text, `--${name}`);
  }

  count(name: string, range: { readonly min: number; readonly max: number }): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseCount(text, `--${name}`, range);
  }

  #value(name: string): unknown {
    return this.#values[name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())];
  }
}

/** Only the entries that are set, so that they can be spread over defaults. */
export function present<T extends Record<string, unknown>>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
