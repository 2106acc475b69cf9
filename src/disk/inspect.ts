/** What an image says of itself, without reading its data. */
import { ImageError } from '../errors.ts';
import type { ImageInfo } from '../image/contract.ts';
import { closeImages } from './disk.ts';
import { gateOf, sourceOf } from './environment.ts';
import { type OpenedImage, openImage, openParents } from './open.ts';
import type { ImageReport, ImageSource, InspectOptions, InspectReport } from './options.ts';

/**
 * Reports on an image from its headers: format, sizes, identities, parent, geometry. With `chain`, on its parents too,
 * which the gate must allow. Changes nothing. Throws as `openDisk` does.
 */
export async function inspect(source: ImageSource, options: InspectOptions = {}): Promise<InspectReport> {
  const resolved = sourceOf(source, options);
  const gate = await gateOf(options.allow, resolved);
  const opened: OpenedImage[] = [await openImage(resolved, { ...options, mode: 'read', infoOnly: true, gate })];
  try {
    const [last] = opened;
    if (last === undefined) throw new ImageError('invalid-argument', 'No image was named');
    if (options.chain !== true) return await report(last);
    await openParents(opened, [], { ...options, infoOnly: true });
    const chain: ImageReport[] = [];
    for (const entry of [...opened].reverse()) chain.push(await report(entry));
    return { ...(await report(last)), chain };
  } finally {
    await closeImages(opened);
  }
}

async function report(entry: OpenedImage): Promise<ImageReport> {
  const info: ImageInfo = entry.image.info;
  let fileSize = 0;
  let allocatedSize: number | null = 0;
  const [first] = entry.image.storages();
  const lock = first === undefined ? { held: null, holders: [] } : await first.lockState();
  for (const storage of entry.image.storages()) {
    fileSize += storage.size;
    const { allocatedSize: allocated } = await storage.identity();
    allocatedSize = allocatedSize === null || allocated === null ? null : allocatedSize + allocated;
  }
  return {
    ...info,
    file: entry.name,
    fileSize,
    allocatedSize,
    lock,
    recognisedBy: entry.recognisedBy,
    warnings: entry.warnings,
  };
}
