/**
 * Reads in the operation log that nothing was written after a failed metadata write or flush. What a failed flush did
 * not write is lost for good, so later writes could make the medium point at it.
 *
 * Two things cannot be held back: what is running when the medium fails, and data of guest requests that were running
 * when the image learned of it. No entry ever points at such data unless it did before.
 */
import type { SealedMetadata } from '../../src/image/contract.ts';
import { TEMPORARY_SUFFIX } from '../../src/storage/staged-set.ts';
import type { FlushOperation, MediumOperation, OperationLog } from '../../src/testing/index.ts';
import { describeOperation } from '../../src/testing/index.ts';
import type { Ended } from './watched-format.ts';

const GUEST = /^(write|zero|discard) (begins|ended|failed)$/;

/**
 * One sentence for each write that came too late. The log is that of images from `watchedRegistry`. A file that cannot
 * grow because the medium is full (`isFull`) is as it was, so writing may go on.
 */
export function laterWrites(log: OperationLog, { isFull }: { readonly isFull: boolean }): string[] {
  const reader = new LogReader(isFull);
  for (const entry of log.entries) {
    if (entry.kind === 'mark') reader.mark(entry.label, entry.payload);
    else if (entry.kind === 'start') reader.start(entry.operation);
    else if (entry.kind === 'fail') reader.fail(entry.operation);
  }
  return reader.problems;
}

class LogReader {
  readonly problems: string[] = [];
  readonly #isFull: boolean;
  readonly #metadata = new Set<MediumOperation>();
  readonly #running = new Set<unknown>();
  #sealed = new Set<string>();
  /** Number of the image's own steps in progress. */
  #steps = 0;
  /** The failure; null for none. */
  #broken: string | null = null;
  /** The requests that were running when the image learned of it; null until then. */
  #excused: Set<unknown> | null = null;

  constructor(isFull: boolean) {
    this.#isFull = isFull;
  }

  mark(label: string, payload: unknown): void {
    const guest = GUEST.exec(label);
    if (guest?.[2] === 'begins') this.#running.add(payload);
    else if (guest !== null) this.#ended(payload);
    if (label === 'sealed') this.#seal(payload as SealedMetadata);
    if (label === 'metadata begins') this.#steps++;
    if (label === 'metadata ended') this.#steps--;
    if (label === 'settled') this.#sealed = new Set();
    if (label === 'settled' || label === 'metadata ended') this.#learn(payload as Ended);
  }

  start(operation: MediumOperation | FlushOperation): void {
    if (operation.kind !== 'write' && operation.kind !== 'zero' && operation.kind !== 'resize') return;
    const metadata = this.#steps > 0 || (operation.kind === 'write' && this.#sealed.has(keyOf(operation)));
    if (metadata) this.#metadata.add(operation);
    if (this.#broken === null) return;
    if (!metadata && this.#excused?.size !== 0) return;
    this.problems.push(`${metadata ? 'metadata' : 'data'} after ${this.#broken}: ${describeOperation(operation)}`);
  }

  fail(operation: MediumOperation | FlushOperation): void {
    if (operation.kind === 'flush') this.#broken ??= `failed flush ${operation.number}`;
    else if (operation.kind === 'resize' && this.#isFull) return;
    // A new file that is not there yet is nothing that the image has.
    else if (operation.file.name.endsWith(TEMPORARY_SUFFIX)) return;
    else if (this.#metadata.has(operation)) this.#broken ??= `failed ${describeOperation(operation)}`;
  }

  #seal({ stage, root, publish }: SealedMetadata): void {
    this.#sealed = new Set(
      [stage, ...root, ...publish]
        .flat()
        .map(({ storage, fileOffset, bytes }) => `${storage.label}: ${fileOffset}+${bytes.length}`),
    );
  }

  #learn({ ok }: Ended): void {
    if (this.#broken !== null && !ok) this.#excused ??= new Set(this.#running);
  }

  #ended(request: unknown): void {
    this.#running.delete(request);
    this.#excused?.delete(request);
  }
}

function keyOf({ file, offset, length }: Extract<MediumOperation, { readonly kind: 'write' }>): string {
  return `${file.name}: ${offset}+${length}`;
}
