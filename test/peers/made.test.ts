/**
 * Images made in every way of a format's kit, by vdkit and by each program, and written by both in turn: after every
 * step both find the image sound, with the same content, size and map. On the command line, as people do it.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { Disk } from '../../src/index.ts';
import { Random } from '../../src/testing/random.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { oneIn, randomBytes, rounds } from '../conformance/random.ts';
import { type MakeWay, type PeerImage, wayTitle } from '../formats/peer-kit.ts';
import { USUAL } from '../formats/usual.ts';
import {
  describePairings,
  expectPeerReads,
  expectReadByUs,
  expectSameDisk,
  expectSameForBoth,
  fileName,
  filesOf,
  openOptions,
  type Pairing,
  useFolder,
  vdkit,
  waysOf,
  wordsOf,
} from './both-sides.ts';
import { applyChanges, plainChanges, randomChanges, withDiscards } from './changes.ts';

const MIB = 1024 * 1024;
const isLong = rounds(0, 1) === 1;

const titled = (ways: readonly MakeWay[]) => ways.map((way) => ({ title: wayTitle(way), way }));

const takesPart = ({ kit }: Pairing): boolean => waysOf(kit).length > 0;

await describePairings('ways to make an image', takesPart, (pairing) => {
  const { format, kit, rules, peer, readable, makeable } = pairing;
  const at = useFolder();
  const { sizeUnit = 512 } = kit;
  /** The last unit is not whole. */
  const SIZE = 5 * MIB + 3 * sizeUnit;
  /** Many units of each size. */
  const LARGER = 8 * MIB + 3 * sizeUnit;
  const wanted = new Uint8Array(SIZE);
  const expected = (): string => at('expected.raw');
  const imageOf = (way: MakeWay): PeerImage => ({ path: at(fileName(format)), way });
  const every = Math.ceil(waysOf(kit).length / USUAL.ways);
  const alone = (ways: readonly MakeWay[]) => ways.filter(({ over }) => !over);
  /** Ways to make images that are written once. */
  const isOnce = ({ variant }: MakeWay): boolean => format.encodesAlways?.({ variant: variant.split(',') }) === true;
  const random = (ways: readonly MakeWay[]) => ways.filter((way) => !isOnce(way));
  const writeOnce = async (write: (raw: string) => Promise<void>, image: PeerImage): Promise<void> => {
    wanted.set(
      randomBytes(new Random(9), SIZE)
        .fill(0, MIB, 2 * MIB)
        .fill(7, 3 * MIB, 3 * MIB + 100_000),
    );
    await writeFile(at('source.raw'), wanted);
    await write(at('source.raw'));
    await both(image);
  };
  const whyNotWritten = (way: MakeWay): string | null => rules.cannotWrite?.(way) ?? null;
  const over = (ways: readonly MakeWay[]) => ways.filter((way) => way.over);

  const both = async (image: PeerImage): Promise<void> => {
    await writeFile(expected(), wanted);
    await expectSameForBoth(pairing, image, wanted, expected());
  };
  /** Reads an image that only vdkit has to read. */
  const tryPeer = async (image: PeerImage): Promise<'read' | 'refused'> => {
    await writeFile(expected(), wanted);
    await expectReadByUs(pairing, image, wanted);
    return expectPeerReads(peer, image, wanted, expected()).then(
      () => 'read',
      () => 'refused',
    );
  };
  /** Each writes where the other stopped. */
  const inTurn = async (image: PeerImage): Promise<void> => {
    await writeOurs(pairing, image, wanted, 1);
    await both(image);
    if (peer.write === undefined || whyNotWritten(image.way) !== null) return;
    const changes = plainChanges(102, SIZE);
    await peer.write(image, changes);
    applyChanges(changes, wanted);
    await both(image);
    await writeOurs(pairing, image, wanted, 3);
    await both(image);
  };
  const makeOurs = ({ path, way }: PeerImage, parent?: string) => {
    const size = parent === undefined ? [String(SIZE)] : ['--parent', parent];
    return vdkit('create', path, ...size, '--to', format.name, ...wordsOf(way));
  };
  const makeTheirs = async (image: PeerImage, parent?: string, size = SIZE): Promise<void> => {
    if (peer.make === undefined) throw new Error(`${rules.name} makes no images`);
    await peer.make(image, size, parent);
  };
  /** A parent with a hole. */
  const makeParent = async (): Promise<string> => {
    const name = at(fileName(format, 'base'));
    const base = randomBytes(new Random(9), SIZE).fill(0, MIB, 2 * MIB);
    await vdkit('create', name, String(SIZE), '--to', format.name);
    await using disk = await Disk.open(name, { mode: 'write', format: format.name });
    await disk.write(0, base);
    wanted.set(base);
    return name;
  };

  const ours = titled(oneIn(every, random(alone(readable))));
  it.runIf(ours.length > 0).each(ours)('made by vdkit, $title', async ({ way }) => {
    wanted.fill(0);
    await makeOurs(imageOf(way));
    await expectOptions(pairing, imageOf(way));
    await inTurn(imageOf(way));
  });

  const once = titled(alone(readable).filter(isOnce));
  it.runIf(once.length > 0).each(once)('written once by vdkit, $title', async ({ way }) => {
    await writeOnce(async (raw) => {
      await vdkit('convert', raw, at(fileName(format)), '--to', format.name, ...wordsOf(way));
    }, imageOf(way));
  });

  const theirsOnce = peer.convert === undefined ? [] : titled(alone(makeable).filter(isOnce));
  it.runIf(theirsOnce.length > 0).each(theirsOnce)('written once by it, $title', async ({ way }) => {
    await writeOnce(async (raw) => peer.convert?.(raw, imageOf(way)), imageOf(way));
  });

  const theirs = peer.make === undefined ? [] : titled(random(alone(makeable)));
  it.runIf(theirs.length > 0).each(oneIn(every, theirs, 1))('made by it, $title', async ({ way }) => {
    wanted.fill(0);
    await makeTheirs(imageOf(way));
    await inTurn(imageOf(way));
  });

  const written = peer.write === undefined ? [] : oneIn(every, theirs, 2);
  it.runIf(written.length > 0).each(written)('made and written by it, $title', async ({ way }) => {
    const [image, model] = [imageOf(way), new Uint8Array(LARGER)];
    await makeTheirs(image, undefined, LARGER);
    const changes = randomChanges(1, LARGER);
    await peer.write?.(image, changes);
    applyChanges(changes, model);
    await writeFile(expected(), model);
    await peer.toRaw?.(image, expected());
    const found = await readFile(expected());
    expectSameBytes(found, withDiscards(changes, model, found), 'what the program wrote');
    await expectSameDisk(pairing, image, expected());
  });

  const stacked = titled(oneIn(2, over(readable)));
  it.runIf(stacked.length > 0).each(stacked)('$title, made by either', async ({ way }) => {
    const image = imageOf(way);
    const makers = makeable.includes(way) && peer.make !== undefined ? [makeOurs, makeTheirs] : [makeOurs];
    // In the usual run each maker has some of the ways.
    for (const make of oneIn(
      makers.length,
      makers,
      stacked.findIndex((one) => one.way === way),
    )) {
      await makeParent();
      await make(image, make === makeOurs ? at(fileName(format, 'base')) : fileName(format, 'base'));
      await both(image);
      await inTurn(image);
      for (const name of [...filesOf(format, way), fileName(format), fileName(format, 'base')]) {
        await rm(at(name), { force: true });
      }
    }
  });

  const refusals = waysOf(kit).map((way) => ({ title: wayTitle(way), way }));
  const unread = refusals.flatMap(({ title, way }) => {
    const why = rules.cannot(way, 'read');
    return why === null ? [] : [{ title, way, why }];
  });
  it.runIf(unread.length > 0).each(oneOfEach(unread))('cannot read $title: $why', async ({ way }) => {
    const image = imageOf(way);
    wanted.fill(0);
    await makeOurs(image, way.over ? await makeParent() : undefined);
    // A new one, or one that was written; vdkit reads both.
    const empty = await tryPeer(image);
    await writeOurs(pairing, image, wanted, 1);
    expect([empty, await tryPeer(image)]).toContain('refused');
  });

  const unwritten = titled(alone(readable)).flatMap(({ title, way }) => {
    const why = peer.write === undefined ? null : whyNotWritten(way);
    return why === null ? [] : [{ title, way, why }];
  });
  it.runIf(unwritten.length > 0).each(oneOfEach(unwritten))('cannot write $title: $why', async ({ way }) => {
    await makeOurs(imageOf(way));
    const writing = async (): Promise<void> => {
      await peer.write?.(imageOf(way), plainChanges(102, SIZE));
      await vdkit('check', imageOf(way).path);
    };
    await expect(writing()).rejects.toThrow();
  });

  const unmade = refusals.flatMap(({ title, way }) => {
    const why = peer.make === undefined ? null : rules.cannot(way, 'make');
    return why === null ? [] : [{ title, way, why }];
  });
  it.runIf(unmade.length > 0).each(unmade)('cannot make $title: $why', async ({ way }) => {
    if (way.over) await makeParent();
    await expect(makeTheirs(imageOf(way), way.over ? fileName(format, 'base') : undefined)).rejects.toThrow();
  });
});

