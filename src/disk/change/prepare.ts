/**
 * prepareWithFilters: converts the data in the images of a chain in place, for the current filters of the disk: it is
 * read through the read filters and written through the write filters. So a write-only filter encrypts existing data, a
 * read-only one decrypts it.
 *
 * A conversion in place cannot be undone by a table entry, so there is a record beside each image: the bytes of a
 * window are durable there before the window is overwritten. After an interruption the next run restores the window and
 * continues; until it is complete, the images cannot be opened otherwise. Nothing else may run at the same time.
 */
import { crc32c } from '../../binary/crc32c.ts';
import { NULL_GUID, normalizeGuid, randomGuid } from '../../binary/guid.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { Mapping, Progress } from '../../image/contract.ts';
import { isPromise, type OperationOptions, type Source } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { refuseIncomplete } from '../open/beside.ts';
import { recordOf } from '../open/half-converted.ts';
import { requireSystemLocks } from '../open/locking.ts';
import { FILTERS_MAX, type PrepareIdentity, PrepareRecord, WINDOW } from '../open/prepare-record.ts';
import { ActiveImage } from '../path/active-image.ts';
import type { Chain, ChainImage } from '../path/chain.ts';
import type { DiskHost } from './host.ts';
import { expectChange, linkTo, relink } from './links.ts';
import { reopen } from './stack.ts';

/** Options for a conversion by filters. */
export interface PrepareOptions extends OperationOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Convert images that others, outside the chain, depend on. Those cannot be read correctly afterwards. */
  readonly force?: boolean | undefined;
}

/** Converts all images of the disk, for `disk.filters.prepare`. */
export async function prepareOf(host: DiskHost, options: PrepareOptions): Promise<void> {
  const { chain } = host.head;
  if (!chain.filters.active) {
    throw new ImageError('invalid-argument', 'The disk has no filters to convert its data with', {
      path: chain.last.name,
      hint: 'Add them first.',
    });
  }
  for (const { image, name } of chain.images) {
    if ((image.info.snapshots ?? []).length === 0) continue;
    throw new ImageError('unsupported', 'The image has internal snapshots, which cannot be converted', {
      path: name,
      hint: 'Delete them, or convert the image into one without.',
    });
  }
  if (options.force !== true) await refuseChildren(host);
  await host.exclusive(async () => {
    await host.quiesce();
    await new Preparation(host, options).run();
  });
}

/** Images outside the chain would read converted data without filters. */
async function refuseChildren({ head, tools }: DiskHost): Promise<void> {
  const own = new Set(head.chain.images.map(({ key }) => key));
  const children = await tools.childrenOf(head.chain.images);
  const other = children.found.find(({ key }) => !own.has(key));
  if (other === undefined) return refuseIncomplete(head.last.name, children);
  throw new ImageError('busy', `The image cannot be converted: ${other.child} in the same directory depends on it`, {
    path: other.image.name,
    hint: 'Delete or merge that image first, or proceed with option force.',
  });
}

class Preparation {
  readonly #host: DiskHost;
  readonly #options: PrepareOptions;
  readonly #chain: Chain;
  #records: PrepareRecord[] = [];
  readonly #total: number;
  #done = 0;
  #fingerprint = 0;

  constructor(host: DiskHost, options: PrepareOptions) {
    this.#host = host;
    this.#options = options;
    this.#chain = host.head.chain;
    this.#total = this.#chain.images.reduce((sum, { image }) => sum + image.info.virtualSize, 0);
  }

