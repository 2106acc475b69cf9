/** Compressed files: one stream of bytes, whose file has no name but that of the outer one. */

import { streamInflater } from '#decompress';
import { rangeChunks } from '../../../blocks/range-chunks.ts';
import { decodeBzip2Stream } from '../../../codec/bzip2.ts';
import { Chunks } from '../../../codec/chunks.ts';
import { decodeGzip, type Notice } from '../../../codec/gzip.ts';
import { decodeXzStream } from '../../../codec/xz.ts';
import { decodeZstdStream } from '../../../codec/zstd-stream.ts';
import type { UnwrapOptions, Unwrapped } from '../../../image/unwrap.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { bgzipIndex, decodeMembers } from './bgzip.ts';
import { type BlockIndex, BlockStorage, type DecodeBlock } from './blocks.ts';
import { gzipSize, zstdSize } from './expected-size.ts';
import { xzBlocks } from './xz-blocks.ts';
import { decodeFrames, zstdIndex } from './zstd-frames.ts';

/** Formats that are decoded. */
export type Compression = 'gzip' | 'xz' | 'bzip2' | 'zstd';

type Decode = (input: AsyncIterable<Uint8Array>, notice: Notice) => AsyncIterable<Uint8Array>;

const DECODERS: Readonly<Record<Compression, Decode>> = {
  gzip: (input, notice) => decodeGzip(new Chunks(input), notice),
  xz: (input) => decodeXzStream(input),
  bzip2: (input, notice) => decodeBzip2Stream(input, notice),
  zstd: (input) => decodeZstdStream(new Chunks(input)),
};

const SIZES: Readonly<Record<Compression, (storage: Storage, head: Uint8Array) => Promise<number | null>>> = {
  gzip: gzipSize,
  xz: async () => null,
  bzip2: async () => null,
  zstd: zstdSize,
};

/** Parts that are found without decoding, and what decodes one. */
interface Blocks {
  readonly index: BlockIndex;
  readonly decode: DecodeBlock;
  readonly warnings?: readonly string[];
}

const NO_END = 'The blocked gzip file has no end marker: it may be cut off.';
/** Null: such a file has to be decoded from its start. */
const BLOCKS: Partial<
  Readonly<Record<Compression, (storage: Storage, options: OperationOptions) => Promise<Blocks | null>>>
> = {
  async gzip(storage, options) {
    // In a page nothing decodes them.
    const found = (await streamInflater()) === null ? null : await bgzipIndex(storage, options);
    if (found === null) return null;
    return { index: found.index, decode: decodeMembers, warnings: found.hasEnd ? [] : [NO_END] };
  },
  xz: (storage) => xzBlocks(storage),
  async zstd(storage) {
    const index = await zstdIndex(storage);
    return index === null ? null : { index, decode: decodeFrames };
  },
};

/** Ends of names of compressed files, and what they stand for. */
const SUFFIXES: readonly (readonly [RegExp, string])[] = [
  [/\.(gz|xz|bz2|zst)$/i, ''],
  [/\.(tgz|txz|tbz2?|tzst)$/i, '.tar'],
];

/** The file in a compressed one. */
export async function unwrapCompressed(
  compression: Compression,
  storage: Storage,
  { name, member, signal }: UnwrapOptions,
): Promise<Unwrapped> {
  const inner = innerName(name);
  // A name may be that of a member of an archive in it.
  const rest = member === inner ? undefined : member;
  const blocks = await BLOCKS[compression]?.(storage, { signal });
  if (blocks?.index.isUseful === true) {
    const content = { storage: new BlockStorage(storage, blocks.index, blocks.decode) };
    return { name: inner, member: inner, rest, content, warnings: blocks.warnings ?? [] };
  }
  const input = rangeChunks(storage, { offset: 0, length: storage.size }, { signal });
  const decode = (notice: Notice): AsyncIterable<Uint8Array> => DECODERS[compression](input, notice);
  const sizeOf = blocks === undefined || blocks === null ? SIZES[compression] : async () => blocks.index.size;
  const content = { decode, expectedSize: (head: Uint8Array) => sizeOf(storage, head) };
  return { name: inner, member: inner, rest, content, warnings: [] };
}

/** `disk.vdi` of `disk.vdi.gz`. */
export function innerName(name: string): string {
  const [suffix, instead] = SUFFIXES.find(([one]) => one.test(name)) ?? [];
  return suffix === undefined ? name : name.replace(suffix, instead ?? '');
}
