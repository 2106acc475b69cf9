/** Sessions of the library, inside the test and in a program that is killed. */
import type { Disk } from '../../src/index.ts';
import type { Operation } from './plan.ts';

const SECTOR = 512;

/** Bytes written by sessions: each sector is unique, so that none can replace another. */
export function sectors(offset: number, length: number, byte: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(byte);
  const view = new DataView(bytes.buffer);
  for (let at = (SECTOR - (offset % SECTOR)) % SECTOR; at + 8 <= length; at += SECTOR)
    view.setUint32(at, (offset + at) / SECTOR);
  return bytes;
}

/** One operation of a session. */
export async function perform(disk: Disk, { act, offset, length, byte }: Operation): Promise<void> {
  if (act === 'flush') await disk.flush();
  else if (act === 'zero') await disk.zero(offset, length);
  else if (act === 'discard') await disk.discard([{ offset, length }]);
  else if (act === 'write') await disk.write(offset, sectors(offset, length, byte));
  else await (await disk.compress(offset, sectors(offset, length, byte))).store();
}
