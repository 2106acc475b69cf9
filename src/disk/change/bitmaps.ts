/** Persistent bitmaps of the last image of a chain: the disk is brought to rest, then the image makes the change. */
import { checkArguments, listOf, TEXT } from '../../arguments.ts';
import { ImageError } from '../../errors.ts';
import type { BitmapInfo, BitmapStore } from '../../image/contract.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import type { DiskHost } from './host.ts';
import { OPTIONS } from './option-kinds.ts';

/** Options for a new bitmap. */
export interface AddBitmapOptions {
  /** Bytes of the disk per bit, a power of two. Default: the allocation unit, at least 4 KiB. */
  readonly granularity?: number | undefined;
  /** Start recording. Default true. */
  readonly enabled?: boolean | undefined;
}

/**
 * Dirty bitmaps inside the last image: `disk.bitmaps`. Enabled bitmaps record writes; the records are stored when the
 * disk is closed, and a power cut before that makes them inconsistent. Each change here is durable when it resolves.
 * Throws `unsupported` for formats without bitmaps, `read-only`, `not-found`.
 */
export class DiskBitmaps {
  readonly #host: DiskHost;

  constructor(host: DiskHost) {
    this.#host = host;
  }

  get list(): readonly BitmapInfo[] {
    const { image, name, format } = this.#host.head.last;
    const { bitmaps } = image.info;
    if (bitmaps !== undefined) return bitmaps;
    throw new ImageError('unsupported', `Format ${format} does not support bitmaps`, { path: name });
  }

  /** Adds an empty bitmap. Throws `exists`, `invalid-argument`, `limit`. */
  async add(name: string, options: AddBitmapOptions = {}): Promise<void> {
    checkArguments('bitmaps.add', { name: [name, TEXT], options: [options, OPTIONS] });
    const { granularity, enabled = true } = options;
    return this.#change((store) => store.add(name, { enabled, granularity }));
  }

  /** Removes a bitmap, even an inconsistent one. */
  async remove(name: string): Promise<void> {
    checkArguments('bitmaps.remove', { name: [name, TEXT] });
    return this.#change((store) => store.remove(name));
  }

  /** Clears all bits. */
  async clear(name: string): Promise<void> {
    checkArguments('bitmaps.clear', { name: [name, TEXT] });
    return this.#change((store) => store.clear(name));
  }

  /** Starts recording. */
  async enable(name: string): Promise<void> {
    checkArguments('bitmaps.enable', { name: [name, TEXT] });
    return this.#change((store) => store.enable(name, true));
  }

  /** Stops recording. */
  async disable(name: string): Promise<void> {
    checkArguments('bitmaps.disable', { name: [name, TEXT] });
    return this.#change((store) => store.enable(name, false));
  }

  /** Adds the bits of other bitmaps, of any granularity. */
  async merge(name: string, sources: readonly string[], options: OperationOptions = {}): Promise<void> {
    checkArguments('bitmaps.merge', {
      name: [name, TEXT],
      sources: [sources, listOf(TEXT)],
      options: [options, OPTIONS],
    });
    return this.#change((store) => store.merge(name, sources, options));
  }

  #change(run: (store: BitmapStore) => Promise<void>): Promise<void> {
    const host = this.#host;
    return host.structural(async () => {
      this.#store();
      await host.exclusive(async () => {
        await host.quiesce();
        await host.head.beginMoving();
        await run(this.#store());
      });
    });
  }

  #store(): BitmapStore {
    const { image, name } = this.#host.head.last;
    if (image.bitmaps !== undefined) return image.bitmaps;
    // Says so when the format has none at all.
    const found = this.list.length;
    throw new ImageError('read-only', 'The image is open for reading only', { path: name, found: `${found} bitmaps` });
  }
}
