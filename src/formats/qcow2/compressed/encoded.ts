/**
 * Reading compressed clusters: chunks whose streams lie packed in the file. The stored length of a stream is rounded up to
 * sectors: the bytes after it belong to other streams, and may lie past the end of the file.
 */
import { inflateRaw, zstdDecompress } from '#decompress';
import { type Chunk, ChunkReader } from '../../../blocks/chunk-reader.ts';
import { KIND } from '../../../blocks/two-level-map.ts';
import { assert } from '../../../errors.ts';
import type { MaybePromise, Storage } from '../../../storage/contract.ts';
import type { ClusterMap } from '../clusters/cluster-map.ts';
import type { Qcow2Header } from '../header/header.ts';

/** Bytes of decoded clusters kept after a read of a part of them. */
const KEPT_BYTES = 2 * 1024 * 1024;

/** Decodes the first `size` bytes of a stream; `room`: optional memory for the result. Throws `corrupt`. */
export type Decoder = (input: Uint8Array, size: number, room?: Uint8Array) => Promise<Uint8Array>;

/** The decoder for the compression of an image. */
export function decoderOf({ compression }: Pick<Qcow2Header, 'compression'>): Decoder {
  return compression === 'zstd' ? zstdDecompress : inflateRaw;
}

/** A reader of the compressed clusters that a map leads to. */
export function clusterReader(
  storage: Storage,
  map: ClusterMap,
  header: Pick<Qcow2Header, 'clusterSize' | 'compression'>,
): ChunkReader {
  const { clusterSize } = header;
  const find = (guestOffset: number): MaybePromise<Chunk> => {
    if (!map.look(guestOffset)) return map.load(guestOffset).then(() => find(guestOffset));
    if (map.kind === KIND.broken) throw map.problem(guestOffset);
    assert(map.kind === KIND.encoded, 'a run of compressed clusters has nothing else in it');
    const start = guestOffset - (guestOffset % clusterSize);
    return { guestOffset: start, size: clusterSize, fileOffset: map.position, storedBytes: map.encodedBytes };
  };
  return new ChunkReader({
    storage,
    chunkBytes: clusterSize,
    keptBytes: KEPT_BYTES,
    hint: 'Other clusters can still be read.',
    find,
    decode: decoderOf(header),
  });
}
