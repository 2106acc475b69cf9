/**
 * Disks of all sizes, and other programs, both ways: they read what vdkit writes, and vdkit reads what they write. Most
 * of a disk is empty.
 */
import { expect, it } from 'vitest';
import { alignUp } from '../../src/binary/numbers.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { Format } from '../../src/image/contract.ts';
import { convert } from '../../src/operations/convert.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { rebaseImage } from '../../src/operations/rebase-image.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import { type MakeWay, type PeerImage, way, wayTitle } from '../formats/peer-kit.ts';
import {
  describePairings,
  expectPeerSize,
  fileName,
  isFixed as fixed,
  openOptions,
  type Pairing,
  peerMap,
  useFolder,
  variantsOf,
} from './both-sides.ts';
import { expectSameMap } from './same-map.ts';
import { contentOf, type Fill, isEmptyThere, makeFills, writeRaw } from './sparse-content.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const PIECE = 4 * MIB;
/** One sector; a block and a sector; more than 32 bits can count signed; a large disk. */
const SIZES = [512, MIB + 512, 3 * GIB + 512, rounds(256, 2048) * GIB];
const SEED = 20;
const FILLS = rounds(12, 400);
/** Fixed images above this would fill the machine's disk. */
const FIXED_MAX = MIB + 512;

const takesPart = ({ format, peer, readable }: Pairing): boolean =>
  format.create !== undefined && readable.length > 0 && peer.same !== undefined;

await describePairings('disks of all sizes', takesPart, (pairing) => {
  const { format, kit, rules, peer } = pairing;
  const { longest = Number.POSITIVE_INFINITY, longestFixed = longest } = rules;
  const at = useFolder();
  const imageOf = (one: MakeWay, base = 'disk'): PeerImage => ({ path: at(fileName(format, base)), way: one });
  const can = (what: 'read' | 'make') =>
    (kit.sized ?? variantsOf(format)).filter((one) => rules.cannot(one, what) === null);
  const writeTheirs = async (image: PeerImage, fills: readonly Fill[]): Promise<void> => {
    await peer.write?.(
      image,
      fills.map((fill) => ({ how: 'write', ...fill })),
    );
  };

  const isFixed = ({ variant }: MakeWay) => format.variants.some((one) => one.word === variant && fixed(one));
  const unitOf = ({ variant }: MakeWay) =>
    format.variants.find(({ word }) => word === variant)?.sizeUnit ?? kit.sizeUnit ?? 512;
  const { longest: longestOf = Number.POSITIVE_INFINITY } = kit;
  const sizesOf = (one: MakeWay, most: number): number[] => {
    const sizes = isFixed(one) ? SIZES.filter((size) => size <= most) : SIZES;
    return [...new Set(sizes.map((size) => alignUp(Math.min(size, longestOf), unitOf(one))))];
  };

  // In the usual run each way has every other size, and each size comes up in each direction.
  const made = (peer.make === undefined ? [] : can('make')).flatMap((one, index) =>
    oneIn(2, sizesOf(one, longestFixed), index).map((size) => ({ title: wayTitle(one), size, one })),
  );
  it.runIf(peer.write !== undefined).each(made)(
    'made and written by it, $title, $size bytes',
    async ({ size, one }) => {
      const [image, fills] = [imageOf(one), makeFills(size, SEED, FILLS)];
      await peer.make?.(image, size);
      await writeTheirs(image, fills);
      await using disk = await openDisk(image.path, openOptions(format, image));
      expect(disk.images[0]?.info.format).toBe(format.name);
      expectVariant(disk, format, one);
      await expectContent(disk, size, fills);
    },
  );

  it.runIf(peer.convert !== undefined).each(oneIn(2, sizesOf(way(''), longest), 1))(
    'converted from raw by it, %i bytes',
    async (size) => {
      const [image, fills] = [imageOf(way('')), makeFills(size, SEED + 1, FILLS)];
      await writeRaw(at('source.raw'), size, fills);
      await peer.convert?.(at('source.raw'), image);
      await using disk = await openDisk(image.path, openOptions(format, image));
      await expectContent(disk, size, fills);
    },
  );

  it.runIf(peer.make !== undefined && peer.write !== undefined)('made by it, written on by vdkit', async () => {
    const [image, size] = [imageOf(way('')), 3 * GIB + (kit.sizeUnit ?? 512)];
    const all = makeFills(size, SEED + 2, FILLS);
    await peer.make?.(image, size);
    await writeTheirs(image, all.slice(0, 1));
    {
      await using disk = await openDisk(image.path, { mode: 'write', format: format.name });
      for (const { offset, length, byte } of all.slice(1)) await disk.write(offset, new Uint8Array(length).fill(byte));
    }
    await writeRaw(at('expected.raw'), size, all);
    await expectPeer(pairing, image, size, at('expected.raw'));
  });

  const differs = format.capabilities.diff && peer.make !== undefined && peer.write !== undefined;
  it.runIf(differs)('made by it, is what its child becomes without it, or commits to', async () => {
    const [base, child] = [imageOf(way('')), imageOf(way(''), 'child')];
    await peer.make?.(base, 16 * MIB);
    await writeTheirs(base, makeFills(16 * MIB, SEED + 4, 8));
    await createImage(child.path, { parent: base.path, allow: ['same-directory'] });
    const open = () => openDisk(child.path, { mode: 'write', allow: ['same-directory'] });
    {
      await using disk = await open();
      await disk.write(5 * MIB + 512, new Uint8Array(MIB).fill(77));
      await disk.zero(0, 3 * MIB);
    }
    await convert(child.path, at('expected.raw'), { allow: ['same-directory'] });
    {
      await using disk = await open();
      await disk.commit({ keep: true });
    }
    await rebaseImage(child.path, null, { allow: ['same-directory'] });
    for (const image of [base, child]) await expectPeer(pairing, image, 16 * MIB, at('expected.raw'));
  });

  const written = can('read').flatMap((one, index) => {
    const sizes = sizesOf(one, FIXED_MAX).filter((size) => size <= longest);
    return oneIn(2, sizes, index + 1).map((size) => ({ title: wayTitle(one), size, one }));
  });
  it.each(written)('converted by vdkit, $title, $size bytes', async ({ size, one }) => {
    const image = imageOf(one);
    await writeRaw(at('source.raw'), size, makeFills(size, SEED + 3, FILLS));
    const variant = one.variant === '' ? {} : { variant: [one.variant] };
    await convert(at('source.raw'), image.path, { sourceFormat: 'raw', format: format.name, ...variant });
    await expectPeer(pairing, image, size, at('source.raw'));
    await expectMap(pairing, image);
  });

  it.runIf(peer.toRaw !== undefined)('converted by vdkit, and by it back to raw', async () => {
    const [image, size] = [imageOf(way('')), 5 * MIB + (kit.sizeUnit ?? 512)];
    const fills = makeFills(size, SEED + 4, FILLS);
    await writeRaw(at('source.raw'), size, fills);
    await convert(at('source.raw'), image.path, { sourceFormat: 'raw', format: format.name });
    await peer.toRaw?.(image, at('back.raw'));
    await using disk = await openDisk(at('back.raw'), { format: 'raw' });
    const whole = alignUp(size, peer.rounds?.(image.way) ?? 1);
    expect(disk.size).toBeOneOf([size, whole]);
    await expectContent(disk, disk.size, fills);
  });
});

