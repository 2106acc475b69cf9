import { afterEach, describe, expect, it } from 'vitest';
import { describeWithPeers, type PeerProgram } from '../../test/peers/peers.ts';
import { Chunks } from './chunks.ts';
import { systemZstdFrames } from './system-zstd-stream.ts';
import { decodeZstdStream, frameHeader } from './zstd-stream.ts';

function text(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * at + (at >> 7)) & 0x3f);
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}

async function whole(stored: Uint8Array, size: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of decodeZstdStream(new Chunks(pieces(stored, size)))) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

/** A frame to skip: its last four bits, and its content. */
function skippable(kind: number, length: number): Buffer {
  const frame = Buffer.alloc(8 + length, 0x28);
  frame.writeUInt32LE(0x184d_2a50 + kind, 0);
  frame.writeUInt32LE(length, 4);
  return frame;
}

const before = process.env['VDKIT_NO_NATIVE'];
afterEach(() => {
  if (before === undefined) delete process.env['VDKIT_NO_NATIVE'];
  else process.env['VDKIT_NO_NATIVE'] = before;
});

describeWithPeers(['zstd'], 'Zstandard files', (program: PeerProgram) => {
  const zstd = (bytes: Uint8Array, ...options: string[]): Buffer => program.filter(bytes, '-c', ...options);

  describe.each([['the system library'], ['WebAssembly']])('with %s', (kind) => {
    const choose = (): void => {
      if (kind === 'WebAssembly') process.env['VDKIT_NO_NATIVE'] = '1';
      else expect(systemZstdFrames()).not.toBeNull();
    };

    it.each([['-1'], ['--no-check'], ['--ultra', '-22', '--long=27']])(
      'decodes a frame made with %s',
      async (...how) => {
        choose();
        const bytes = Buffer.concat([text(900_000), new Uint8Array(2_000_000), text(500_000)]);
        const stored = zstd(bytes, ...how);
        expect((await whole(stored, 100_000)).equals(bytes)).toBe(true);
        expect((await whole(stored, 101)).equals(bytes)).toBe(true);
      },
    );

    it('decodes several frames, with frames to skip before, between and behind', async () => {
      choose();
      const [a, b] = [text(200_000), new Uint8Array(3_000_000)];
      const frames = [
        skippable(0, 4),
        zstd(a),
        skippable(15, 100_000),
        zstd(new Uint8Array(0)),
        zstd(b),
        skippable(3, 0),
      ];
      const stored = Buffer.concat(frames);
      for (const size of [11, 5000, 1_000_000]) {
        expect((await whole(stored, size)).equals(Buffer.concat([a, b]))).toBe(true);
      }
      expect((await whole(skippable(1, 9), 5)).length).toBe(0);
    });

    it('refuses what is cut off, changed or followed by other bytes', async () => {
      choose();
      const stored = zstd(text(400_000));
      const broken: Uint8Array[] = [1, 4, 100, stored.length - 5, stored.length].map((cut) => stored.subarray(0, -cut));
      // The header may tell of a larger window.
      for (let at = 6; at < stored.length; at += 1 + (stored.length >> 5)) {
        const changed = Uint8Array.from(stored);
        changed[at] = (changed[at] ?? 0) ^ 0x10;
        broken.push(changed);
      }
      for (const tail of [
        new Uint8Array(4),
        Buffer.from('x'),
        stored.subarray(0, 9),
        skippable(0, 9).subarray(0, 12),
      ]) {
        broken.push(Buffer.concat([stored, tail]));
      }
      for (const one of broken) {
        const failure = await whole(one, 5000).catch((error: unknown) => error);
        expect(failure).toMatchObject({ name: 'ImageError', kind: 'corrupt' });
      }
    });

    it('ends when its reader does', async () => {
      choose();
      const stored = zstd(new Uint8Array(20_000_000));
      for (let turn = 0; turn < 3; turn++) {
        for await (const chunk of decodeZstdStream(new Chunks(pieces(stored, 500)))) {
          expect(chunk.length).toBeGreaterThan(0);
          break;
        }
      }
      expect((await whole(stored, 500)).length).toBe(20_000_000);
    });
  });

  it('refuses a window that is too large, a dictionary, and an unknown flag, before anything is decoded', () => {
    const header = (...bytes: number[]): Uint8Array =>
      Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, ...bytes, ...new Array(13).fill(0));
    expect(frameHeader(header(0x00, 0x88))).toMatchObject({ window: 2 ** 27, contentSize: null, length: 6 });
    expect(() => frameHeader(header(0x00, 0x89))).toThrow(expect.objectContaining({ kind: 'limit' }));
    expect(() => frameHeader(header(0xe0, 1, 0, 0, 8))).toThrow(expect.objectContaining({ kind: 'limit' }));
    expect(() => frameHeader(header(0x01, 0x58, 7))).toThrow(expect.objectContaining({ kind: 'unsupported' }));
    expect(() => frameHeader(header(0x08, 0x58))).toThrow(expect.objectContaining({ kind: 'corrupt' }));
    expect(frameHeader(header(0x60, 2, 1))).toMatchObject({ contentSize: 256 + 258, length: 7 });
  });
});
