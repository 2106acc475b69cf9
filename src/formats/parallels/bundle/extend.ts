/** A new image over the one that is written: its file is there, and the descriptor gets it. */
import { randomGuid } from '../../../binary/guid.ts';
import { SECTOR } from '../../../binary/numbers.ts';
import { ImageError } from '../../../errors.ts';
import type { ImageFiles } from '../../../image/files.ts';
import type { Descriptor } from './descriptor.ts';
import { withShot } from './edit.ts';
import type { OpenFile } from './open.ts';
import { filesOf } from './open.ts';
import { DescriptorStore } from './store.ts';

/** Names the file of a new image in the descriptor, as the top of the list. See `Format.extendDirectory`. */
export async function extendBundle(
  files: ImageFiles,
  { name, parent }: { readonly name: string; readonly parent: string },
  openFile: OpenFile,
): Promise<void> {
  const store = await DescriptorStore.open(files, 'write');
  const { descriptor } = store;
  requireTop(descriptor, parent);
  const storage = await files.open({ name, role: 'disk file', part: true }, 'read');
  const { virtualSize, blockSize } = (await openFile(filesOf(files, name, storage), { mode: 'read' })).info;
  const [part] = descriptor.parts;
  const fits = virtualSize === descriptor.size * SECTOR && blockSize === (part?.blocksize ?? 0) * SECTOR;
  if (!fits) throw unfit(storage.label, descriptor, { virtualSize, blockSize });
  const id = idFor(descriptor, name);
  await store.change((now) => {
    requireTop(now, parent);
    return withShot(now, id, name);
  });
}

function requireTop({ top, path }: Descriptor, parent: string): void {
  if (top === parent) return;
  throw new ImageError('busy', 'The parent is not the image of the bundle that is written any more', {
    path,
    found: `{${top}}`,
    expected: `{${parent}}`,
    hint: 'Run the command again.',
  });
}

/** The GUID in the name of the file, unless it is taken; else a new one. */
function idFor({ shots }: Descriptor, name: string): string {
  const named = /\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}/.exec(name.toLowerCase())?.[1];
  return named === undefined || shots.has(named) || isReserved(named) ? randomGuid() : named;
}

/** True for GUIDs that stand for something in a descriptor: none, and a backup. */
function isReserved(id: string): boolean {
  return /^(?:0{8}-|704718e1-)/.test(id);
}

function unfit(
  path: string,
  { size, parts }: Descriptor,
  { virtualSize, blockSize }: { readonly virtualSize: number; readonly blockSize: number | null },
): ImageError {
  return new ImageError('invalid-argument', 'The new image is not like the others of the bundle', {
    path,
    found: `a disk of ${virtualSize} bytes with clusters of ${blockSize ?? 0}`,
    expected: `${size * SECTOR} bytes with clusters of ${(parts[0]?.blocksize ?? 0) * SECTOR}`,
  });
}
