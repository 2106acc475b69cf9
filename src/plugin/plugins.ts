/**
 * Formats, caches and filters from modules: vd.h's plugins. A plugin is an ES module that exports `VDPluginLoad`, which
 * is called with an object to register with. Only modules named by the caller are loaded.
 */
import { defaultProvider } from '#local-storage';
import { CALLBACK, checkArguments, NAME } from '../arguments.ts';
import { PROVIDER, REGISTRY } from '../disk/kinds.ts';
import { ImageError, isImageError } from '../errors.ts';
import type { CacheFormat } from '../image/cache.ts';
import type { Format } from '../image/contract.ts';
import { defineFormat, type FormatDefinition } from '../image/define-format.ts';
import type { Filter } from '../image/filter.ts';
import { PlainImage } from '../image/plain-image.ts';
import { plainInfo } from '../image/plain-info.ts';
import type { Registry } from '../image/registry.ts';
import type { StorageProvider, StorageScheme } from '../storage/contract.ts';
import { countedCache, countedFilter, countedFormat, type Uses } from './counted.ts';

/**
 * Version of the plugin interface; raised by incompatible changes. 2: formats receive open files instead of names, and
 * are completed from a definition; the register has `plainInfo`, `PlainImage` and `registerScheme`.
 */
export const PLUGIN_VERSION = 2;
/** Prefix of plugin files in a directory. */
const PREFIX = 'VDPlugin';
const EXTENSIONS: readonly string[] = ['.js', '.mjs'];

/** Registration interface, passed to `VDPluginLoad`. */
export interface PluginRegister {
  /** {@link PLUGIN_VERSION}. */
  readonly version: number;
  /** The error class to throw: a plugin need not import vdkit. */
  readonly ImageError: typeof ImageError;
  /** Completes the facts about an image with default values. */
  readonly plainInfo: typeof plainInfo;
  /** Base class of images. */
  readonly PlainImage: typeof PlainImage;
  registerFormat(format: Format | FormatDefinition): void;
  registerCache(cache: CacheFormat): void;
  registerFilter(filter: Filter): void;
  registerScheme(scheme: StorageScheme): void;
}

/** Exports of a plugin module. */
export interface PluginModule {
  VDPluginLoad(register: PluginRegister): void | Promise<void>;
}

/** A loaded plugin. */
export interface LoadedPlugin {
  /** The name that it was loaded by. */
  readonly name: string;
  readonly formats: readonly string[];
  readonly caches: readonly string[];
  readonly filters: readonly string[];
  /** Number of its open images, caches and filters. */
  readonly inUse: number;
}

/** Result of loading a directory. */
export interface PluginDirectoryReport {
  readonly loaded: readonly LoadedPlugin[];
  /** Plugins that could not be loaded, with the errors. */
  readonly failed: readonly { readonly name: string; readonly error: ImageError }[];
}

interface Entry {
  readonly things: readonly (Format | CacheFormat | Filter | StorageScheme)[];
  readonly formats: readonly Format[];
  readonly caches: readonly CacheFormat[];
  readonly filters: readonly Filter[];
  readonly schemes: readonly StorageScheme[];
  readonly uses: Uses;
}

/** Loads the module at an address and returns its exports. */
export type ImportModule = (address: string) => Promise<unknown>;

// Bundlers must leave it alone: what is loaded is known only then.
const importHere: ImportModule = (address) => import(/* @vite-ignore */ /* webpackIgnore: true */ address);

/**
 * The plugins of a registry. Built-in formats precede plugin formats, and win where both recognise a file or a name.
 */
export class Plugins {
  readonly #registry: Registry;
  readonly #provider: StorageProvider;
  readonly #import: ImportModule;
  readonly #entries = new Map<string, Entry>();
  /** Number of loads: an unloaded module is read again. */
  #loads = 0;

  /**
   * `provider`: resolves names of files and directories. Default: local files. `importModule`: loads modules. Default:
   * `import()`.
   */
  constructor(
    registry: Registry,
    provider: StorageProvider = defaultProvider(),
    importModule: ImportModule = importHere,
  ) {
    checkArguments('Plugins', {
      registry: [registry, REGISTRY],
      provider: [provider, PROVIDER],
      importModule: [importModule, CALLBACK],
    });
    this.#registry = registry;
    this.#provider = provider;
    this.#import = importModule;
  }

