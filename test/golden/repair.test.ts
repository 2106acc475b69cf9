/** Repairing, compacting, resizing and discarding what VirtualBox made leaves what VirtualBox left. */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { summarize } from '../../src/image/findings.ts';
import { checkImage } from '../../src/operations/check.ts';
import { openDisk } from '../../src/operations/open.ts';
import { expectedContent } from './content.ts';
import { type GoldenImage, GoldenSet } from './manifest.ts';

const MIB = 1024 * 1024;
const PIECE = 4 * MIB;
/** Content above this is compared where there is data, not hashed whole. */
const HASH_WHOLE_MAX = 512 * MIB;

const set = new GoldenSet('vdi');
afterAll(() => set.dispose());

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-repair-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function named(file: string): GoldenImage {
  const image = set.images.find((one) => one.file === file);
  if (image === undefined) throw new Error(`${file} is not in the manifest`);
  return image;
}

const unpacked = new Map<string, string>();

/** Copies of an image and its chain that may be changed: unpacked files are shared. */
function copyOf(file: string): string {
  const image = named(file);
  const path = unpacked.get(file) ?? set.unpack(image);
  unpacked.set(file, path);
  mkdirSync(folder, { recursive: true });
  for (const member of image.chain) copyFileSync(join(dirname(path), member), join(folder, member));
  return join(folder, basename(path));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function hashOfContent(path: string): Promise<string> {
  await using disk = await openDisk(path, { allow: ['same-directory'] });
  const hash = createHash('sha256');
  const buffer = new Uint8Array(PIECE);
  for (let at = 0; at < disk.size; at += PIECE) {
    const bytes = buffer.subarray(0, Math.min(PIECE, disk.size - at));
    await disk.read(at, bytes);
    hash.update(bytes);
  }
  return hash.digest('hex');
}

/** Large disks are compared wherever the image or the manifest has data. */
async function expectContent(path: string, image: GoldenImage): Promise<void> {
  if (image.virtualSize <= HASH_WHOLE_MAX) {
    expect(await hashOfContent(path)).toBe(image.sha256OfGuestContent);
    return;
  }
  const ops = image.contentOps ?? [];
  await using disk = await openDisk(path, { allow: ['same-directory'] });
  expect(disk.size).toBe(image.virtualSize);
  const compareRange = async (offset: number, length: number): Promise<void> => {
    const bytes = new Uint8Array(length);
    await disk.read(offset, bytes);
    expect(sha256(bytes), `bytes at ${offset}`).toBe(sha256(expectedContent(ops, offset, length)));
  };
  for await (const { offset, length, state } of disk.extents())
    if (state === 'data') await compareRange(offset, length);
  for (const op of ops) if (op[0] === 'pattern') await compareRange(op[2], op[3]);
}

async function change(path: string, run: (disk: ChainDisk) => Promise<void>): Promise<void> {
  await using disk = await openDisk(path, { mode: 'write', allow: ['same-directory'] });
  await run(disk);
}

async function expectNoCorruption(path: string): Promise<void> {
  const { findings } = await checkImage(path);
  expect(findings.filter(({ severity }) => severity !== 'warning')).toEqual([]);
}

describe('vdi', () => {
  describe('check', () => {
    /** Actual leaks: VirtualBox's repair clears the map entry and leaves the block in the file. */
    const LEAKS: Readonly<Record<string, readonly string[]>> = {
      'vdi-repaired-range.vdi': ['leak count-too-high'],
      'vdi-repaired-double.vdi': ['leak unused-slots'],
      'vdi-repaired-multi.vdi': ['leak unused-slots'],
    };

    it.each(set.images.filter((image) => image.damage === undefined))(
      'finds no corruption in $file',
      async ({ file }) => {
        const { findings } = await checkImage(copyOf(file));
        expect(summarize(findings).corruptions).toBe(0);
        const others = findings.map(({ severity, code }) => `${severity} ${code}`);
        expect(others).toEqual(LEAKS[file] ?? []);
      },
    );
  });

  describe('repair', () => {
    it.each([
      ['range', ['block-beyond-file']],
      ['double', ['shared-block']],
      ['multi', ['block-beyond-file', 'shared-block', 'shared-block']],
      ['size', ['odd-disk-size']],
    ])('vdi-damaged-%s becomes what VirtualBox makes of it', async (kind, codes) => {
      const path = copyOf(`vdi-damaged-${kind}.vdi`);
      const report = await checkImage(path, { repair: true });
      const corruptions = report.repairs.filter(({ severity }) => severity === 'corruption');
      expect(corruptions.map(({ code }) => code).sort()).toEqual(codes);
      expect(report).toMatchObject({ repaired: true });
      expect(summarize(report.findings).corruptions).toBe(0);
      expect(await hashOfContent(path)).toBe(named(`vdi-repaired-${kind}.vdi`).sha256OfGuestContent);
      // Once is enough.
      expect(await checkImage(path, { repair: true })).toMatchObject({ repaired: false, repairs: [] });
    });

    it.each(['range', 'double', 'multi', 'size', 'signature'])(
      'of vdi-damaged-%s as a dry run changes no byte',
      async (kind) => {
        const path = copyOf(`vdi-damaged-${kind}.vdi`);
        const before = { bytes: sha256(readFileSync(path)), modified: statSync(path).mtimeMs };
        const report = await checkImage(path, { repair: true, dryRun: true });
        expect(report).toMatchObject({ repaired: false, clean: false });
        expect(report.repairs.length > 0).toBe(kind !== 'signature');
        expect({ bytes: sha256(readFileSync(path)), modified: statSync(path).mtimeMs }).toEqual(before);
      },
    );

    it('of a damaged signature is hopeless, whether the format is named or not', async () => {
      const path = copyOf('vdi-damaged-signature.vdi');
      for (const options of [{}, { format: 'vdi' }]) {
        const { findings, repaired, format } = await checkImage(path, { ...options, repair: true });
        expect({ repaired, format }).toEqual({ repaired: false, format: 'vdi' });
        expect(findings).toMatchObject([
          { severity: 'corruption', code: 'header', fileOffset: 0x40, repairable: false },
        ]);
      }
      expect(sha256(readFileSync(path))).toBe(named('vdi-damaged-signature.vdi').fileSha256);
    });
  });

  describe('compact', () => {
    it.each([
      ['vdi-zeroed.vdi', 'vdi-compacted.vdi'],
      ['vdi-ccomp-diff-before.vdi', 'vdi-ccomp-diff-after.vdi'],
    ])('%s becomes no larger than %s and reads the same', async (before, after) => {
      const path = copyOf(before);
      await change(path, (disk) => disk.compact());
      const expected = named(after);
      expect(await hashOfContent(path)).toBe(expected.sha256OfGuestContent);
      expect(expected.sha256OfGuestContent).toBe(named(before).sha256OfGuestContent);
      expect(statSync(path).size).toBeLessThanOrEqual(expected.fileSize);
      await expectNoCorruption(path);
    });
  });

  describe('resize', () => {
    it.each(['grow', 'reloc', 'bigreloc'])('vdi-%s-before becomes the size of vdi-%s-after', async (kind) => {
      const path = copyOf(`vdi-${kind}-before.vdi`);
      const after = named(`vdi-${kind}-after.vdi`);
      await change(path, (disk) => disk.resize(after.virtualSize));
      if (kind === 'grow') {
        // Its script goes on: write D 0x2100000 2560.
        const offset = 0x2100000;
        await change(path, (disk) => disk.write(offset, expectedContent(after.contentOps ?? [], offset, 2560)));
      }
      await expectContent(path, after);
      await expectNoCorruption(path);
    });
  });

  describe('discard', () => {
    it('as in the script of vdi-discard-after', async () => {
      const path = copyOf('vdi-discard-before.vdi');
      const after = named('vdi-discard-after.vdi');
      await change(path, async (disk) => {
        await disk.discard([{ offset: 2 * MIB, length: MIB }]);
        await disk.discard([{ offset: 5 * MIB, length: 2 * MIB }]);
        await disk.discard([{ offset: 0x880000, length: MIB / 2 }]);
        await disk.discard([{ offset: 0x800000, length: MIB / 2 }]);
        await disk.discard([{ offset: 11 * MIB, length: MIB }]);
      });
      expect(await hashOfContent(path)).toBe(after.sha256OfGuestContent);
      expect(statSync(path).size).toBeLessThanOrEqual(after.fileSize);
      await expectNoCorruption(path);
    });

    it('of parts of blocks as in the script of vdi-discard-partial', async () => {
      const path = copyOf('vdi-discard-before.vdi');
      const after = named('vdi-discard-partial.vdi');
      await change(path, async (disk) => {
        await disk.discard([{ offset: 0x300000, length: MIB / 2 }]);
        await disk.discard([
          { offset: 0x900000, length: 64 * 1024 },
          { offset: 0x9f0000, length: 64 * 1024 },
        ]);
        await disk.discard([{ offset: 4 * MIB, length: MIB }]);
      });
      expect(await hashOfContent(path)).toBe(after.sha256OfGuestContent);
      expect(statSync(path).size).toBeLessThanOrEqual(after.fileSize);
      await expectNoCorruption(path);
    });
  });
});
