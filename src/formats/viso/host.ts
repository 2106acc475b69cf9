/** Files of the host, each through the gate. */
import { withContext } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';

const ROLE = 'file of the image';

/** Opens a file that the text names, or one that lies in a directory of these. The caller closes it. */
export function openHost(files: ImageFiles, path: string): Promise<Storage> {
  return files.open({ name: path, role: ROLE, passing: true }, 'read').catch((error: unknown) => {
    throw withContext(error, { path });
  });
}