  /** Loaded plugins, in order of loading. */
  get list(): readonly LoadedPlugin[] {
    return [...this.#entries].map(([name, entry]) => describe(name, entry));
  }

  /**
   * Loads a plugin from a file, unless it is loaded already. Throws `not-found`, `invalid-format` for a module that is
   * not a plugin or registers invalid objects, `exists` for a name that is taken. After an error nothing of it stays
   * registered.
   */
  async load(file: string): Promise<LoadedPlugin> {
    checkArguments('plugins.load', { file: [file, NAME] });
    const name = this.#provider.resolve(file, '');
    const known = this.#entries.get(name);
    if (known !== undefined) return describe(name, known);
    if ((await this.#provider.lookUp(name)) === null) {
      throw new ImageError('not-found', 'No plugin of that name exists', { path: name });
    }
    this.#loads++;
    return this.add(name, await this.#load(`${fileUrl(name)}?load=${this.#loads}`, name));
  }

  /** Adds a module that is already loaded; see {@link Plugins.load}. */
  async add(name: string, module: unknown): Promise<LoadedPlugin> {
    checkArguments('plugins.add', { name: [name, NAME] });
    if (this.#entries.has(name)) throw new ImageError('exists', 'The plugin is already loaded', { path: name });
    const entry = await collect(name, module);
    register(this.#registry, entry, name);
    this.#entries.set(name, entry);
    return describe(name, entry);
  }

  /**
   * Loads every plugin of a directory: files whose names begin with "VDPlugin" and end with ".js" or ".mjs". A failure
   * is reported and does not stop the others. Throws `not-found` when the directory does not exist.
   */
  async loadAll(directory: string): Promise<PluginDirectoryReport> {
    checkArguments('plugins.loadAll', { directory: [directory, NAME] });
    const loaded: LoadedPlugin[] = [];
    const failed: { name: string; error: ImageError }[] = [];
    for (const name of await this.#namesIn(directory)) {
      try {
        loaded.push(await this.load(name));
      } catch (error) {
        if (!isImageError(error)) throw error;
        failed.push({ name, error });
      }
    }
    return { loaded, failed };
  }

  /** Unregisters a plugin. Throws `not-found`, and `busy` while its images, caches or filters are open. */
  unload(file: string): void {
    checkArguments('plugins.unload', { file: [file, NAME] });
    const name = this.#entries.has(file) ? file : this.#provider.resolve(file, '');
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new ImageError('not-found', 'The plugin is not loaded', {
        path: name,
        hint: 'plugins.list contains the loaded ones.',
      });
    }
    if (entry.uses.count > 0) {
      throw new ImageError('busy', 'The plugin is in use', {
        path: name,
        found: `${entry.uses.count} open images, caches or filters`,
        status: 'VERR_RESOURCE_BUSY',
        hint: 'Close them first.',
      });
    }
    for (const thing of entry.things) this.#registry.unregister(thing);
    this.#entries.delete(name);
  }

  /** Unloads every loaded plugin of a directory. Returns those that are in use and stay. */
  async unloadAll(directory: string): Promise<readonly string[]> {
    checkArguments('plugins.unloadAll', { directory: [directory, NAME] });
    const busy: string[] = [];
    for (const name of await this.#namesIn(directory)) {
      if (!this.#entries.has(name)) continue;
      try {
        this.unload(name);
      } catch (error) {
        if (!isImageError(error) || error.kind !== 'busy') throw error;
        busy.push(name);
      }
    }
    return busy;
  }

  /** True for the name of a directory, for {@link loadAll}. */
  async isDirectory(name: string): Promise<boolean> {
    checkArguments('plugins.isDirectory', { name: [name, NAME] });
    return (await this.#provider.lookUp(this.#provider.resolve(name, '')))?.kind === 'directory';
  }

  async #namesIn(directory: string): Promise<string[]> {
    const place = this.#provider.resolve(directory, '');
    if (!(await this.isDirectory(directory))) {
      throw new ImageError('not-found', 'No directory of that name exists', {
        path: place,
        status: 'VERR_PATH_NOT_FOUND',
      });
    }
    const names: string[] = [];
    for await (const name of this.#provider.list(place)) {
      const own = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
      if (own.startsWith(PREFIX) && EXTENSIONS.some((end) => own.endsWith(end))) names.push(name);
    }
    return names.sort();
  }

  async #load(address: string, name: string): Promise<unknown> {
    try {
      return await this.#import(address);
    } catch (error) {
      throw new ImageError('invalid-format', 'The plugin cannot be loaded as a module', {
        path: name,
        cause: error,
        found: error instanceof Error ? error.message : String(error),
      });
    }
  }
}

/** Runs the plugin. Its registrations take effect only if all are valid. */
async function collect(name: string, module: unknown): Promise<Entry> {
  const load = (module as Partial<PluginModule> | null)?.VDPluginLoad;
  if (typeof load !== 'function') {
    throw new ImageError('invalid-format', 'The module is not a plugin', {
      path: name,
      status: 'VERR_SYMBOL_NOT_FOUND',
      expected: 'a function that is exported as VDPluginLoad',
    });
  }
  const uses: Uses = { count: 0 };
  const formats: Format[] = [];
  const caches: CacheFormat[] = [];
  const filters: Filter[] = [];
  const schemes: StorageScheme[] = [];
  let open = true;
  const take = <T extends object>(
    list: T[],
    what: string,
    thing: T,
    functions: readonly string[],
    wrap: (thing: T) => T,
  ) => {
    if (!open) throw new ImageError('invalid-argument', 'VDPluginLoad has ended', { path: name });
    checkShape(name, what, thing, functions);
    list.push(wrap(thing));
  };
  const register: PluginRegister = {
    version: PLUGIN_VERSION,
    ImageError,
    plainInfo,
    PlainImage,
    registerFormat: (format) =>
      take(formats, 'format', complete(format), ['probe', 'open'], (one) => countedFormat(one, uses, name)),
    registerCache: (cache) =>
      take(caches, 'cache format', cache, ['create', 'open', 'check'], (one) => countedCache(one, uses, name)),
    registerFilter: (filter) => take(filters, 'filter', filter, ['open'], (one) => countedFilter(one, uses, name)),
    registerScheme: (scheme) => take(schemes, 'scheme', scheme, ['open'], (one) => one),
  };
  try {
    await load.call(module, register);
  } catch (error) {
    if (isImageError(error)) throw error;
    throw new ImageError('invalid-format', 'The plugin failed when it was loaded', { path: name, cause: error });
  } finally {
    open = false;
  }
  return { things: [...formats, ...caches, ...filters, ...schemes], formats, caches, filters, schemes, uses };
}

/** A definition becomes a format. Anything else is left to `checkShape`. */
function complete(format: Format | FormatDefinition): Format {
  const isComplete = typeof format?.name !== 'string' || 'capabilities' in format;
  return isComplete ? (format as Format) : defineFormat(format);
}

/** The members that a registry and its users access without checking. */
function checkShape(plugin: string, what: string, thing: unknown, functions: readonly string[]): void {
  const given = (typeof thing === 'object' && thing !== null ? thing : {}) as Readonly<Record<string, unknown>>;
  const lists = what === 'format' ? ['aliases', 'extensions', 'configKeys', 'variants'] : [];
  const wrong =
    (typeof given['name'] === 'string' && /^[\w.+-]+$/.test(given['name']) ? undefined : 'name') ??
    (what === 'scheme' || typeof given['title'] === 'string' ? undefined : 'title') ??
    lists.find((member) => !Array.isArray(given[member])) ??
    (what === 'filter' && !Array.isArray(given['configKeys']) ? 'configKeys' : undefined) ??
    functions.find((member) => typeof given[member] !== 'function');
  if (wrong === undefined) return;
  throw new ImageError('invalid-format', `The object registered by the plugin is not a ${what}`, {
    path: plugin,
    field: wrong,
    found: typeof given[wrong],
  });
}

/** Registers everything or nothing. */
function register(registry: Registry, { formats, caches, filters, schemes }: Entry, name: string): void {
  const done: (Format | CacheFormat | Filter | StorageScheme)[] = [];
  const put = <T extends Format | CacheFormat | Filter | StorageScheme>(
    things: readonly T[],
    add: (thing: T) => void,
  ): void => {
    for (const thing of things) {
      add(thing);
      done.push(thing);
    }
  };
  try {
    put(formats, (format) => registry.register(format));
    put(caches, (cache) => registry.registerCache(cache));
    put(filters, (filter) => registry.registerFilter(filter));
    put(schemes, (scheme) => registry.registerScheme(scheme));
  } catch (error) {
    for (const thing of done) registry.unregister(thing);
    throw isImageError(error) ? new ImageError(error.kind, error.message, { path: name, status: error.status }) : error;
  }
}

function describe(name: string, { formats, caches, filters, uses }: Entry): LoadedPlugin {
  const names = (things: readonly { readonly name: string }[]): string[] => things.map((thing) => thing.name);
  return {
    name,
    formats: names(formats),
    caches: names(caches),
    filters: names(filters),
    inUse: uses.count,
  };
}

/** The module address of a name of the provider. Names with a scheme are addresses already. */
function fileUrl(name: string): string {
  if (/^[a-z][a-z+.-]+:\/\//i.test(name)) return name;
  const path = name.replaceAll('\\', '/').split('/').map(encodeURIComponent).join('/');
  // A Windows drive keeps its colon.
  return `file://${path.startsWith('/') ? '' : '/'}${path.replace(/^\/?([A-Za-z])%3A/, '$1:')}`;
}
