/**
 * `vdkit cache`: cache files for data read from images.
 */
import { checkCache, createCache, dropCache, inspectCache } from '../../disk/change/cache.ts';
import { printable } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { checkArguments, imageName, lockOptions } from '../images.ts';
import { registryOf } from '../registry.ts';
import { formatSize, parseSize } from '../size.ts';

/** Runs `cache ACTION FILE [SIZE]`; the parser lets no other actions through. */
export async function run(context: CommandContext): Promise<number> {
  const action = context.argument(0);
  checkArguments(context, `cache ${action} FILE${action === 'create' ? ' SIZE' : ''}`, action === 'create' ? 3 : 2);
  checkOptions(context, action);
  const file = imageName(context, 1);
  const { signal, options } = context;
  const environment = { registry: registryOf(context), signal, ...lockOptions(context) };
  if (action === 'create') {
    const size = parseSize(context.argument(2), 'SIZE');
    const onProgress = context.progress.report;
    await createCache(file, {
      ...environment,
      size,
      fixed: options.flag('fixed'),
      force: options.flag('force'),
      onProgress,
      onMessage: ({ text }) => context.warn(text),
    });
    context.progress.finish(true);
  }
  if (action === 'drop') {
    const remove = options.flag('remove');
    await dropCache(file, { ...environment, remove });
    if (remove) {
      if (context.json) await context.printJson({ schema: 'vdkit/cache/1', file, removed: true });
      else context.note(printable(`${file}: deleted`));
      return EXIT.done;
    }
  }
  await show(context, file, environment);
  return EXIT.done;
}

function checkOptions({ options }: CommandContext, action: string): void {
  const allowed: Readonly<Record<string, string>> = { fixed: 'create', force: 'create', remove: 'drop' };
  for (const [name, own] of Object.entries(allowed)) {
    if (options.flag(name) && action !== own) {
      throw new UsageError(`--${name} applies only to "cache ${own}"`, 'Remove it.');
    }
  }
}

async function show(
  context: CommandContext,
  file: string,
  environment: Parameters<typeof inspectCache>[1],
): Promise<void> {
  const info = await inspectCache(file, environment);
  const findings = await checkCache(file, environment);
  for (const { message } of findings) context.warn(printable(message));
  if (context.json) {
    await context.printJson({ schema: 'vdkit/cache/1', file, ...info, findings });
    return;
  }
  const { format, variant, capacity, cached, identity } = info;
  const lines = [
    `file: ${file}`,
    `format: ${format} (${variant})`,
    `capacity: ${formatSize(capacity)}`,
    `cached: ${formatSize(cached)}`,
    identity === null
      ? 'state: empty'
      : `state: for image ${identity.image ?? 'without UUID'}, as of ${identity.modification}`,
  ];
  await context.print(lines.map(printable).join('\n'));
}
