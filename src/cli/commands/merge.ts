/**
 * `vdkit merge`: merges images of a chain; the disk reads the same.
 */

import { type MergeRecord, readMergeRecord, removeMergeRecord } from '../../disk/change/merge-record.ts';
import { Environment } from '../../disk/open/environment.ts';
import type { Message } from '../../disk/options.ts';
import { ImageError, printable } from '../../errors.ts';
import { openDisk } from '../../operations/open.ts';
import type { Source } from '../../storage/contract.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { failures, imageName, openOptions } from '../images.ts';
import { asTypedBeside } from '../names.ts';
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
    const gone = keep ? 'their files were kept' : dryRun ? 'their files would be deleted' : 'their files were deleted';
    const [target = '', ...sources] = [kept, ...removed].map((name) => asTypedBeside(image, name));
    context.note(printable(`${sources.join(', ')} ${verb} into ${target}; ${gone}`));
  }
  return EXIT.done;
}

interface Merged {
  readonly from: number;
  readonly to: number;
  readonly removed: readonly string[];
  readonly kept: string;
}

async function merge(context: CommandContext, image: string, how: { dryRun: boolean; keep: boolean }): Promise<Merged> {
  const options = openOptions(context);
  const source = (await Environment.of(options)).sourceOf(image);
  const record = await readMergeRecord(source);
  // Numbers as they were typed before the merge was cut.
  const cut = record === null ? null : recordedFacts(context, record);
  if (cut !== null && !how.dryRun && (await hasEnded(source, cut))) {
    await removeMergeRecord(source);
    return cut;
  }
  if ((await source.provider.lookUp(source.name)) === null) {
    throw new ImageError('not-found', 'No such file or directory', {
      path: source.name,
      hint: 'Check the name; an earlier merge may have completed and deleted the merged images, this one included.',
    });
  }
  let told = false;
  const onMessage = (message: Message): void => {
    if (told || message.level === 'error') failures(context)({ ...message, level: 'error' });
  };
  await using disk = await openDisk(image, { ...options, onMessage, mode: how.dryRun ? 'read' : 'write' });
  told = true;
  for (const warning of disk.warnings) context.warn(warning);
  const facts =
    cut ??
    factsOf(
      context,
      disk.images.map(({ name }) => name),
    );
  if (how.dryRun) return facts;
  context.afterCancel = 'all images are intact and read as before; run the command again to continue';
  await disk.merge(facts.from, facts.to, {
    keep: how.keep,
    force: context.options.flag('force'),
    signal: context.signal,
    onProgress: context.progress.report,
  });
  context.progress.finish(true);
  return facts;
}

function factsOf(context: CommandContext, names: readonly string[]): Merged {
  const image = imageName(context, 0);
  const top = names.length - 1;
  if (top === 0) {
    const problem = `${image}: The image has no parent, so there is nothing to merge`;
    throw new UsageError(problem, 'Name the last image of a chain.');
  }
  const from = imageNumber(context, 'from', top) ?? top;
  const to = imageNumber(context, 'to-image', top) ?? (from === 0 ? 1 : from - 1);
  if (from === to) {
    const hint = `Give --from and --to-image two different numbers from 0 to ${top}.`;
    throw new UsageError(`${image}: An image cannot be merged with itself`, hint, { found: from });
  }
  const removed = from < to ? names.slice(from, to) : names.slice(to + 1, from + 1).reverse();
  return { from, to, removed, kept: names[to] ?? '' };
}

/** The merge that the record is about, if the command names the same one; else null. */
function recordedFacts(context: CommandContext, { from, to, images }: MergeRecord): Merged | null {
  try {
    const facts = factsOf(
      context,
      images.map(({ name }) => name),
    );
    return facts.from === from && facts.to === to ? facts : null;
  } catch (error) {
    // Numbers that the chain of the record does not have.
    if (error instanceof UsageError) return null;
    throw error;
  }
}

/** True when the image itself is already merged and only the record is left to remove. */
async function hasEnded({ provider, name }: Source, { removed }: Merged): Promise<boolean> {
  if (!removed.includes(name)) return false;
  for (const file of removed) if ((await provider.lookUp(file)) !== null) return false;
  return true;
}

function imageNumber(context: CommandContext, option: string, top: number): number | undefined {
  const text = context.options.text(option);
  if (text === undefined) return undefined;
  return text === 'last' ? top : parseCount(text, `--${option}`, { min: 0, max: top });
}
