/** Ways to the bounds of VHDX. */
import { putChecksum } from '../../../src/formats/vhdx/checksum.ts';
import { REGION_OFFSETS, REGION_TABLE } from '../../../src/formats/vhdx/layout.ts';
import { VHDX_LIMITS } from '../../../src/formats/vhdx/limits.ts';
import { parseLocator } from '../../../src/formats/vhdx/locator.ts';
import { encodeLocator } from '../../../src/formats/vhdx/locator-encoder.ts';
import { encodeRegions } from '../../../src/formats/vhdx/regions.ts';
import { inspect } from '../../../src/operations/inspect.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { LimitKit } from '../limit-kit.ts';
import { guid, REGIONS, vhdxInMemory } from './build.ts';

const MIB = 1024 * 1024;
const SECTOR = 512;
/** Entries of 32 bytes behind a head of 16, in 64 KiB. */
const FULL_TABLE = 2047;

/** Reads the last sector of a disk that long. */
async function readEnd(virtualSize: number): Promise<number> {
  const [bat, metadata] = REGIONS;
  const regions = [{ ...bat, length: 3 * MIB }, metadata];
  await using disk = await openDisk(await vhdxInMemory({ virtualSize, blockSize: 256 * MIB, regions }));
  const bytes = new Uint8Array(SECTOR).fill(1);
  await disk.read(disk.size - SECTOR, bytes);
  if (bytes.some((byte) => byte !== 0)) throw new Error('a block that is not there holds data');
  return disk.size;
}

/** Regions that vdkit does not have, behind the file. A table has no room for more. */
async function openWithRegions(count: number): Promise<number> {
  const others = Array.from({ length: Math.min(count, FULL_TABLE) - REGIONS.length }, (_, index) => {
    return { id: guid(1000 + index), fileOffset: (100 + index) * MIB, length: MIB, required: false };
  });
  const table = encodeRegions([...REGIONS, ...others]);
  REGION_TABLE.put(table, 'count', count);
  putChecksum(table);
  const pieces = [{ offset: REGION_OFFSETS[0], bytes: table }];
  const { details } = await inspect(await vhdxInMemory({ pieces }));
  return Number(details?.['other regions']) + REGIONS.length;
}

async function openWithLog(logLength: number): Promise<number> {
  const logOffset = 16 * MIB;
  const header = { logLength, logOffset: BigInt(logOffset) };
  const { details } = await inspect(await vhdxInMemory({ header, older: header, size: logOffset + logLength }));
  return Number(details?.['log size']);
}

/** A locator of names that are as long as they get. */
async function locatorOf(amount: number): Promise<number> {
  const longest = 0xfffe / 2;
  const texts: string[] = [];
  const pairs = new Map<string, string>();
  const bytesOf = (): number => texts.reduce((sum, text) => sum + text.length * 2, 20 + pairs.size * 12);
  while (bytesOf() < amount) {
    const key = String(pairs.size).padStart(4, '0');
    const left = (amount - bytesOf() - 12) / 2 - key.length;
    const value = 'x'.repeat(Math.min(left, longest));
    texts.push(key, value);
    pairs.set(key, value);
  }
  const bytes = encodeLocator(pairs);
  if (parseLocator(bytes, 'x').pairs.size !== pairs.size) throw new Error('a pair is lost');
  return bytes.length;
}

export const limits: LimitKit<typeof VHDX_LIMITS> = {
  bounds: VHDX_LIMITS,
  tests: {
    diskBytes: { reach: readEnd, step: SECTOR },
    tableEntries: { reach: openWithRegions },
    logBytes: { reach: openWithLog, step: MIB },
    locatorBytes: { reach: locatorOf, step: 2 },
  },
};
