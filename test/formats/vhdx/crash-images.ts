/** VHDX images for the power cuts: four blocks of 1 MiB, the last one not whole, alone or over a parent. */
import { check, repair } from '../../../src/formats/vhdx/check.ts';
import { HEADER_OFFSETS, REGION_OFFSETS } from '../../../src/formats/vhdx/layout.ts';
import { OpenedFiles } from '../../../src/image/files.ts';
import { createImage } from '../../../src/operations/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import type { StorageProvider } from '../../../src/storage/contract.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import { type CrashCheck, type CrashSuite, initialBytes } from '../../../src/testing/index.ts';
import { REGISTRY } from '../../faults/ways.ts';
import type { Mutation } from '../crash-kit.ts';
import { BAT_OFFSET, batEntry } from './build.ts';

export const SECTOR = 512;
export const MIB = 1024 * 1024;
/** Sectors of a block. */
export const BLOCK = MIB / SECTOR;
export const SECTORS = 4 * BLOCK - 3;
export const IMAGE = '/disk.vhdx';
export const PARENT = '/parent.vhdx';
export const CONFIG = { block_size: MIB };

export type Kind = 'dynamic' | 'fixed' | 'diff';

/** Sectors that the parent has. */
function hasInitial(sector: number): boolean {
  return sector < SECTORS && Math.floor(sector / 500) % 3 === 0;
}

async function makeParent(provider: StorageProvider): Promise<void> {
  const source = { provider, name: PARENT };
  await createImage(source, { format: 'vhdx', size: SECTORS * SECTOR, config: CONFIG });
  const disk = await openDisk(source, { mode: 'write', format: 'vhdx', flushAfterMs: 0 });
  for (let sector = 0; sector < SECTORS; sector += 1500) {
    await disk.write(sector * SECTOR, initialBytes(sector, Math.min(500, SECTORS - sector)));
  }
  await disk.close();
}

/** An empty image, and whatever the sessions do with it. */
export function vhdxSuite(
  kind: Kind,
  seed: number,
  sessions: CrashSuite['sessions'],
  { registry = REGISTRY, wrap = (provider) => provider }: Mutation = {},
): CrashSuite {
  const isChild = kind === 'diff';
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size: SECTORS * SECTOR,
    seed,
    ...(isChild ? { prepare: makeParent, hasInitial } : {}),
    async build(bare) {
      const provider = wrap(bare);
      const over = isChild ? { parent: { provider, name: PARENT }, parentFormat: 'vhdx' } : {};
      const variant = kind === 'fixed' ? ['fixed'] : [];
      const options = { registry, format: 'vhdx', size: SECTORS * SECTOR, variant, config: CONFIG, ...over };
      await createImage({ provider, name: IMAGE }, options);
    },
    open(bare) {
      const provider = wrap(bare);
      const chain = [...(isChild ? [{ provider, name: PARENT }] : []), { provider, name: IMAGE }];
      return openDisk(chain, { registry, mode: 'write', format: 'vhdx', flushAfterMs: 0 });
    },
    sessions,
    check: brokenRules,
  };
}

/** The image comes with damage of each kind, and each session begins with a repair of it. */
export function damaged(suite: CrashSuite): CrashSuite {
  return {
    ...suite,
    async build(provider) {
      await suite.build(provider);
      const storage = await provider.open(IMAGE, 'write');
      const noise = new Uint8Array(SECTOR).fill(0xee);
      await storage.write(HEADER_OFFSETS[0], noise);
      await storage.write(REGION_OFFSETS[0], noise);
      // Blocks that are not stored have places, and bits that must be clear.
      const entries = new DataView(new ArrayBuffer(24));
      entries.setBigUint64(0, batEntry(0, 900), true);
      entries.setBigUint64(8, batEntry(0) + 0xf_fff8n, true);
      entries.setBigUint64(16, batEntry(0, 4), true);
      await storage.write(BAT_OFFSET, new Uint8Array(entries.buffer));
      await storage.flush();
      await storage.close();
    },
    async open(provider) {
      await repairImage(provider);
      return suite.open(provider);
    },
  };
}

async function repairImage(provider: StorageProvider): Promise<void> {
  const main = await provider.open(IMAGE, 'write');
  const files = new OpenedFiles({ source: { provider, name: IMAGE }, main });
  await repair(files, {});
  await files.close();
}

/** A cut may leave unused space, but nothing that is worse. */
async function brokenRules({ provider, image }: CrashCheck): Promise<string[]> {
  // The image is open already: no lock is asked for.
  const files = new OpenedFiles({ source: { provider, name: image }, main: await provider.open(image, 'read') });
  const findings = await check(files, {});
  await files.close();
  return findings.filter(({ severity }) => severity === 'corruption').map(({ message }) => message);
}
