/** The formats, filters and caches of one call: the built-in ones, and those of plugins that it named. */
import { defaultRegistry } from '../formats/index.ts';
import type { Registry } from '../image/registry.ts';
import type { CommandContext } from './context.ts';

const REGISTRIES = new WeakMap<CommandContext, Registry>();

/** The registry of the call. */
export function registryOf(context: CommandContext): Registry {
  const known = REGISTRIES.get(context);
  if (known !== undefined) return known;
  const registry = defaultRegistry();
  REGISTRIES.set(context, registry);
  return registry;
}
