/** QCOW2 against qemu-img check: the same damage is the same kind of finding, and what QEMU can repair vdkit can. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Finding, summarize } from '../../src/image/findings.ts';
import { checkImage } from '../../src/operations/check.ts';
import { Random } from '../../src/testing/random.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

const SEEDS = rounds(2, 100);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-check-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;

/** An image as bytes, with its tables. */
class Image {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get(offset: number): bigint {
    return this.bytes.readBigUInt64BE(offset);
  }

  set(offset: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(BigInt.asUintN(64, value), offset);
  }

  place(offset: number): number {
    return Number(this.get(offset) & OFFSET);
  }

  get l1(): number {
    return this.place(40);
  }

  get l2(): number {
    return this.place(this.l1);
  }

  get refcountTable(): number {
    return this.place(48);
  }

  get block(): number {
    return this.place(this.refcountTable);
  }

  get snapshots(): number {
    return this.place(64);
  }
}

type Row = readonly [what: string, damage: (image: Image) => void];

const DAMAGE: readonly Row[] = [
  ['nothing', () => {}],
  ['a leak', (i) => i.bytes.writeUInt16BE(2, i.block + 10)],
  ['a count of zero', (i) => i.bytes.writeUInt16BE(0, i.block + 10)],
  ['no flag', (i) => i.set(i.l2, i.get(i.l2) & ~COPIED)],
  ['no flag in the L1', (i) => i.set(i.l1, i.get(i.l1) & ~COPIED)],
  ['data of two', (i) => i.set(i.l2, i.get(i.l2 + 8))],
  ['data that is a block', (i) => i.set(i.l2, COPIED | BigInt(i.block))],
  ['data that is the refcount table', (i) => i.set(i.l2, COPIED | BigInt(i.refcountTable))],
  ['no block', (i) => i.set(i.refcountTable, 0n)],
  ['a block behind the end', (i) => i.set(i.refcountTable + 8, 0x100_0000n)],
  ['a block twice', (i) => i.set(i.refcountTable + 8 * 40, BigInt(i.block))],
  ['no refcount table', (i) => i.bytes.writeUInt32BE(0, 56)],
  ['a refcount table behind the end', (i) => i.set(48, 0x100_0000n)],
  ['data behind the end', (i) => i.set(i.l2, COPIED | 0x400_0000n)],
  ['an L2 table behind the end', (i) => i.set(i.l1, COPIED | 0x400_0000n)],
  ['reserved bits', (i) => i.set(i.l2, i.get(i.l2) | 4n)],
  ['reserved bits in the L1', (i) => i.set(i.l1, i.get(i.l1) | 4n)],
  ['the corrupt bit', (i) => i.bytes.writeUInt8(i.bytes.readUInt8(79) | 2, 79)],
  ['the dirty bit', (i) => i.bytes.writeUInt8(i.bytes.readUInt8(79) | 1, 79)],
];
const UNALIGNED: readonly Row[] = [
  ['data that begins nowhere', (i) => i.set(i.l2, i.get(i.l2) | 512n)],
  ['zeroes with room that begins nowhere', (i) => i.set(i.l2, i.get(i.l2) | 513n)],
  ['a flag where it may not be', (i) => i.set(i.l2, i.get(i.l2 + 144 * 8) | COPIED)],
];
const SNAPSHOTS: readonly Row[] = [
  ['extra data that is short', (i) => i.bytes.writeUInt32BE(8, i.snapshots + 36)],
  ['a snapshot of nowhere', (i) => i.set(i.snapshots, i.get(i.snapshots) | 512n)],
  ['a snapshot behind the end', (i) => i.set(i.snapshots, 0x100_0000n)],
  ['a snapshot table behind the end', (i) => i.set(64, 0x100_0000n)],
];
const SHAPES = ['cluster_size=4096', 'cluster_size=512', 'cluster_size=65536', 'cluster_size=2097152'];

