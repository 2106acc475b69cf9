/** Check and repair of VDI images: methods of the format, loaded when they are first used. */
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import { checkVdi, repairVdi } from './check.ts';

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return checkVdi(mainFile(files), options);
}

/** Repairs damage in an image. */
export async function repair(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return repairVdi(mainFile(files), options);
}
