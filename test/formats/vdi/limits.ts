/** Ways to the bounds of VDI, and images that are a header with almost nothing behind it. */
import { ENTRY_FREE, HEADER, OLD_HEADER, SIGNATURE, VERSION_0_2 } from '../../../src/formats/vdi/layout.ts';
import { VDI_LIMITS } from '../../../src/formats/vdi/limits.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Source } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SECTOR = 512;

/** A header to write. */
export interface WantedHeader {
  readonly blockSize: number;
  readonly diskSize: number;
  readonly blockExtra?: number;
}

/** A VDI image whose map is a hole but for its last entry: block 0 everywhere, and the last one free. */
export async function headerOnly({ blockSize, diskSize, blockExtra = 0 }: WantedHeader): Promise<Source> {
  const source = await emptyFile();
  const storage = await source.provider.open(source.name, 'write');
  const blockCount = Math.ceil(diskSize / blockSize);
  const dataOffset = Math.ceil((SECTOR + 4 * blockCount) / SECTOR) * SECTOR;
  const header = new Uint8Array(HEADER.size);
  const values = { signature: SIGNATURE, version: 0x0001_0001, headerSize: 400, type: 1, logicalSectorSize: SECTOR };
  const places = { mapOffset: SECTOR, dataOffset, blockSize, blockExtra, blockCount, diskSize };
  for (const [name, value] of Object.entries({ ...values, ...places })) {
    HEADER.put(header, name as 'blockSize', value);
  }
  await storage.write(0, header);
  await storage.write(SECTOR + 4 * (blockCount - 1), freeEntry());
  await storage.resize(dataOffset + SECTOR);
  return source;
}

async function oldHeaderOnly(blockCount: number): Promise<Source> {
  const source = await emptyFile();
  const storage = await source.provider.open(source.name, 'write');
  const header = new Uint8Array(OLD_HEADER.size);
  const values = { signature: SIGNATURE, version: VERSION_0_2, type: 1, blockSize: SECTOR, blockCount };
  for (const [name, value] of Object.entries({ ...values, diskSize: SECTOR * blockCount })) {
    OLD_HEADER.put(header, name as 'blockSize', value);
  }
  await storage.write(0, header);
  await storage.write(OLD_HEADER.size + 4 * (blockCount - 1), freeEntry());
  return source;
}

function freeEntry(): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, ENTRY_FREE, true);
  return bytes;
}

async function emptyFile(): Promise<Source> {
  const provider = new MemoryProvider();
  await (await provider.create('/image.vdi')).close();
  return { provider, name: '/image.vdi' };
}

/** Reads the last block. Only the layout before 1.0 can have this many: it has no field for where the data begins. */
async function readLastBlock(blocks: number): Promise<number> {
  await using disk = await openDisk(await oldHeaderOnly(blocks));
  const bytes = new Uint8Array(SECTOR).fill(1);
  await disk.read(disk.size - SECTOR, bytes);
  if (bytes.some((byte) => byte !== 0)) throw new Error('a free block holds data');
  return disk.size / SECTOR;
}

export const limits: LimitKit<typeof VDI_LIMITS> = {
  bounds: VDI_LIMITS,
  tests: { blocks: { reach: readLastBlock } },
};
