/** Expected allocation map of a disk: see docs/model-tests.md. */
import type { Extent } from '../../src/disk/device.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { Source, StorageProvider } from '../../src/storage/contract.ts';
import { Mismatch } from './mismatch.ts';

/** Compares bytes with what the disk must read at a guest offset; throws a {@link Mismatch} that begins with `what`. */
export type CompareBytes = (guestOffset: number, bytes: Uint8Array, what: string) => void;

/** The extents follow each other from the start to the end. */
export async function checkCover(disk: ChainDisk): Promise<void> {
  const end = disk.size;
  let at = 0;
  for await (const { offset, length } of disk.extents()) {
    if (offset !== at || length <= 0) throw new Mismatch(`an extent of ${length} bytes at ${offset} follows on ${at}`);
    at += length;
  }
  if (at !== end) throw new Mismatch(`the extents end at ${at} instead of ${end}`);
}

/**
 * The extents cover the disk, each belongs to an image of it, and zero is zero. With `files` that are not being
 * changed, data is also compared with the file at the reported position.
 */
export async function checkExtents(
  disk: ChainDisk,
  files: StorageProvider | null,
  compare: CompareBytes,
): Promise<void> {
  await checkCover(disk);
  const contents = new Map<string, Uint8Array>();
  for await (const extent of disk.extents()) {
    const { offset, length, state, compressed, file, fileOffset } = extent;
    const what = `the ${state} extent of ${length} bytes at ${offset}`;
    checkOwner(extent, disk.images.length, what);
    if (state === 'zero' || state === 'absent') compare(offset, new Uint8Array(length), what);
    if (state !== 'data' || compressed) continue;
    if (file === null || fileOffset === null) throw new Mismatch(`${what} is in no file`);
    if (files === null) continue;
    const bytes = contents.get(file) ?? (await fileBytes({ provider: files, name: file }));
    contents.set(file, bytes);
    if (fileOffset + length > bytes.length) throw new Mismatch(`${what} ends behind its file`);
    compare(offset, bytes.subarray(fileOffset, fileOffset + length), `${what} (in its file at ${fileOffset})`);
  }
}

function checkOwner({ image, depth, state }: Extent, count: number, what: string): void {
  const fits = image === null ? depth === null && state === 'absent' : image < count && depth === count - 1 - image;
  if (!fits) throw new Mismatch(`${what} belongs to image ${image} at depth ${depth}`);
}

/** All bytes of a file. */
export async function fileBytes({ provider, name }: Source): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}
