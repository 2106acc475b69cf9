/**
 * `vdkit rebase`: changes the parent of a differencing image.
 */

import { printable } from '../../errors.ts';
import { rebaseImage } from '../../operations/rebase-image.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { imageName, NONE, namedFormat, openOptions } from '../images.ts';
import { present } from '../options.ts';
import { registryOf } from '../registry.ts';
import { reportDocument } from '../report.ts';

/** Runs `rebase IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const to = context.options.text('to');
  if (to === undefined) {
    throw new UsageError('The new parent is missing', 'Name it with --to; "--to none" makes the image a base.');
  }
  const parent = to === NONE || to === '' ? null : to;
  const { parent: oldParent, parentFormat: oldParentFormat, ...options } = openOptions(context);
  const unsafe = context.options.flag('unsafe');
  if (!unsafe) {
    context.afterCancel = `${printable(image)} has its old parent and reads as before; run the command again to continue`;
  }
  const report = await rebaseImage(image, parent, {
    ...options,
    unsafe,
    onProgress: context.progress.report,
    ...present({
      oldParent,
      oldParentFormat,
      parentFormat: namedFormat(context, 'to-format', registryOf(context))?.name,
    }),
  });
  context.progress.finish(true);
  for (const warning of report.warnings) context.warn(warning);
  if (context.json) {
    const { warnings } = report;
    await context.printJson({ schema: 'vdkit/rebase/1', ...reportDocument(report), warnings });
  } else {
    const now = parent === null ? 'has no parent now' : `is a child of ${parent} now`;
    context.note(printable(`${image} ${now}`));
  }
  return EXIT.done;
}
