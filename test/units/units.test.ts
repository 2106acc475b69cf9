/**
 * Every operation at every legal unit size, with disks so large that their tables are longer than one refcount block
 * counts, where the unit size lets them be. After each operation the content is compared, and the image is checked by
 * vdkit and by qemu-img.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { amendImage, checkImage, compare, convert, createImage, Disk } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { expectKind } from '../conformance/expect-kind.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { rounds } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from '../peers/peers.ts';
import { SparseModel } from './sparse-model.ts';

const MIB = 2 ** 20;
const SECTOR = 512;
const WRITE = { mode: 'write', flushAfterMs: 0, allow: ['same-directory'] } as const;
/** Bytes of an L1 table that are written for the sake of its length. */
const LONGEST_L1 = rounds(2, 9) * MIB;
/** In the usual run QEMU looks at the image after one operation in five. */
const QEMU_EVERY = rounds(9, 1);
/** Units from which on a disk is written in one place, not in four: each write copies a whole unit. */
const LARGE_UNIT = rounds(128 * 1024, MIB);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-units-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

interface Shape {
  readonly cluster: number;
  readonly bits: number;
  readonly extended: boolean;
}

/** A disk whose L1 table takes more clusters than a refcount block counts, or one of three and a half L2 tables. */
function sizeFor({ cluster, bits, extended }: Shape): number {
  const table = (cluster / (extended ? 16 : 8)) * cluster;
  const perBlock = (cluster * 8) / bits;
  const entries = (cluster * perBlock * 1.25) / 8;
  return entries * 8 <= LONGEST_L1 ? entries * table + 3 * SECTOR : 3 * table + cluster + 3 * SECTOR;
}

const CLUSTERS = Array.from({ length: 13 }, (_, n) => 512 * 2 ** n);
const BITS = [64, 16, 1, 32, 8, 2, 4];
const everyShape: Shape[] = CLUSTERS.flatMap((cluster) =>
  BITS.flatMap((bits) =>
    [false, ...(cluster >= 16_384 ? [true] : [])].map((extended) => ({ cluster, bits, extended })),
  ),
);
/** In the usual run each cluster size comes up, and each width, with and without subclusters. */
const usualShapes: Shape[] = (
  [
    [512, 64],
    [1024, 2],
    [2048, 32],
    [4096, 64],
    [8192, 1],
    [16_384, 16, true],
    [32_768, 4],
    [65_536, 16, true],
    [131_072, 8],
    [262_144, 64, true],
    [524_288, 16],
    [1_048_576, 64, true],
    [2_097_152, 64],
  ] as const
).map(([cluster, bits, extended = false]) => ({ cluster, bits, extended }));

const isLong = rounds(0, 1) === 1;
const everyBlock = Array.from({ length: 22 }, (_, n) => 512 * 2 ** n);
const usualBlocks = [512, 4096, 65_536, MIB, 32 * MIB];

/** Context of a test. */
interface Around {
  readonly unit: number;
  readonly qemuImg: PeerProgram | null;
}

/** One image under test, with what it should read. */
class Subject {
  readonly name: string;
  readonly random: Random;
  model: SparseModel;
  readonly #around: Around;
  readonly #places: number;
  #checks = 0;

  /** `unit`: large ones are written in few places. */
  constructor(name: string, size: number, random: Random, { unit, qemuImg }: Around) {
    this.name = name;
    this.#around = { unit, qemuImg };
    this.#places = unit >= LARGE_UNIT ? 1 : 4;
    this.random = random;
    this.model = new SparseModel(size);
  }

  /** Opens the image for one operation; then all must be well. */
  async does(what: string, work: (disk: Disk) => Promise<void>): Promise<void> {
    {
      await using disk = await Disk.open(this.name, WRITE);
      await work(disk);
    }
    await this.isSound(what);
  }