/** Data, zeroes with and without room, compressed clusters. */
async function make(qemuImg: PeerProgram, qemuIo: PeerProgram, options: string, snapshots = 0): Promise<Image> {
  const image = at('disk.qcow2');
  await qemuImg.run('create', '-q', '-f', 'qcow2', '-o', options, image, '2M');
  const write = (...commands: string[]) => qemuIo.run('-f', 'qcow2', ...commands.flatMap((one) => ['-c', one]), image);
  await write('write -P 1 0 64k', 'write -P 2 128k 64k', 'write -z 128k 16k', 'write -z 1M 64k');
  if (!options.includes('data_file') && !options.includes('2097152')) await write('write -c -P 5 576k 64k');
  for (let n = 0; n < snapshots; n++) {
    await qemuImg.run('snapshot', '-c', `s${n}`, image);
    await write(`write -P ${n + 7} ${n * 4}k 80k`);
  }
  return new Image(await readFile(image));
}

interface Verdict {
  readonly corruptions: boolean;
  readonly leaks: boolean;
  readonly done: boolean;
}

/** QEMU's verdict; `done` is false when it could not check. */
async function verdictOf(qemuImg: PeerProgram, file: string): Promise<Verdict> {
  // It ends with another status when it finds something: then its output is in the error.
  const text = await qemuImg.run('check', '-f', 'qcow2', '--output=json', file).catch((error: Error) => error.message);
  const number = (key: string): number => Number(new RegExp(`"${key}": (\\d+)`).exec(text)?.[1] ?? 0);
  const done = text.includes('"check-errors": 0');
  return { corruptions: number('corruptions') > 0, leaks: number('leaks') > 0, done };
}

/** QEMU calls a missing COPIED flag a corruption, though it does no harm; to vdkit it is a warning. */
function asQemuSays(findings: readonly Finding[]): { readonly corruptions: number; readonly leaks: number } {
  return summarize(
    findings.map((finding) => (finding.code === 'copied-missing' ? { ...finding, severity: 'corruption' } : finding)),
  );
}

const isClean = ({ corruptions, leaks, done }: Verdict): boolean => done && !corruptions && !leaks;

async function expectSameAsQemu(qemuImg: PeerProgram, file: string): Promise<void> {
  const report = await checkImage(file, { format: 'qcow2' });
  const { corruptions, leaks } = asQemuSays(report.findings);
  const theirs = await verdictOf(qemuImg, file);
  const context = JSON.stringify([report.findings.map(({ code }) => code), theirs]);
  if (theirs.done) {
    expect({ corruptions: corruptions > 0, leaks: leaks > 0, done: true }, context).toEqual(theirs);
  }
  const other = `${file}.theirs`;
  await copyFile(file, other);
  const repaired = await checkImage(file, { format: 'qcow2', repair: true });
  expect(repaired.findings.filter(({ repairable }) => repairable)).toEqual([]);
  await qemuImg.run('check', '-q', '-f', 'qcow2', '-r', 'all', other).catch(() => '');
  // What cannot be followed is lost to QEMU, which gives up the clusters that only that led to; here they stay counted.
  if (repaired.findings.some(({ code }) => code === 'snapshot-lost')) return;
  if (isClean(await verdictOf(qemuImg, other))) expect(await verdictOf(qemuImg, file), context).toSatisfy(isClean);
}

