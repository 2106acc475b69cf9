/** Both versions of decompression: results, trailing bytes, and damaged streams. */
import { deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import * as browser from './decompress.browser.ts';
import * as node from './decompress.ts';
import { decodeFrames, frameAt } from './zstd.ts';

const SIZES = [512, 4096, 65_536, 2 ** 21];
const VERSIONS = [
  { name: 'Node', ...node },
  { name: 'browser', ...browser },
];

/** Compressible, and different everywhere. */
function sample(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (at % 7 === 0 ? at >>> 8 : at % 13));
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

describe.each(VERSIONS)('inflateRaw in $name', ({ inflateRaw }) => {
  it.each(SIZES)('gives %i bytes, whatever follows them', async (size) => {
    const bytes = sample(size);
    const stream = deflateRawSync(bytes, { windowBits: 12 });
    expect(Buffer.compare(await inflateRaw(stream, size), bytes)).toBe(0);
    const padded = joined(stream, new Uint8Array(700).fill(0xa5));
    expect(Buffer.compare(await inflateRaw(padded, size), bytes)).toBe(0);
  });

  it('takes windows of 32 KiB', async () => {
    const bytes = sample(65_536);
    bytes.copyWithin(32_768, 64, 32_768);
    expect(Buffer.compare(await inflateRaw(deflateRawSync(bytes, { windowBits: 15 }), 65_536), bytes)).toBe(0);
  });

  it.each([512, 65_536])('stops at %i bytes of a stream that goes on', async (size) => {
    const bytes = sample(8 * 2 ** 20);
    expect(Buffer.compare(await inflateRaw(deflateRawSync(bytes), size), bytes.subarray(0, size))).toBe(0);
  });

  it('takes a stream whose end is cut off behind the last byte', async () => {
    // An empty block that could be left out ends this stream.
    const bytes = sample(4096);
    const stream = deflateRawSync(bytes, { level: 0 });
    expect(Buffer.compare(await inflateRaw(joined(stream, new Uint8Array(3)), 4096), bytes)).toBe(0);
  });

  it.each([4096, 65_536])('refuses short and broken streams of %i bytes', async (size) => {
    const stream = deflateRawSync(sample(size));
    await expectKind(() => inflateRaw(stream.subarray(0, stream.length / 2), size), 'corrupt');
    await expectKind(() => inflateRaw(deflateRawSync(sample(size - 1)), size), 'corrupt');
    await expectKind(() => inflateRaw(new Uint8Array(100).fill(0xff), size), 'corrupt');
    await expectKind(() => inflateRaw(new Uint8Array(0), size), 'corrupt');
  });
});

/** Frames without compression, made by hand: raw blocks, and one of a repeated byte. */
function frame(...blocks: readonly (Uint8Array | { readonly byte: number; readonly count: number })[]): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58)];
  for (const [index, block] of blocks.entries()) {
    const last = index === blocks.length - 1 ? 1 : 0;
    const repeated = 'byte' in block;
    const word = (repeated ? block.count : block.length) * 8 + (repeated ? 2 : 0) + last;
    parts.push(Uint8Array.of(word & 0xff, (word >>> 8) & 0xff, word >>> 16));
    parts.push(repeated ? Uint8Array.of(block.byte) : block);
  }
  return joined(...parts);
}

describe.each(VERSIONS)('zstdDecompress in $name', ({ zstdDecompress }) => {
  const bytes = sample(4096);

  it('decodes a frame and leaves alone what follows', async () => {
    const stream = frame(bytes.subarray(0, 1000), bytes.subarray(1000));
    expect(frameAt(joined(stream, bytes), 0)).toEqual({ length: stream.length, skippable: false });
    for (const follows of [new Uint8Array(0), bytes, frame(bytes)]) {
      expect(Buffer.compare(await zstdDecompress(joined(stream, follows), 4096), bytes)).toBe(0);
    }
  });

  it('decodes several frames, over those without content', async () => {
    const skippable = Uint8Array.of(0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);
    const stream = joined(frame(bytes.subarray(0, 96)), skippable, frame({ byte: 7, count: 1000 }), frame(bytes));
    const expected = joined(bytes.subarray(0, 96), new Uint8Array(1000).fill(7), bytes);
    expect(Buffer.compare(await zstdDecompress(stream, expected.length), expected)).toBe(0);
  });

  it('refuses what is no frame, cut off, too long, or too short', async () => {
    const stream = frame(bytes);
    await expectKind(() => zstdDecompress(bytes, 4096), 'corrupt');
    await expectKind(() => zstdDecompress(stream.subarray(0, -1), 4096), 'corrupt');
    await expectKind(() => zstdDecompress(stream, 4095), 'corrupt');
    await expectKind(() => zstdDecompress(stream, 4097), 'corrupt');
    await expectKind(() => zstdDecompress(frame({ byte: 0, count: 0 }), 512), 'corrupt');
    const garbage = stream.slice();
    garbage[6] = (garbage[6] ?? 0) | 6;
    await expectKind(() => zstdDecompress(garbage, 4096), 'corrupt');
  });
});

it('hands a failure of the decoder on as corrupt', async () => {
  const decode = () => Promise.reject(new Error('no'));
  await expectKind(() => decodeFrames(frame(sample(10)), 10, decode), 'corrupt');
});