function expectVariant(disk: ChainDisk, { variants }: Format, { variant }: MakeWay): void {
  const found = disk.images[0]?.info.variant ?? [];
  const usual = variants.find(({ allocation }) => allocation === 'dynamic')?.word;
  const wanted = variant === '' ? usual : variant;
  // A format that keeps no such mark, as raw, reports none.
  if (found.length > 0 && wanted !== undefined) expect(found).toContain(wanted);
}

/** Sound, of this size, and with the bytes of the raw disk. */
async function expectPeer({ peer }: Pairing, image: PeerImage, size: number, raw: string): Promise<void> {
  if (peer.recognises !== undefined) expect(await peer.recognises(image)).toBe(true);
  await peer.check?.(image);
  await expectPeerSize(peer, image, size);
  await peer.same?.(image, raw);
}

/** Nothing that was converted is marked as zero. */
async function expectMap({ format, peer }: Pairing, image: PeerImage): Promise<void> {
  if (peer.map === undefined) return;
  await using disk = await openDisk(image.path, openOptions(format, image));
  const ours = [];
  for await (const extent of disk.extents()) ours.push(extent);
  expectSameMap(ours, await peerMap(peer, image, disk.size), format.fallback !== true);
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
      if (Buffer.compare(bytes, contentOf(fills, at, bytes.length)) !== 0) {
        expect.fail(`the ${bytes.length} bytes at ${at} are not what was written`);
      }
    }
  }
}