describe('qcow2', () => {
  describeWithPeers(['qemu-img', 'qemu-io'], 'checked by vdkit and qemu-img', (qemuImg, qemuIo) => {
    const expectAgreement = async (image: Image, rows: readonly Row[]): Promise<void> => {
      for (const [what, damage] of rows) {
        const copy = new Image(Buffer.from(image.bytes));
        damage(copy);
        await writeFile(at('damaged.qcow2'), copy.bytes);
        try {
          await expectSameAsQemu(qemuImg, at('damaged.qcow2'));
        } catch (error) {
          throw new Error(`${what}: ${error instanceof Error ? error.message : ''}`, { cause: error });
        }
      }
    };

    it.each(SHAPES)('damage of all kinds, %s', async (options) => {
      // Files of large clusters take their time. In the usual run the first shape has all rows, and the others share them.
      const large = options.includes('2097152') ? DAMAGE.filter((_, index) => index % 4 === 0) : DAMAGE;
      const shape = SHAPES.indexOf(options);
      const rows = shape === 0 ? large : oneIn(3, large, shape);
      await expectAgreement(await make(qemuImg, qemuIo, options), rows);
    });

    it.each(['cluster_size=4096', 'extended_l2=on,cluster_size=16384'])('entries, %s', async (options) => {
      const image = await make(qemuImg, qemuIo, options);
      await expectAgreement(image, options.includes('extended') ? UNALIGNED.slice(0, 1) : UNALIGNED);
    });

    it('version 2', async () => {
      const rows = oneIn(
        3,
        DAMAGE.filter(([what]) => !what.includes(' bit')),
      );
      await expectAgreement(await make(qemuImg, qemuIo, 'compat=0.10,cluster_size=4096'), rows);
    });

    it.each(oneIn(2, [1, 2, 4, 8, 32, 64]))('counts of %i bits', async (bits) => {
      const image = await make(qemuImg, qemuIo, `cluster_size=4096,refcount_bits=${bits}`, bits < 8 ? 0 : 1);
      const flipped: Row = [
        'flipped counts',
        (i) => i.bytes.writeUInt8(i.bytes.readUInt8(i.block + 1) ^ 1, i.block + 1),
      ];
      const gone: Row = ['no block', (i) => i.set(i.refcountTable, 0n)];
      await expectAgreement(image, [['nothing', () => {}], flipped, gone]);
    });

    it('snapshots', async () => {
      const image = await make(qemuImg, qemuIo, 'cluster_size=4096', 3);
      await expectAgreement(image, [...DAMAGE.slice(0, 9), ...SNAPSHOTS]);
    });

    it('an external data file', async () => {
      const image = await make(qemuImg, qemuIo, `cluster_size=4096,data_file=${at('data.raw')}`);
      await expectAgreement(image, [...DAMAGE.slice(0, 1), ...DAMAGE.slice(3, 5), ...DAMAGE.slice(8, 13)]);
    });

    it('bitmaps', async () => {
      await make(qemuImg, qemuIo, 'cluster_size=4096');
      await qemuImg.run('bitmap', '--add', '-g', '4096', at('disk.qcow2'), 'one');
      await qemuIo.run('-f', 'qcow2', '-c', 'write -P 3 256k 64k', at('disk.qcow2'));
      const image = new Image(await readFile(at('disk.qcow2')));
      const untrusted: Row = ['bitmaps of another writer', (i) => i.bytes.writeUInt8(0, 95)];
      await expectAgreement(image, [...DAMAGE.slice(0, 3), DAMAGE[8] ?? untrusted, untrusted]);
    });

    it.each(Array.from({ length: SEEDS }, (_, index) => index + 1))('damage by chance (seed %i)', async (seed) => {
      const random = new Random(seed);
      const image = await make(qemuImg, qemuIo, 'cluster_size=4096', 2);
      const tables = [image.l1, image.l2, image.refcountTable, image.block];
      for (let round = 0; round < 6; round++) {
        const copy = new Image(Buffer.from(image.bytes));
        for (let n = 1 + random.below(3); n > 0; n--) {
          const entry = (tables[random.below(tables.length)] ?? 0) + 8 * random.below(12);
          const cluster = BigInt(random.below(copy.bytes.length / 4096)) * 4096n;
          copy.set(entry, random.chance(0.5) ? cluster | (random.chance(0.5) ? COPIED : 0n) : 0n);
        }
        await writeFile(at('damaged.qcow2'), copy.bytes);
        // A table that is two things at once is left alone by vdkit only, so only the verdict before is compared.
        const { findings } = await checkImage(at('damaged.qcow2'), { format: 'qcow2' });
        const { corruptions, leaks } = asQemuSays(findings);
        const theirs = await verdictOf(qemuImg, at('damaged.qcow2'));
        if (theirs.done) expect({ corruptions: corruptions > 0, leaks: leaks > 0, done: true }).toEqual(theirs);
        const left = await checkImage(at('damaged.qcow2'), { format: 'qcow2', repair: true });
        expect(left.findings.filter(({ repairable }) => repairable)).toEqual([]);
      }
    });
  });
});
