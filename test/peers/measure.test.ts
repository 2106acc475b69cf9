/** `vdkit measure` against what `vdkit convert` then writes, for every way of the kits, and against what other programs measure. */
import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Format, Measure } from '../../src/image/contract.ts';
import { Disk } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { KITS } from '../conformance/kits.ts';
import { oneIn, randomBytes } from '../conformance/random.ts';
import { type MakeWay, way, wayTitle } from '../formats/peer-kit.ts';
import {
  describePairings,
  fileName,
  filesOf,
  formatOf,
  type Pairing,
  unitOf,
  variantsOf,
  vdkit,
  wordsOf,
} from './both-sides.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The last unit is never whole. */
const SIZE = 24 * MIB + 3 * 512;

let folder: string;
const at = (name: string): string => join(folder, name);

/** Names of sources, and their formats. */
const SOURCES = [
  ['some.raw', 'raw'],
  ['all.raw', 'raw'],
  ['none.raw', 'raw'],
  ['some.qcow2', 'qcow2'],
] as const;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-measure-'));
  const random = new Random(4);
  // What is stored is never zero: measuring does not read it.
  const noise = randomBytes(random, MIB).map((byte) => byte | 1);
  for (const [name] of SOURCES.slice(0, 3)) {
    const file = await open(at(name), 'wx');
    await file.truncate(SIZE);
    for (let offset = 0; offset < SIZE && name !== 'none.raw'; ) {
      const length = Math.min(name === 'all.raw' ? MIB : 4 * KIB * (1 + random.below(200)), SIZE - offset);
      await file.write(noise, 0, length, offset);
      offset += length + (name === 'all.raw' ? 0 : 4 * KIB * (1 + random.below(900)));
    }
    await file.close();
  }
  await vdkit('convert', at('some.raw'), at('some.qcow2'), '--format', 'raw', '--option', 'cluster_size=4096');
  await using disk = await Disk.open(at('some.qcow2'), { mode: 'write' });
  await disk.snapshots.create('before');
  await disk.write(0, noise);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Each variant, and the ways of the kit that differ in room. */
const TARGETS = KITS.filter((kit) => formatOf(kit.format).create !== undefined).flatMap((kit) => {
  const format = formatOf(kit.format);
  // A variant of whole MiB cannot take this disk.
  const unitOfSize = ({ variant }: MakeWay) => format.variants.find(({ word }) => word === variant)?.sizeUnit ?? 1;
  const ways = [...variantsOf(format), ...(kit.measured ?? [])].filter((one) => SIZE % unitOfSize(one) === 0);
  return ways.map((one, index) => ({
    name: format.name,
    title: wayTitle(one),
    format,
    one,
    // In the usual run the ways take turns.
    sources: oneIn(2, SOURCES, index),
  }));
});

/** Within 1 %, or a unit of the target. */
function expectClose(measured: number, real: number, unit: number, what: string): void {
  expect(Math.abs(measured - real), `${what}: ${measured} for ${real}`).toBeLessThanOrEqual(Math.max(real / 100, unit));
}

/** Names of the files of the target: its extents lie beside it. Without those that its options name. */
async function ownFilesOf(format: Format, one: MakeWay): Promise<string[]> {
  const named = filesOf(format, one);
  return (await readdir(folder)).filter((name) => name.startsWith('target') && !named.includes(name));
}

async function measured(...words: string[]): Promise<Measure> {
  return JSON.parse(await vdkit('measure', '--json', ...words));
}

describe('measure', () => {
  describe.each(TARGETS)('$name $title', ({ format, one, sources }) => {
    const words = ['--to', format.name, ...wordsOf(one)];
    const unit = unitOf(format, one);
    it.each(sources)('of %s is what convert writes', async (source, sourceFormat) => {
      const target = at(fileName(format, 'target'));
      const { required, fullyAllocated } = await measured(at(source), '--format', sourceFormat, ...words);
      await vdkit('convert', at(source), target, '--force', '--format', sourceFormat, ...words);
      const own = await ownFilesOf(format, one);
      const stats = await Promise.all(own.map((name) => stat(at(name))));
      const size = stats.reduce((sum, one) => sum + one.size, 0);
      const blocks = stats.reduce((sum, one) => sum + one.blocks, 0);
      // A sparse raw file has the size of the disk whatever it holds.
      const sparse = format.fallback === true && one.variant !== 'fixed';
      // A bit of each byte is not noise: of compressed units with zeroes in them an eighth may go.
      const packed = !format.capabilities.write && required > size && required <= (size * 8) / 7;
      if (!packed) expectClose(required, sparse ? blocks * 512 : size, unit, 'required');
      if (source === 'all.raw') expectClose(fullyAllocated, size, unit, 'fully allocated');
      for (const name of [...own, ...filesOf(format, one)]) await rm(at(name), { force: true });
    });
  });

  it('of a snapshot inside an image is what convert makes of that', async () => {
    for (const snapshot of [['--snapshot', 'before'], []]) {
      const { required } = await measured(at('some.qcow2'), '--to', 'qcow2', ...snapshot);
      await vdkit('convert', at('some.qcow2'), at('target.qcow2'), ...snapshot);
      expectClose(required, (await stat(at('target.qcow2'))).size, 65_536, 'required');
      await rm(at('target.qcow2'));
    }
    const [then, now] = await Promise.all([
      measured(at('some.qcow2'), '--to', 'qcow2', '--snapshot', 'before'),
      measured(at('some.qcow2'), '--to', 'qcow2'),
    ]);
    expect(then.required).toBeLessThan(now.required);
  });
});

const takesPart = ({ peer }: Pairing): boolean => peer.measure !== undefined;

await describePairings('measure', takesPart, ({ format, kit, peer }) => {
  const ways = [way(''), ...(kit.measured ?? [])];
  it.each(ways.map((one) => ({ title: wayTitle(one), one })))('$title', async ({ one }) => {
    const [target, unit] = [{ path: at(fileName(format, 'target')), way: one }, unitOf(format, one)];
    for (const [source, sourceFormat] of SOURCES) {
      const theirs = await peer.measure?.({ path: at(source), format: sourceFormat }, target);
      if (theirs === undefined) throw new Error('the program does not measure');
      const words = ['--to', format.name, '--format', sourceFormat, ...wordsOf(one)];
      const ours = await measured(at(source), ...words);
      // Programs count the tables of the whole disk in any case, and data that lies in a separate file.
      const data = filesOf(format, one).length * SIZE;
      // With room for metadata only QEMU counts what the medium holds at first, and vdkit how long the file is.
      const most = one.options.includes('preallocation=metadata') ? theirs.fullyAllocated : theirs.required;
      expect(ours.required, `${source}: required`).toBeLessThanOrEqual(most * 1.01 + unit);
      expectClose(ours.fullyAllocated + data, theirs.fullyAllocated, 2 * unit, `${source}: fully allocated`);
    }
  });
});
