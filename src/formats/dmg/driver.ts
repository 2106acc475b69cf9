/** DMG: the methods of the format, loaded when they are first used. */
import type { FormatCheckOptions, Image } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Finding } from '../../image/findings.ts';
import { DmgImage } from './image.ts';
import { readTables } from './tables.ts';
import { readTrailer } from './trailer.ts';

/** Opens an image. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`. */
export async function open(files: ImageFiles): Promise<Image> {
  const storage = mainFile(files);
  const trailer = await readTrailer(storage);
  return new DmgImage(storage, trailer, await readTables(storage, trailer));
}

/** Decodes everything and compares all checksums. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return (await import('./check.ts')).checkImage(mainFile(files), options);
}
