/** Images that are directories: found by the caller's name, or by one that another image stores. */
import { isImageError } from '../../errors.ts';
import type { Source, Storage } from '../../storage/contract.ts';
import type { ImageFileOptions, NamedBy } from './image-file.ts';

/** A directory that a format may accept. */
export interface FoundDirectory {
  readonly key: string;
  /** For one that another image names: its place with all links resolved, as the gate judged it. */
  readonly place?: string;
}

/** Null: not a directory, or no format accepts directories. */
export async function findDirectory(
  { provider, name }: Source,
  { namedBy, environment }: ImageFileOptions,
  refusal: unknown,
): Promise<FoundDirectory | null> {
  const { formats } = environment.registry;
  if (!isImageError(refusal) || !formats.some((format) => format.probeDirectory !== undefined)) return null;
  if (refusal.kind !== 'unsupported' && (namedBy === undefined || refusal.kind !== 'denied')) return null;
  const info = await provider.lookUp(name);
  if (info?.kind !== 'directory') return null;
  if (namedBy === undefined) return { key: info.key };
  for (const { directoryMain } of formats) {
    const place = directoryMain === undefined ? null : await placeOfNamed({ provider, name }, directoryMain, namedBy);
    const real = place === null ? null : await provider.lookUp(place);
    if (place !== null && real?.kind === 'directory') return { key: real.key, place };
  }
  return null;
}

/**
 * The place of a directory that an image names. A directory has no handle that the gate could judge, so it judges the file
 * `main` in it; what lies in that file's own directory belongs to the image. Null: the gate refuses it, or there is none.
 */
async function placeOfNamed(
  { provider, name }: Source,
  main: string,
  { gate, from, role }: NamedBy,
): Promise<string | null> {
  const wanted = provider.resolve(main, `${name}/x`);
  let storage: Storage;
  try {
    storage = await gate.open({ name: wanted, role }, from, 'read');
  } catch (error) {
    if (isImageError(error) && (error.kind === 'denied' || error.kind === 'not-found')) return null;
    throw error;
  }
  try {
    const place = (await storage.place?.()) ?? null;
    const real = place === null ? await provider.realName(wanted) : place.name;
    return real === null ? null : provider.directory(real);
  } finally {
    await storage.close();
  }
}
