/** Parts of a cache file other than data: header, block map and tree. */
import { NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import type { StructValue } from '../../binary/struct.ts';
import { ImageError } from '../../errors.ts';
import type { CacheIdentity } from '../../image/cache.ts';
import type { Storage } from '../../storage/contract.ts';
import {
  BLOCK,
  HEADER,
  HEADER_BLOCKS,
  MAP_HEAD,
  MAP_SIGNATURE,
  MAX_BLOCKS,
  mapBlocksOf,
  NODE_BLOCKS,
  SIGNATURE,
  TYPE,
  VERSION,
} from './layout.ts';
import { type CacheExtent, nodesFor, readTree, type Tree, writeTree } from './tree.ts';

/** The header, checked. */
export type Header = StructValue<typeof HEADER>;

/** First block after header and map. */
export function dataStartOf(blockCount: number): number {
  return HEADER_BLOCKS + mapBlocksOf(blockCount);
}

/** Reads the header. Throws `invalid-format` for other files, `corrupt` for an invalid cache. */
export async function readHeader(storage: Storage): Promise<Header> {
  const head = new Uint8Array(HEADER.size);
  if (storage.size < HEADER.size) throw notOurs(storage);
  await storage.read(0, head);
  if (HEADER.get(head, 'signature') !== SIGNATURE) throw notOurs(storage);
  const version = HEADER.get(head, 'version');
  if (version !== VERSION) throw bad(storage, 'version', version, String(VERSION));
  const header = HEADER.decode(head);
  const { blockCount, mapAddress, mapBlocks, type, rootAddress } = header;
  const least = dataStartOf(1) + NODE_BLOCKS;
  if (blockCount < least || blockCount > MAX_BLOCKS) {
    throw bad(storage, 'blockCount', blockCount, `from ${least} to ${MAX_BLOCKS}`);
  }
  if (type !== TYPE.dynamic && type !== TYPE.fixed) throw bad(storage, 'type', type, '1 or 2');
  if (mapAddress !== HEADER_BLOCKS) throw bad(storage, 'mapAddress', mapAddress, String(HEADER_BLOCKS));
  if (mapBlocks !== mapBlocksOf(blockCount)) {
    throw bad(storage, 'mapBlocks', mapBlocks, String(mapBlocksOf(blockCount)));
  }
  if (rootAddress < dataStartOf(blockCount) || rootAddress + NODE_BLOCKS > blockCount) {
    throw bad(storage, 'rootAddress', rootAddress, 'a place behind the block map, inside the file');
  }
  return header;
}

/** Reads the tree and compares the block map with it. Throws `corrupt`. */
export async function readContent(storage: Storage, header: Header): Promise<Tree> {
  const { blockCount, rootAddress } = header;
  const start = dataStartOf(blockCount);
  const end = Math.min(blockCount, Math.floor(storage.size / BLOCK));
  const tree = await readTree(storage, { root: rootAddress, start, end });
  const used = usedBlocks(storage, start, tree);
  const map = new Uint8Array((mapBlocksOf(blockCount) - 1) * BLOCK);
  const head = new Uint8Array(BLOCK);
  if (storage.size < start * BLOCK) throw bad(storage, 'size', storage.size, `at least ${start * BLOCK}`);
  await storage.read(HEADER_BLOCKS * BLOCK, [head, map]);
  const { signature, version, blockCount: mapped, freeBlocks, metadataBlocks, dataBlocks } = MAP_HEAD.decode(head);
  if (signature !== MAP_SIGNATURE || version !== VERSION) throw bad(storage, 'signature', signature, 'a block map');
  if (mapped !== blockCount) throw bad(storage, 'blockCount', mapped, String(blockCount));
  const counts = { free: blockCount - used.metadata - used.data, metadata: used.metadata, data: used.data };
  if (freeBlocks !== counts.free) throw bad(storage, 'freeBlocks', freeBlocks, String(counts.free));
  if (metadataBlocks !== counts.metadata) throw bad(storage, 'metadataBlocks', metadataBlocks, String(counts.metadata));
  if (dataBlocks !== counts.data) throw bad(storage, 'dataBlocks', dataBlocks, String(counts.data));
  const wanted = bitmapOf(map.length, used.ranges);
  const wrong = map.findIndex((byte, index) => byte !== wanted[index]);
  if (wrong !== -1)
    throw bad(storage, 'block map', map[wrong] ?? 0, `${wanted[wrong]} for blocks from ${wrong * 8} on`);
  return tree;
}

/** Content of a closed cache. */
export interface Content {
  readonly extents: readonly CacheExtent[];
  readonly identity: CacheIdentity;
  /** First block available for the tree. */
  readonly treeAt: number;
}

/** Writes tree and map, and when those are durable the header that validates them. */
export async function writeContent(storage: Storage, header: Header, content: Content): Promise<void> {
  const { extents, identity, treeAt } = content;
  const { blockCount } = header;
  const rootAddress = await writeTree(storage, extents, treeAt);
  const nodes = Array.from({ length: nodesFor(extents.length) }, (_, number) => treeAt + number * NODE_BLOCKS);
  const used = usedBlocks(storage, dataStartOf(blockCount), { extents, nodes });
  const map = new Uint8Array(mapBlocksOf(blockCount) * BLOCK);
  map.set(
    MAP_HEAD.encode({
      signature: MAP_SIGNATURE,
      version: VERSION,
      blockCount,
      freeBlocks: blockCount - used.metadata - used.data,
      metadataBlocks: used.metadata,
      dataBlocks: used.data,
      reserved: new Uint8Array(MAP_HEAD.fields.reserved.size),
    }),
  );
  map.set(bitmapOf(map.length - BLOCK, used.ranges), BLOCK);
  await storage.write(HEADER_BLOCKS * BLOCK, map);
  await storage.flush();
  const { image, modification } = identity;
  const now = {
    ...header,
    unclean: 0,
    rootAddress,
    imageUuid: image === null ? NULL_GUID : normalizeGuid(image),
    modificationUuid: normalizeGuid(modification),
  };
  await storage.write(0, HEADER.encode(now));
  await storage.flush();
}

/** The blocks in use, as unordered ranges, and their number. Throws `corrupt` when some are used twice. */
function usedBlocks(
  storage: Storage,
  dataStart: number,
  { extents, nodes }: Tree,
): { readonly metadata: number; readonly data: number; readonly ranges: readonly CacheRange[] } {
  const ranges: CacheRange[] = [{ from: 0, to: dataStart }];
  for (const address of nodes) ranges.push({ from: address, to: address + NODE_BLOCKS });
  for (const { address, count } of extents) ranges.push({ from: address, to: address + count });
  ranges.sort((a, b) => a.from - b.from);
  let end = 0;
  for (const { from, to } of ranges) {
    if (from < end) {
      throw new ImageError('corrupt', 'Blocks of the cache are used twice', {
        path: storage.label,
        offset: from * BLOCK,
      });
    }
    end = to;
  }
  const data = extents.reduce((sum, { count }) => sum + count, 0);
  return { metadata: dataStart + nodes.length * NODE_BLOCKS, data, ranges };
}

interface CacheRange {
  readonly from: number;
  readonly to: number;
}

function bitmapOf(length: number, ranges: readonly CacheRange[]): Uint8Array {
  const map = new Uint8Array(length);
  for (const { from, to } of ranges) {
    for (let block = from; block < to; ) {
      if (block % 8 === 0 && to - block >= 8) {
        const bytes = Math.floor((to - block) / 8);
        map.fill(0xff, block / 8, block / 8 + bytes);
        block += bytes * 8;
      } else {
        map[block >> 3] = (map[block >> 3] ?? 0) | (1 << (block & 7));
        block++;
      }
    }
  }
  return map;
}

function notOurs(storage: Storage): ImageError {
  return new ImageError('invalid-format', 'This is not a cache image', {
    path: storage.label,
    expected: 'a file that begins with "VCI"',
  });
}

function bad(storage: Storage, field: string, found: number, expected: string): ImageError {
  return new ImageError('corrupt', 'The structure of the cache image is damaged', {
    path: storage.label,
    field,
    found,
    expected,
  });
}
