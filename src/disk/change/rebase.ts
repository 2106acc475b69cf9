/**
 * Rebase: gives the last image of a chain another parent, or none, without changing its disk. Unallocated ranges in
 * which the parents differ are copied from the old parent; when that is durable the link changes.
 *
 * An interrupted rebase leaves an image with its old parent and some copied data, and can be repeated. Ranges that both
 * parents have from the same image of the same file, or that both hold nothing for, are skipped without reading. Whole
 * units are stored, since a unit of which a part is stored shows nothing of its parent any more; the image is written
 * as the last one of the chain that there will be, which leaves out what that chain reads anyway.
 */
import { alignDown } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { ParentLink, Progress } from '../../image/contract.ts';
import { isPromise, type OperationOptions } from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import { Turns } from '../../storage/turns.ts';

import { linkWarnings } from '../open/link-warnings.ts';
import type { ImageSource } from '../options.ts';
import { ActiveImage } from '../path/active-image.ts';
import { Chain, type ChainImage, closeImages, type Located } from '../path/chain.ts';
import { isStored } from '../path/stored.ts';
import { readUntilAborted } from './abortable-read.ts';
import type { DiskHost } from './host.ts';
import { linkTo } from './links.ts';
import type { OpenedChain } from './stack.ts';

/** Options for a rebase. */
export interface RebaseOptions extends OperationOptions {
  /** Format of the new parent. Default: probed. */
  readonly parentFormat?: string | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Bytes stored at a time, at least a unit. */
const PIECE = 1024 * 1024;
/** Unit of images without units. */
const UNIT = 64 * 1024;

/** Rebases the last image of the disk. Returns warnings about the new parents. */
export async function rebaseOf(
  host: DiskHost,
  parent: ImageSource | null,
  options: RebaseOptions,
): Promise<readonly string[]> {
  const { chain } = host.head;
  refuseKind(chain, parent);
  const found = parent === null ? null : await openParent(host, parent, options);
  const below = found?.chain.images ?? [];
  let done = false;
  try {
    if (found !== null) refuseParent(chain.last, found.chain.last);
    await host.exclusive(async () => {
      await host.quiesce();
      await new Rebase(host, below, options).run();
      done = true;
      await closeImages(chain.images.slice(0, -1));
    });
  } finally {
    if (!done) await closeImages(below).catch(() => {});
  }
  if (found === null) return [];
  const { last } = found.chain;
  return [...found.warnings, ...linkWarnings(chain.last, last, host.options.environment.registry)];
}

/** Rejects images that cannot get another parent, before anything is changed. */
function refuseKind(chain: Chain, parent: ImageSource | null): void {
  const { image, name, format } = chain.last;
  chain.filters.checkSymmetric(name, 'A rebase');
  if (image.relink === undefined) {
    throw new ImageError('unsupported', `Images of format ${format} cannot have a parent`, {
      path: name,
      hint: 'Convert it to a format with differencing images, such as qcow2.',
    });
  }
  if (image.member !== undefined) {
    throw new ImageError('unsupported', 'The parent of the image lies in the same directory, and stays there', {
      path: name,
      hint: 'Merge or commit it, or convert the disk and name the parent of the copy.',
    });
  }
  if (chain.incomplete !== null) {
    throw new ImageError('unsupported', 'The parents of the image are not open, so its content is incomplete', {
      path: name,
      hint: 'Open it with its parents, or change only the link (setImage; on the command line: --unsafe).',
    });
  }
  const snapshots = image.info.snapshots?.length ?? 0;
  if (snapshots > 0) {
    throw new ImageError('unsupported', 'The content of the internal snapshots would change', {
      path: name,
      found: `${snapshots} snapshots`,
      hint: 'Delete them first, or change only the link (setImage; on the command line: --unsafe).',
    });
  }
  if (parent === null || image.info.allocation !== 'fixed') return;
  throw new ImageError('unsupported', 'A fixed image cannot have a parent', {
    path: name,
    hint: 'Convert it to a dynamic image first.',
  });
}

/** The new parent with its own parents; first without locks, since the image itself is already locked. */
async function openParent(host: DiskHost, parent: ImageSource, options: RebaseOptions): Promise<OpenedChain> {
  const { last } = host.head.chain;
  const { parentFormat: format, signal } = options;
  const how = { format, signal };
  const looked = await host.tools.openChain(parent, { ...how, infoOnly: true });
  const own = looked.chain.images.find(({ key }) => key === last.key);
  await closeImages(looked.chain.images);
  if (own === undefined) return host.tools.openChain(parent, how);
  throw new ImageError('invalid-argument', 'The image would be its own parent', {
    path: last.name,
    found: looked.chain.last.name,
    hint: 'Choose an image that does not depend on this one.',
  });
}

function refuseParent(child: ChainImage, parent: ChainImage): void {
  if (child.image.linksByUuid !== true || parent.image.info.uuid !== null) return;
  throw new ImageError('invalid-argument', 'The parent has no UUID to store', {
    path: parent.name,
    hint: 'Give it a UUID first (vdkit set --uuid random), or convert it to a format with UUIDs.',
  });
}

/** One rebase. Nothing else runs, and everything was flushed. */
class Rebase {
  readonly #host: DiskHost;
  readonly #options: RebaseOptions;
  readonly #old: Chain;
  readonly #new: Chain;
  readonly #target: ActiveImage;
  /** Number of images, counted from the base, that are the same files in both chains. */
  readonly #shared: number;
  readonly #unit: number;
  readonly #buffer: Uint8Array;
  readonly #turns: Turns;

