/** `vdkit bitmap`: the bitmaps of changes inside an image. */
import type { ChainDisk } from '../../disk/disk.ts';
import { ImageError, printable } from '../../errors.ts';
import type { BitmapInfo } from '../../image/contract.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { checkArguments, openOptions, placedImage } from '../images.ts';
import { present } from '../options.ts';
import { bitmapText } from '../report.ts';

type Change = (disk: ChainDisk, name: string, context: CommandContext) => Promise<void>;

const CHANGES: Readonly<Record<string, { readonly done: string; readonly run: Change }>> = {
  add: {
    done: 'is added',
    run: (disk, name, { options }) =>
      disk.bitmaps.add(name, {
        enabled: !options.flag('disabled'),
        ...present({ granularity: options.size('granularity') }),
      }),
  },
  clear: { done: 'is cleared', run: (disk, name) => disk.bitmaps.clear(name) },
  enable: { done: 'records now', run: (disk, name) => disk.bitmaps.enable(name) },
  disable: { done: 'no longer records', run: (disk, name) => disk.bitmaps.disable(name) },
  merge: {
    done: 'now includes the other bitmaps',
    run: (disk, name, context) => disk.bitmaps.merge(name, sources(context), { signal: context.signal }),
  },
  remove: { done: 'is removed', run: (disk, name) => disk.bitmaps.remove(name) },
};

/** Runs `bitmap ACTION IMAGE [NAME…]`; the parser lets no other actions through. */
export async function run(context: CommandContext): Promise<number> {
  const word = context.argument(0);
  const change = CHANGES[word];
  checkWords(context, word);
  const options = openOptions(context);
  await using place = await placedImage(context, 1, word === 'list' ? 'look' : 'write');
  const { source, name: image } = place;
  if (change === undefined) {
    const { bitmaps, warnings, file, format } = await inspect(source, options);
    for (const warning of warnings) context.warn(warning);
    if (bitmaps === undefined) {
      throw new ImageError('unsupported', `Format ${format} does not support bitmaps`, { path: file });
    }
    await show(context, image, bitmaps);
    return EXIT.done;
  }
  const name = context.argument(2);
  await using disk = await openDisk(source, { ...options, mode: 'write' });
  for (const warning of disk.warnings) context.warn(warning);
  await change.run(disk, name, context);
  if (context.json) await show(context, image, disk.bitmaps.list);
  else context.note(printable(`${image}: bitmap "${name}" ${change.done}`));
  return EXIT.done;
}

function checkWords(context: CommandContext, word: string): void {
  if (word !== 'merge') {
    checkArguments(context, `bitmap ${word} IMAGE${word === 'list' ? '' : ' NAME'}`, word === 'list' ? 2 : 3);
  } else if (context.optionalArgument(3) === undefined) {
    throw new UsageError('Missing argument', 'Usage: vdkit bitmap merge IMAGE NAME SOURCE...');
  }
  const { options } = context;
  if (word !== 'add' && (options.flag('disabled') || options.text('granularity') !== undefined)) {
    throw new UsageError('--granularity and --disabled apply only to "bitmap add"', 'Leave them out.');
  }
}

function sources(context: CommandContext): string[] {
  const names: string[] = [];
  for (let index = 3; context.optionalArgument(index) !== undefined; index++) names.push(context.argument(index));
  return names;
}

async function show(context: CommandContext, file: string, bitmaps: readonly BitmapInfo[]): Promise<void> {
  if (context.json) await context.printJson({ schema: 'vdkit/bitmap/1', file, bitmaps });
  else if (bitmaps.length > 0) await context.print(bitmaps.map((one) => printable(bitmapText(one))).join('\n'));
  else context.note(printable(`${file} has no bitmaps`));
}
