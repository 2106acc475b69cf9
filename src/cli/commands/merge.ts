/** `vdkit merge`: fewer images that read the same. */
import { openDisk } from '../../disk/open.ts';
import { printable } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { imageName, openOptions } from '../images.ts';
import { parseCount } from '../size.ts';

/** Runs `merge IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const dryRun = context.options.flag('dry-run');
  const keep = context.options.flag('keep');
  const { from, to, removed, kept } = await merge(context, image, { dryRun, keep });
  if (context.json) {
    const document = { schema: 'vdkit/merge/1', from, to, file: kept, removed: keep ? [] : removed, dryRun };
    await context.printJson(document);
  } else {
    const verb = dryRun ? 'would be merged' : 'merged';
    const gone = keep ? 'their files stay' : dryRun ? 'their files would go' : 'their files are gone';
    context.note(printable(`${removed.join(', ')} ${verb} into ${kept}; ${gone}`));
  }
  return EXIT.done;
}

async function merge(context: CommandContext, image: string, how: { dryRun: boolean; keep: boolean }) {
  await using disk = await openDisk(image, { ...openOptions(context), mode: how.dryRun ? 'read' : 'write' });
  for (const warning of disk.warnings) context.warn(warning);
  const names = disk.images.map(({ name }) => name);
  const top = names.length - 1;
  if (top === 0) {
    throw new UsageError('The image has no parent, so there is nothing to merge', 'Name the last image of a chain.');
  }
  const from = imageNumber(context, 'from', top) ?? top;
  const to = imageNumber(context, 'to-image', top) ?? (from === 0 ? 1 : from - 1);
  if (from === to) throw new UsageError('An image cannot be merged with itself', 'Give two different numbers.');
  const removed = from < to ? names.slice(from, to) : names.slice(to + 1, from + 1).reverse();
  const facts = { from, to, removed, kept: names[to] ?? '' };
  if (how.dryRun) return facts;
  context.afterCancel = 'all images are whole and read as before; run it again to go on';
  await disk.merge(from, to, {
    keep: how.keep,
    force: context.options.flag('force'),
    signal: context.signal,
    onProgress: context.progress.report,
  });
  context.progress.finish(true);
  return facts;
}

function imageNumber(context: CommandContext, option: string, top: number): number | undefined {
  const text = context.options.text(option);
  if (text === undefined) return undefined;
  return text === 'last' ? top : parseCount(text, `--${option}`, { min: 0, max: top });
}
