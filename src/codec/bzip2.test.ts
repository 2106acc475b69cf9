import { afterEach, describe, expect, it } from 'vitest';
import { describeWithPeers, type PeerProgram } from '../../test/peers/peers.ts';
import { decodeBzip2, decodeBzip2Stream, encodeBzip2 } from './bzip2.ts';
import { systemBzip2 } from './system-bzip2.ts';

/** Some of it random, some repeated, some in runs. */
function text(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => ((at >> 12) % 3 === 0 ? at >> 9 : (at * at + (at >> 7)) & 0x3f));
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function whole(stored: Uint8Array, size: number, notice?: (text: string) => void): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of decodeBzip2Stream(pieces(stored, size), notice)) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

const before = process.env['VDKIT_NO_NATIVE'];
afterEach(() => {
  if (before === undefined) delete process.env['VDKIT_NO_NATIVE'];
  else process.env['VDKIT_NO_NATIVE'] = before;
});

describeWithPeers(['bzip2'], 'bzip2', (program: PeerProgram) => {
  const bzip2 = (bytes: Uint8Array, ...options: string[]): Buffer => program.filter(bytes, '-c', ...options);

  describe.each([['the system library'], ['JavaScript']])('with %s', (kind) => {
    const choose = (): void => {
      if (kind === 'JavaScript') process.env['VDKIT_NO_NATIVE'] = '1';
      else expect(systemBzip2()).not.toBeNull();
    };

    it.each(['-1', '-9'])('decodes a stream of several blocks made with %s', async (level) => {
      choose();
      const bytes = text(1_200_000);
      const stored = bzip2(bytes, level);
      expect(Buffer.from(await decodeBzip2(stored, bytes.length)).equals(bytes)).toBe(true);
      expect((await whole(stored, 1000)).equals(bytes)).toBe(true);
    });

    it('decodes short content and long runs', async () => {
      choose();
      for (const bytes of [Uint8Array.of(7), new Uint8Array(5_000_000), new Uint8Array(259).fill(1)]) {
        expect(Buffer.from(await decodeBzip2(bzip2(bytes), bytes.length)).equals(bytes)).toBe(true);
      }
      expect((await decodeBzip2(bzip2(new Uint8Array(0)), 0)).length).toBe(0);
    });

    it('decodes streams one after the other', async () => {
      choose();
      const [a, b] = [text(200_000), new Uint8Array(3_000_000)];
      const stored = Buffer.concat([bzip2(a), bzip2(new Uint8Array(0)), bzip2(b, '-1')]);
      const both = Buffer.concat([a, b]);
      expect((await whole(stored, 7)).equals(both)).toBe(true);
      expect(Buffer.from(await decodeBzip2(stored, both.length)).equals(both)).toBe(true);
    });

    it('refuses what is cut off, changed, too long or too short', async () => {
      choose();
      const bytes = text(100_000);
      const stored = bzip2(bytes);
      const broken: Uint8Array[] = [stored.subarray(0, -1), stored.subarray(0, 5), stored.subarray(0, 0)];
      for (let at = 0; at < stored.length; at += 997) {
        const changed = Uint8Array.from(stored);
        changed[at] = (changed[at] ?? 0) ^ 1;
        broken.push(changed);
      }
      broken.push(Buffer.concat([stored, stored.subarray(0, 20)]), Buffer.concat([stored, Buffer.from('tail')]));
      for (const one of broken.slice(0, -2)) {
        await expect(decodeBzip2(one, bytes.length)).rejects.toMatchObject({ name: 'ImageError', kind: 'corrupt' });
      }
      for (const one of broken) await expect(whole(one, 4096)).rejects.toMatchObject({ kind: 'corrupt' });
      await expect(decodeBzip2(stored, bytes.length - 1)).rejects.toMatchObject({ kind: 'corrupt' });
      await expect(decodeBzip2(stored, bytes.length + 1)).rejects.toMatchObject({ kind: 'corrupt' });
    });

    it('leaves out other bytes behind the last stream where that is asked for, but not half a stream', async () => {
      choose();
      const bytes = text(100_000);
      const stored = bzip2(bytes);
      for (const tail of [new Uint8Array(512), Buffer.from('tail'), Buffer.from('B')]) {
        const notices: string[] = [];
        const found = await whole(Buffer.concat([stored, tail]), 4096, (one) => notices.push(one)).catch(() => null);
        expect([found?.equals(bytes), notices.length]).toEqual(tail.length === 1 ? [undefined, 0] : [true, 1]);
      }
      const half = Buffer.concat([stored, stored.subarray(0, 20)]);
      await expect(whole(half, 4096, () => {})).rejects.toMatchObject({ kind: 'corrupt' });
    });
  });

  it('compresses what the bzip2 program decodes', async () => {
    for (const bytes of [new Uint8Array(0), Uint8Array.of(1, 2, 3), text(1_000_000)]) {
      const unpacked = program.filter(await encodeBzip2(bytes), '-dc');
      expect(unpacked.equals(bytes)).toBe(true);
    }
  });
});