  constructor(host: DiskHost, below: readonly ChainImage[], options: RebaseOptions) {
    this.#host = host;
    this.#options = options;
    this.#turns = new Turns(options.signal, 'The rebase');
    this.#old = host.head.chain;
    this.#new = new Chain([...below, this.#old.last], null, this.#old.filters);
    const { ignoreFlush = false } = this.#old.last.settings;
    const settings = { mode: 'write', ignoreFlush, honourSame: false, honourZeroes: false } as const;
    this.#target = new ActiveImage(this.#new, { flushAfterMs: 0, settings });
    this.#shared = sharedImages(this.#old.images.slice(0, -1), below);
    this.#unit = this.#old.last.image.info.blockSize ?? UNIT;
    this.#buffer = new Uint8Array(Math.max(this.#unit, alignDown(PIECE, this.#unit)));
  }

  /** Runs to the end, or leaves the image with its old parent. */
  async run(): Promise<void> {
    const { image } = this.#old.last;
    const { modificationUuid } = image.info;
    await this.#target.beginMoving();
    try {
      await this.#storeAll();
    } finally {
      this.#target.flusher.noteChange();
      await this.#target.quiesce();
    }
    throwIfAborted(this.#options.signal, 'The rebase');
    // What is read is the same, so images made from this one need not wonder.
    if (image.set !== undefined && image.info.modificationUuid !== modificationUuid) {
      await image.set({ modificationUuid });
    }
    await image.relink?.(linkToParent(this.#new));
    this.#host.replaceHead(new ActiveImage(this.#new, this.#host.options));
  }

  async #storeAll(): Promise<void> {
    const { image } = this.#old.last;
    const { size } = this.#old;
    for (let at = 0; at < size; ) {
      const turn = this.#turns.take();
      if (turn !== undefined) await turn;
      const answer = image.map(at, size - at);
      const mapping = isPromise(answer) ? await answer : answer;
      const end = at + mapping.length;
      if (mapping.kind === 'absent') await this.#storeRun(at, end);
      this.#options.onProgress?.({ operation: 'rebase', done: end, total: size });
      at = end;
    }
  }

  /** Handles an unallocated run of the image. */
  async #storeRun(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const same = await this.#sameUpTo(at, end);
      // A unit that is the same in part only is stored as a whole.
      const skipped = same >= end ? end : alignDown(same, this.#unit);
      if (skipped > at) {
        at = skipped;
        continue;
      }
      const stop = Math.min(alignDown(at, this.#unit) + this.#buffer.length, end);
      await this.#store(at, stop);
      at = stop;
      this.#options.onProgress?.({ operation: 'rebase', done: at, total: this.#old.size });
    }
  }

  /** End of the range from `at` on in which both parents surely read the same. */
  async #sameUpTo(start: number, end: number): Promise<number> {
    for (let at = start; at < end; ) {
      const turn = this.#turns.take();
      if (turn !== undefined) await turn;
      const before = await below(this.#old, at, end - at, this.#options.signal);
      const after = await below(this.#new, at, Math.min(end - at, before.mapping.length), this.#options.signal);
      if (!this.#isSame(before, after)) return at;
      at += Math.min(before.mapping.length, after.mapping.length);
    }
    return end;
  }

  #isSame(before: Located, after: Located): boolean {
    if (!isStored(before.mapping) && !isStored(after.mapping)) return true;
    return before.image === after.image && before.image < this.#shared;
  }

  /** Stores the range; the write path compares with the new parents and skips equal data. */
  async #store(start: number, end: number): Promise<void> {
    const bytes = this.#buffer.subarray(0, end - start);
    const options = { signal: this.#options.signal };
    await readUntilAborted(this.#old, this.#old.top, start, bytes, { ...options, what: 'The rebase' });
    await this.#target.writes.write(start, bytes.length, [bytes], options);
    this.#target.flusher.noteChange();
    if (this.#target.flusher.overdue) await this.#target.flusher.flush();
  }
}

/** Location of a range below the last image of a chain. */
async function below(chain: Chain, offset: number, length: number, signal: AbortSignal | undefined): Promise<Located> {
  const answer = chain.locate(chain.top - 1, offset, length);
  return isPromise(answer) ? await orAborted(answer, { signal }, 'The rebase') : answer;
}

/** Number of images from the base on that are the same files in the same formats. */
function sharedImages(one: readonly ChainImage[], other: readonly ChainImage[]): number {
  const different = one.findIndex(({ key, format }, number) => {
    const image = other[number];
    return image === undefined || image.key !== key || image.format !== format;
  });
  return different === -1 ? one.length : different;
}

function linkToParent(chain: Chain): ParentLink | null {
  return chain.top === 0 ? null : linkTo(chain.at(chain.top - 1));
}
