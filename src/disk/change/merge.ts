/**
 * Merging neighbours of a chain: the content of the images between two numbers moves into one of the two, and the
 * others are removed. *Forward* into the child, *backward* into the parent.
 *
 * All that moves is redundant until the very end: a child shows the same with and without it, a parent is hidden by its
 * child. So requests of the guest go on between steps, and a merge that is cut or cancelled anywhere leaves every image
 * of the chain readable as before, and can be run again. Then, alone: data durable, links durable, files removed.
 *
 * Steps are whole units of the target, assembled from the whole chain: what a unit reads after it was placed must be
 * what it read before, whatever the sizes of the units below. The target writes as the last image of the chain that
 * there will be, so that it leaves out what that chain reads anyway, and nothing else.
 *
 * While the last image merges backward, what the guest writes behind the position is merged again at once.
 *
 * A *commit* is the last image merged backward, but it stays: when the data is durable it is linked to where that went,
 * and only then emptied, unit by unit, each of which reads the same with and without it.
 *
 * A commit that was cut behind the link finds images beside it that are made from the target, those that stood between.
 * It needs nothing of the target any more: what would leave the target as it is harms no image that is made from it.
 */
import { alignDown, alignUp, largest } from '../../binary/numbers.ts';
import { equalBytes } from '../../codec/bytes.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { ParentLink, Progress } from '../../image/contract.ts';
import { parentReference } from '../../image/parent.ts';
import { LIMITS } from '../../limits.ts';
import { isPromise, type OperationOptions } from '../../storage/contract.ts';
import { orAborted } from '../../storage/or-aborted.ts';
import { Turns } from '../../storage/turns.ts';
import { refuseIncomplete } from '../open/beside.ts';
import { partFiles } from '../open/parts.ts';
import { ActiveImage } from '../path/active-image.ts';
import type { Chain, ChainImage } from '../path/chain.ts';
import { WritePath } from '../path/write-path.ts';
import { type Reader, readUntilAborted } from './abortable-read.ts';
import { type CommitOptions, emptyLast, UNIT } from './commit.ts';
import type { DiskHost } from './host.ts';
import { expectChange, linkTo, relink } from './links.ts';
import {
  type MergeRecord,
  type RecordedImage,
  type RestOfMerge,
  readMergeRecord,
  recordFor,
  removeLeftovers,
  removeMergeRecord,
  restOf,
  sourcesOf,
  writeMergeRecord,
} from './merge-record.ts';
import { refuseMixed, refuseSnapshots, refuseSnapshotsBelow } from './merge-refusals.ts';
import { checkGrowth, resizeLast } from './resize.ts';
import { dropFrom, imageNumber, removeFilesOf, reopen, requireRemovable } from './stack.ts';

/** Options for a merge. */
export interface MergeOptions extends OperationOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Keep the files of merged images. Nothing refers to them any more. */
  readonly keep?: boolean | undefined;
  /** Merge even if an image outside the chain depends on one that changes or is deleted. */
  readonly force?: boolean | undefined;
}

/** Bytes per step, at least a unit of the target. */
const STEP = 4 * 1024 * 1024;

/** Plans a merge of two images by number, or the rest of an interrupted one. Throws `invalid-argument`. */
export async function planMerge(
  host: DiskHost,
  from: number | 'last',
  to: number | 'last',
  options: MergeOptions,
): Promise<Merge> {
  const { chain } = host.head;
  const record = await readMergeRecord(chain.last.source);
  const rest = record === null ? null : restOf(chain, record, from, to);
  if (record !== null && rest !== null) return new Merge(host, record.from, record.to, { ...options, rest, record });
  const [first, second] = [imageNumber(chain, from), imageNumber(chain, to)];
  chain.filters.checkSymmetric(chain.last.name, 'Merging');
  if (first === second) {
    throw new ImageError('invalid-argument', 'An image cannot be merged with itself', {
      path: chain.last.name,
      hint: 'Name two images of the chain.',
    });
  }
  return new Merge(host, first, second, options);
}

