import { deflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { inflateZlib } from './decompress.ts';
import { systemDeflate } from './system-deflate.ts';

const text = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, at) => (at * at) % 97);
const SIZES = [4096, 65_536, 2 * 1024 * 1024];

describe('decoding into a buffer', () => {
  it('is left to Node without native calls', () => {
    const native = process.env['VDKIT_NO_NATIVE'];
    process.env['VDKIT_NO_NATIVE'] = '1';
    try {
      expect(systemDeflate()).toBe(null);
    } finally {
      if (native === undefined) delete process.env['VDKIT_NO_NATIVE'];
      else process.env['VDKIT_NO_NATIVE'] = native;
    }
  });

  it('gives the same as without one, with the library of the system and with that of Node', async () => {
    const native = process.env['VDKIT_NO_NATIVE'];
    for (const without of ['0', '1']) {
      process.env['VDKIT_NO_NATIVE'] = without;
      for (const size of SIZES) {
        const wanted = text(size);
        const streams = [1, 6, 9].map((level) => deflateSync(wanted, { level }));
        const decoded = await Promise.all(
          streams.map((stream) =>
            inflateZlib(Buffer.concat([stream, Buffer.from('rest')]), size, new Uint8Array(size)),
          ),
        );
        for (const bytes of decoded) expect(Buffer.from(bytes).equals(wanted)).toBe(true);
      }
    }
    if (native === undefined) delete process.env['VDKIT_NO_NATIVE'];
    else process.env['VDKIT_NO_NATIVE'] = native;
  });

  it('takes streams that are shorter than the buffer', async () => {
    for (const size of SIZES) {
      const decoded = await inflateZlib(deflateSync(text(size - 700)), size, new Uint8Array(size));
      expect(Buffer.from(decoded).equals(text(size - 700))).toBe(true);
    }
  });

  it('refuses streams that are broken, cut off or too long', async () => {
    for (const size of SIZES) {
      const sound = deflateSync(text(size));
      const checksum = Uint8Array.from(sound);
      checksum[sound.length - 1] = 255 - (sound.at(-1) ?? 0);
      for (const stream of [checksum, sound.subarray(0, -6), sound.subarray(2), new Uint8Array(0)]) {
        await expect(inflateZlib(stream, size, new Uint8Array(size))).rejects.toMatchObject({ kind: 'corrupt' });
      }
      await expect(inflateZlib(deflateSync(text(size + 1)), size, new Uint8Array(size))).rejects.toMatchObject({
        kind: 'corrupt',
      });
    }
  });

  it('is done by the library where there is one', async ({ skip }) => {
    const library = systemDeflate();
    if (library === null) return skip('the system has no libdeflate, or native calls are off');
    const target = new Uint8Array(65_536);
    expect(await library.inflate(target, deflateSync(text(65_536)))).toBe(true);
    expect(Buffer.from(target).equals(text(65_536))).toBe(true);
    expect(await library.inflate(target, deflateSync(text(65_535)))).toBe(false);
    const large = new Uint8Array(2 ** 20);
    const stream = deflateSync(text(2 ** 20));
    const all = await Promise.all(Array.from({ length: 300 }, () => library.inflate(large, stream)));
    expect(all.every(Boolean)).toBe(true);
  });
});
