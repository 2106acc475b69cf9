/** `vdkit snapshot`: the snapshots inside an image. */
import type { ChainDisk } from '../../disk/disk.ts';
import { ImageError, printable } from '../../errors.ts';
import type { SnapshotInfo } from '../../image/contract.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { checkArguments, openOptions, placedImage } from '../images.ts';
import { snapshotText } from '../report.ts';
import { warnOfChildren } from '../siblings.ts';

/** An action: its usage, its effect and its report. */
interface Action {
  readonly usage: string;
  readonly arguments: number;
  /** Report for people, printed afterwards. */
  readonly done: (name: string, next: string) => string;
  readonly run:
    | ((disk: ChainDisk, name: string, how: { next: string; signal: AbortSignal }) => Promise<unknown>)
    | null;
}

const ACTIONS: Readonly<Record<string, Action>> = {
  list: { usage: 'snapshot list IMAGE', arguments: 2, done: () => '', run: null },
  create: {
    usage: 'snapshot create IMAGE NAME',
    arguments: 3,
    done: (name) => `snapshot "${name}" created`,
    run: (disk, name, { signal }) => disk.snapshots.create(name, { signal }),
  },
  apply: {
    usage: 'snapshot apply IMAGE NAME',
    arguments: 3,
    done: (name) => `the disk is back at snapshot "${name}"`,
    run: (disk, name, { signal }) => disk.snapshots.apply(name, { signal }),
  },
  delete: {
    usage: 'snapshot delete IMAGE NAME',
    arguments: 3,
    done: (name) => `snapshot "${name}" deleted`,
    run: (disk, name, { signal }) => disk.snapshots.delete(name, { signal }),
  },
  rename: {
    usage: 'snapshot rename IMAGE NAME NEW',
    arguments: 4,
    done: (name, next) => `snapshot "${name}" renamed to "${next}"`,
    run: (disk, name, { next }) => disk.snapshots.rename(name, next),
  },
};

/** Runs `snapshot ACTION IMAGE [NAME [NEW]]`; the parser lets no other actions through. */
export async function run(context: CommandContext): Promise<number> {
  const word = context.argument(0);
  const action = ACTIONS[word];
  if (action === undefined) throw new Error(`internal: no action ${word}`);
  checkArguments(context, action.usage, action.arguments);
  const options = openOptions(context);
  await using place = await placedImage(context, 1, word === 'list' ? 'look' : 'write');
  const { source, name: image } = place;
  if (action.run === null) {
    const { snapshots, warnings, file, format } = await inspect(source, options);
    for (const warning of warnings) context.warn(warning);
    if (snapshots === undefined) {
      throw new ImageError('unsupported', `Format ${format} does not support internal snapshots`, { path: file });
    }
    await show(context, image, snapshots);
    return EXIT.done;
  }
  const [name, next] = [context.argument(2), context.argument(3)];
  await using disk = await openDisk(source, { ...options, mode: 'write' });
  if (word === 'apply') await warnOfChildren(context, source, disk, options);
  for (const warning of disk.warnings) context.warn(warning);
  context.afterCancel = `${printable(image)} is intact; "snapshot list" shows its state, and "check --repair" frees unused space`;
  await action.run(disk, name, { next, signal: context.signal });
  if (context.json) await show(context, image, disk.snapshots.list);
  else context.note(printable(`${image}: ${action.done(name, next)}`));
  return EXIT.done;
}

async function show(context: CommandContext, file: string, snapshots: readonly SnapshotInfo[]): Promise<void> {
  if (context.json) await context.printJson({ schema: 'vdkit/snapshot/1', file, snapshots });
  else if (snapshots.length > 0) await context.print(snapshots.map((one) => printable(snapshotText(one))).join('\n'));
  else context.note(printable(`${file} has no snapshots`));
}