/** Plans a commit of the last image. Throws `invalid-argument` for a base image. */
export function commitOf(host: DiskHost, { base, keep = false, ...options }: CommitOptions): Merge {
  const { chain } = host.head;
  if (chain.top === 0) {
    throw new ImageError('invalid-argument', 'The image has no parent to commit to', {
      path: chain.last.name,
      hint: chain.incomplete === null ? 'Convert it instead.' : 'Open it with its parents.',
    });
  }
  const to = imageNumber(chain, base ?? chain.top - 1);
  if (to === chain.top) {
    throw new ImageError('invalid-argument', 'An image cannot be committed to itself', {
      path: chain.last.name,
      found: to,
      expected: `0 to ${chain.top - 1}`,
    });
  }
  return new Merge(host, chain.top, to, { ...options, commit: keep ? 'keep' : 'empty' });
}

/** Options beyond those of callers. */
interface InternalOptions extends MergeOptions {
  readonly commit?: 'keep' | 'empty' | undefined;
  /** The rest of an interrupted merge, and its record. */
  readonly rest?: RestOfMerge | undefined;
  readonly record?: MergeRecord | undefined;
}

/** One merge from start to end. */
export class Merge {
  readonly #host: DiskHost;
  readonly #options: InternalOptions;
  readonly #chain: Chain;
  readonly #record: MergeRecord;
  readonly #from: number;
  readonly #to: number;
  /** Levels whose data moves, highest first. */
  readonly #sources: readonly number[];
  /** End of the range with data below the moving images. */
  readonly #hidden: number;
  /** Disk size of each image when the merge began. */
  readonly #sizes: readonly number[];
  #target: ActiveImage;
  #writes: WritePath;
  #unit = UNIT;
  /** Reused: fresh memory costs more than reading into it. */
  readonly #buffers: Uint8Array[] = [];
  #position = 0;
  #relaying = false;
  /** Error of merging a concurrent write again: the target lacks it, so the merge must fail. */
  #behind: { readonly error: unknown } | null = null;

  constructor(host: DiskHost, from: number, to: number, options: InternalOptions) {
    this.#host = host;
    this.#options = options;
    this.#chain = host.head.chain;
    this.#record = options.record ?? recordFor(this.#chain, from, to);
    const { numbers } = options.rest ?? {};
    this.#from = numbers?.from ?? from;
    this.#to = numbers?.to ?? to;
    this.#sources = sourcesOf(this.#from, this.#to);
    this.#sizes = this.#chain.images.map(({ image }) => image.info.virtualSize);
    this.#hidden = largest(this.#sizes.slice(0, this.#forward ? this.#from : this.#to + 1), 0);
    this.#target = host.head;
    this.#writes = host.head.writes;
  }

  get #reader(): Reader {
    return { signal: this.#options.signal, what: `The ${this.#name}` };
  }

