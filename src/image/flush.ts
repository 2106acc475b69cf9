/**
 * The function that drives every format's flush, so that the write order that keeps an image intact through a power cut
 * exists once. Flushes of an image run one after another:
 *
 *   0. seal: synchronous; later commits belong to the next flush.
 *   1. stage: guest data has been written; metadata that nothing on the medium refers to yet is written; storage flush.
 *   2. root: pointers that others need durable first; storage flush after each list.
 *   3. publish: entries that make new space visible, in numbered steps; storage flush after each.
 *   4. settle: only now may freed space be reused.
 */
import { allDone } from '../storage/all-done.ts';
import type { Storage } from '../storage/contract.ts';
import type { Image, MetaWrite } from './contract.ts';

/** The latest flush of each image. */
const latest = new WeakMap<Image, Promise<void>>();

/**
 * Flushes one image, after all earlier flushes of it. Resolves when every request that ended before the call is
 * durable. After a failure the image refuses further writes and the flush must not be repeated.
 */
export function flushImage(image: Image, how: { readonly skipStorageFlush: boolean }): Promise<void> {
  const before = latest.get(image);
  const own = before === undefined ? flushNow(image, how) : settled(before).then(() => flushNow(image, how));
  latest.set(image, own);
  const forget = (): void => {
    if (latest.get(image) === own) latest.delete(image);
  };
  own.then(forget, forget);
  return own;
}

/** Resolves however it ended. */
function settled(flush: Promise<void>): Promise<void> {
  return flush.catch(() => {});
}

async function flushNow(image: Image, how: { readonly skipStorageFlush: boolean }): Promise<void> {
  const sealed = image.seal();
  const sync = how.skipStorageFlush ? async (): Promise<void> => {} : (): Promise<void> => flushAll(image.storages());
  try {
    await writeAll(sealed.stage);
    await sync();
    for (const step of [...sealed.root, ...sealed.publish]) {
      await writeAll(step);
      await sync();
    }
  } catch (error) {
    image.settle(sealed, false);
    throw error;
  }
  image.settle(sealed, true);
}

/** Writes one step: any order and any tear inside it is safe, so the writes run concurrently. */
async function writeAll(writes: readonly MetaWrite[]): Promise<void> {
  await allDone(writes.map((write) => write.storage.write(write.fileOffset, write.bytes)));
}

async function flushAll(storages: readonly Storage[]): Promise<void> {
  await allDone(storages.map((storage) => storage.flush()));
}
