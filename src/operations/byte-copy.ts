/** Byte-by-byte file copies with verification: holes stay holes. */
import { equalBytes } from '../codec/bytes.ts';
import { ImageError, throwIfAborted } from '../errors.ts';
import { isPromise, type OperationOptions, type Source, type Storage } from '../storage/contract.ts';
import { type Staged, type StageOptions, stageTarget } from '../storage/staging.ts';

/** Bytes copied at a time. */
const PIECE = 4 * 1024 * 1024;

/** Options for copying bytes. */
export interface ByteCopyOptions extends OperationOptions {
  /** Receives the number of bytes done; verified bytes are counted again. */
  readonly onBytes?: ((count: number) => void) | undefined;
}

/**
 * Copies a storage into a new file, durable except for its name, and compares. A failure leaves nothing behind. Throws
 * `exists`, `no-space`, `io`.
 */
export async function copyFile(
  from: Storage,
  to: Source,
  stage: StageOptions,
  options: ByteCopyOptions,
): Promise<Staged> {
  const staged = await stageTarget(to, stage);
  try {
    const { main } = await staged.create();
    await copyStorage(from, main, options);
    return staged;
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** Copies a storage into a new one, which is compared, durable and closed then. */
export async function copyStorage(from: Storage, to: Storage, options: ByteCopyOptions): Promise<void> {
  await copyBytes(from, to, options);
  await to.flush();
  if (!(await sameBytes(from, to, options))) throw differs(to.label);
  await to.close();
}

async function copyBytes(from: Storage, to: Storage, options: ByteCopyOptions): Promise<void> {
  await to.resize(from.size);
  const buffer = new Uint8Array(Math.min(PIECE, from.size));
  for (let at = 0; at < from.size; ) {
    throwIfAborted(options.signal, 'The copy');
    const answer = from.extentAt(at);
    const extent = isPromise(answer) ? await answer : answer;
    const end = Math.min(extent.end, from.size, extent.data ? at + PIECE : from.size);
    if (extent.data) {
      const part = buffer.subarray(0, end - at);
      await from.read(at, part);
      await to.write(at, part);
    }
    options.onBytes?.(end - at);
    at = end;
  }
}

/** Compares two storages, sizes included. Ranges that are holes in both are not read. */
export async function sameBytes(one: Storage, other: Storage, options: ByteCopyOptions): Promise<boolean> {
  if (one.size !== other.size) return false;
  const [left, right] = [0, 1].map(() => new Uint8Array(Math.min(PIECE, one.size)));
  if (left === undefined || right === undefined) return false;
  for (let at = 0; at < one.size; ) {
    throwIfAborted(options.signal, 'The comparison');
    const answers = [one.extentAt(at), other.extentAt(at)];
    const [a, b] = await Promise.all(answers);
    if (a === undefined || b === undefined) return false;
    let end = Math.min(a.end, b.end, one.size);
    if (a.data || b.data) {
      end = Math.min(end, at + PIECE);
      const parts = [left.subarray(0, end - at), right.subarray(0, end - at)] as const;
      await Promise.all([one.read(at, parts[0]), other.read(at, parts[1])]);
      if (!equalBytes(parts[0], parts[1])) return false;
    }
    options.onBytes?.(end - at);
    at = end;
  }
  return true;
}

function differs(path: string): ImageError {
  return new ImageError('io', 'Verification failed: target differs from source', {
    path,
    hint: 'The storage device or the memory of this computer may be faulty.',
  });
}
