/** Wrappers around everything a plugin registers: they count open uses and contain its errors. */
import { ImageError, isImageError } from '../errors.ts';
import type { CacheFormat, CacheImage } from '../image/cache.ts';
import type { Format, Image, ProbeAnswer, ProbeInput } from '../image/contract.ts';
import type { Filter, FilterInstance } from '../image/filter.ts';

/** Number of open images, caches and filters of one plugin. */
export interface Uses {
  count: number;
}

/** The format, with its open images counted. */
export function countedFormat(format: Format, uses: Uses, plugin: string): Format {
  const { create } = format;
  return replaced(format, {
    probe: (input: ProbeInput) => answerOf(() => format.probe(input)),
    ...(format.probeDirectory === undefined
      ? {}
      : { probeDirectory: (input) => answerOf(() => format.probeDirectory?.(input)) }),
    open: async (source, options) => countedImage(await guarded(plugin, () => format.open(source, options)), uses),
    ...(create === undefined
      ? {}
      : {
          create: async (files, options) =>
            countedImage(await guarded(plugin, () => create.call(format, files, options)), uses),
        }),
  });
}

/** The filter, with its instances counted. */
export function countedFilter(filter: Filter, uses: Uses, plugin: string): Filter {
  return replaced(filter, {
    open: async (options) => {
      const instance = await guarded(plugin, async () => filter.open(options));
      return counted<FilterInstance>(instance, uses, async () => instance.close());
    },
  });
}

/** The cache format, with its open caches counted. */
export function countedCache(cache: CacheFormat, uses: Uses, plugin: string): CacheFormat {
  return replaced(cache, {
    open: async (file, how) => {
      const opened = await guarded(plugin, () => cache.open(file, how));
      return counted<CacheImage>(opened, uses, (identity) => opened.close(identity));
    },
  });
}

function countedImage(image: Image, uses: Uses): Image {
  return counted<Image>(image, uses, () => image.close());
}

/** Counted until closed; closing again has no effect. */
function counted<T extends { close: (...args: never[]) => unknown }>(
  thing: T,
  uses: Uses,
  close: (...args: Parameters<T['close']>) => Promise<void>,
): T {
  uses.count++;
  let open = true;
  const own = {
    close: async (...args: Parameters<T['close']>) => {
      try {
        await close(...args);
      } finally {
        if (open) uses.count--;
        open = false;
      }
    },
  };
  return replaced(thing, own as unknown as Partial<T>);
}

/** A plugin's format that throws while probing is skipped. */
function answerOf(ask: () => ProbeAnswer | undefined): ProbeAnswer {
  try {
    return ask() ?? NO_ANSWER;
  } catch {
    return NO_ANSWER;
  }
}

const NO_ANSWER: ProbeAnswer = { match: 'no', reason: 'the format failed to look at it' };

/** Errors of a plugin are reported as errors of that plugin. */
async function guarded<T>(plugin: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (isImageError(error)) throw error;
    throw new ImageError('unsupported', 'A plugin failed', { path: plugin, cause: error });
  }
}

/** The object with some members replaced; everything else is inherited, getters and private fields included. */
function replaced<T extends object>(thing: T, own: Partial<T>): T {
  return new Proxy(thing, {
    get(target, name) {
      const from = name in own ? own : target;
      const value: unknown = Reflect.get(from, name, from);
      return typeof value === 'function' ? value.bind(from) : value;
    },
  });
}
