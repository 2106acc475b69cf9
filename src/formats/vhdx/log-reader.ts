/**
 * The active sequence of a log, and its replay. [MS-VHDX] 2.3.3 "Log Replay": the sequence is the longest run of valid
 * entries that ends with the greatest number and whose last entry names a tail in it; what is older was applied before.
 */
import { throwIfAborted } from '../../errors.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { fault } from './fault.ts';
import type { LogPlace } from './headers.ts';
import { LOG_ENTRY, type LogEntryHeader, MIB, PAGE, REGION_OFFSETS, REGIONS_END } from './layout.ts';
import { decodeEntry, entryHeader, type LogChange, type LogEntry } from './log-entry.ts';

/** Bytes whose checksum may be computed, as a multiple of the log: entries of a sound one hardly overlap. */
const MOST_CHECKED = 16;
/** Bytes that are read to look for entries; a log is a multiple of them. */
const WINDOW = MIB;
/** Zeroes that all entries together may write. */
const MOST_ZEROES = 1024 * MIB;
/** End of a file that a log may name. */
const MOST_FILE_BYTES = 2n ** 47n;

/** The entries that count, oldest first. */
export type LogSequence = readonly LogEntry[];

/** Finds the active sequence. Null: the log has no valid entry. Throws `corrupt` for a log made to cost time. */
export async function findSequence(
  storage: Storage,
  place: LogPlace,
  logGuid: string,
  options: OperationOptions = {},
): Promise<LogSequence | null> {
  const ring = new LogRing(storage, place, logGuid);
  let best: LogEntry[] | null = null;
  let tail = 0;
  for (let steps = 0; steps < place.length / PAGE; steps++) {
    throwIfAborted(options.signal, 'Reading the log');
    const { entries, places, head } = await ring.runAt(tail);
    const last = entries.at(-1);
    const from = last === undefined ? -1 : places.indexOf(last.tail);
    if (last !== undefined && from !== -1) {
      if (best === null || last.sequence > (best.at(-1)?.sequence ?? 0n)) best = entries.slice(from);
    }
    // A valid sequence may begin inside one whose tail lies outside.
    const next = from === -1 ? (tail + PAGE) % place.length : head;
    if (next <= tail) break;
    tail = next;
  }
  return best;
}

interface LogRun {
  readonly entries: readonly LogEntry[];
  /** Offsets of the entries in the ring. */
  readonly places: readonly number[];
  /** Offset where the run ends. */
  readonly head: number;
}

/** Sectors are looked at through one window, and no more is read than entries have. */
class LogRing {
  readonly #storage: Storage;
  readonly #place: LogPlace;
  readonly #logGuid: string;
  readonly #known = new Map<number, LogEntry | null>();
  readonly #window = new Uint8Array(WINDOW);
  #windowAt = -1;
  #checked = 0;

  constructor(storage: Storage, place: LogPlace, logGuid: string) {
    this.#storage = storage;
    this.#place = place;
    this.#logGuid = logGuid;
  }

  async runAt(start: number): Promise<LogRun> {
    const { length } = this.#place;
    const entries: LogEntry[] = [];
    const places: number[] = [];
    let [head, total] = [start, 0];
    for (;;) {
      const known = this.#known.get(head);
      const entry = known === undefined ? await this.#entryAt(head) : known;
      const last = entries.at(-1);
      const follows = entry !== null && (last === undefined || entry.sequence === last.sequence + 1n);
      if (!follows || total + entry.length > length) return { entries, places, head };
      entries.push(entry);
      places.push(head);
      total += entry.length;
      head = (head + entry.length) % length;
    }
  }

  async #entryAt(at: number): Promise<LogEntry | null> {
    const { length } = this.#place;
    const header = entryHeader(await this.#headAt(at), this.#logGuid, length);
    const entry = header === null ? null : decodeEntry(await this.#unwrapped(at, header), header);
    this.#known.set(at, entry);
    return entry;
  }

  async #headAt(at: number): Promise<Uint8Array> {
    const inWindow = at % WINDOW;
    if (this.#windowAt !== at - inWindow) {
      this.#windowAt = at - inWindow;
      await readPadded(this.#storage, this.#place.fileOffset + this.#windowAt, this.#window);
    }
    return this.#window.subarray(inWindow, inWindow + LOG_ENTRY.size);
  }

  async #unwrapped(at: number, { length }: LogEntryHeader): Promise<Uint8Array> {
    const { fileOffset, length: ring } = this.#place;
    this.#checked += length;
    if (this.#checked > ring * MOST_CHECKED) {
      const path = this.#storage.label;
      throw fault('corrupt', 'The entries of the log lie over each other', { path, field: 'log' });
    }
    const whole = new Uint8Array(length);
    const first = whole.subarray(0, ring - at);
    await readPadded(this.#storage, fileOffset + at, first);
    if (first.length < length) await readPadded(this.#storage, fileOffset, whole.subarray(first.length));
    return whole;
  }
}

/** Checks that a sequence only touches what may be logged. Returns the size of the file after it. */
export function checkSequence(sequence: LogSequence, storage: Storage, log: LogPlace): number {
  const last = sequence.at(-1);
  const size = BigInt(storage.size);
  if (last === undefined) return storage.size;
  if (last.flushedSize > size) {
    throw fault('corrupt', 'The file is shorter than it was when its log was written: it was cut off', {
      path: storage.label,
      field: 'flushed file offset',
      found: `${size} bytes`,
      expected: `at least ${last.flushedSize}`,
      hint: 'Copy the image again from where it came from.',
    });
  }
  const end = last.lastSize > size ? last.lastSize : size;
  if (end > MOST_FILE_BYTES && end > size) throw outOfPlace(storage, 'last file offset', last.lastSize);
  let zeroes = 0n;
  for (const { changes } of sequence) {
    for (const change of changes) {
      if (!isAllowed(change, end, log)) throw outOfPlace(storage, 'file offset', change.fileOffset);
      if (change.bytes === null) zeroes += change.length;
    }
  }
  if (zeroes > BigInt(MOST_ZEROES)) throw outOfPlace(storage, 'zero length', zeroes);
  return Number(end);
}

/** Headers and the log itself are never logged. */
function isAllowed({ fileOffset, length }: LogChange, end: bigint, log: LogPlace): boolean {
  const stop = fileOffset + length;
  const inTables = fileOffset >= BigInt(REGION_OFFSETS[0]) && stop <= BigInt(REGIONS_END);
  const behind = fileOffset >= BigInt(MIB) && stop <= end;
  const overLog = fileOffset < BigInt(log.fileOffset + log.length) && stop > BigInt(log.fileOffset);
  return inTables || (behind && !overLog);
}

function outOfPlace({ label: path }: Storage, field: string, found: bigint): Error {
  return fault('corrupt', 'The log of the image changes what no log may change', {
    path,
    field,
    found: String(found),
    expected: 'metadata inside the file',
  });
}

/** Applies a checked sequence, and flushes. May be repeated. */
export async function replay(storage: Storage, sequence: LogSequence, size: number): Promise<void> {
  if (storage.size < size) await storage.resize(size);
  for (const { changes } of sequence) {
    for (const { fileOffset, bytes, length } of changes) {
      if (bytes !== null) await storage.write(Number(fileOffset), bytes);
      else await storage.zero(Number(fileOffset), Number(length), { punch: false });
    }
  }
  await storage.flush();
}
