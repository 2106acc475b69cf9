/**
 * Drivers that are loaded when something is first done with a file of their format: a program that looks at many formats
 * loads the code of those that it meets.
 */

/** The same method, behind the loading of its module. */
type Loaded<M> = M extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;

/**
 * Methods of these names, each of which loads the driver before it goes on. `load` is called at every use: an `import()`
 * of one module, which the platform keeps.
 */
export function loadedMethods<D extends object, K extends keyof D & string>(
  load: () => Promise<D>,
  names: readonly K[],
): { readonly [Name in K]: Loaded<D[Name]> } {
  const methods = names.map((name) => [
    name,
    async (...args: readonly unknown[]): Promise<unknown> => {
      const method = (await load())[name] as (...args: readonly unknown[]) => unknown;
      return method(...args);
    },
  ]);
  return Object.fromEntries(methods);
}
