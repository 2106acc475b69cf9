/** What an image says of itself, without reading its data. */
import type { ImageInfo } from '../image/contract.ts';
import type { LockState, Source } from '../storage/contract.ts';
import { closeImages } from './chain.ts';
import { gateOf, sourceOf } from './environment.ts';
import { type OpenedImage, openImage, openParents } from './open-image.ts';
import type { ImageReport, ImageSource, InspectOptions, InspectReport } from './options.ts';

const UNKNOWN: LockState = { held: null, holders: [] };
const ORDER: readonly LockState['held'][] = ['exclusive', 'shared', null, 'none'];

/**
 * Reports on an image from its headers: format, sizes, identities, parent, geometry. With `chain`, on its parents too,
 * which the gate must allow. Changes nothing, takes no lock and says which there are. Throws as `openDisk` does.
 */
export async function inspect(source: ImageSource, options: InspectOptions = {}): Promise<InspectReport> {
  const resolved = sourceOf(source, options);
  const early = options.lock === false ? Promise.resolve() : lookEarly(resolved);
  const opened: OpenedImage[] = [];
  try {
    const gate = await gateOf(options.allow, resolved);
    const last = await openImage(resolved, { ...options, mode: 'read', infoOnly: true, gate });
    opened.push(last);
    if (options.chain !== true) return await report(last, options);
    await openParents(opened, [], { ...options, infoOnly: true });
    const chain: ImageReport[] = [];
    for (const entry of [...opened].reverse()) chain.push(await report(entry, options));
    return { ...(await report(last, options)), chain };
  } finally {
    await early;
    await closeImages(opened);
  }
}

/** The first look at the system's locks takes milliseconds of waiting, in which the image can be opened. */
async function lookEarly({ provider, name }: Source): Promise<void> {
  try {
    const storage = await provider.open(name, 'read');
    await storage.lockState().finally(() => storage.close());
  } catch {
    // Whoever opens the image hears of it.
  }
}

async function report(entry: OpenedImage, options: InspectOptions): Promise<ImageReport> {
  const info: ImageInfo = entry.image.info;
  let fileSize = 0;
  let allocatedSize: number | null = 0;
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
    lock: options.lock === false ? UNKNOWN : await lockOf(entry),
    recognisedBy: entry.recognisedBy,
    warnings: entry.warnings,
  };
}

/** The strictest lock on any file of the image. */
async function lockOf({ image }: OpenedImage): Promise<LockState> {
  const states = await Promise.all(image.storages().map((storage) => storage.lockState()));
  const strictest = ORDER.map((held) => states.find((state) => state.held === held)).find(
    (state) => state !== undefined,
  );
  return strictest ?? UNKNOWN;
}
