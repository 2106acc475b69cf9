/** VDI against QEMU and 7-Zip, both ways: they read what vdkit writes, and vdkit reads what they write. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { convert } from '../../src/operations/convert.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { rebaseImage } from '../../src/operations/rebase-image.ts';
import { rounds } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';
import { contentOf, type Fill, isEmptyThere, makeFills, writeRaw } from './sparse-content.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const PIECE = 4 * MIB;
/** One sector; a block and a sector; more than 32 bits can count signed; a large disk. */
const SIZES = [512, MIB + 512, 3 * GIB + 512, 2048 * GIB];
const SEED = 20;
const FILLS = rounds(40, 400);
/** Fixed images above this would fill the machine's disk. */
const FIXED_MAX = MIB + 512;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

describe('vdi', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'written by qemu-img', (qemuImg, qemuIo) => {
    const kinds = SIZES.flatMap((size) => [
      { size, kind: 'off' },
      { size, kind: 'on' },
    ]);

    it.each(kinds)('create, static=$kind, $size bytes', async ({ size, kind }) => {
      const image = at('disk.vdi');
      await qemuImg.run('create', '-q', '-f', 'vdi', '-o', `static=${kind}`, image, String(size));
      const fills = makeFills(size, SEED, FILLS);
      await fillByQemu(qemuIo, image, fills);
      await using disk = await openDisk(image);
      expect(disk.images[0]?.info.format).toBe('vdi');
      expect(disk.images[0]?.info.variant).toContain(kind === 'on' ? 'fixed' : 'dynamic');
      await expectContent(disk, size, fills);
    });

    it.each(SIZES)('convert from raw, %i bytes', async (size) => {
      const fills = makeFills(size, SEED + 1, FILLS);
      await writeRaw(at('disk.raw'), size, fills);
      await qemuImg.run('convert', '-f', 'raw', '-O', 'vdi', at('disk.raw'), at('disk.vdi'));
      await using disk = await openDisk(at('disk.vdi'));
      await expectContent(disk, size, fills);
    });

    it('is what its child becomes without it, or commits to', async () => {
      const fills = makeFills(16 * MIB, SEED + 4, 8);
      await qemuImg.run('create', '-q', '-f', 'vdi', at('disk.vdi'), String(16 * MIB));
      await fillByQemu(qemuIo, at('disk.vdi'), fills);
      await createImage(at('child.vdi'), { parent: at('disk.vdi'), allow: ['same-directory'] });
      const open = () => openDisk(at('child.vdi'), { mode: 'write', allow: ['same-directory'] });
      {
        await using disk = await open();
        await disk.write(5 * MIB + 512, new Uint8Array(MIB).fill(77));
        await disk.zero(0, 3 * MIB);
      }
      await convert(at('child.vdi'), at('expected.raw'), { allow: ['same-directory'] });
      {
        await using disk = await open();
        await disk.commit({ keep: true });
      }
      await rebaseImage(at('child.vdi'), null, { allow: ['same-directory'] });
      for (const name of ['disk.vdi', 'child.vdi']) {
        await qemuImg.run('check', '-q', '-f', 'vdi', at(name));
        await qemuImg.run('compare', '-q', '-f', 'raw', '-F', 'vdi', at('expected.raw'), at(name));
      }
    });

    it('is written on by vdkit, and read by qemu-img again', async () => {
      const size = 3 * GIB + 512;
      const [first, ...fills] = makeFills(size, SEED + 2, FILLS);
      await qemuImg.run('create', '-q', '-f', 'vdi', at('disk.vdi'), String(size));
      await fillByQemu(
        qemuIo,
        at('disk.vdi'),
        [first].filter((fill) => fill !== undefined),
      );
      const disk = await openDisk(at('disk.vdi'), { mode: 'write', format: 'vdi' });
      for (const { offset, length, byte } of fills) await disk.write(offset, new Uint8Array(length).fill(byte));
      await disk.close();
      await writeRaw(at('expected.raw'), size, first === undefined ? fills : [first, ...fills]);
      await expectSoundForQemu(qemuImg, at('disk.vdi'));
      await expectSameForQemu(qemuImg, at('expected.raw'), at('disk.vdi'));
    });
  });

  const written = SIZES.flatMap((size) => [
    { size, variant: 'dynamic' },
    ...(size <= FIXED_MAX ? [{ size, variant: 'fixed' }] : []),
  ]);

  describeWithPeers(['qemu-img'], 'read by qemu-img', (qemuImg) => {
    it.each(written)('$variant, $size bytes', async ({ size, variant }) => {
      const fills = makeFills(size, SEED + 3, FILLS);
      await writeRaw(at('disk.raw'), size, fills);
      await convert(at('disk.raw'), at('disk.vdi'), { sourceFormat: 'raw', variant: [variant] });
      const info = JSON.parse(await qemuImg.run('info', '--output=json', at('disk.vdi')));
      expect(info).toMatchObject({ format: 'vdi', 'virtual-size': size });
      await expectSoundForQemu(qemuImg, at('disk.vdi'));
      await expectSameForQemu(qemuImg, at('disk.raw'), at('disk.vdi'));
      await expectSameMap(qemuImg, at('disk.vdi'), variant);
    });

    it('and converted to raw gives the bytes back', async () => {
      const size = 5 * MIB + 512;
      const fills = makeFills(size, SEED + 4, FILLS);
      await writeRaw(at('disk.raw'), size, fills);
      await convert(at('disk.raw'), at('disk.vdi'), { sourceFormat: 'raw' });
      await qemuImg.run('convert', '-f', 'vdi', '-O', 'raw', at('disk.vdi'), at('back.raw'));
      await using disk = await openDisk(at('back.raw'), { format: 'raw' });
      await expectContent(disk, size, fills);
    });
  });

  describeWithPeers(['7zip'], 'read by 7-Zip', (sevenZip) => {
    it.each(written.filter(({ size }) => size <= 4 * GIB))('$variant, $size bytes', async ({ size, variant }) => {
      const fills = makeFills(size, SEED + 5, FILLS);
      await writeRaw(at('disk.raw'), size, fills);
      await convert(at('disk.raw'), at('disk.vdi'), { sourceFormat: 'raw', variant: [variant] });
      await sevenZip.run('t', '-tvdi', at('disk.vdi'));
      let offset = 0;
      for await (const bytes of sevenZip.stream('x', '-tvdi', '-so', at('disk.vdi'))) {
        expectBytes(bytes, fills, offset);
        offset += bytes.length;
      }
      expect(offset).toBe(size);
    });
  });
});

