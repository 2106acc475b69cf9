/**
 * `vdkit formats`: lists formats and their capabilities.
 */
import { largest } from '../../binary/numbers.ts';
import type { Format } from '../../image/contract.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { registryOf } from '../registry.ts';

/** Runs `formats`. */
export async function run(context: CommandContext): Promise<number> {
  const { formats, caches, filters } = registryOf(context);
  if (context.json) {
    await context.printJson({
      schema: 'vdkit/formats/1',
      formats: formats.map(formatDocument),
      caches: caches.map(({ name, title, extensions }) => ({ name, title, extensions })),
      filters: filters.map(({ name, title, configKeys }) => ({ name, title, configKeys })),
    });
  } else await context.print(table(formats.map(formatRow)));
  return EXIT.done;
}

function formatDocument(format: Format): Record<string, unknown> {
  const { name, aliases, title, capabilities, extensions, variants, configKeys, amendKeys = [] } = format;
  const recognisedOnly = !capabilities.read;
  const create = format.create !== undefined;
  const opensInside = format.unwrap !== undefined;
  const about = { name, aliases, title, recognisedOnly, opensInside, create, capabilities };
  return { ...about, extensions, variants, configKeys, amendKeys };
}

const HEADINGS = ['FORMAT', 'CAN', 'EXTENSIONS', 'VARIANTS', 'NAME'] as const;

function formatRow(format: Format): readonly string[] {
  const names = [format.name, ...format.aliases].join(', ');
  const extensions = format.extensions.map(({ extension }) => extension).join(' ');
  const variants = format.variants.map(({ word }) => word).join(' ');
  return [names, abilities(format), extensions, variants, format.title];
}

function abilities({ capabilities, create, unwrap }: Format): string {
  if (unwrap !== undefined) return 'read images inside';
  if (!capabilities.read) return 'recognised';
  const words = ['read'];
  if (capabilities.write) words.push('write');
  if (create !== undefined) words.push('create');
  if (capabilities.diff) words.push('diff');
  return words.join(' ');
}

function table(rows: readonly (readonly string[])[]): string {
  const all = [HEADINGS, ...rows];
  const widths = HEADINGS.map((_, column) =>
    largest(
      all.map((row) => row[column]?.length ?? 0),
      0,
    ),
  );
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
