/** A way to the bound of QCOW: a header with an L1 table that is a hole. */
import { CRYPT, HEADER, MAGIC, VERSION } from '../../../src/formats/qcow/layout.ts';
import { QCOW_LIMITS } from '../../../src/formats/qcow/limits.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

/** Reads the last sector of a disk with an L1 table of this many bytes. */
async function readLast(l1Bytes: number): Promise<number> {
  const provider = new MemoryProvider();
  const name = '/image.qcow';
  const storage = await provider.create(name);
  const size = BigInt(l1Bytes / 8) * 4096n * 512n;
  const places = { backingOffset: 0n, backingLength: 0, modified: 0, size, clusterBits: 12, l2Bits: 9, padding: 0 };
  await storage.write(
    0,
    HEADER.encode({ magic: MAGIC, version: VERSION, ...places, cryptMethod: CRYPT.none, l1Offset: 48n }),
  );
  await storage.resize(48 + l1Bytes);
  await storage.close();
  await using disk = await openDisk({ provider, name });
  const bytes = new Uint8Array(512).fill(1);
  await disk.read(disk.size - 512, bytes);
  if (bytes.some((byte) => byte !== 0)) throw new Error('an absent cluster holds data');
  return (disk.size / 4096 / 512) * 8;
}

export const limits: LimitKit<typeof QCOW_LIMITS> = {
  bounds: QCOW_LIMITS,
  tests: { l1Bytes: { reach: readLast, step: 8 } },
};
