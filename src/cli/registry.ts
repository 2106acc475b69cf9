/** Formats, filters and caches of one invocation: the built-in ones plus those of its plugins. */
import { defaultRegistry } from '../formats/index.ts';
import type { Registry } from '../image/registry.ts';
import type { CommandContext } from './context.ts';

const REGISTRIES = new WeakMap<CommandContext, Registry>();

/** Registry of the invocation. */
export function registryOf(context: CommandContext): Registry {
  const known = REGISTRIES.get(context);
  if (known !== undefined) return known;
  const registry = defaultRegistry();
  REGISTRIES.set(context, registry);
  return registry;
}
