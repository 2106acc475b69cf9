/** Directories that an image names: those beside it and below. Loaded when a format asks for one. */
import { ImageError } from '../errors.ts';
import type { Source } from '../storage/contract.ts';
import type { NamedDirectory } from './files.ts';

/**
 * Entries of a directory; null: the name is not that of a directory. Links on the way are resolved first: the directory must
 * lie in that of the image, or below it. Throws `denied`, `not-found`, `unsupported`.
 */
export async function entriesWithin(
  { provider }: Source,
  own: string,
  directory: string,
): Promise<NamedDirectory | null> {
  const info = await provider.lookUp(directory);
  if (info === null)
    throw new ImageError('not-found', 'The image names a file that does not exist', { path: directory });
  if (info.kind !== 'directory') return null;
  const [base, real] = [await provider.realName(own), await provider.realName(directory)];
  const rest = real.startsWith(base) ? real.slice(base.length) : null;
  if (rest === null || !(rest === '' || /^[/\\]/.test(rest) || /[/\\]$/.test(base))) {
    throw new ImageError('denied', 'The image names a directory elsewhere', {
      path: directory,
      expected: `a directory in ${own}`,
      hint: 'Copy the directory beside the image, or name its files one by one and allow them.',
    });
  }
  const { modifiedMs, permissions } = info;
  if (provider.entries !== undefined) return { path: real, modifiedMs, permissions, entries: provider.entries(real) };
  throw new ImageError('unsupported', 'The directories of this storage cannot be read', { path: directory });
}
