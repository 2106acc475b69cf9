/** Objects with some members replaced, so that a test can change one aspect of a real one. */
import type { Format, Image } from '../image/contract.ts';
import { Registry } from '../image/registry.ts';

/** The target with some members replaced. Everything else is inherited, private fields included. */
export function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      const from = name in own ? own : target;
      const value: unknown = Reflect.get(from, name, from);
      return typeof value === 'function' ? value.bind(from) : value;
    },
  });
}

/** A registry of the same formats that wraps every image opened or created. */
export function registryWith(formats: readonly Format[], wrap: (image: Image) => Image): Registry {
  return new Registry(
    formats.map((format) => {
      const { create } = format;
      return overriding(format, {
        open: async (source, options) => wrap(await format.open(source, options)),
        ...(create === undefined
          ? {}
          : { create: async (files, options) => wrap(await create.call(format, files, options)) }),
      });
    }),
  );
}
