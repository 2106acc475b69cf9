/** The formats available to a program, in probing order, with its filters and cache formats. */
import { CALLBACK, checkArguments, listOf, NAME, OBJECT, TEXT, withFields } from '../arguments.ts';
import { ImageError } from '../errors.ts';
import type { StorageProvider, StorageScheme } from '../storage/contract.ts';
import { schemeOf } from '../storage/gate.ts';
import type { CacheFormat } from './cache.ts';
import type { ConfigKey, FileExtension, Format, FormatCapabilities, Variant } from './contract.ts';
import type { Filter } from './filter.ts';

/** Description of a format for listings: everything except the functions. */
export interface FormatDescription {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly title: string;
  readonly extensions: readonly FileExtension[];
  readonly capabilities: FormatCapabilities;
  /** True when images of this format can be created. */
  readonly create: boolean;
  readonly variants: readonly Variant[];
  readonly configKeys: readonly ConfigKey[];
  /** Options that can be changed in an existing image. */
  readonly amendKeys: readonly ConfigKey[];
}

const FORMAT = withFields('a format', { name: NAME });
const FILTER = withFields('a filter', { name: NAME });
const CACHE = withFields('a format of caches', { name: NAME });
const SCHEME = withFields('a scheme', { name: NAME, open: CALLBACK });

/** Letters that may be wrong, missing or added in a typing error; half as many in short names. */
const SLIP = 2;

/** Ordered sets of formats, filters and cache formats. Names and aliases are case-insensitive. */
export class Registry {
  readonly #formats: Format[] = [];
  readonly #filters: Filter[] = [];
  readonly #caches: CacheFormat[] = [];
  readonly #schemes: StorageScheme[] = [];
  readonly #providers = new Map<StorageScheme, StorageProvider>();

  /** Takes the formats in probing order; the fallback goes last. Throws `exists` on equal names and a second fallback. */
  constructor(formats: readonly Format[], filters: readonly Filter[] = [], caches: readonly CacheFormat[] = []) {
    checkArguments('Registry', {
      formats: [formats, listOf(FORMAT)],
      filters: [filters, listOf(FILTER)],
      caches: [caches, listOf(CACHE)],
    });
    for (const format of formats) this.#add(format);
    for (const filter of filters) this.registerFilter(filter);
    for (const cache of caches) this.registerCache(cache);
  }

  /** In probing order. */
  get formats(): readonly Format[] {
    return this.#formats;
  }

  /** The format of files that no other format recognises, always the last one; null when the registry has none. */
  get fallback(): Format | null {
    const last = this.#formats.at(-1);
    return last?.fallback === true ? last : null;
  }

  /**
   * Adds a format after the others but before the fallback. Throws `exists` when one of its names is taken, and for a
   * second fallback: an existing format is never replaced.
   */
  register(format: Format): void {
    checkArguments('registry.register', { format: [format, FORMAT] });
    this.#add(format);
  }

