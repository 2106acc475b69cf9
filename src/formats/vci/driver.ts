/** Cache images: the methods of the format, loaded when they are first used. */
import { NULL_GUID } from '../../binary/guid.ts';
import { alignDown } from '../../binary/numbers.ts';
import { ImageError, isImageError, throwIfAborted } from '../../errors.ts';
import type { CacheFormat } from '../../image/cache.ts';
import type { Finding } from '../../image/findings.ts';
import { preallocate } from '../../image/preallocate.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { VciCache } from './cache.ts';
import { dataStartOf, type Header, readContent, readHeader, writeContent } from './file.ts';
import {
  BLOCK,
  GRANULARITY,
  HEADER,
  HEADER_BLOCKS,
  MAX_BLOCKS,
  mapBlocksOf,
  SIGNATURE,
  TYPE,
  VERSION,
} from './layout.ts';
import type { Tree } from './tree.ts';

/** Makes an empty cache file and closes it. */
export const create: CacheFormat['create'] = async ({ main }, { size, fixed, ...options }) => {
  const blockCount = alignDown(size, GRANULARITY) / BLOCK;
  if (!Number.isSafeInteger(size) || blockCount === 0 || blockCount > MAX_BLOCKS) {
    throw new ImageError('invalid-argument', 'The size of the cache is not valid', {
      found: size,
      expected: `from ${GRANULARITY} to ${MAX_BLOCKS * BLOCK} bytes`,
    });
  }
  throwIfAborted(options.signal, 'Creating the cache');
  const header = freshHeader(blockCount, fixed);
  if (fixed) await preallocate(main, 0, blockCount * BLOCK, options);
  const identity = { image: null, modification: NULL_GUID };
  await writeContent(main, header, { extents: [], identity, treeAt: dataStartOf(blockCount) });
  await main.close();
};

/** Opens a cache file. One that was not closed cleanly is empty. */
export const open: CacheFormat['open'] = async (storage, { mode }) => {
  const { header, tree } = await readAll(storage);
  const cache = new VciCache(storage, header, tree, mode === 'write');
  if (mode === 'write') await cache.begin();
  return cache;
};

function freshHeader(blockCount: number, fixed: boolean): Header {
  return {
    signature: SIGNATURE,
    version: VERSION,
    blockCount,
    unclean: 1,
    type: fixed ? TYPE.fixed : TYPE.dynamic,
    rootAddress: dataStartOf(blockCount),
    mapAddress: HEADER_BLOCKS,
    mapBlocks: mapBlocksOf(blockCount),
    imageUuid: NULL_GUID,
    modificationUuid: NULL_GUID,
    reserved: new Uint8Array(HEADER.fields.reserved.size),
  };
}

/** An invalid cache becomes an empty one, as long as its maximum size is known. */
async function readAll(storage: Storage): Promise<{ header: Header; tree: Tree | null }> {
  const header = await readHeader(storage);
  if (header.unclean !== 0) return { header, tree: null };
  try {
    return { header, tree: await readContent(storage, header) };
  } catch (error) {
    if (isImageError(error) && (error.kind === 'corrupt' || error.kind === 'limit')) return { header, tree: null };
    throw error;
  }
}

/** Finds what is wrong with a cache file: nothing that it holds is lost with it. */
export async function check(storage: Storage, { signal }: OperationOptions): Promise<Finding[]> {
  throwIfAborted(signal, 'The check');
  try {
    const header = await readHeader(storage);
    if (header.unclean !== 0) {
      return [finding('warning', 'unclean', 'The cache was not closed cleanly, so it is treated as empty', null)];
    }
    await readContent(storage, header);
    return [];
  } catch (error) {
    if (!isImageError(error) || (error.kind !== 'corrupt' && error.kind !== 'limit')) throw error;
    // Nothing is lost with a cache.
    return [
      finding('warning', 'broken', `The cache is treated as empty: ${error.message}`, error.context.offset ?? null),
    ];
  }
}

function finding(severity: Finding['severity'], code: string, message: string, fileOffset: number | null): Finding {
  return { severity, code, message, fileOffset, guestOffset: null, repairable: false };
}
