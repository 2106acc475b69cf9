/**
 * Runs operations against a disk and a plain byte array, and reports the first difference.
 *
 * The array is the expected content of the disk. A discarded byte may read as before or as zero until it is written
 * again; `#loose` marks such bytes. Buffers are spoiled around each request: read targets before it, write sources
 * after it, so that unfilled bytes and retained buffers show up.
 */

import { alignDown, alignUp, SECTOR } from '../../src/binary/numbers.ts';
import { isZero } from '../../src/codec/bytes.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { isImageError } from '../../src/errors.ts';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Config } from '../../src/image/contract.ts';
import { convert } from '../../src/operations/convert.ts';
import { copyChain } from '../../src/operations/copy.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Source, StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { checkWith } from '../../src/testing/format-files.ts';
import { buildChain, type ChainPart } from './build.ts';
import { FakeClock } from './clock.ts';
import { type DiskContent, describeByte, firstDifference, fits, splitBytes, writeContent } from './content.ts';
import { DATA_FILE } from './data-file.ts';
import { type CompareBytes, checkCover, checkExtents, fileBytes } from './extents.ts';
import { InnerModel } from './inner.ts';
import type { CompressOperation, InnerOperation } from './inner-operations.ts';
import { Layers } from './layers.ts';
import { Mismatch } from './mismatch.ts';
import { ModelDisk } from './model-disk.ts';
import type { Operation, Range, ReadOperation, WriteOperation, ZeroOperation } from './operations.ts';
import { type Failure, messageOf, type RunOptions, resized, type Tally, type Wrap } from './outcome.ts';
import { makePlace, type Place, registryOf, type Scenario, stackedConfig } from './scenario.ts';
import { explainDisorder, type RanRead, type RanWrite } from './serial-order.ts';

/** Outcome of concurrent requests. */
interface Ran {
  readonly writes: RanWrite[];
  readonly reads: RanRead[];
  readonly discarded: Range[];
}

/** A run takes some milliseconds; the machine may be busy. */
const HANG_MS = 20_000;
const HUNG = 'it did not end';
const SPOILED = 0xa5;

/** Plays the list. Null when the disk did everything right. */
export async function runOperations(
  scenario: Scenario,
  operations: readonly Operation[],
  how: RunOptions = {},
): Promise<Failure | null> {
  const run = new ModelRun(scenario, how);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hung = new Promise<Failure>((resolve) => {
    timer = setTimeout(() => resolve({ step: run.step, message: HUNG }), how.hangMs ?? HANG_MS);
  });
  const failure = await Promise.race([run.play(operations), hung]);
  clearTimeout(timer);
  await run.dispose(failure?.message === HUNG);
  return failure;
}

type Layered = Extract<Operation, { kind: 'filter' | 'prepare' | 'cache' }>;
type Later = Extract<Operation, { kind: 'discard' | 'resize' | 'compact' | 'stack' | 'merge' | 'copy' }> | Layered;
const INNER: ReadonlySet<string> = new Set<InnerOperation['kind']>(['compress', 'snapshot', 'bitmap', 'convert']);
const isInner = (operation: Operation): operation is InnerOperation => INNER.has(operation.kind);

/** Images that a chain grows to. */
const MAX_CHAIN = 6;

class ModelRun {
  /** The operation that runs. */
  step = 0;
  readonly #scenario: Scenario;
  readonly #wrap: Wrap;
  readonly #tally: Tally;
  readonly #inspect: NonNullable<RunOptions['inspect']>;
  readonly #clock = new FakeClock();
  #place: Place | null = null;
  #disk: ModelDisk | null = null;
  #model: Uint8Array = new Uint8Array(0);
  #loose: Uint8Array = new Uint8Array(0);
  /** Content of the images below. */
  #below: Uint8Array = new Uint8Array(0);
  /** Files of the images below, which nothing may change but what changes the chain. */
  #frozen = new Map<string, Uint8Array>();
  /** The images now, base first. */
  #chain: readonly ChainPart[] = [];
  #stacked = 0;
  #inner = new InnerModel();
  readonly #layers = new Layers();