async function fillByQemu(qemuIo: PeerProgram, image: string, fills: readonly Fill[]): Promise<void> {
  const commands = fills.flatMap(({ offset, length, byte }) => ['-c', `write -q -P ${byte} ${offset} ${length}`]);
  await qemuIo.run('-f', 'vdi', '-t', 'unsafe', ...commands, image);
}

/** Reads what is stored and finds nothing but the fills; what is not stored holds none of them. */
async function expectContent(disk: ChainDisk, size: number, fills: readonly Fill[]): Promise<void> {
  expect(disk.size).toBe(size);
  for await (const { offset, length, state } of disk.extents()) {
    if (state !== 'data') {
      expect(isEmptyThere(fills, offset, length), `nothing is lost at ${offset}`).toBe(true);
      continue;
    }
    for (let at = offset; at < offset + length; at += PIECE) {
      const bytes = new Uint8Array(Math.min(PIECE, offset + length - at));
      await disk.read(at, bytes);
      expectBytes(bytes, fills, at);
    }
  }
}

function expectBytes(bytes: Uint8Array, fills: readonly Fill[], offset: number): void {
  if (Buffer.compare(bytes, contentOf(fills, offset, bytes.length)) === 0) return;
  expect.fail(`the ${bytes.length} bytes at ${offset} are not what was written`);
}

async function expectSoundForQemu(qemuImg: PeerProgram, image: string): Promise<void> {
  const report = JSON.parse(await qemuImg.run('check', '--output=json', '-f', 'vdi', image));
  expect(report).toMatchObject({ 'check-errors': 0 });
  expect(report).not.toHaveProperty('corruptions');
  expect(report).not.toHaveProperty('leaks');
}

async function expectSameForQemu(qemuImg: PeerProgram, raw: string, vdi: string): Promise<void> {
  // Its strict mode would compare the allocation too, so sizes are compared apart.
  const sizeOf = async (image: string, format: string): Promise<unknown> =>
    JSON.parse(await qemuImg.run('info', '--output=json', '-f', format, image))['virtual-size'];
  expect(await sizeOf(vdi, 'vdi')).toBe(await sizeOf(raw, 'raw'));
  expect(await qemuImg.run('compare', '-f', 'raw', '-F', 'vdi', raw, vdi)).toContain('Images are identical');
}

/** Both programs find data in the same places. QEMU looks for holes inside the blocks of fixed images only. */
async function expectSameMap(qemuImg: PeerProgram, image: string, variant: string): Promise<void> {
  const byBlock = variant !== 'fixed';
  const theirs: { start: number; length: number; data: boolean; zero: boolean }[] = JSON.parse(
    await qemuImg.run('map', '--output=json', '-f', 'vdi', image),
  );
  const data = theirs.filter((run) => run.data && (byBlock || !run.zero));
  const ours: { start: number; length: number }[] = [];
  await using disk = await openDisk(image);
  for await (const { offset, length, state } of disk.extents()) {
    if (byBlock ? state !== 'absent' : state === 'data') ours.push({ start: offset, length });
  }
  expect(joined(ours)).toEqual(joined(data));
}

function joined(runs: readonly { start: number; length: number }[]): [start: number, end: number][] {
  const all: [number, number][] = [];
  for (const { start, length } of runs) {
    const last = all.at(-1);
    if (last !== undefined && last[1] === start) last[1] = start + length;
    else all.push([start, start + length]);
  }
  return all;
}