/** The first way of each reason; in the long run all of them. */
function oneOfEach<T extends { readonly why: string }>(refusals: readonly T[]): readonly T[] {
  return isLong
    ? refusals
    : refusals.filter(({ why }, index) => refusals.findIndex((one) => one.why === why) === index);
}

/** All options of an image by vdkit are what the program reports. Preallocation leaves no mark in an image. */
async function expectOptions({ format, peer }: Pairing, image: PeerImage): Promise<void> {
  if (peer.options === undefined || image.way.options === '') return;
  const reported = await peer.options(image);
  for (const pair of image.way.options.split(',')) {
    const [key = '', value = ''] = pair.split('=');
    const { role } = format.configKeys.find(({ name }) => name === key) ?? {};
    if (role !== 'preallocation') expect(reported[key], key).toBe(value);
  }
}

async function writeOurs({ format }: Pairing, image: PeerImage, wanted: Uint8Array, seed: number): Promise<void> {
  const random = new Random(seed);
  await using disk = await Disk.open(image.path, { mode: 'write', ...openOptions(format, image) });
  for (let n = 0; n < 20; n++) {
    const offset = random.below(wanted.length - 512);
    const length = Math.min(1 + random.below(n % 4 === 0 ? 600_000 : 9000), wanted.length - offset);
    if (n % 5 === 4) {
      await disk.zero(offset, length);
      wanted.fill(0, offset, offset + length);
    } else {
      const bytes = randomBytes(random, length);
      await disk.write(offset, bytes);
      wanted.set(bytes, offset);
    }
  }
}
