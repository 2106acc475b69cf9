/**
 * A session of changes: identities of the file in its headers, and the log.
 *
 * Begin, each step durable before the next: an entry without pages, so that the log is valid; then both headers with a new
 * GUID of the file, before the content changes also of the data, and that of the log. End: both headers, the log is empty.
 */
import { NULL_GUID, randomGuid } from '../../binary/guid.ts';
import { assert } from '../../errors.ts';
import type { MetaWrite } from '../../image/contract.ts';
import type { Storage } from '../../storage/contract.ts';
import type { HeaderChange, Headers, LogPlace } from './headers.ts';
import { MIB } from './layout.ts';
import type { LogPage } from './log-entry.ts';
import { LogWriter } from './log-writer.ts';

/** Bytes of a log that is made where the file has none. */
const NEW_LOG_BYTES = MIB;

/** Parts of a session. */
export interface SessionParts {
  readonly storage: Storage;
  readonly headers: Headers;
  readonly log: LogPlace;
  /** File offset behind everything that is in use. */
  readonly fileEnd: () => number;
  /** Takes room for a log. */
  readonly takeLog: () => number;
}

/** See the head of this file. */
export class VhdxSession {
  readonly #parts: SessionParts;
  #log: LogPlace;
  #writer: LogWriter | null = null;
  #hasNewData = false;
  #nextGuid = randomGuid();

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#log = parts.log;
  }

  /** Place of the log. */
  get log(): LogPlace {
    return this.#log;
  }

  /** GUID of the data that the next change of it stores. */
  get nextDataGuid(): string {
    return this.#nextGuid;
  }

  get isOpen(): boolean {
    return this.#writer !== null;
  }

  /** Begins, unless it has begun. `content`: the data of the disk will change. */
  async begin(content: boolean): Promise<void> {
    if (this.#writer !== null && (this.#hasNewData || !content)) return;
    const { headers } = this.#parts;
    const changes: HeaderChange = content ? { dataWriteGuid: this.#nextGuid } : {};
    if (this.#writer === null) await headers.change({ ...changes, ...(await this.#openLog()) });
    else await headers.change(changes);
    this.#hasNewData ||= content;
    if (content) this.#nextGuid = randomGuid();
  }

  /** Ends: the log is empty. Everything must be in place. */
  async end(): Promise<void> {
    if (this.#writer === null) return;
    this.#writer = null;
    this.#hasNewData = false;
    await this.#parts.headers.change({ logGuid: NULL_GUID });
  }

  /** Steps of a flush that change these pages. */
  steps(groups: readonly (readonly LogPage[])[]): MetaWrite[][] {
    if (groups.every((group) => group.length === 0)) return [];
    return this.#opened.steps(groups, this.#sizes());
  }

  /** Changes pages durably. Those of one call fit into the log together, or any first part of them is consistent. */
  write(pages: readonly LogPage[]): Promise<void> {
    return this.#opened.write(pages, this.#sizes());
  }

  /**
   * Begins another log, durably: it has nothing to replay, and names the length that the file has from now on. QEMU does not
   * look at tails and replays every entry of a log, so none may name a longer file, or a place that something else can take.
   */
  async settle(): Promise<void> {
    const log = this.#opened;
    log.renew();
    await log.write([], this.#sizes());
    await this.#parts.headers.change({ logGuid: log.logGuid });
  }

  /** True when this number of pages goes into one entry. */
  fits(pages: number): boolean {
    return pages <= this.#opened.capacity;
  }

  get #opened(): LogWriter {
    assert(this.#writer !== null, 'changes begin with beginChanges');
    return this.#writer;
  }

  #sizes(): { readonly flushed: number; readonly last: number } {
    const end = this.#parts.fileEnd();
    return { flushed: end, last: end };
  }

  async #openLog(): Promise<HeaderChange> {
    const { storage, fileEnd, takeLog } = this.#parts;
    const isNew = this.#log.length === 0;
    if (isNew) this.#log = { fileOffset: takeLog(), length: NEW_LOG_BYTES };
    // The file may end inside its last block, or be longer than what is in use.
    if (storage.size < fileEnd()) await storage.resize(fileEnd());
    const writer = new LogWriter(storage, this.#log);
    await writer.write([], this.#sizes());
    this.#writer = writer;
    const place = isNew ? { logOffset: BigInt(this.#log.fileOffset), logLength: this.#log.length } : {};
    return { fileWriteGuid: randomGuid(), logGuid: writer.logGuid, ...place };
  }
}
