/**
 * Unpacked bytes for a reader that goes through them once: they are not stored. Only for a disk whose length can be told, and
 * whose first bytes are of no format: one that is a format by its last bytes alone is noticed at the end.
 */

import { probeFormat } from '../../image/probe.ts';
import type { InnerChunks } from '../../image/unwrap.ts';
import { LIMITS } from '../../limits.ts';
import { ReadOnceStorage } from '../../storage/read-once.ts';
import type { Environment } from './environment.ts';
import type { UnwrapOnce } from './open-image.ts';

/** Most that any of the methods makes of a byte: what is said to be more is not believed. */
const MOST_PER_BYTE = 40_000;
/** Smaller disks are at hand as soon as they are unpacked. */
const LEAST = 4 * 1024 * 1024;

/** Options for passing through what is unpacked. */
export interface PassHow {
  /** For messages. */
  readonly label: string;
  /** Length of what is unpacked, as it is stored. */
  readonly storedBytes: number;
  /** Of the file inside. */
  readonly name: string;
  readonly environment: Environment;
  readonly once: UnwrapOnce;
  /** True when decoding gave a warning: nothing would report it after the image is open. */
  readonly isNoticed: () => boolean;
}

/** The storage; or all the chunks, which must be stored. */
export async function passingStorage(
  chunks: AsyncIterable<Uint8Array>,
  { expectedSize }: InnerChunks,
  { label, storedBytes, name, environment, once, isNoticed }: PassHow,
): Promise<ReadOnceStorage | AsyncIterable<Uint8Array>> {
  const { registry } = environment;
  const storage = new ReadOnceStorage({
    label,
    chunks,
    tail: LIMITS.probeTail,
    onSurprise: () => (once.surprised = true),
  });
  const head = await storage.readHead(LIMITS.probeHead);
  const size = (await expectedSize?.(head)) ?? null;
  if (size === null || head.length < LIMITS.probeHead || !isPlausible(size, storedBytes)) return storage.all();
  const isRaw = (tail: Uint8Array): boolean => probeFormat({ name, size, head, tail }, registry).guessed;
  const named = registry.byExtension(name);
  if ((named !== undefined && named !== registry.fallback) || !isRaw(new Uint8Array(LIMITS.probeTail))) {
    return storage.all();
  }
  storage.expect(size, (tail) => !isNoticed() && isRaw(tail));
  return storage;
}

/** False also for a disk that is too small to be worth it. */
function isPlausible(size: number, storedBytes: number): boolean {
  return Number.isSafeInteger(size) && size >= LEAST && size <= storedBytes * MOST_PER_BYTE;
}
