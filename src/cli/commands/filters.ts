/**
 * `vdkit filters`: lists filters and their config keys.
 */
import { printable } from '../../errors.ts';
import type { ConfigKey } from '../../image/contract.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { registryOf } from '../registry.ts';

/** Runs `filters`. */
export async function run(context: CommandContext): Promise<number> {
  const { filters } = registryOf(context);
  if (context.json) {
    const list = filters.map(({ name, title, configKeys }) => ({ name, title, configKeys }));
    await context.printJson({ schema: 'vdkit/filters/1', filters: list });
  } else if (filters.length > 0) {
    await context.print(filters.map(({ name, title, configKeys }) => text(name, title, configKeys)).join('\n'));
  } else context.note('There are no filters');
  return EXIT.done;
}

function text(name: string, title: string, keys: readonly ConfigKey[]): string {
  const lines = keys.map((key) => {
    const usual = key.mandatory ? 'mandatory' : `default ${key.default ?? 'none'}`;
    return `  ${key.name} (${key.valueType}, ${usual}): ${key.description}`;
  });
  return [`${name}: ${title}`, ...lines].map(printable).join('\n');
}
