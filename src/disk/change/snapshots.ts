/** Internal snapshots of the last image of a chain: the disk is brought to rest, then the image makes the change. */
import { checkArguments, TEXT } from '../../arguments.ts';
import { ImageError, isImageError } from '../../errors.ts';
import type { SnapshotInfo, SnapshotStore } from '../../image/contract.ts';
import type { OperationOptions } from '../../storage/contract.ts';
import type { DiskHost } from './host.ts';
import { OPTIONS } from './option-kinds.ts';

/** Options for a snapshot. */
export interface CreateSnapshotOptions extends OperationOptions {
  /** Time of the snapshot, milliseconds since 1970. Default: now. */
  readonly createdMs?: number | undefined;
}

/**
 * Snapshots inside the last image: `disk.snapshots`. To read one, open the image with `snapshot`. Each change is
 * durable when it resolves; a power cut leaves the state before or after it. Throws `unsupported` for formats without
 * snapshots, `read-only`, `not-found`.
 */
export class DiskSnapshots {
  readonly #host: DiskHost;

  constructor(host: DiskHost) {
    this.#host = host;
  }

  /** Oldest first. */
  get list(): readonly SnapshotInfo[] {
    const { image, name, format } = this.#host.head.last;
    const { snapshots } = image.info;
    if (snapshots !== undefined) return snapshots;
    throw new ImageError('unsupported', `Format ${format} does not support internal snapshots`, {
      path: name,
      hint: 'Create a differencing image instead (createDiff; on the command line: create --parent).',
    });
  }

  /**
   * Saves the current state. Throws `exists`, `invalid-argument`, and `limit` when reference counts would overflow.
   */
  async create(name: string, options: CreateSnapshotOptions = {}): Promise<SnapshotInfo> {
    checkArguments('snapshots.create', { name: [name, TEXT], options: [options, OPTIONS] });
    const { createdMs = Date.now(), signal } = options;
    return this.#change((store) => store.create(name, { createdMs, signal }));
  }

  /**
   * Restores the saved state, including the size; the snapshot stays. Later writes are lost, and images created over
   * this one become invalid. Requests that wait during the call act on the restored disk.
   */
  async apply(idOrName: string, options: OperationOptions = {}): Promise<void> {
    checkArguments('snapshots.apply', { idOrName: [idOrName, TEXT], options: [options, OPTIONS] });
    const host = this.#host;
    return host.structural(async () => {
      this.#store();
      await host.exclusive(async () => {
        await host.quiesce();
        const { head } = host;
        await head.begin();
        try {
          await this.#store().apply(idOrName, options);
        } catch (error) {
          if (!isImageError(error) || error.kind !== 'aborted') throw error;
          // It may have been applied before it was cancelled.
          head.chain.resized();
          head.last.image.noteRange?.(0, head.chain.size);
          throw error;
        }
        head.chain.resized();
        // Not before: what is refused changes nothing. No flush is due, since all of it is durable.
        head.last.image.noteRange?.(0, head.chain.size);
      });
    });
  }

  /** Deletes a snapshot, and frees the space that only it uses. The disk reads the same. */
  async delete(idOrName: string, options: OperationOptions = {}): Promise<void> {
    checkArguments('snapshots.delete', { idOrName: [idOrName, TEXT], options: [options, OPTIONS] });
    return this.#change((store) => store.delete(idOrName, options));
  }

  /** Renames a snapshot. Throws `exists`, `invalid-argument`. */
  async rename(idOrName: string, name: string): Promise<void> {
    checkArguments('snapshots.rename', { idOrName: [idOrName, TEXT], name: [name, TEXT] });
    return this.#change((store) => store.rename(idOrName, name));
  }

  /** Runs a change that does not affect the data read. */
  #change<T>(run: (store: SnapshotStore) => Promise<T>): Promise<T> {
    const host = this.#host;
    return host.structural(async () => {
      this.#store();
      return host.exclusive(async () => {
        await host.quiesce();
        await host.head.beginMoving();
        return run(this.#store());
      });
    });
  }

  #store(): SnapshotStore {
    const { image, name } = this.#host.head.last;
    if (image.snapshots !== undefined) return image.snapshots;
    // Says so when the format has none at all.
    const found = this.list.length;
    throw new ImageError('read-only', 'The image is open for reading only', {
      path: name,
      found: `${found} snapshots`,
    });
  }
}
