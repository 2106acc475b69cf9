/** `vdkit amend`: changes options that an image was made with. */

import { amendOrConfigKeys } from '../../disk/open/format-options.ts';
import { printable } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import { amendImage } from '../../operations/amend.ts';
import { detectFormat } from '../../operations/inspect.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { registryOf } from '../registry.ts';
import { reportDocument, reportText } from '../report.ts';
import { parseSize } from '../size.ts';

/** Runs `amend IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const pairs = context.options.list('option').flatMap(splitPairs);
  if (pairs.length === 0) {
    throw new UsageError('No option to change was given', 'Give one, such as -o lazy_refcounts=on.');
  }
  const { parent: _parent, ...options } = openOptions(context);
  await using place = await placedImage(context, 0, 'write');
  const { source, name: image } = place;
  const { format } = options.format === undefined ? await detectFormat(source, options) : { format: options.format };
  const values = valuesOf(registryOf(context).find(format), pairs);
  context.afterCancel = `${printable(image)} is intact and reads as before; run the command again to continue`;
  const onProgress = context.progress.report;
  const report = await amendImage(source, values, { ...options, onProgress });
  context.progress.finish(true);
  for (const warning of report.warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/amend/1', ...reportDocument(report) });
  else if (!context.quiet) await context.print(reportText(report));
  return EXIT.done;
}

/** Splits `a=b,c=d` into pairs; a doubled comma is a comma inside a value. */
function splitPairs(text: string): string[] {
  return text.split(/(?<!,),(?!,)/).map((pair) => pair.replaceAll(',,', ','));
}

/**
 * Converts values to the types of the format's keys. Unknown keys are passed on: the library reports them with the list
 * of valid ones.
 */
function valuesOf(format: Format, pairs: readonly string[]): Record<string, string | number> {
  const keys = amendOrConfigKeys(format);
  const values: Record<string, string | number> = {};
  for (const pair of pairs) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (name === undefined || value === undefined) {
      const names = keys.map((key) => key.name).join(', ');
      throw new UsageError('--option takes KEY=VALUE', names === '' ? 'This format has none.' : `Keys: ${names}.`, {
        found: pair,
      });
    }
    const key = keys.find((one) => one.name.toLowerCase() === name.toLowerCase());
    values[key?.name ?? name] = key?.valueType === 'integer' ? parseSize(value, `--option ${key.name}`) : value;
  }
  return values;
}
