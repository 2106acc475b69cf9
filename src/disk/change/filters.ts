/** The filters of a disk as its user sees them: `disk.filters`. */
import { checkArguments } from '../../arguments.ts';
import { ImageError } from '../../errors.ts';
import type { Filter, FilterConfig, KeySupply } from '../../image/filter.ts';
import { FILTER } from '../kinds.ts';
import { checkFilterConfig } from '../open/format-options.ts';
import type { AttachedFilter } from '../path/filter-stack.ts';
import type { DiskHost } from './host.ts';
import { OPTIONS } from './option-kinds.ts';
import { type PrepareOptions, prepareOf } from './prepare.ts';

/** Options for adding a filter. */
export interface AddFilterOptions {
  /** Apply to writes. Default true. */
  readonly write?: boolean | undefined;
  /** Apply to reads. Default true. */
  readonly read?: boolean | undefined;
  /** Only test whether it can be opened: while it is present no data can be read or written. Default false. */
  readonly info?: boolean | undefined;
  readonly config?: FilterConfig | undefined;
  readonly keys?: KeySupply | undefined;
}

/** Direction of the filters. Default: those of both directions. */
export interface FilterDirections {
  readonly write?: boolean;
  readonly read?: boolean;
}

/** A filter in the list of a disk. */
export interface DiskFilter {
  readonly name: string;
  readonly write: boolean;
  readonly read: boolean;
  readonly info: boolean;
}

/**
 * Filters that transform the bytes between the guest and the images: `disk.filters`. Adding and removing waits for
 * running requests and changes nothing on the medium: existing data is read through the filters from then on. To
 * convert it, see `prepare`.
 */
export class DiskFilters {
  readonly #host: DiskHost;

  constructor(host: DiskHost) {
    this.#host = host;
  }

  /** In order of addition; writes pass them in this order, reads in reverse. */
  get list(): readonly DiskFilter[] {
    const { writing, reading } = this.#host.head.chain.filters;
    return inOrder(writing, reading).map((filter) => ({
      name: filter.name,
      write: writing.includes(filter),
      read: reading.includes(filter),
      info: filter.info,
    }));
  }

  /**
   * Adds a filter of the registry by name (case-insensitive), or one of your own. Throws `not-found`,
   * `invalid-argument` for unusable config values or when it has no direction.
   */
  async add(filter: string | Filter, options: AddFilterOptions = {}): Promise<void> {
    checkArguments('filters.add', { filter: [filter, FILTER], options: [options, OPTIONS] });
    const { write = true, read = true, info = false, config = {}, keys = null } = options;
    if (!write && !read) {
      throw new ImageError('invalid-argument', 'A filter must apply to reading, to writing, or to both', {
        status: 'VERR_INVALID_PARAMETER',
      });
    }
    const host = this.#host;
    const kind = typeof filter === 'string' ? host.options.environment.registry.findFilter(filter) : filter;
    checkFilterConfig(kind, config);
    await this.#change(async () => {
      const { filters, size } = host.head.chain;
      const instance = await kind.open({ config, info, keys, diskSize: size });
      const added: AttachedFilter = { name: kind.name, info, instance };
      filters.set({
        writing: write ? [...filters.writing, added] : filters.writing,
        reading: read ? [...filters.reading, added] : filters.reading,
      });
    });
  }

  /**
   * Removes the filter added last, in each direction named; it is closed when it is in neither any more. Throws
   * `not-found` when there is none in one of them: then nothing is removed.
   */
  async remove(directions: FilterDirections = {}): Promise<void> {
    checkArguments('filters.remove', { directions: [directions, OPTIONS] });
    const { write = true, read = true } = directions;
    await this.#change(async () => {
      const { filters, last } = this.#host.head.chain;
      const missing = (write && filters.writing.length === 0) || (read && filters.reading.length === 0);
      if (missing) {
        throw new ImageError('not-found', 'The disk does not have this filter', {
          path: last.name,
          status: 'VERR_VD_NOT_OPENED',
        });
      }
      const gone = filters.set({
        writing: write ? filters.writing.slice(0, -1) : filters.writing,
        reading: read ? filters.reading.slice(0, -1) : filters.reading,
      });
      for (const { instance } of gone) await instance.close();
    });
  }

  /** Removes all filters. */
  async removeAll(): Promise<void> {
    await this.#change(() => this.#host.head.chain.filters.close());
  }

  /**
   * Converts the data stored in the images of the chain in place: it is read through the read filters and written
   * through the write filters, so a write-only filter encrypts existing data and a read-only one decrypts it.
   * Unallocated and explicitly zero ranges do not change. Durable when it resolves; the filters stay. After an
   * interruption the images can be opened only with `resumeFilters`: the next call then continues. Throws `read-only`,
   * `unsupported` with internal snapshots, and `busy` when images outside the chain depend on these.
   */
  async prepare(options: PrepareOptions = {}): Promise<void> {
    checkArguments('filters.prepare', { options: [options, OPTIONS] });
    await this.#host.structural(() => prepareOf(this.#host, options));
  }

  /** Stores pending writes with the old filters; then nothing runs. */
  #change(run: () => Promise<void>): Promise<void> {
    const host = this.#host;
    return host.reordering(() =>
      host.exclusive(async () => {
        await host.head.quiesce();
        await run();
      }),
    );
  }
}

/** Both lists merged, each filter once, in an order that fits both. */
function inOrder(writing: readonly AttachedFilter[], reading: readonly AttachedFilter[]): AttachedFilter[] {
  const all: AttachedFilter[] = [];
  let rest = [...reading];
  for (const filter of writing) {
    const shared = rest.indexOf(filter);
    if (shared !== -1) {
      for (const before of rest.slice(0, shared)) all.push(before);
      rest = rest.slice(shared + 1);
    }
    all.push(filter);
  }
  return [...all, ...rest];
}