  #add(format: Format): void {
    this.#checkNames(format);
    const { fallback } = this;
    if (fallback === null) this.#formats.push(format);
    else if (format.fallback !== true) this.#formats.splice(-1, 0, format);
    else throw new ImageError('exists', `${fallback.name} is already the fallback of this registry`);
  }

  /** In order of registration. */
  get filters(): readonly Filter[] {
    return this.#filters;
  }

  /** Adds a filter. Throws `exists` when the name is taken. */
  registerFilter(filter: Filter): void {
    checkArguments('registry.registerFilter', { filter: [filter, FILTER] });
    const name = filter.name.toLowerCase();
    if (this.#filters.some((one) => one.name.toLowerCase() === name)) {
      throw new ImageError('exists', `A filter named ${filter.name} is already registered`);
    }
    this.#filters.push(filter);
  }

  /** Removes a format or filter. Open images stay open. Throws `not-found` when it is not registered. */
  unregister(thing: Format | Filter | CacheFormat | StorageScheme): void {
    checkArguments('registry.unregister', { thing: [thing, OBJECT] });
    for (const list of [this.#formats, this.#filters, this.#caches, this.#schemes] as (typeof thing)[][]) {
      const index = list.indexOf(thing);
      if (index === -1) continue;
      list.splice(index, 1);
      return;
    }
    throw new ImageError('not-found', `${thing.name} is not registered`);
  }

  /** The filter of that name. Throws `not-found`. */
  findFilter(name: string): Filter {
    checkArguments('registry.findFilter', { name: [name, TEXT] });
    const filter = this.#filters.find((one) => one.name.toLowerCase() === name.toLowerCase());
    return filter ?? unknown('filter', name, this.#filters, (one) => [one.name]);
  }

  /** Cache formats, in order of registration. */
  get caches(): readonly CacheFormat[] {
    return this.#caches;
  }

  /** Adds a cache format. Throws `exists` when the name is taken. */
  registerCache(cache: CacheFormat): void {
    checkArguments('registry.registerCache', { cache: [cache, CACHE] });
    const name = cache.name.toLowerCase();
    if (this.#caches.some((one) => one.name.toLowerCase() === name)) {
      throw new ImageError('exists', `A cache format named ${cache.name} is already registered`);
    }
    this.#caches.push(cache);
  }

  /** The cache format of that name, or the first. Throws `not-found`. */
  findCache(name = this.#caches[0]?.name ?? ''): CacheFormat {
    checkArguments('registry.findCache', { name: [name, TEXT] });
    const cache = this.#caches.find((one) => one.name.toLowerCase() === name.toLowerCase());
    return cache ?? unknown('cache format', name, this.#caches, (one) => [one.name]);
  }

  /** Schemes of names other than files, in order of registration. */
  get schemes(): readonly StorageScheme[] {
    return this.#schemes;
  }

  /** Adds a scheme. Throws `exists` when its name is taken, `invalid-argument` for what is not the name of a scheme. */
  registerScheme(scheme: StorageScheme): void {
    checkArguments('registry.registerScheme', { scheme: [scheme, SCHEME] });
    const name = scheme.name.toLowerCase();
    if (schemeOf(`${name}:`) !== name) {
      throw new ImageError('invalid-argument', `${scheme.name} is not the name of a scheme`, {
        expected: 'letters, digits, +, - and ., at least two, a letter first',
      });
    }
    if (this.#schemes.some((one) => one.name.toLowerCase() === name)) {
      throw new ImageError('exists', `A scheme named ${scheme.name} is already registered`);
    }
    this.#schemes.push(scheme);
  }

  /** The provider of a name with a registered scheme; null for any other name. */
  providerOf(name: string): StorageProvider | null {
    checkArguments('registry.providerOf', { name: [name, TEXT] });
    const wanted = this.#schemes.length === 0 ? null : schemeOf(name);
    const scheme = this.#schemes.find((one) => one.name.toLowerCase() === wanted);
    if (scheme === undefined) return null;
    const provider = this.#providers.get(scheme) ?? scheme.open();
    this.#providers.set(scheme, provider);
    return provider;
  }

  /** The format of that name or alias. Throws `not-found`. */
  find(name: string): Format {
    checkArguments('registry.find', { name: [name, TEXT] });
    return this.#lookUp(name) ?? unknown('format', name, this.#formats, namesOf);
  }

  /** The format that claims the extension of a file name. Formats that can create images take precedence. */
  byExtension(fileName: string): Format | undefined {
    checkArguments('registry.byExtension', { fileName: [fileName, TEXT] });
    const extension = extensionOf(fileName);
    const claims = this.#formats.filter((format) => format.extensions.some((one) => one.extension === extension));
    return claims.find((format) => format.create !== undefined) ?? claims[0];
  }

  #lookUp(name: string): Format | undefined {
    const wanted = name.toLowerCase();
    return this.#formats.find((format) => namesOf(format).includes(wanted));
  }

  #checkNames(format: Format): void {
    for (const name of namesOf(format)) {
      if (this.#lookUp(name) === undefined) continue;
      throw new ImageError('exists', `A format named ${name} is already registered`);
    }
  }
}

/** Error for an unknown name, with a suggestion if a similar one exists. */
function unknown<T extends { readonly name: string }>(
  what: string,
  name: string,
  things: readonly T[],
  names: (thing: T) => readonly string[],
): never {
  const meant = nearest(name, things, names);
  const title = `${what.charAt(0).toUpperCase()}${what.slice(1)}s`;
  const all = things.length === 0 ? 'There are none.' : `${title}: ${things.map((one) => one.name).join(', ')}.`;
  throw new ImageError('not-found', `There is no ${what} named "${name}"`, {
    status: 'VERR_NOT_FOUND',
    hint: meant === undefined ? all : `Did you mean ${meant}? ${all}`,
  });
}

function nearest<T extends { readonly name: string }>(
  name: string,
  things: readonly T[],
  names: (thing: T) => readonly string[],
): string | undefined {
  const wanted = name.toLowerCase();
  // What is longer than any name plus the slips cannot be near one, and would only cost time.
  const near = things
    .flatMap((thing) => names(thing).map((known) => ({ name: thing.name, known: known.toLowerCase() })))
    .filter(({ known }) => Math.abs(known.length - wanted.length) <= SLIP)
    .map(({ name: own, known }) => ({ name: own, known, slips: slipsBetween(wanted, known) }))
    .filter(({ known, slips }) => slips <= Math.min(SLIP, Math.floor(known.length / 2)))
    .sort((a, b) => a.slips - b.slips);
  return near[0]?.name;
}

/** Descriptions of every format of a registry, in probing order. */
export function describeFormats(registry: Registry): FormatDescription[] {
  return registry.formats.map((format) => ({
    name: format.name,
    aliases: format.aliases,
    title: format.title,
    extensions: format.extensions,
    capabilities: format.capabilities,
    create: format.create !== undefined,
    variants: format.variants,
    configKeys: format.configKeys,
    amendKeys: format.amendKeys ?? [],
  }));
}

/** The extension of a file name, without the dot, in lower case; empty for none. */
export function extensionOf(fileName: string): string {
  return /\.([^./\\]+)$/.exec(fileName)?.[1]?.toLowerCase() ?? '';
}

function namesOf(format: Format): string[] {
  return [format.name, ...format.aliases].map((name) => name.toLowerCase());
}

/** Letters to change, add or drop between two words (Levenshtein's distance). */
function slipsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
