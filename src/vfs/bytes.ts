/** The bytes behind a file object, a stream or a handle: a device or a storage. */
import type { BlockDevice } from '../disk/device.ts';
import { ChainDisk } from '../disk/disk.ts';
import { ImageError } from '../errors.ts';
import { allOf, lengthOf } from '../storage/checks.ts';
import type { OperationOptions, ReadTarget, Storage, WriteSource } from '../storage/contract.ts';

/** Common interface of devices and storages. */
export interface ByteStore {
  readonly label: string;
  /** Bytes; read each time, since both can change size. */
  readonly size: number;
  readonly writable: boolean;
  /** True when writing past the end extends it. */
  readonly grows: boolean;
  /** Preferred unit of writing in bytes. */
  readonly blockSize: number;
  read(offset: number, target: ReadTarget, options: OperationOptions): Promise<unknown>;
  write(offset: number, source: WriteSource, options: OperationOptions): Promise<void>;
  flush(options: OperationOptions): Promise<void>;
  /** Bytes allocated on the host; null when unknown. */
  allocatedSize(): Promise<number | null>;
  close(): Promise<void>;
}

/** Anything that can be seen as a file. */
export type Bytes = BlockDevice | Storage;

/** True for a storage, which unlike a device can be locked. */
export function isStorage(bytes: Bytes): bytes is Storage {
  return 'lockState' in bytes;
}

/** The common view of a device or a storage. */
export function byteStoreOf(bytes: Bytes): ByteStore {
  return isStorage(bytes) ? storageBytes(bytes) : deviceBytes(bytes);
}

function deviceBytes(device: BlockDevice): ByteStore {
  return {
    label: device.label,
    get size() {
      return device.size;
    },
    get writable() {
      return device.can.write;
    },
    grows: false,
    blockSize: device.blockSize || 512,
    read: (offset, target, options) => device.read(offset, target, options),
    write: (offset, source, options) => device.write(offset, source, options),
    flush: (options) => device.flush(options),
    allocatedSize: () => (device instanceof ChainDisk ? sumOfFiles(device) : Promise.resolve(null)),
    close: () => device.close(),
  };
}

function storageBytes(storage: Storage): ByteStore {
  return {
    label: storage.label,
    get size() {
      return storage.size;
    },
    writable: storage.can.write,
    grows: storage.can.write && storage.can.resize,
    blockSize: 512,
    read: (offset, target, options) => storage.read(offset, target, options),
    write: (offset, source, options) => storage.write(offset, source, options),
    flush: (options) => storage.flush(options),
    allocatedSize: async () => (await storage.identity()).allocatedSize,
    close: () => storage.close(),
  };
}

/** Sum over all files of all images: the allocated size that vd.h reports. */
async function sumOfFiles(disk: ChainDisk): Promise<number> {
  const sizes = await Promise.all(disk.images.map((_, number) => disk.fileSizes(number)));
  return sizes.reduce((sum, { fileSize }) => sum + fileSize, 0);
}

/** Throws for an impossible file offset. */
export function checkOffset(label: string, offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return;
  throw new ImageError('invalid-argument', 'The position is not valid', {
    path: label,
    found: offset,
    expected: `0 to ${Number.MAX_SAFE_INTEGER}`,
  });
}

/** Error for bytes requested past the end. */
export function behindEnd(store: Pick<ByteStore, 'label' | 'size'>, offset: number, length: number): ImageError {
  return new ImageError('out-of-bounds', 'The range reaches beyond the end', {
    status: 'VERR_EOF',
    path: store.label,
    found: `${length} bytes at ${offset}`,
    expected: `up to ${store.size}`,
  });
}

/** Error for any use of a closed file. */
export function closedFile(label: string): ImageError {
  return new ImageError('io', 'The file is closed', { path: label, status: 'VERR_INVALID_HANDLE' });
}

/** Error for a change to a read-only file. */
export function notWritable(label: string): ImageError {
  return new ImageError('read-only', 'The file is open for reading only', { path: label });
}

/** The first `length` bytes of one buffer or several. */
export function firstBytes<T extends ReadTarget | WriteSource>(buffers: T, length: number): T | readonly Uint8Array[] {
  if (lengthOf(buffers) === length) return buffers;
  const first: Uint8Array[] = [];
  let left = length;
  for (const buffer of allOf(buffers)) {
    if (left === 0) break;
    first.push(buffer.subarray(0, left));
    left -= Math.min(left, buffer.length);
  }
  return first;
}
