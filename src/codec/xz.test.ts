import { afterEach, describe, expect, it } from 'vitest';
import { describeWithPeers, type PeerProgram } from '../../test/peers/peers.ts';
import { systemXz } from './system-xz.ts';
import { decodeXz, decodeXzStream } from './xz.ts';

function text(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * at + (at >> 7)) & 0x3f);
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function whole(stored: Uint8Array, size: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of decodeXzStream(pieces(stored, size))) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

const before = process.env['VDKIT_NO_NATIVE'];
afterEach(() => {
  if (before === undefined) delete process.env['VDKIT_NO_NATIVE'];
  else process.env['VDKIT_NO_NATIVE'] = before;
});

describeWithPeers(['xz'], 'xz', (program: PeerProgram) => {
  const xz = (bytes: Uint8Array, ...options: string[]): Buffer => program.filter(bytes, '-c', '-T1', ...options);

  describe.each([['the system library'], ['WebAssembly']])('with %s', (kind) => {
    const choose = (): void => {
      if (kind === 'WebAssembly') process.env['VDKIT_NO_NATIVE'] = '1';
      else expect(systemXz()).not.toBeNull();
    };

    it.each(['none', 'crc32', 'crc64'])('decodes a stream with check %s', async (check) => {
      choose();
      const bytes = text(300_000);
      const stored = xz(bytes, `--check=${check}`);
      expect(Buffer.from(await decodeXz(stored, bytes.length)).equals(bytes)).toBe(true);
      expect((await whole(stored, 7)).equals(bytes)).toBe(true);
    });

    it('decodes several streams with padding between and behind them', async () => {
      choose();
      const [a, b] = [text(200_000), new Uint8Array(3_000_000)];
      const stored = Buffer.concat([xz(a), new Uint8Array(8), xz(b, '--check=crc32'), new Uint8Array(4)]);
      expect((await whole(stored, 1000)).equals(Buffer.concat([a, b]))).toBe(true);
    });

    it('verifies SHA-256, or says that it cannot', async () => {
      choose();
      const bytes = text(10_000);
      const decoded = decodeXz(xz(bytes, '--check=sha256'), bytes.length);
      if (kind === 'WebAssembly') await expect(decoded).rejects.toMatchObject({ kind: 'unsupported' });
      else expect(Buffer.from(await decoded).equals(bytes)).toBe(true);
    });

    it('refuses what is cut off, changed, too long or badly padded', async () => {
      choose();
      const bytes = text(100_000);
      const stored = xz(bytes);
      const changed = Uint8Array.from(stored);
      changed[stored.length >> 1] = (changed[stored.length >> 1] ?? 0) ^ 1;
      const broken = [stored.subarray(0, -1), stored.subarray(0, 5), stored.subarray(0, 0), changed];
      broken.push(Buffer.concat([stored, new Uint8Array(3)]), Buffer.concat([stored, stored.subarray(0, 20)]));
      for (const one of broken) {
        await expect(decodeXz(one, bytes.length)).rejects.toMatchObject({ name: 'ImageError', kind: 'corrupt' });
      }
      await expect(decodeXz(stored, bytes.length - 1)).rejects.toMatchObject({ kind: 'corrupt' });
      await expect(decodeXz(stored, bytes.length + 1)).rejects.toMatchObject({ kind: 'corrupt' });
    });
  });
});
