/** Ways to the bounds of VHD. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { encodeFooter } from '../../../src/formats/vhd/footer.ts';
import { encodeHeader } from '../../../src/formats/vhd/header.ts';
import { FOOTER, HEADER, LOCATOR } from '../../../src/formats/vhd/layout.ts';
import { VHD_LIMITS } from '../../../src/formats/vhd/limits.ts';
import { encodeNames } from '../../../src/formats/vhd/locators.ts';
import { createImage } from '../../../src/operations/create.ts';
import { inspect } from '../../../src/operations/inspect.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { Source } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const VHD = { format: 'vhd' } as const;

async function made(size: number): Promise<Source> {
  const source = { provider: new MemoryProvider(), name: '/disk.vhd' };
  await createImage(source, { ...VHD, size });
  return source;
}

/** An image whose table is a hole but for its last entry, which is unused. */
async function hollow(blockCount: number, blockSize: number): Promise<Source> {
  const source = await made(SECTOR);
  const storage = await source.provider.open(source.name, 'write');
  const [footer, header] = [new Uint8Array(FOOTER.size), new Uint8Array(HEADER.size)];
  await storage.read(0, footer);
  await storage.read(SECTOR, header);
  const fields = { ...HEADER.decode(header), entries: blockCount, blockSize };
  await storage.write(SECTOR, encodeHeader(fields));
  const end = fields.tableOffset + blockCount * 4;
  await storage.write(end - 4, new Uint8Array(4).fill(0xff));
  const last = encodeFooter({ ...FOOTER.decode(footer), currentSize: blockCount * blockSize });
  await storage.write(0, last);
  await storage.write(Math.ceil(end / SECTOR) * SECTOR, last);
  await storage.close();
  return source;
}

async function readLastBlock(blockCount: number): Promise<number> {
  await using disk = await openDisk(await hollow(blockCount, SECTOR), VHD);
  const bytes = new Uint8Array(SECTOR).fill(1);
  await disk.read(disk.size - SECTOR, bytes);
  if (bytes.some((byte) => byte !== 0)) throw new Error('an unused block holds data');
  return disk.size / SECTOR;
}

export const limits: LimitKit<typeof VHD_LIMITS> = {
  bounds: VHD_LIMITS,
  tests: {
    dynamicBytes: { reach: async (bytes) => (await inspect(await made(bytes), VHD)).virtualSize, step: SECTOR },
    entries: { reach: readLastBlock },
    blockBytes: {
      reach: async (bytes) => (await inspect(await hollow(1, bytes), VHD)).blockSize ?? 0,
      step: VHD_LIMITS.blockBytes,
    },
    locatorBytes: {
      reach: async (bytes) => {
        const { locators } = encodeNames({ relative: null, absolute: 'x'.repeat(bytes / 2) }, 0);
        return LOCATOR.get(locators, 'length');
      },
      step: 2,
    },
  },
};
