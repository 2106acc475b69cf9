/** Executes requests on a device. */

import type { BlockDevice, Range } from '../disk/device.ts';
import { sliceBuffers } from '../disk/path/buffers.ts';
import { assert, ImageError } from '../errors.ts';
import { allDone } from '../storage/all-done.ts';
import type { MaybePromise } from '../storage/contract.ts';
import type { Job } from './job.ts';

/** Concurrent pieces of one request. */
const PIECES_AT_ONCE = 16;

/** Starts a request. Undefined: it has completed. Throws or rejects with the device's error. */
export function transfer(device: BlockDevice, job: Job): MaybePromise<unknown> {
  const { type, offset, length, memory } = job;
  if (type === 'flush') return device.flush();
  if (type === 'discard') return discard(device, job);
  if (job.pieces !== null) return transferPieces(device, job);
  if (type === 'read') {
    assert(memory !== null, 'a read has memory');
    // Without a promise where the bytes are at hand: this is what most requests are.
    if (memory instanceof Uint8Array && device.readNow?.(offset, memory) === true) return undefined;
    return device.read(offset, memory);
  }
  if (type === 'zero') return device.zero(offset, length, { punch: job.punch });
  assert(memory !== null, 'a write has memory');
  return device.write(offset, memory);
}

function discard(device: BlockDevice, job: Job): Promise<void> {
  if (device.discard === undefined) {
    throw new ImageError('unsupported', 'The device does not support discard', { path: device.label });
  }
  const ranges = job.pieces === null ? [{ offset: job.offset, length: job.length }] : [...job.pieces];
  // The one request that may take long and can be stopped between two steps.
  job.abort = new AbortController();
  return device.discard(ranges, { signal: job.abort.signal });
}

/** Runs several ranges, started in order. Nothing is still running when it settles. */
async function transferPieces(device: BlockDevice, job: Job): Promise<void> {
  const { memory } = job;
  const cursor = memory === null ? null : new BufferCursor(memory instanceof Uint8Array ? [memory] : memory);
  let work: Promise<unknown>[] = [];
  for (const piece of job.pieces ?? []) {
    if (job.isCancelled) break;
    work.push(transferPiece(device, job, piece, cursor?.take(piece.length) ?? []));
    if (work.length < PIECES_AT_ONCE) continue;
    await allDone(work);
    work = [];
  }
  await allDone(work);
}

async function transferPiece(
  device: BlockDevice,
  { type, punch }: Job,
  { offset, length }: Range,
  memory: Uint8Array | readonly Uint8Array[],
): Promise<void> {
  if (type === 'write') return device.write(offset, memory);
  if (type === 'zero') return device.zero(offset, length, { punch });
  if (memory instanceof Uint8Array && device.readNow?.(offset, memory) === true) return;
  await device.read(offset, memory);
}

/** Cuts a list of buffers into pieces, from front to back. */
class BufferCursor {
  readonly #list: readonly Uint8Array[];
  #index = 0;
  /** Bytes already taken from the current buffer. */
  #taken = 0;

  constructor(list: readonly Uint8Array[]) {
    this.#list = list;
  }

  take(length: number): Uint8Array | Uint8Array[] {
    const from = this.#index;
    const start = this.#taken;
    let left = start + length;
    while (left > 0) {
      const there = this.#list[this.#index]?.length;
      assert(there !== undefined, 'the memory is as long as the ranges');
      if (left < there) break;
      left -= there;
      this.#index++;
    }
    this.#taken = left;
    return sliceBuffers(this.#list.slice(from, this.#index + 1), start, start + length);
  }
}