  async isSound(what: string): Promise<void> {
    {
      await using disk = await Disk.open(this.name, { allow: ['same-directory'] });
      expect(await this.model.difference(disk), what).toBeNull();
    }
    const { findings } = await checkImage(this.name);
    // Holes that are too large to be filled at once wait for a compaction.
    expect(
      findings.filter(({ code }) => code !== 'unused-slots'),
      what,
    ).toEqual([]);
    if (++this.#checks % QEMU_EVERY === 0) await this.#around.qemuImg?.run('check', '-q', this.name);
  }

  async write(disk: Disk, offset: number, length: number): Promise<void> {
    await this.model.write(disk, this.random, offset, length);
  }

  /** Both ends, and places between. */
  async scatter(disk: Disk): Promise<void> {
    const { size } = this.model;
    await this.write(disk, 0, 2 * SECTOR);
    await this.write(disk, size - 3 * SECTOR, 3 * SECTOR);
    for (let round = 0; round < this.#places; round++) {
      const sector = Math.floor((this.random.below(2 ** 20) * size) / 2 ** 20 / SECTOR);
      await this.write(disk, sector * SECTOR, Math.min(5 * SECTOR, size - sector * SECTOR));
    }
  }
}

async function qcow2Life(shape: Shape, qemuImg: PeerProgram): Promise<void> {
  const { cluster, bits, extended } = shape;
  const size = sizeFor(shape);
  const config = { cluster_size: cluster, refcount_bits: bits, extended_l2: extended ? 'on' : 'off' };
  await createImage(at('disk.qcow2'), { size, format: 'qcow2', config });
  const subject = new Subject(at('disk.qcow2'), size, new Random(cluster + bits), { unit: cluster, qemuImg });
  await subject.does('writes', (disk) => subject.scatter(disk));
  const before = subject.model.copy();
  if (bits === 1) {
    await using disk = await Disk.open(subject.name, WRITE);
    await expectKind(() => disk.snapshots.create('then'), 'limit');
  } else {
    await subject.does('snapshot create', async (disk) => void (await disk.snapshots.create('then')));
    await subject.does('writes beside a snapshot', (disk) => subject.scatter(disk));
  }
  await bitmaps(subject);
  await resizes(subject);
  await subject.does('discard', async (disk) => {
    const start = Math.floor(size / 2 / cluster) * cluster;
    await disk.discard([{ offset: start, length: size - start - (size % cluster) }]);
    subject.model.zero(start, size - start - (size % cluster));
    await subject.write(disk, start, SECTOR);
  });
  if (bits > 1) {
    await subject.does('snapshot apply', async (disk) => {
      await disk.snapshots.apply('then');
      subject.model = before;
    });
    await subject.does('writes after it', (disk) => subject.scatter(disk));
    await subject.does('snapshot delete', (disk) => disk.snapshots.delete('then'));
  }
  await subject.does('compact', (disk) => disk.compact());
  await amendImage(subject.name, { refcount_bits: bits === 64 ? 8 : bits * 2 });
  await subject.isSound('amend');
  await chains(subject, 'qcow2', config, { unit: cluster, qemuImg });
}

/** A map of several pages, where the disk need not be petabytes long for it. */
async function vdiLife(block: number, qemuImg: PeerProgram | null): Promise<void> {
  const blocks = block <= 4 * MIB ? 40_000 : 20;
  const size = blocks * block + 3 * SECTOR;
  const config = { AllocationBlockSize: block };
  await createImage(at('disk.vdi'), { size, format: 'vdi', config });
  const subject = new Subject(at('disk.vdi'), size, new Random(block), { unit: block, qemuImg });
  await subject.does('writes', (disk) => subject.scatter(disk));
  await resizes(subject);
  await subject.does('discard', async (disk) => {
    const start = Math.floor(blocks / 2) * block;
    const length = Math.floor(blocks / 4) * block;
    await disk.discard([{ offset: start, length }]);
    subject.model.zero(start, length);
    await subject.write(disk, start + length, SECTOR);
  });
  await subject.does('compact', (disk) => disk.compact());
  // QEMU takes no VDI with a parent.
  await chains(subject, 'vdi', config, { unit: block, qemuImg: null });
}

/** Two bitmaps whose tables have several entries where they can, one of which gets the bits of the other. */
async function bitmaps(subject: Subject): Promise<void> {
  const { size } = subject.model;
  const granularity = Math.max(2 ** Math.ceil(Math.log2(size / (8 * 4 * MIB))), SECTOR);
  if (granularity * 2 > 2 ** 31) return;
  await subject.does('bitmap add', (disk) => disk.bitmaps.add('fine', { granularity }));
  await subject.does('bitmap records', async (disk) => {
    await subject.scatter(disk);
    await disk.bitmaps.add('coarse', { granularity: granularity * 2, enabled: false });
  });
  await subject.does('bitmap merge', (disk) => disk.bitmaps.merge('coarse', ['fine']));
  await subject.does('bitmap remove', async (disk) => {
    for (const name of ['fine', 'coarse']) await disk.bitmaps.remove(name);
  });
}

async function resizes(subject: Subject): Promise<void> {
  const { size } = subject.model;
  const most = size * 1.5 - ((size * 1.5) % SECTOR);
  await subject.does('resize to more', async (disk) => {
    await disk.resize(most);
    subject.model.resize(most);
    await subject.write(disk, most - 2 * SECTOR, 2 * SECTOR);
  });
  await subject.does('resize to less', async (disk) => {
    await disk.resize(size, { shrink: true });
    subject.model.resize(size);
    await subject.scatter(disk);
  });
}

/** A child of the image: commit, rebase, convert. */
async function chains(
  subject: Subject,
  format: string,
  config: Readonly<Record<string, string | number>>,
  around: Around,
): Promise<void> {
  const name = at(`child.${format}`);
  const create = async (): Promise<Subject> => {
    await createImage(name, { format, parent: subject.name, parentFormat: format, config });
    const child = new Subject(name, subject.model.size, subject.random, around);
    child.model = subject.model.copy();
    await child.does('writes of a child', (disk) => child.scatter(disk));
    return child;
  };
  const child = await create();
  await child.does('commit', (disk) => disk.commit());
  subject.model = child.model.copy();
  await subject.isSound('commit');
  await child.does('writes after it', (disk) => child.scatter(disk));
  await child.does('rebase', async (disk) => void (await disk.rebase(null)));
  const target = at(`copy.${format === 'vdi' ? 'qcow2' : 'vdi'}`);
  await convert(name, target, {});
  await using one = await Disk.open(name);
  await using other = await Disk.open(target);
  expect(await compare(one, other)).toMatchObject({ same: true });
}

describe('every unit size', () => {
  describeWithPeers(['qemu-img'], 'of qcow2, checked by qemu-img', (qemuImg) => {
    it.each(isLong ? everyShape : usualShapes)(
      'clusters of $cluster, $bits bits, subclusters: $extended',
      { timeout: 600_000 },
      (shape) => qcow2Life(shape, qemuImg),
    );

    it.each([16, 64])('a refcount table longer than one block counts, %i bits', { timeout: 600_000 }, async (bits) => {
      // Two widths, since the blocks of the wider one are the first to need such a table.
      const perBlock = 4096 / bits;
      const clusters = (perBlock + 2) * 64 * perBlock;
      const config = { cluster_size: 512, refcount_bits: bits, preallocation: 'metadata' };
      const size = bits === 64 ? clusters * SECTOR : 8 * MIB;
      await createImage(at('disk.qcow2'), { size, format: 'qcow2', config });
      const subject = new Subject(at('disk.qcow2'), size, new Random(bits), { unit: SECTOR, qemuImg });
      await subject.does('resize', async (disk) => {
        await disk.resize(size * 4);
        subject.model.resize(size * 4);
        await subject.scatter(disk);
      });
      // The table moves once more, behind all that there is.
      await subject.does('writes', (disk) => subject.write(disk, size * 2, 10 * MIB));
      await subject.does('snapshot create', async (disk) => void (await disk.snapshots.create('then')));
      await subject.does('resize to less', async (disk) => {
        await disk.snapshots.delete('then');
        await disk.resize(size / 2, { shrink: true });
        subject.model.resize(size / 2);
      });
      await subject.does('compact', (disk) => disk.compact());
    });
  });

  // QEMU reads no other block size.
  describeWithPeers(['qemu-img'], 'of vdi', (qemuImg) => {
    it.each(isLong ? everyBlock : usualBlocks)('blocks of %i bytes', { timeout: 600_000 }, (block) =>
      vdiLife(block, block === MIB ? qemuImg : null),
    );
  });
});
