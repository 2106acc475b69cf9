/**
 * `--plugin`: loaded only if a plugin is named.
 */
import { Plugins } from '../plugin/plugins.ts';
import type { CommandContext } from './context.ts';
import { registryOf } from './registry.ts';

/** Loads the named plugins, files or directories, before the command runs. */
export async function loadPlugins(context: CommandContext, names: readonly string[]): Promise<void> {
  const plugins = new Plugins(registryOf(context), undefined, context.io.importModule);
  for (const name of names) {
    if (!(await plugins.isDirectory(name))) await plugins.load(name);
    else {
      const { failed } = await plugins.loadAll(name);
      for (const { name: file, error } of failed) context.warn(`${file} was not loaded: ${error.message}.`);
    }
  }
}