  constructor(scenario: Scenario, { wrap, tally, inspect }: RunOptions) {
    this.#scenario = scenario;
    this.#wrap = wrap ?? ((disk) => new ModelDisk(disk));
    this.#tally = tally ?? new Map();
    this.#inspect = inspect ?? (async () => {});
  }

  async play(operations: readonly Operation[]): Promise<Failure | null> {
    try {
      await this.#build();
      for (const operation of operations) {
        await this.#perform(operation);
        this.step++;
      }
      await this.#end();
      return null;
    } catch (error) {
      return { step: this.step, message: messageOf(error) };
    }
  }

  async dispose(hung: boolean): Promise<void> {
    // After a failure the disk may be in any state; only its files must go. Closing would wait for what hangs.
    const closed = this.#disk?.inner.close().catch(() => {});
    if (!hung) await closed;
    await this.#place?.dispose();
  }

  async #build(): Promise<void> {
    const place = await makePlace(this.#scenario);
    this.#place = place;
    const { chain, below, first, did } = await buildChain(this.#scenario, place);
    this.#chain = chain;
    this.#below = below;
    if (did !== null) this.#count(did);
    await this.#freeze();
    await this.#open();
    const wanted = this.#scenario.sizes.at(-1) ?? 0;
    if (this.#device.size < wanted) throw new Mismatch(`the disk has ${this.#device.size} bytes`);
    this.#model = resized(first, this.#device.size);
    this.#loose = new Uint8Array(this.#model.length);
  }

  /** The chain as the disk has it now; the files below the last may not change from now on. */
  async #chainChanged(): Promise<void> {
    this.#chain = this.#device.inner.images.map(({ name, format }) => ({ name, format }));
    await this.#freeze();
  }

  async #freeze(): Promise<void> {
    const { provider } = this.#files;
    this.#frozen = new Map();
    for (const { name } of this.#chain.slice(0, -1)) this.#frozen.set(name, await fileBytes({ provider, name }));
  }

  get #files(): Place {
    if (this.#place === null) throw new Error('internal: the run has a place');
    return this.#place;
  }

  get #device(): ModelDisk {
    if (this.#disk === null) throw new Error('internal: the run has a disk');
    return this.#disk;
  }

  async #openOn(provider: StorageProvider, options: DiskOpenOptions): Promise<ChainDisk> {
    const sources = this.#chain.map(({ name }) => ({ provider, name }));
    const own = sources.at(-1);
    const found = this.#scenario.parents === 'found' && own !== undefined;
    // A data file must be allowed by its own name.
    const data = provider.resolve(DATA_FILE, own?.name ?? '');
    const allow = found || this.#scenario.setUp !== null ? { allow: ['same-directory', data] } : {};
    const format = this.#chain.at(-1)?.format ?? '';
    const how: DiskOpenOptions = { format, ...registryOf(this.#scenario.shape), ...allow, ...options };
    const disk = await openDisk(found ? own : sources, how);
    await this.#layers.attach(disk, provider === this.#files.provider ? this.#cache : null);
    return disk;
  }

  get #cache(): Source {
    return this.#files.source('cache.vci');
  }

  async #open(options: DiskOpenOptions = {}): Promise<void> {
    const { provider } = this.#files;
    const how: DiskOpenOptions = { mode: 'write', timers: this.#clock, ...this.#scenario.options, ...options };
    const disk = await this.#openOn(provider, how);
    this.#disk = this.#wrap(disk);
  }

  async #perform(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case 'read':
      case 'write':
      case 'zero':
        return this.#together([operation]);
      case 'together':
        return this.#together(operation.operations);
      case 'flush':
        await this.#device.flush();
        if (operation.compare) await this.#compareCopy({ closed: false });
        break;
      case 'extents':
        await checkExtents(this.#device.inner, null, this.#compare);
        break;
      case 'reopen':
        await this.#device.close();
        await this.#open();
        this.#inner.reopened();
        this.#compareSize();
        break;
      case 'advance':
        this.#clock.advance(operation.ms);
        break;
      default:
        return isInner(operation) ? this.#performInner(operation) : this.#performLater(operation);
    }
    this.#count(operation.kind);
  }

