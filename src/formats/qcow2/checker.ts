/** Checks and repairs of QCOW2 images: methods of the format, loaded when they are first used. */
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import { checkQcow2 } from './check/check.ts';
import { repairQcow2 } from './check/repair.ts';

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return checkQcow2(mainFile(files), options);
}

/** Repairs damage in an image. */
export async function repair(files: ImageFiles, options: OperationOptions): Promise<readonly Finding[]> {
  return repairQcow2(mainFile(files), options);
}
