/**
 * The one function that drives every format's flush, so that the order of writes that keeps an image whole through a
 * power cut is written once. The flushes of an image run one after another, whoever asks for them:
 *
 * 0. seal: synchronous; later commits belong to the next flush.
 * 1. stage: guest data is out; what nothing on the medium points at yet is written; storage flush.
 * 2. root: pointers that others need durable first; storage flush after each list.
 * 3. publish: entries that make new room visible, in numbered steps; storage flush after each.
 * 4. settle: only now may freed room be used again.
 */
import { allDone } from '../storage/all-done.ts';
import type { Storage } from '../storage/contract.ts';
import type { Image, MetaWrite } from './contract.ts';

/** The flush of an image that was asked for last. */
const latest = new WeakMap<Image, Promise<void>>();

/**
 * Flushes one image, after the flushes of it that were asked for before. Resolves when everything that ended before the
 * call is durable. After a failure the image refuses further writes and the flush must not be repeated.
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

/** However it ended. */
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

/** Writes one step: any order and any tear inside it is safe, so the writes run together. */
async function writeAll(writes: readonly MetaWrite[]): Promise<void> {
  await allDone(writes.map((write) => write.storage.write(write.fileOffset, write.bytes)));
}

async function flushAll(storages: readonly Storage[]): Promise<void> {
  await allDone(storages.map((storage) => storage.flush()));
}