  get #forward(): boolean {
    return this.#from < this.#to;
  }

  get #commits(): boolean {
    return this.#options.commit !== undefined;
  }

  get #name(): 'merge' | 'commit' {
    return this.#commits ? 'commit' : 'merge';
  }

  /** Runs to the end, or leaves everything unchanged. */
  async run(): Promise<void> {
    if (this.#options.rest !== undefined) {
      const text = 'An interrupted merge was completed; nothing else was merged.';
      this.#host.options.environment.warn(text, this.#chain.last.name);
    }
    if (this.#options.rest?.numbers === null) {
      await this.#removeLeftovers();
      return removeMergeRecord(this.#chain.last.source);
    }
    const plan = { chain: this.#chain, from: this.#from, to: this.#to, sources: this.#sources };
    refuseMixed(plan);
    if (this.#commits) {
      if (this.#options.force !== true) refuseSnapshotsBelow(plan);
    } else {
      // Refused before anything is changed.
      const removed = this.#options.keep === true ? [] : this.#sources;
      await requireRemovable(this.#chain, removed, this.#host.options.environment);
      refuseSnapshots(plan, removed);
    }
    const objection = await this.#objection();
    if (objection !== null) return this.#runWithoutTarget(objection);
    await this.#host.exclusive(() => this.#begin());
    try {
      await this.#moveAll();
      await this.#host.exclusive(() => this.#finish());
    } catch (error) {
      await this.#giveUp();
      throw error;
    }
  }

  /** The range that a request must lock so that it can be merged again as a whole. */
  widen(offset: number, length: number): readonly [number, number] {
    if (!this.#relaying) return [offset, offset + length];
    return [alignDown(offset, this.#unit), Math.min(alignUp(offset + length, this.#unit), this.#chain.size)];
  }

  /**
   * Merges again a range that a request has changed in the last image and still holds, widened. May fail the merge,
   * never the request.
   */
  async relay(offset: number, length: number): Promise<void> {
    if (!this.#relaying || this.#behind !== null) return;
    const [start, end] = this.widen(offset, length);
    if (start >= this.#position) return;
    try {
      await this.#move(start, Math.min(end, this.#position));
    } catch (error) {
      this.#behind = { error };
    }
  }

  #check(): void {
    if (this.#behind !== null) throw this.#behind.error;
    throwIfAborted(this.#options.signal, `The ${this.#name}`);
  }

  /** Reason why images outside the chain would change or be lost, but not those over a committed one; null: none. */
  async #objection(): Promise<ImageError | null> {
    if (this.#options.force === true) return null;
    const own = new Set([...this.#chain.images, ...this.#leftovers].map(({ key }) => key));
    const merged = this.#commits ? this.#sources.filter((number) => number !== this.#from) : this.#sources;
    const changing = this.#forward ? merged : [...merged, this.#to];
    const images = changing.map((number) => this.#chain.at(number));
    const children = await this.#host.tools.childrenOf(images, this.#options);
    const other = children.found.find(({ key }) => !own.has(key));
    if (other === undefined) {
      refuseIncomplete(this.#chain.last.name, children);
      return null;
    }
    return new ImageError(
      'busy',
      `The image cannot be ${this.#commits ? 'changed' : 'merged'}: ${other.child} in the same directory depends on it`,
      {
        path: other.image.name,
        hint: `Delete ${other.child} if it is not needed, or proceed with option force (on the command line: --force).`,
      },
    );
  }

  /** Completes a commit whose target already has everything, as after an interruption. */
  async #runWithoutTarget(objection: ImageError): Promise<void> {
    if (!this.#commits) throw objection;
    await this.#host.exclusive(async () => {
      await this.#host.head.quiesce();
      if (!(await this.#targetHasAll())) throw objection;
      await this.#putOver(this.#chain.at(this.#to));
      await this.#endCommit();
    });
  }

  /** True when the target already has the data of the last image, and would not change. */
  async #targetHasAll(): Promise<boolean> {
    const size = this.#sizes[this.#from] ?? 0;
    if (size > (this.#sizes[this.#to] ?? 0)) return false;
    const turns = new Turns(this.#options.signal, `The ${this.#name}`);
    const [above, below] = [new Uint8Array(STEP), new Uint8Array(STEP)];
    for (let at = 0; at < size; ) {
      const turn = turns.take();
      if (turn !== undefined) await turn;
      const { held, length } = await this.#look(at, size);
      const end = held ? at + Math.min(length, STEP) : at + length;
      if (held) {
        const [read, kept] = [above.subarray(0, end - at), below.subarray(0, end - at)];
        await readUntilAborted(this.#chain, this.#from, at, read, this.#reader);
        await readUntilAborted(this.#chain, this.#to, at, kept, this.#reader);
        if (!equalBytes(read, kept)) return false;
      }
      at = end;
      this.#options.onProgress?.({ operation: 'commit', done: Math.min(at, size - 1), total: size });
    }
    return true;
  }

  async #begin(): Promise<void> {
    const { head, tools } = this.#host;
    await head.quiesce();
    // Parents that were not opened cannot be compared with.
    const honourSame = this.#chain.incomplete !== null;
    const kept = this.#forward ? this.#chain.images.slice(0, this.#from) : this.#chain.images.slice(0, this.#to);
    if (this.#to === this.#chain.top) {
      const future = this.#chain.with([...kept, this.#chain.at(this.#to)]);
      this.#writes = new WritePath(future, this.#chain.last.image, { honourSame, honourZeroes: false });
    } else {
      await reopen(tools, this.#chain, this.#to, 'write');
      const future = this.#chain.with([...kept, this.#chain.at(this.#to)]);
      const { ignoreFlush = false } = future.last.settings;
      this.#target = new ActiveImage(future, { flushAfterMs: 0, settings: { mode: 'write', ignoreFlush, honourSame } });
      this.#writes = this.#target.writes;
    }
    try {
      await this.#prepare();
    } catch (error) {
      await this.#demote();
      throw error;
    }
  }

  async #prepare(): Promise<void> {
    this.#unit = this.#target.last.image.info.blockSize ?? UNIT;
    // A refused merge must not give the target new identities, by which its children tell that it changed.
    const growth = this.#forward ? null : await this.#growth();
    await expectChange(this.#host.tools, this.#chain, this.#to);
    await this.#target.begin();
    if (growth !== null) await this.#grow(growth);
    this.#relaying = !this.#forward && this.#from === this.#chain.top;
  }

  /** Size that a parent gets for the image merged into it; null: it keeps its own. Throws `unsupported`, `limit`. */
  async #growth(): Promise<number | null> {
    const wanted = this.#chain.at(this.#from).image.info.virtualSize;
    const { last } = this.#target;
    return this.#commits && wanted < last.image.info.virtualSize ? null : checkGrowth(last, wanted);
  }

  /** Grows a parent. What it shows beyond its old end stays zero, whatever its own parent has there. */
  async #grow(size: number): Promise<void> {
    const { chain, writes, flusher, last } = this.#target;
    await resizeLast({
      chain,
      image: last.image,
      writes,
      flush: () => flusher.flush(),
      noteChange: (offset, length) => this.#target.noteChange(offset, length),
      size,
      options: { signal: this.#options.signal },
    });
  }

  async #moveAll(): Promise<void> {
    // A parent may be longer than the image that is committed.
    const own = this.#commits ? (this.#sizes[this.#from] ?? 0) : this.#target.chain.size;
    const size = Math.min(this.#target.chain.size, own);
    const step = alignUp(STEP, this.#unit);
    const turns = new Turns(this.#options.signal, `The ${this.#name}`);
    while (this.#position < size) {
      this.#check();
      const turn = turns.take();
      if (turn !== undefined) await turn;
      await this.#skip(size);
      if (this.#position >= size) break;
      const end = Math.min(this.#position + step, size);
      const lock = this.#host.lock(this.#position, end);
      const held = isPromise(lock) ? await lock : lock;
      try {
        await this.#move(this.#position, end);
        this.#position = end;
        if (this.#target.last.image.dirtyBytes >= LIMITS.dirtyMetadataBytes) await this.#target.flusher.flush();
      } finally {
        held.release();
      }
      this.#options.onProgress?.({ operation: this.#name, done: Math.min(end, size - 1), total: size });
    }
  }

  /** Skips whole units with nothing to move: most of a large disk. */
  async #skip(size: number): Promise<void> {
    const lock = this.#host.lock(this.#position, size);
    const held = isPromise(lock) ? await lock : lock;
    try {
      const { held: moves, length } = await this.#look(this.#position, size);
      if (moves) return;
      const end = this.#position + length;
      this.#position = end >= size ? size : Math.max(alignDown(end, this.#unit), this.#position);
    } finally {
      held.release();
    }
  }

  /** Moves the data in `[start, end)`, which begins at a unit. The caller holds the range. */
  async #move(start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const { held, length } = await this.#look(at, end);
      if (!held) {
        at += length;
        continue;
      }
      const first = alignDown(at, this.#unit);
      const last = Math.min(alignUp(at + length, this.#unit), end);
      await this.#copy(first, last);
      at = last;
    }
  }

  /** Tells whether there is data to move at `offset`, and the end of that run. */
  async #look(offset: number, end: number): Promise<{ held: boolean; length: number }> {
    let length = end - offset;
    const levels = this.#forward ? [this.#to, ...this.#sources] : this.#sources;
    for (const level of levels) {
      const { image } = this.#chain.at(level);
      const rest = (this.#sizes[level] ?? 0) - offset;
      // Beyond the end of a shorter image reads zero, which hides what stands below.
      if (rest <= 0) return { held: offset < this.#hidden, length };
      const answer = image.map(offset, Math.min(length, rest));
      const mapping = isPromise(answer) ? await orAborted(answer, this.#options, this.#reader.what) : answer;
      length = Math.min(length, mapping.length);
      if (mapping.kind !== 'absent') return { held: level !== this.#to, length };
    }
    return { held: false, length };
  }

  /** Stores the content of the chain in whole units. Merged forward, the target reads the same as before. */
  async #copy(start: number, end: number): Promise<void> {
    const level = this.#forward ? this.#to : this.#from;
    const size = this.#unit >= STEP ? this.#unit : alignDown(STEP, this.#unit);
    // A request may be merged again while a step runs, so there can be two at work. After a failure it is not used again.
    const whole = this.#buffers.pop() ?? new Uint8Array(size);
    for (let at = start; at < end; at += size) {
      const bytes = whole.subarray(0, Math.min(size, end - at));
      await readUntilAborted(this.#chain, level, at, bytes, this.#reader);
      const changed = this.#forward ? 0 : bytes.length;
      this.#target.noteChange(at, changed);
      await this.#store(at, bytes);
      this.#target.noteChange(at, changed);
    }
    this.#buffers.push(whole);
  }

  /** Zeroes that hide the parent may cover most of the disk; a fixed image keeps its space all the same. */
  async #store(at: number, bytes: Uint8Array): Promise<void> {
    const punch = this.#target.last.image.info.allocation !== 'fixed';
    if (await this.#chain.filters.standForZeroes(at, bytes)) await this.#writes.zero(at, bytes.length, punch);
    else await this.#writes.write(at, bytes.length, [bytes], { signal: this.#reader.signal });
  }

  /** Runs alone: data durable, then links, then files deleted. */
  async #finish(): Promise<void> {
    this.#check();
    await this.#host.head.quiesce();
    await this.#target.quiesce();
    this.#relaying = false;
    if (this.#commits) return this.#finishCommit();
    const merged = this.#sources.map((number) => this.#chain.at(number));
    const gone = new Set(merged);
    await this.#relinkAll(gone);
    const rest = this.#chain.with(this.#chain.images.filter((image) => !gone.has(image)));
    const before = rest.last.image === this.#target.last.image ? this.#target : this.#host.head;
    // Nothing of the merge is left to store when its files go.
    await this.#target.end();
    this.#host.replaceHead(new ActiveImage(this.#writable(rest), this.#host.options, before));
    if (rest.last.key !== this.#target.last.key) await reopen(this.#host.tools, rest, this.#numberIn(rest), 'read');
    await this.#removeLeftovers();
    await this.#remove(merged);
    await removeMergeRecord(this.#chain.last.source);
    const { size } = rest;
    this.#options.onProgress?.({ operation: 'merge', done: size, total: size });
  }

  get #leftovers(): readonly RecordedImage[] {
    return this.#options.rest?.leftovers ?? [];
  }

  /** Deletes files left by an interrupted merge. */
  async #removeLeftovers(): Promise<void> {
    if (this.#options.keep === true || this.#leftovers.length === 0) return;
    const { source, name } = this.#chain.last;
    const stays = await removeLeftovers(this.#host.tools, this.#chain, source.provider, this.#leftovers);
    for (const text of stays) this.#host.options.environment.warn(text, name);
  }

  /** Once linked, the last image reads correctly without the images between, and without its own data. */
  async #finishCommit(): Promise<void> {
    await this.#target.end();
    const rest = await this.#putOver(this.#target.last);
    try {
      await this.#endCommit();
    } finally {
      await reopen(this.#host.tools, rest, this.#to, 'read');
    }
  }

  /** Makes the last image a child of the target. */
  async #putOver(target: ChainImage): Promise<Chain> {
    const { last, images } = this.#chain;
    await relink(last, linkTo(target));
    const rest = this.#chain.with([...images.slice(0, this.#to + 1), last]);
    this.#host.replaceHead(new ActiveImage(rest, this.#host.options, this.#host.head));
    for (const { image } of images.slice(this.#to + 1, -1)) await image.close();
    return rest;
  }

  async #endCommit(): Promise<void> {
    const { head } = this.#host;
    if (this.#options.commit === 'empty') await emptyLast(head, this.#options.signal);
    const { size } = head.chain;
    this.#options.onProgress?.({ operation: 'commit', done: size, total: size });
  }

  /** An image that becomes the last one is opened for writing, as the old one was. */
  #writable(chain: Chain): Chain {
    const { last, top } = chain;
    if (last.settings.mode !== 'write') chain.replace(top, { ...last, settings: { ...last.settings, mode: 'write' } });
    return chain;
  }

  /** Changes the links. The list of a directory changes in one step, after which only files are left to delete. */
  async #relinkAll(gone: ReadonlySet<ChainImage>): Promise<void> {
    const ids = [...gone].flatMap(({ image }) => image.member?.id ?? []);
    if (ids.length === 0) {
      await writeMergeRecord(this.#chain.last.source, this.#record);
      return this.#link();
    }
    const rest = this.#chain.images.filter((image) => !gone.has(image) && image.key !== this.#target.last.key);
    await dropFrom([...rest, this.#target.last], ids);
  }

  /** Gives the target the parent of the merged images, and the remaining child the target. */
  async #link(): Promise<void> {
    if (this.#forward) {
      await relink(this.#target.last, this.#parentLink());
    }
    // Until its file goes last of all, the last image must read right without those between.
    if (!this.#forward && this.#from === this.#chain.top) await relink(this.#chain.last, linkTo(this.#target.last));
    const childNumber = Math.max(this.#from, this.#to) + 1;
    if (childNumber > this.#chain.top) return;
    const isLast = childNumber === this.#chain.top;
    if (!isLast) await reopen(this.#host.tools, this.#chain, childNumber, 'write');
    await relink(this.#chain.at(childNumber), linkTo(this.#target.last));
    if (!isLast) await reopen(this.#host.tools, this.#chain, childNumber, 'read');
  }

  /** Parent of the lowest moving image; null for none. An unopened parent is known by its links. */
  #parentLink(): ParentLink | null {
    if (this.#from > 0) return linkTo(this.#chain.at(this.#from - 1));
    if (this.#chain.incomplete === null) return null;
    const { image, source } = this.#chain.at(0);
    const { names, format, ...identity } = image.info.parent ?? parentReference({});
    const [stored] = names;
    const name = stored === undefined ? '' : source.provider.resolve(stored, source.name);
    return { ...identity, name, format: format ?? '' };
  }

  async #remove(merged: readonly ChainImage[]): Promise<void> {
    for (const { image } of merged) await image.close();
    if (this.#options.keep === true) return;
    // A file that is still there after a cut has its parents, or what it needs of them.
    const order = this.#forward ? merged : [...merged].reverse();
    for (const one of order) await removeFilesOf(one, partFiles(one));
  }

  #numberIn(chain: Chain): number {
    return chain.images.findIndex(({ key }) => key === this.#target.last.key);
  }

  /** Leaves moved data in place: the disk reads as before. */
  async #giveUp(): Promise<void> {
    this.#relaying = false;
    await this.#host
      .exclusive(async () => {
        await this.#target.quiesce();
        await this.#demote();
      })
      .catch(() => {
        // Why the merge ended matters more.
      });
  }

  async #demote(): Promise<void> {
    const { chain } = this.#host.head;
    if (this.#target === this.#host.head || chain !== this.#chain) return;
    await this.#target.end();
    await reopen(this.#host.tools, chain, this.#to, 'read');
  }
}