  async run(): Promise<void> {
    const { filters } = this.#chain;
    this.#fingerprint = crc32c(
      await this.#pass(
        0,
        Uint8Array.from({ length: SECTOR }, (_, index) => index & 0xff),
      ),
    );
    // As long as the records were not read, the progress of an earlier run is unknown.
    let known = false;
    try {
      const found = await this.#openRecords();
      known = true;
      filters.halfConverted = true;
      if (found === 'none') await this.#plan();
      if (found !== 'ended') {
        for (const number of this.#chain.images.keys()) await this.#convertImage(number);
      }
      await this.#link();
      await this.#removeRecords();
      filters.halfConverted = false;
    } finally {
      if (known && this.#records.length === 0) filters.halfConverted = false;
      for (const record of this.#records) await record.close();
    }
    this.#tell(this.#total);
  }

  /** State left by an earlier run. `ended`: all images are converted, only records are left. */
  async #openRecords(): Promise<'none' | 'running' | 'ended'> {
    const places: number[] = [];
    for (const [number, { source }] of this.#chain.images.entries()) {
      const record = await PrepareRecord.open(source);
      if (record === 'unwritten') await removeRecord(source);
      else if (record !== null) {
        this.#records.push(record);
        places.push(number);
      }
    }
    const [first] = this.#records;
    if (first === undefined) return 'none';
    for (const [index, record] of this.#records.entries()) {
      this.#checkRecord(record, places[index] ?? 0, first.identity.conversion);
    }
    const all = (state: string): boolean => this.#records.every(({ current }) => current.state === state);
    if (all('done')) return 'ended';
    if (this.#records.length === this.#chain.images.length) return 'running';
    if (all('planned')) {
      await this.#removeRecords();
      return 'none';
    }
    throw doNotFit(this.#chain.last.name);
  }

  #checkRecord({ identity, current }: PrepareRecord, number: number, conversion: string): void {
    const entry = this.#chain.at(number);
    const path = recordOf(entry.source).name;
    const wanted = this.#identityOf(entry, number, conversion);
    const facts = ['conversion', 'image', 'images', 'uuid', 'diskSize', 'filters', 'fingerprint'] as const;
    const wrong = facts.find((fact) => wanted[fact] !== identity[fact]);
    if (wrong !== undefined) {
      throw new ImageError('invalid-argument', 'The interrupted conversion used another chain or other filters', {
        path,
        field: wrong,
        found: String(identity[wrong]),
        expected: String(wanted[wrong]),
        hint: 'Open the same images, and add the same filters in the same order.',
      });
    }
    const { position, original } = current;
    const whole = position % SECTOR === 0 && original.length % SECTOR === 0;
    if (!whole || position + original.length > entry.image.info.virtualSize) throw doNotFit(path);
  }

  #identityOf({ image }: ChainImage, number: number, conversion: string): PrepareIdentity {
    const { uuid, virtualSize } = image.info;
    const { writing, reading } = this.#chain.filters;
    const names = `write: ${writing.map(({ name }) => name).join(' ')}, read: ${reading.map(({ name }) => name).join(' ')}`;
    return {
      conversion,
      fingerprint: this.#fingerprint,
      image: number,
      images: this.#chain.images.length,
      uuid: uuid === null ? NULL_GUID : normalizeGuid(uuid),
      diskSize: virtualSize,
      filters: new TextDecoder()
        .decode(new TextEncoder().encode(names).subarray(0, FILTERS_MAX))
        .replace(/\uFFFD+$/, ''),
    };
  }

  /** Creates the records of all images before the first change: half a chain must not open by itself. */
  async #plan(): Promise<void> {
    const conversion = randomGuid();
    try {
      for (const [number, entry] of this.#chain.images.entries()) {
        throwIfAborted(this.#options.signal, 'The conversion');
        this.#records.push(await PrepareRecord.create(entry.source, this.#identityOf(entry, number, conversion)));
      }
      for (const { source } of this.#chain.images) {
        await source.provider.syncNames(source.provider.directory(source.name));
      }
    } catch (error) {
      // Nothing was changed yet, and nothing must keep the images from being opened.
      await this.#removeRecords();
      throw error;
    }
  }

  async #convertImage(number: number): Promise<void> {
    const record = this.#records[number];
    const before = this.#chain.at(number);
    if (record === undefined || record.current.state === 'done') {
      this.#report(before.image.info.virtualSize);
      return;
    }
    const last = number === this.#chain.top;
    if (!last) await reopen(this.#host.tools, this.#chain, number, 'write');
    try {
      const head = last ? this.#host.head : this.#headOf(number);
      await requireSystemLocks(head.last.image.storages(), this.#host.options);
      await expectChange(this.#host.tools, this.#chain, number);
      await head.begin();
      try {
        await this.#convert(head, record);
      } finally {
        await head.quiesce();
        if (!last) await head.end();
      }
      await record.write({ state: 'done', position: head.chain.size, original: new Uint8Array(0), converted: 0 });
    } finally {
      if (!last) await reopen(this.#host.tools, this.#chain, number, 'read');
    }
  }

  #headOf(number: number): ActiveImage {
    const chain = this.#chain.with(this.#chain.images.slice(0, number + 1));
    const { ignoreFlush = false } = chain.last.settings;
    return new ActiveImage(chain, { flushAfterMs: 0, settings: { mode: 'write', ignoreFlush } });
  }

  async #convert(head: ActiveImage, record: PrepareRecord): Promise<void> {
    const { image } = head.last;
    const { virtualSize } = image.info;
    const start = await this.#restore(head, record);
    this.#done += start;
    for (let at = start; at < virtualSize; ) {
      throwIfAborted(this.#options.signal, 'The conversion');
      const mapping = await placed(head, at, virtualSize - at);
      if (mapping.kind === 'data') {
        const original = new Uint8Array(mapping.length);
        await readPadded(mapping.storage, mapping.fileOffset, original);
        const converted = await this.#pass(at, original);
        await record.write({ state: 'running', position: at, original, converted: crc32c(converted) });
        await overwrite(head, mapping, at, converted);
      }
      at += mapping.length;
      this.#report(mapping.length);
    }
  }

  /** Undoes the effect of an interrupted run on its last window. Returns the position to continue from. */
  async #restore(head: ActiveImage, record: PrepareRecord): Promise<number> {
    const { state, position, original, converted } = record.current;
    if (state !== 'running') return 0;
    if (crc32c(await this.#pass(position, original)) !== converted) {
      throw new ImageError('invalid-argument', 'The interrupted conversion used other filters', {
        path: head.last.name,
        hint: 'Add the same filters, with the same options and keys.',
      });
    }
    for (let done = 0; done < original.length; ) {
      const mapping = await placed(head, position + done, original.length - done);
      if (mapping.kind !== 'data') {
        throw new ImageError('corrupt', 'The image changed since its conversion was interrupted', {
          path: head.last.name,
          guestOffset: position + done,
        });
      }
      await overwrite(head, mapping, position + done, original.subarray(done, done + mapping.length));
      done += mapping.length;
    }
    return position;
  }

  async #pass(offset: number, original: Uint8Array): Promise<Uint8Array> {
    const { filters } = this.#chain;
    const plain = filters.decodes ? await filters.decode(offset, original.slice()) : original.slice();
    return filters.encodes ? filters.encode(offset, plain) : plain;
  }

  /** The contents have changed, so children get new links to their parents. */
  async #link(): Promise<void> {
    for (let number = 1; number <= this.#chain.top; number++) {
      const last = number === this.#chain.top;
      if (this.#chain.at(number).image.relink === undefined && last) continue;
      if (!last) await reopen(this.#host.tools, this.#chain, number, 'write');
      await relink(this.#chain.at(number), linkTo(this.#chain.at(number - 1)));
      if (!last) await reopen(this.#host.tools, this.#chain, number, 'read');
    }
  }

  async #removeRecords(): Promise<void> {
    for (const record of this.#records.splice(0)) {
      await record.close();
      await removeRecord(this.#chain.at(record.identity.image).source);
    }
  }

  #report(bytes: number): void {
    this.#done += bytes;
    this.#tell(Math.min(this.#done, this.#total - 1));
  }

  #tell(done: number): void {
    this.#options.onProgress?.({ operation: 'prepare', done, total: this.#total });
  }
}

function doNotFit(path: string): ImageError {
  return new ImageError('corrupt', 'The records of the interrupted conversion contradict each other', {
    path,
    hint: 'Restore the images and their records (*.vdkit-filters) from a backup.',
  });
}

/** Deletes the record, durably. */
async function removeRecord(source: Source): Promise<void> {
  const { provider, name } = source;
  await provider.remove(recordOf(source).name);
  await provider.syncNames(provider.directory(name));
}

/**
 * Mapping of an offset to space that can be overwritten, at most a window of it. Compressed or shared data is first
 * stored again; the disk reads the same.
 */
async function placed(head: ActiveImage, offset: number, length: number): Promise<Mapping> {
  const { image, name } = head.last;
  const look = async (): Promise<Mapping> => {
    const answer = image.map(offset, Math.min(length, WINDOW));
    const found = isPromise(answer) ? await answer : answer;
    return { ...found, length: Math.min(found.length, length, WINDOW) };
  };
  const first = await look();
  if (first.kind === 'zero' || first.kind === 'absent' || (first.kind === 'data' && first.writable)) return first;
  head.noteChange(offset, first.length);
  await head.writes.materialize(offset, first.length);
  await head.flusher.flush();
  const now = await look();
  if (now.kind === 'data' && now.writable) return now;
  throw new ImageError('read-only', 'This part of the image cannot be written', { path: name, guestOffset: offset });
}

/** Durable when it resolves. */
async function overwrite(
  head: ActiveImage,
  { storage, fileOffset: offset }: Extract<Mapping, { kind: 'data' }>,
  guestOffset: number,
  bytes: Uint8Array,
): Promise<void> {
  head.noteChange(guestOffset, bytes.length);
  await storage.write(offset, bytes);
  head.noteChange(guestOffset, bytes.length);
  await head.flusher.flush();
}
