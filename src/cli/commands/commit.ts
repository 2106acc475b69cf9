/**
 * `vdkit commit`: writes an image's data into its parent.
 */
import { defaultProvider } from '#local-storage';
import { printable } from '../../errors.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { imageName, openOptions } from '../images.ts';
import { asTypedBeside } from '../names.ts';
import { parseCount } from '../size.ts';

/** Runs `commit IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const keep = context.options.flag('keep');
  let target = '';
  let left: readonly string[] = [];
  {
    await using disk = await openDisk(image, { ...openOptions(context), mode: 'write' });
    for (const warning of disk.warnings) context.warn(warning);
    const names = disk.images.map(({ name }) => name);
    const base = await baseOf(context, image, names);
    target = names[base] ?? '';
    left = names.slice(base + 1, -1);
    context.afterCancel = 'all images read as before; run the command again to continue';
    await disk.commit({
      base,
      keep,
      force: context.options.flag('force'),
      signal: context.signal,
      onProgress: context.progress.report,
    });
  }
  context.progress.finish(true);
  const shown = asTypedBeside(image, target);
  for (const name of left) {
    const other = asTypedBeside(image, name);
    context.warn(`${other} is no longer a parent of ${image}, and its content has changed with ${shown}.`);
  }
  if (context.json) {
    await context.printJson({ schema: 'vdkit/commit/1', file: image, base: target, emptied: !keep, left });
  } else {
    context.note(printable(`${image} was committed to ${shown}${keep ? '' : ' and emptied'}`));
  }
  return EXIT.done;
}

/** Number of the image that receives the data. */
async function baseOf(context: CommandContext, image: string, names: readonly string[]): Promise<number> {
  const top = names.length - 1;
  if (top === 0) {
    throw new UsageError(`${image}: The image has no parent to commit to`, 'Name the last image of a chain.');
  }
  const text = context.options.text('base');
  if (text === undefined) return top - 1;
  if (/^\d+$/.test(text)) return parseCount(text, '--base', { min: 0, max: top - 1 });
  const wanted = await realName(text);
  for (const [number, name] of names.slice(0, -1).entries()) if ((await realName(name)) === wanted) return number;
  throw new UsageError(
    `--base: "${text}" is not an image below ${image}`,
    `Name one of these, or its number from 0: ${names.slice(0, -1).join(', ')}.`,
  );
}

/** Canonical name: the same for every name of a file. */
async function realName(name: string): Promise<string> {
  const provider = defaultProvider();
  return provider.realName(name).catch(() => provider.resolve(name, ''));
}
