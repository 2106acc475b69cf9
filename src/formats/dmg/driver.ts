/** DMG: the methods of the format, loaded when they are first used. */
import type { FormatCheckOptions, Image } from '../../image/contract.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { Finding } from '../../image/findings.ts';
import { DmgImage } from './image.ts';
import { openSource } from './source.ts';

/** Opens an image. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`. */
export async function open(files: ImageFiles): Promise<Image> {
  return new DmgImage(await openSource(files));
}

/** Decodes everything and compares all checksums. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return (await import('./check.ts')).checkImage(files, options);
}
