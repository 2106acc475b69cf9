/** The parent that an image names itself: resolved beside it, opened through the gate, in the format that is recorded. */
import { ImageError, printable } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import { probeFormat, readProbeInput } from '../../image/probe.ts';
import type { Source, Storage } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import type { DiskOpenOptions } from '../options.ts';
import { gateOf, handedOver, registryOf, settingsOf } from './environment.ts';
import { lockedSource, takesLocks } from './locking.ts';
import type { OpenedImage } from './open-image.ts';

/** Which parent of whom. */
export interface StoredParent {
  readonly child: OpenedImage;
  /** As the child stores it. */
  readonly name: string;
  readonly options: DiskOpenOptions & { readonly infoOnly?: boolean };
  /** The caller's word about the format, where it is about this parent. */
  readonly format: string | undefined;
}

/**
 * Opens the parent. Throws `denied` when the gate does not let it through, or when its format is not recorded and it
 * looks like more than a raw disk: a guest can write a header into a raw disk, and have its host open other files.
 */
export async function openStoredParent({ child, name, options, format }: StoredParent): Promise<OpenedImage> {
  const { provider } = child.source;
  const wanted = isPlainName(name) ? provider.resolve(name, child.name) : name;
  const storage = await child.gate.open({ name: wanted, role: 'parent image' }, child.source, 'read');
  let opened = false;
  try {
    const infoOnly = options.infoOnly === true;
    if (!infoOnly && takesLocks(options)) await storage.lock('shared', { shareable: options.shareable ?? false });
    const chosen = await chooseFormat(storage, wanted, child, { options, format });
    const { key } = await storage.identity();
    const source: Source = { provider, name: wanted };
    // The format gets the handle that the gate judged, not the name.
    const judged = handedOver(infoOnly ? source : lockedSource(source, options), () => Promise.resolve(storage));
    const gate = await gateOf(options.allow, source, storage);
    const image = await chosen.format.open(judged, {
      mode: 'read',
      gate,
      infoOnly,
      signal: options.signal,
    });
    opened = true;
    const { warnings } = image.info;
    return {
      image,
      name: wanted,
      format: chosen.format.name,
      key,
      source,
      settings: settingsOf(options),
      recognisedBy: chosen.recognisedBy,
      guessed: chosen.guessed,
      warnings,
      gate,
    };
  } finally {
    if (!opened) await storage.close();
  }
}

async function chooseFormat(
  storage: Storage,
  name: string,
  child: OpenedImage,
  { options, format }: Pick<StoredParent, 'options' | 'format'>,
): Promise<Pick<OpenedImage, 'recognisedBy' | 'guessed'> & { readonly format: Format }> {
  const registry = registryOf(options);
  const said = (found: Format, by: string) => ({ format: found, recognisedBy: by, guessed: false });
  if (format !== undefined) return said(registry.find(format), 'the caller named it');
  const recorded = child.image.info.parentFormat;
  if (recorded !== null) {
    const known = registry.formats.find((one) => one.name === recorded || one.aliases.includes(recorded));
    if (known !== undefined) return said(known, `${child.name} names it`);
    throw new ImageError('unsupported', `The format of the parent, "${printable(recorded)}", is not known`, {
      path: child.name,
      field: 'parent format',
      hint: 'Name it with parentFormat (on the command line: --parent-format).',
    });
  }
  const outcome = probeFormat(await readProbeInput(storage, name), registry);
  if (outcome.guessed) return { ...said(outcome.format, outcome.answer.reason), guessed: true };
  throw new ImageError('denied', 'The image does not say what format its parent has, and it looks like more than raw', {
    path: child.name,
    field: 'parent format',
    found: `${outcome.format.name} (${outcome.answer.reason})`,
    hint: 'Name it with parentFormat (on the command line: --parent-format) if you trust the parent.',
  });
}
