/**
 * Files of images that a directory lists, named one by one: what is written to one of them changes what the others show, and
 * without its parents it shows too little. Nothing but the list is read.
 */
import { ImageError, isImageError } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import type { Source } from '../../storage/contract.ts';
import type { Environment } from './environment.ts';
import type { ImageFile, ListedIn, OpenedImage } from './image-file.ts';
import { allFiles } from './parts.ts';

/** Opens the image that a directory is, for its list alone. */
export type OpenList = (directory: Source, environment: Environment) => Promise<OpenedImage>;

/** The directory that lists a file; undefined: none does, or its list cannot be read. */
export async function listedIn(
  { source, storage, key }: Pick<ImageFile, 'source' | 'key'> & { readonly storage?: unknown },
  { directoryMain, extendDirectory }: Format,
  environment: Environment,
  open: OpenList,
): Promise<ListedIn | undefined> {
  const { provider, name } = source;
  const isFile = storage !== null && source.storage === undefined && source.configuration === undefined;
  if (!isFile || directoryMain === undefined || extendDirectory === undefined) return undefined;
  if ((await provider.lookUp(provider.resolve(directoryMain, name)))?.kind !== 'file') return undefined;
  const directory = provider.directory(name);
  const own = environment.with({ allow: 'none', lock: false });
  const list = await open({ provider, name: directory }, own).catch((error: unknown) => {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    return null;
  });
  if (list === null) return undefined;
  try {
    for (const part of await allFiles(list)) {
      if ((await provider.lookUp(part.file))?.key !== key) continue;
      return { directory, hasParent: list.image.member?.incomplete().has(part.name) === true };
    }
    return undefined;
  } finally {
    await list.image.close();
  }
}

/** Error for a file of a directory that would be changed behind the back of the others. */
export function refuseListed(path: string, { directory }: ListedIn): never {
  throw new ImageError('denied', 'The file is one of several images of a directory, and is changed only with it', {
    path,
    found: directory,
    hint: 'Name the directory.',
  });
}

/** Error for a file of a directory that is read without its parents there. */
export function listedAlone(path: string, { directory }: ListedIn): ImageError {
  return new ImageError(
    'not-found',
    'The file holds one image of a directory, which shows too little without its parents',
    {
      path,
      found: directory,
      hint: 'Name the directory, or read the file as it is (parent: []; on the command line: --parent none).',
    },
  );
}
