/** Ways to the bounds of VMDK. */
import { parseSparse } from '../../../src/formats/vmdk/extents/header.ts';
import { KDMV, SPARSE_HEADER } from '../../../src/formats/vmdk/layout.ts';
import { VMDK_LIMITS } from '../../../src/formats/vmdk/limits.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SECTOR = 512;
const HEAD = '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="custom"\n';
const HOLE = 'RW 8 ZERO\n';

/** Sectors of the disk that a descriptor describes. */
async function sectorsOf(descriptor: string): Promise<number> {
  const provider = new MemoryProvider();
  const storage = await provider.create('/disk.vmdk');
  await storage.write(0, new TextEncoder().encode(descriptor));
  await storage.close();
  await using disk = await openDisk('/disk.vmdk', { provider });
  return disk.size / SECTOR;
}

async function withText(text: string, amount: number): Promise<number> {
  return (await sectorsOf(HEAD + HOLE + text)) === 8 ? amount : 0;
}

async function readBytes(amount: number): Promise<number> {
  const line = `#${'x'.repeat(8190)}\n`;
  const room = amount - HEAD.length - HOLE.length;
  const lines = Math.floor(room / line.length);
  return withText(line.repeat(lines) + '#'.repeat(room - lines * line.length), amount);
}

async function readTables(tables: number): Promise<number> {
  const bytes = new Uint8Array(SPARSE_HEADER.size);
  const base = { magic: KDMV, version: 1, flags: 0, grainSize: 128, entriesPerTable: 512, directoryOffset: 1n };
  const values = { ...SPARSE_HEADER.decode(bytes), ...base, capacity: tables * 128 * 512, overhead: 128 };
  return parseSparse(SPARSE_HEADER.encode(values), 2 ** 40, 'disk.vmdk').tableCount;
}

export const limits: LimitKit<typeof VMDK_LIMITS> = {
  bounds: VMDK_LIMITS,
  tests: {
    descriptorBytes: { reach: readBytes },
    // Five lines of the header and the extent.
    descriptorLines: { reach: async (lines) => withText('#\n'.repeat(lines - 6), lines) },
    extents: { reach: async (extents) => (await sectorsOf(HEAD + HOLE.repeat(extents))) / 8 },
    tables: { reach: readTables },
  },
};
