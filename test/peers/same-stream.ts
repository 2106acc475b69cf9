/** Comparison of what a program writes to a stream with a raw disk. */
import { open } from 'node:fs/promises';
import { alignUp } from '../../src/binary/numbers.ts';
import type { Peer, PeerImage } from '../formats/peer-kit.ts';

/** Rejects unless the stream has the bytes of the raw disk, and zeroes up to a whole unit where it is rounded up. */
export async function sameAsStream(
  stream: AsyncIterable<Uint8Array>,
  { path, way }: PeerImage,
  raw: string,
  rounds?: Peer['rounds'],
): Promise<void> {
  const file = await open(raw);
  try {
    let offset = 0;
    let wanted = new Uint8Array(0);
    for await (const bytes of stream) {
      if (wanted.length < bytes.length) wanted = new Uint8Array(bytes.length);
      wanted.fill(0, 0, bytes.length);
      await file.read(wanted, 0, bytes.length, offset);
      if (Buffer.compare(wanted.subarray(0, bytes.length), bytes) !== 0) {
        throw new Error(`${path}: the ${bytes.length} bytes at ${offset} differ`);
      }
      offset += bytes.length;
    }
    const { size } = await file.stat();
    if (offset !== size && offset !== alignUp(size, rounds?.(way) ?? 1))
      throw new Error(`${path}: ${offset} bytes of ${size}`);
  } finally {
    await file.close();
  }
}