  get #now(): DiskContent {
    return { bytes: this.#model, loose: this.#loose };
  }

  /** With what the image keeps inside. */
  async #performInner(operation: InnerOperation): Promise<void> {
    if (operation.kind === 'compress') return this.#together([operation]);
    const disk = this.#device.inner;
    if (operation.kind === 'bitmap') {
      if (await this.#inner.bitmap(operation, disk)) this.#count(`bitmap ${operation.act}`);
    } else if (operation.kind === 'snapshot') {
      const done = await this.#inner.snapshot(operation, disk, this.#now);
      if (done === null) return;
      this.#count(done.did);
      if (done.content.bytes.length !== this.#model.length) this.#inner.resized(done.content.bytes.length);
      [this.#model, this.#loose] = [done.content.bytes, done.content.loose];
      this.#compareSize();
    } else await this.#convert(operation.config, operation.compress);
  }

  /** Into a new image elsewhere. */
  async #convert(config: Config, compress: boolean): Promise<void> {
    const provider = new MemoryProvider();
    const target = { provider, name: '/converted.qcow2' };
    await convert(this.#device.inner, target, { format: this.#scenario.shape.format.name, config, compress });
    const second = await openDisk(target, { allow: ['same-directory'] });
    try {
      this.#compareSize(second.size);
      const found = new Uint8Array(second.size).fill(SPOILED);
      await second.read(0, found);
      this.#compare(0, found, 'a conversion');
      await checkExtents(second, provider, this.#compare);
    } finally {
      await second.close();
    }
    await this.#inspect({ ...target, content: this.#now, states: [] });
    this.#count(compress ? 'convert compressed' : 'convert');
  }

  /** Operations that only some disks support. */
  async #performLater(operation: Later): Promise<void> {
    if (operation.kind === 'discard') return this.#together([operation]);
    if (operation.kind === 'stack') return this.#stack(operation.unit);
    if (operation.kind === 'copy') return this.#copyChain();
    if (operation.kind === 'merge') return this.#together([operation]);
    if (operation.kind === 'filter' || operation.kind === 'prepare' || operation.kind === 'cache') {
      return this.#performLayered(operation);
    }
    const { capabilities } = this.#scenario.shape.format;
    if (!capabilities[operation.kind]) return;
    if (operation.kind === 'compact') {
      if (!(await this.#supports(this.#device.compact()))) return;
    } else {
      if (!(await this.#supports(this.#device.resize(operation.size, operation.shrink)))) return;
      this.#model = resized(this.#model, operation.size);
      this.#loose = resized(this.#loose, operation.size);
      this.#inner.resized(operation.size);
    }
    this.#compareSize();
    this.#count(operation.kind);
  }

  async #performLayered(operation: Layered): Promise<void> {
    const { inner } = this.#device;
    if (operation.kind === 'cache') {
      await this.#layers.toggleCache(inner, this.#cache);
    } else if (operation.kind === 'filter') {
      const wanted = await this.#layers.change(inner, operation, await this.#readAll());
      if (wanted === null) return;
      this.#model = wanted;
      // What waited to be discarded was, before the filter came.
      const found = new Uint8Array(inner.size);
      await this.#device.read(0, found);
      for (const [at, loose] of this.#loose.entries()) if (loose === 1) wanted[at] = found[at] ?? 0;
      this.#loose.fill(0);
      this.#compare(0, found, 'the disk with other filters');
    } else {
      if (this.#layers.full) return;
      await this.#readAll();
      const { which, cancelAt } = operation;
      if (!(await this.#layers.prepare(inner, which, cancelAt))) {
        await this.#device.close();
        await this.#open({ resumeFilters: true });
        if (!(await this.#layers.prepare(this.#device.inner, which, null))) throw new Mismatch('it was not resumed');
        this.#count('prepare resumed');
      }
      await this.#chainChanged();
      await this.#readAll();
    }
    this.#count(operation.kind);
  }

  /** The content of the whole disk, compared; bytes that may be zero by now are taken as they are. */
  async #readAll(): Promise<Uint8Array> {
    const found = new Uint8Array(this.#device.size).fill(SPOILED);
    await this.#device.read(0, found);
    this.#compare(0, found, 'the whole disk');
    this.#model = found.slice();
    return found;
  }

  async #stack(unit: number): Promise<void> {
    const { format } = this.#scenario.shape;
    if (!format.capabilities.diff || this.#chain.length >= MAX_CHAIN) return;
    const name = this.#files.source(`stacked${this.#stacked++}.${format.extensions[0]?.extension ?? ''}`).name;
    const { provider } = this.#files;
    const config = stackedConfig(this.#scenario, unit);
    await this.#device.createDiff({ provider, name }, { format: format.name, config });
    await this.#chainChanged();
    this.#compareSize();
    this.#count('stack');
  }

  /** All of the chain, image by image, to another medium. */
  async #copyChain(): Promise<void> {
    if (this.#chain.some(({ format }) => format === 'raw') && this.#chain.length > 1) return;
    const provider = new MemoryProvider();
    await this.#device.flush();
    const formats = registryOf(this.#scenario.shape);
    const copied = await copyChain(this.#device.inner, (_, number) => ({ provider, name: `/${number}` }), formats);
    const sources = copied.map(({ to }) => ({ provider, name: to }));
    const last = this.#chain.at(-1)?.format ?? '';
    const second = await openDisk(sources, { format: last, ...formats });
    // A copy reads through the filters: it holds what the disk reads.
    try {
      this.#compareSize(second.size);
      const found = new Uint8Array(second.size).fill(SPOILED);
      await second.read(0, found);
      this.#compare(0, found, 'a copy of the chain');
    } finally {
      await second.close();
    }
    this.#count('copy');
  }

  /** Numbers from shares of the chain. What cannot be merged is refused, and left alone. */
  async #merge(operation: { readonly from: number; readonly to: number }): Promise<void> {
    const top = this.#device.inner.images.length - 1;
    const [from, to] = [operation.from, operation.to].map((share) => Math.round(share * top)) as [number, number];
    // Where there are snapshots a merge must be refused. Otherwise it would take bitmaps away.
    if (from === to || (this.#scenario.setUp?.inner === true && this.#inner.states.length === 0)) return;
    if (!(await this.#supports(this.#device.merge(from, to)))) return;
    this.#count(from < to ? 'merge forward' : 'merge backward');
  }

  /** False when it is refused: fixed images refuse, and so does what would lose data. */
  async #supports(work: Promise<void>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      if (isImageError(error) && error.kind === 'unsupported') return false;
      throw error;
    }
  }

  #count(kind: string): void {
    this.#tally.set(kind, (this.#tally.get(kind) ?? 0) + 1);
  }

  #cut({ offset, length }: Range): Range {
    const start = Math.min(offset, this.#model.length);
    return { offset: start, length: Math.min(length, this.#model.length - start) };
  }

  /** Issues all of them, waits for all of them, and looks for an order that explains what they found and left. */
  async #together(operations: readonly Operation[]): Promise<void> {
    const writes: RanWrite[] = [];
    const reads: RanRead[] = [];
    const discarded: Range[] = [];
    const work = operations.map((operation) => this.#issue(operation, { writes, reads, discarded }));
    const ended = await Promise.allSettled(work);
    const failed = ended.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    if (operations.some(({ kind }) => kind === 'merge')) await this.#chainChanged();
    const last: RanRead[] = [];
    for (const { offset, length } of [
      ...writes.map(({ offset, bytes }) => ({ offset, length: bytes.length })),
      ...discarded,
    ]) {
      const found = new Uint8Array(length).fill(SPOILED);
      await this.#device.read(offset, found);
      last.push({ offset, bytes: found, what: `a read after it, from ${offset},` });
    }
    const before = (offset: number, bytes: Uint8Array): boolean => firstDifference(bytes, this.#now, offset) === -1;
    const disorder = explainDisorder({ writes, reads, last, before, discarded });
    if (disorder !== null) throw new Mismatch(this.#explain(disorder, writes, [...reads, ...last]));
    this.#adopt(writes, last, discarded);
    for (const { kind } of operations) this.#count(operations.length > 1 ? `${kind} together` : kind);
  }

  /** Takes the content found as the expectation from here on; only discarded bytes may still become zero. */
  #adopt(writes: readonly RanWrite[], last: readonly RanRead[], discarded: readonly Range[]): void {
    for (const { offset, bytes } of last) this.#inner.noteChange(offset, this.#now, bytes);
    for (const { offset, bytes } of writes) this.#inner.noteRequest(offset, bytes.length);
    const unit = this.#device.inner.blockSize ?? 1;
    for (const { offset, length } of discarded) this.#inner.noteRequest(offset, length, unit);
    for (const { offset, bytes } of writes) this.#loose.fill(0, offset, offset + bytes.length);
    for (const { offset, bytes } of last) this.#model.set(bytes, offset);
    for (const { offset, length } of discarded) this.#loose.fill(1, offset, offset + length);
  }

  /** For one request alone the byte that differs says more than the general sentence. */
  #explain(disorder: string, writes: readonly RanWrite[], reads: readonly RanRead[]): string {
    const [read] = reads;
    const [write] = writes;
    if (reads.length !== 1 || read === undefined || writes.length > 1) return disorder;
    const wanted = write?.bytes ?? this.#model.subarray(read.offset, read.offset + read.bytes.length);
    const at = read.bytes.findIndex((byte, index) => byte !== wanted[index]);
    return `${read.what} found ${describeByte(read.bytes[at])} at ${read.offset + at} instead of ${describeByte(wanted[at])}`;
  }

  #issue(operation: Operation, ran: Ran): Promise<unknown> {
    switch (operation.kind) {
      case 'read':
        return this.#issueRead(operation, ran.reads);
      case 'write':
        return this.#issueWrite(operation, ran.writes);
      case 'zero':
        return this.#issueZero(operation, ran.writes);
      case 'compress':
        return this.#issueCompressed(operation, ran.writes);
      case 'discard':
        return this.#issueDiscard(operation.ranges, ran.discarded);
      case 'compact':
        return this.#scenario.shape.format.capabilities.compact
          ? this.#supports(this.#device.compact())
          : Promise.resolve();
      case 'merge':
        return this.#merge(operation);
      case 'flush':
        return this.#device.flush();
      case 'extents':
        return checkCover(this.#device.inner);
      case 'advance':
        this.#clock.advance(operation.ms);
        return Promise.resolve();
      default:
        return Promise.reject(new Error(`internal: ${operation.kind} does not run together with others`));
    }
  }

  async #issueRead(operation: ReadOperation, reads: RanRead[]): Promise<void> {
    const { offset, length } = this.#cut(operation);
    if (length === 0) return;
    const bytes = new Uint8Array(length).fill(SPOILED);
    const what = `the read from ${offset}`;
    if (operation.now && this.#device.readNow(offset, bytes)) {
      reads.push({ offset, bytes, what });
      return;
    }
    const result = await this.#device.read(offset, splitBytes(bytes, 1 + (length % 2)));
    if (result.unallocated && !isZero(bytes)) throw new Mismatch(`${what} found data and called it unallocated`);
    reads.push({ offset, bytes, what });
  }

  async #issueWrite(operation: WriteOperation, writes: RanWrite[]): Promise<void> {
    const { offset, length } = this.#cut(operation);
    if (length === 0) return;
    const bytes = writeContent({ ...operation, offset, length }, this.#model, this.#below);
    writes.push({ offset, bytes: bytes.slice() });
    await this.#device.write(offset, splitBytes(bytes, operation.buffers));
    bytes.fill(SPOILED);
  }

  async #issueCompressed(operation: CompressOperation, writes: RanWrite[]): Promise<void> {
    const { offset, length } = this.#cut(operation);
    const disk = this.#device.inner;
    if (length === 0 || disk.compression === null) return;
    const bytes = writeContent({ ...operation, offset, length }, this.#model, this.#below);
    writes.push({ offset, bytes: bytes.slice() });
    const made = await disk.compress(offset, bytes);
    await made.store();
    bytes.fill(SPOILED);
  }

  async #issueZero(operation: ZeroOperation, writes: RanWrite[]): Promise<void> {
    const { offset, length } = this.#cut(operation);
    if (length === 0) return;
    writes.push({ offset, bytes: new Uint8Array(length) });
    await this.#device.zero(offset, length, { punch: operation.punch });
  }

  /** Sectors that a range covers in part only are left alone. */
  async #issueDiscard(ranges: readonly Range[], discarded: Range[]): Promise<void> {
    if (!this.#device.inner.can.discard) return;
    const cut = ranges.map((range) => this.#cut(range));
    for (const { offset, length } of cut) {
      const start = alignUp(offset, SECTOR);
      const end = alignDown(offset + length, SECTOR);
      if (start < end) discarded.push({ offset: start, length: end - start });
    }
    await this.#device.discard(cut);
  }

  readonly #compare: CompareBytes = (offset, found, what) => {
    fits(found, this.#now, offset, what);
  };

  #compareSize(size = this.#device.size): void {
    if (size !== this.#model.length) throw new Mismatch(`the disk has ${size} bytes instead of ${this.#model.length}`);
  }

  async #end(): Promise<void> {
    await this.#device.flush();
    await checkExtents(this.#device.inner, null, this.#compare);
    await this.#compareCopy({ closed: false });
    await this.#device.close();
    await this.#compareCopy({ closed: true });
  }

  /** Opens copies of the files as another program would find them now. */
  async #compareCopy({ closed }: { closed: boolean }): Promise<void> {
    const copy = await this.#files.copy();
    for (const [name, bytes] of this.#frozen) {
      const now = await fileBytes({ provider: copy, name });
      if (Buffer.compare(bytes, now) !== 0) throw new Mismatch(`the file of a parent, ${name}, has changed`);
    }
    const second = await this.#openOn(copy, { mode: 'read' });
    const dirty = second.images.map(({ info }) => info.dirty === true);
    try {
      this.#compareSize(second.size);
      const found = new Uint8Array(second.size).fill(SPOILED);
      await second.read(0, found);
      this.#compare(0, found, 'a second disk on the files');
      // Through filters, or a view of the format, the file does not contain what is read.
      const encoded = this.#layers.active || this.#scenario.shape.encoded === true;
      await checkExtents(second, encoded ? null : copy, this.#compare);
    } finally {
      await second.close();
    }
    await this.#checkImages(copy, closed, dirty);
    await this.#compareInner(copy, closed);
    this.#count('comparison');
  }

  async #compareInner(provider: StorageProvider, closed: boolean): Promise<void> {
    const name = this.#chain.at(-1)?.name ?? '';
    const { setUp } = this.#scenario;
    if (setUp?.inner === true) {
      await this.#inner.compareStates((snapshot) => this.#openOn(provider, { mode: 'read', snapshot }));
      await this.#inner.compareBitmaps({ provider, name }, closed);
    }
    if (closed) await this.#inspect({ provider, name, content: this.#now, states: this.#inner.states });
  }

  /**
   * Runs the check of each image's format, where it has one. Before the end of a session room may be lost, as after a
   * power cut, and an image that says so may be warned about.
   */
  async #checkImages(provider: StorageProvider, closed: boolean, dirty: readonly boolean[]): Promise<void> {
    for (const [level, { name, format: own }] of this.#chain.entries()) {
      const format = (this.#scenario.shape.registry ?? defaultRegistry()).find(own);
      if (!format.capabilities.check || format.check === undefined) continue;
      const findings = await checkWith(format, { provider, name });
      const open = ['leak', ...(dirty[level] === true ? ['warning'] : [])];
      const bad = findings.filter(({ severity }) => closed || !open.includes(severity));
      if (bad.length > 0) throw new Mismatch(`check found ${JSON.stringify(bad)} in ${name}`);
      this.#count('check');
    }
  }
}
