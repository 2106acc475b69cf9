/**
 * The log of a session. Every change of metadata goes through it: pages in an entry, durable; then the pages in place,
 * durable. An entry is its own tail, since everything before it has been applied by then, and an entry never reaches over
 * the one before it, so that a torn one leaves a valid log.
 */
import { NULL_GUID, randomGuid } from '../../binary/guid.ts';
import { alignDown } from '../../binary/numbers.ts';
import { assert } from '../../errors.ts';
import type { MetaWrite } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import type { LogPlace } from './headers.ts';
import { PAGE } from './layout.ts';
import { encodeEntry, entryBytes, type LogPage } from './log-entry.ts';

/** Pages of an entry, whatever the length of the log. */
const MOST_PAGES = 2048;

/** Lengths that an entry states. */
export interface LoggedSizes {
  /** The file is at least that long on the medium. */
  readonly flushed: number;
  /** The file must be at least that long after a replay. */
  readonly last: number;
}

/** Writes entries into the ring of a log. */
export class LogWriter {
  readonly #storage: Storage;
  readonly #place: LogPlace;
  #logGuid = newLogGuid();
  #head = 0;
  #sequence = 0n;

  constructor(storage: Storage, place: LogPlace) {
    this.#storage = storage;
    this.#place = place;
    assert(place.length >= 4 * PAGE, 'a log has room for entries');
  }

  /** The GUID that the headers must name before the entries count. */
  get logGuid(): string {
    return this.#logGuid;
  }

  /** Another GUID for the entries from now on: those before it count no more once the headers name it. */
  renew(): void {
    this.#logGuid = newLogGuid();
  }

  /** Pages that fit into an entry, next to the one before. */
  get capacity(): number {
    const half = alignDown(this.#place.length / 2, PAGE);
    let pages = Math.min(half / PAGE - 1, MOST_PAGES);
    while (entryBytes(pages) > half) pages--;
    return pages;
  }

  /** Writes of an entry: two where it goes past the end of the ring. */
  entry(pages: readonly LogPage[], { flushed, last }: LoggedSizes): MetaWrite[] {
    const tail = this.#head;
    const own = { tail, sequence: ++this.#sequence, logGuid: this.#logGuid };
    const bytes = encodeEntry({ ...own, flushedSize: BigInt(flushed), lastSize: BigInt(last) }, pages);
    const { fileOffset, length } = this.#place;
    this.#head = (tail + bytes.length) % length;
    const fits = Math.min(bytes.length, length - tail);
    const first = { storage: this.#storage, fileOffset: fileOffset + tail, bytes: bytes.subarray(0, fits) };
    if (fits === bytes.length) return [first];
    return [first, { storage: this.#storage, fileOffset, bytes: bytes.subarray(fits) }];
  }

  /** Steps of a flush that change pages in this order: any first part of them leaves a consistent image. */
  steps(groups: readonly (readonly LogPage[])[], sizes: LoggedSizes): MetaWrite[][] {
    const steps: MetaWrite[][] = [];
    for (const batch of batches(groups, this.capacity)) {
      steps.push(this.entry(batch, sizes));
      steps.push(batch.map(({ fileOffset, bytes }) => ({ storage: this.#storage, fileOffset, bytes })));
    }
    return steps;
  }

  /** Makes a change durable at once: an entry, then its pages in place. */
  async write(pages: readonly LogPage[], sizes: LoggedSizes): Promise<void> {
    const steps = pages.length === 0 ? [this.entry([], sizes)] : this.steps([pages], sizes);
    for (const step of steps) {
      for (const { storage, fileOffset, bytes } of step) await storage.write(fileOffset, bytes);
      await this.#storage.flush();
    }
  }
}

function newLogGuid(): string {
  const guid = randomGuid();
  assert(guid !== NULL_GUID, 'a log has a GUID');
  return guid;
}

/** Pages by entries. No entry has a page twice: its pages are written at the same time. */
function* batches(groups: readonly (readonly LogPage[])[], capacity: number): Generator<LogPage[]> {
  let batch: LogPage[] = [];
  const places = new Set<number>();
  for (const page of groups.flat()) {
    if (batch.length === capacity || places.has(page.fileOffset)) {
      yield batch;
      batch = [];
      places.clear();
    }
    batch.push(page);
    places.add(page.fileOffset);
  }
  if (batch.length > 0) yield batch;
}

/** Runs of changed metadata as pages. */
export function pagesOf(writes: readonly MetaWrite[]): LogPage[] {
  return writes.flatMap(({ fileOffset, bytes }) =>
    Array.from({ length: bytes.length / PAGE }, (_, index) => ({
      fileOffset: fileOffset + index * PAGE,
      bytes: bytes.subarray(index * PAGE, (index + 1) * PAGE),
    })),
  );
}
