/**
 * `vdkit set`: changes image metadata.
 */
import { normalizeGuid } from '../../binary/guid.ts';
import { printable } from '../../errors.ts';
import type { Geometry } from '../../image/geometry.ts';
import { type SetChanges, setImage } from '../../operations/set.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { NONE, openOptions, placedImage } from '../images.ts';
import { present } from '../options.ts';
import { reportDocument, reportText } from '../report.ts';

/** Runs `set IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const { parent: _parent, ...options } = openOptions(context);
  const named = context.options.text('parent');
  const parent = named === NONE ? null : named;
  const changes: SetChanges = { ...changesOf(context), ...present({ parent }) };
  if (Object.keys(changes).length === 0) {
    throw new UsageError('Nothing to change was given', 'See "vdkit set --help" for the options.');
  }
  if (parent !== undefined && (changes.parentUuid !== undefined || changes.parentModificationUuid !== undefined)) {
    throw new UsageError(
      '--parent already sets the UUIDs of the parent',
      'Remove --parent-uuid and --parent-modification-uuid.',
    );
  }
  await using place = await placedImage(context, 0, 'write');
  const report = await setImage(place.source, changes, options);
  for (const warning of report.warnings) context.warn(warning);
  if (context.json) {
    const { warnings } = report;
    await context.printJson({ schema: 'vdkit/set/1', ...reportDocument(report), warnings });
  } else if (!context.quiet) {
    await context.print(reportText(report));
  } else {
    context.note(printable(place.name));
  }
  return EXIT.done;
}

function changesOf(context: CommandContext): SetChanges {
  const { options } = context;
  const comment = options.text('comment');
  const geometry = present({
    physical: geometryOption(context, 'geometry'),
    logical: geometryOption(context, 'logical-geometry'),
  });
  return present({
    comment: comment === '' ? null : comment,
    uuid: uuidOption(context, 'uuid'),
    modificationUuid: uuidOption(context, 'modification-uuid'),
    parentUuid: uuidOption(context, 'parent-uuid'),
    parentModificationUuid: uuidOption(context, 'parent-modification-uuid'),
    geometry: Object.keys(geometry).length === 0 ? undefined : geometry,
  });
}

/** A parent has its UUID already, so `random` makes no sense for `--parent-uuid`. */
function uuidOption(context: CommandContext, name: string): string | null | undefined {
  const text = context.options.text(name);
  if (text === undefined) return undefined;
  if (text === 'null') return null;
  const mayBeRandom = !name.startsWith('parent-');
  if (text === 'random' && mayBeRandom) return text;
  try {
    return normalizeGuid(text);
  } catch {
    const words = mayBeRandom ? 'random or null' : 'null';
    throw new UsageError(`--${name} takes a UUID`, `Write 8-4-4-4-12 hexadecimal digits, or ${words}.`, {
      found: text,
    });
  }
}

function geometryOption(context: CommandContext, name: string): Geometry | null | undefined {
  const text = context.options.text(name);
  if (text === undefined) return undefined;
  if (text === 'none') return null;
  const [, cylinders, heads, sectors] = /^(\d{1,10})\/(\d{1,5})\/(\d{1,5})$/.exec(text) ?? [];
  if (cylinders !== undefined && Number(cylinders) > 0) {
    return { cylinders: Number(cylinders), heads: Number(heads), sectors: Number(sectors) };
  }
  throw new UsageError(`--${name} takes a geometry`, 'Write cylinders/heads/sectors, such as 1024/16/63, or none.', {
    found: text,
  });
}
