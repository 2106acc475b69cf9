/**
 * The writable image of a chain with everything needed for writing: write path, flushes, pending discards. A disk has
 * one for its last image; a merge has one for its target.
 */

import type { DeviceCapabilities } from '../device.ts';
import type { DiskOpenOptions, EnvironmentOptions, ImageOpenOptions } from '../options.ts';
import { AscendingWrites } from './ascending-writes.ts';
import type { Chain, ChainImage } from './chain.ts';
import { PendingDiscards } from './discards.ts';
import { Flusher, systemTimers } from './flusher.ts';
import { WritePath } from './write-path.ts';

/** Milliseconds until an automatic flush, so that a forgotten close loses little. */
const FLUSH_AFTER_MS = 5000;

/** Options for writing to the last image, in addition to its settings. */
export type HeadOptions = Pick<DiskOpenOptions, 'flushAfterMs' | 'timers'> & {
  /** Receives failures of automatic flushes. */
  readonly environment?: Pick<EnvironmentOptions, 'onMessage'> | undefined;
  /** Replaces its settings. */
  readonly settings?: ImageOpenOptions | undefined;
};

/** Writing to the last image of a chain. */
export class ActiveImage {
  readonly chain: Chain;
  readonly last: ChainImage;
  readonly writes: WritePath;
  readonly flusher: Flusher;
  readonly discards: PendingDiscards;
  /** Allocation unit in bytes; 0 where everything has a fixed place. */
  readonly blockSize: number;
  readonly can: DeviceCapabilities;
  /** Of an image that is written once; null: writes may go anywhere. */
  readonly once: AscendingWrites | null;
  #begun: Promise<void> | null;
  #ready: boolean;

  /**
   * `before`: the previous writer of the same image.
   */
  constructor(chain: Chain, options: HeadOptions, before?: ActiveImage) {
    const last = chain.last;
    const settings = options.settings ?? last.settings;
    const info = last.image.info;
    const fixed = info.allocation === 'fixed';
    this.chain = chain;
    this.last = last;
    this.once = last.image.access === 'ascending-once' ? (before?.once ?? new AscendingWrites()) : null;
    this.#ready = before?.last.image === last.image && before.ready;
    this.#begun = this.#ready ? Promise.resolve() : null;
    this.blockSize = fixed ? 0 : (info.blockSize ?? 0);
    // The caller wants to write, and the image lets them.
    const write = last.image.can.write && settings.mode === 'write';
    const { zeroMarker, discard: gives } = last.image.can;
    // Without a mark for zero, what is given up would show the parent.
    const safe = zeroMarker || this.blockSize === 0 || !chain.hasParent(chain.top);
    const discard = write && gives && safe && settings.discard !== false;
    this.can = { write, zero: write, discard, random: this.once === null && goesAnywhere(chain) };
    this.writes = new WritePath(chain, last.image, {
      honourZeroes: settings.honourZeroes ?? false,
      // Blocks of a fixed image are there already, so leaving data out would save nothing.
      honourSame: settings.honourSame ?? fixed,
    });
    this.discards = new PendingDiscards(last.image, info.blockSize ?? 0, () => chain.size, chain.filters);
    this.flusher = new Flusher(last.image, {
      ignoreFlush: settings.ignoreFlush ?? false,
      afterMs: options.flushAfterMs ?? FLUSH_AFTER_MS,
      timers: options.timers ?? systemTimers,
      onFailure: (error) => {
        const text = `${last.name} could not be flushed: data written since the last flush may be lost.`;
        options.environment?.onMessage?.({ level: 'error', text, path: last.name, error });
      },
    });
  }

  /** True when everything that must precede the first change is durable. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Makes durable what must precede the first change. Once is enough. */
  async begin(): Promise<void> {
    this.#begun ??= this.last.image.beginChanges({ content: true });
    await this.#begun;
    this.#ready = true;
  }

  /** Like `begin`, for work that does not change the data read. */
  async beginMoving(): Promise<void> {
    if (!this.#ready) await this.last.image.beginChanges({ content: false });
  }

  /**
   * Called before a change and after it: a flush that began in between does not cover it. By default anything may
   * change.
   */
  noteChange(offset = 0, length = this.chain.size): void {
    this.last.image.noteChange();
    this.last.image.noteRange?.(offset, length);
    this.flusher.noteChange();
  }

  /**
   * Stores everything recorded since `begin` or `beginMoving`, by this writer or one before it. Everything must be
   * flushed, and nothing else may run at the same time.
   */
  async end(): Promise<void> {
    const { image } = this.last;
    if (image.endChanges === undefined) return;
    this.#begun = null;
    this.#ready = false;
    await image.endChanges();
  }

  /**
   * The next change gives the image a new modification UUID, durably, before it: the current one has been recorded
   * elsewhere.
   */
  async renew(): Promise<void> {
    await this.end();
    this.#begun = null;
    this.#ready = false;
  }

  /** Zeroes the rest of pending discards. Nothing else may run at the same time. */
  async pushOut(): Promise<void> {
    for (let first = this.discards.next(true); first !== null; first = this.discards.next(true)) {
      await this.discards.pushOut(first);
    }
  }

  /** Ends an image that is written once. False: a write failed, so it stays without an end. */
  async finish(): Promise<boolean> {
    if (this.once === null) return true;
    if (this.once.failed) return false;
    await this.last.image.finish?.();
    return true;
  }

  /** Makes all changes durable. Nothing else may run at the same time. */
  async quiesce(): Promise<void> {
    if (this.#ready) await this.pushOut();
    await this.flusher.flush();
    // What only that flush made free.
    if (this.last.image.dirtyBytes > 0) await this.flusher.flush();
  }
}

/** False where one of the files is a stream. */
function goesAnywhere(chain: Chain): boolean {
  return chain.images.every(({ image }) => image.storages().every(({ can }) => can.random));
}
