/** Persistent bitmaps of the last image of a chain: the disk is settled, the image does the work, alone. */
import { checkArguments, listOf, TEXT } from '../../arguments.ts';
import { ImageError } from '../../errors.ts';
import type { BitmapInfo, BitmapStore } from '../../image/contract.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import type { DiskHost } from './host.ts';
import { OPTIONS } from './option-kinds.ts';

/** What a new bitmap is like. */
export interface AddBitmapOptions {
  /** Bytes of the disk for a bit, a power of two. Default: the allocation unit, at least 4 KiB. */
  readonly granularity?: number | undefined;
  /** Whether it records changes. Default true. */
  readonly enabled?: boolean | undefined;
}

/**
 * Bitmaps of what changed, which its last image keeps inside: `disk.bitmaps`. Those that are enabled record what is
 * written; what they recorded is stored when the disk is closed, and a power cut before that makes them inconsistent.
 * Each change here is durable when it resolves. Throws `unsupported` where the format has none, `read-only`, `not-found`.
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
    throw new ImageError('unsupported', `Format ${format} has no bitmaps`, { path: name });
  }

  /** A new one with no bit set. Throws `exists`, `invalid-argument`, `limit`. */
  async add(name: string, options: AddBitmapOptions = {}): Promise<void> {
    checkArguments('bitmaps.add', { name: [name, TEXT], options: [options, OPTIONS] });
    const { granularity, enabled = true } = options;
    return this.#change((store) => store.add(name, { enabled, granularity }));
  }

  /** Also one that is inconsistent. */
  async remove(name: string): Promise<void> {
    checkArguments('bitmaps.remove', { name: [name, TEXT] });
    return this.#change((store) => store.remove(name));
  }

  /** No bit is set any more. */
  async clear(name: string): Promise<void> {
    checkArguments('bitmaps.clear', { name: [name, TEXT] });
    return this.#change((store) => store.clear(name));
  }

  /** It records changes from now on. */
  async enable(name: string): Promise<void> {
    checkArguments('bitmaps.enable', { name: [name, TEXT] });
    return this.#change((store) => store.enable(name, true));
  }

  /** It stays as it is. */
  async disable(name: string): Promise<void> {
    checkArguments('bitmaps.disable', { name: [name, TEXT] });
    return this.#change((store) => store.enable(name, false));
  }

  /** Sets the bits that other bitmaps have set, whatever their granularities. */
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
