/** The two sides of the suites with other programs: vdkit as people call it, and each program of a format's kit. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect } from 'vitest';
import { alignUp } from '../../src/binary/numbers.ts';
import type { Extent } from '../../src/disk/device.ts';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Format } from '../../src/image/contract.ts';
import { compare } from '../../src/operations/compare-images.ts';
import { openDisk } from '../../src/operations/open.ts';
import { runCli } from '../cli/run-cli.ts';
import { expectSameBytes } from '../conformance/expect-bytes.ts';
import { KITS } from '../conformance/kits.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import type { FormatKit } from '../formats/kit.ts';
import { type MakeWay, type Peer, type PeerImage, type PeerKit, type PeerRun, way } from '../formats/peer-kit.ts';
import type { Sample } from '../hostile/descriptor.ts';
import { describeWithPeers, type PeerProgram, requirePeer } from './peers.ts';
import { expectSameMap } from './same-map.ts';
import { unitOfWay } from './unit-of-way.ts';

const MIB = 1024 * 1024;
const REGISTRY = defaultRegistry();

/** A program, and what it works on. */
export interface Pairing {
  readonly format: Format;
  readonly kit: FormatKit;
  /** Hand-made images. */
  readonly samples: readonly Sample[];
  readonly rules: PeerKit;
  readonly peer: Peer;
  /** Other installed programs that have the format. */
  readonly witnesses: readonly { readonly rules: PeerKit; readonly peer: Peer }[];
  /** Ways of the kit that the program can read, or make. */
  readonly readable: readonly MakeWay[];
  readonly makeable: readonly MakeWay[];
}

const ABSENT: PeerProgram = {
  run: () => Promise.reject(new Error('only asked for its abilities')),
  stream: () => {
    throw new Error('only asked for its abilities');
  },
  filter: () => {
    throw new Error('only asked for its abilities');
  },
};

/** The programs of every format that take part, one group of tests for each. */
export async function describePairings(
  title: string,
  takesPart: (pairing: Pairing) => boolean,
  body: (pairing: Pairing) => void,
): Promise<void> {
  const groups = await Promise.all(
    KITS.map(async (kit) => {
      const samples = 'without' in kit.hostile ? [] : await kit.hostile.samples();
      const all = (await kit.peers?.()) ?? [];
      const start = (rules: PeerKit, programs: readonly PeerProgram[]): Pairing => ({
        ...pairingOf(kit, rules, programs),
        samples,
        witnesses: all.filter((other) => other !== rules).flatMap(installed),
      });
      const able = all.filter((rules) => {
        return takesPart(
          start(
            rules,
            rules.programs.map(() => ABSENT),
          ),
        );
      });
      return { name: kit.format, able, start };
    }),
  );
  describe.each(groups.filter(({ able }) => able.length > 0))('$name', ({ able, start }) => {
    for (const rules of able) {
      describeWithPeers(rules.programs, `${rules.name}: ${title}`, (...programs) => body(start(rules, programs)));
    }
  });
}

function installed(rules: PeerKit) {
  const programs = rules.programs.map((name) => requirePeer(name)).filter((program) => typeof program !== 'string');
  return programs.length < rules.programs.length ? [] : [{ rules, peer: rules.start(...programs) }];
}

function pairingOf(
  kit: FormatKit,
  rules: PeerKit,
  programs: readonly PeerProgram[],
): Omit<Pairing, 'samples' | 'witnesses'> {
  const readable = waysOf(kit).filter((one) => rules.cannot(one, 'read') === null);
  const peer = rules.start(...programs);
  const makeable = peer.make === undefined ? [] : readable.filter((one) => rules.cannot(one, 'make') === null);
  return { format: formatOf(kit.format), kit, rules, peer, readable, makeable };
}

/** A built-in format. */
export function formatOf(name: string): Format {
  return REGISTRY.find(name);
}

/** Ways of a kit; a format that can be made has at least the default. */
export function waysOf(kit: FormatKit): readonly MakeWay[] {
  return kit.ways ?? (formatOf(kit.format).create === undefined ? [] : [way('')]);
}

/** The default, and the variants that are fixed. */
export function variantsOf({ variants }: Format): readonly MakeWay[] {
  return [way(''), ...variants.filter(isFixed).map(({ word }) => way('', { variant: word }))];
}

/** True for a variant that has room for all of a disk. */
export function isFixed({ allocation }: Format['variants'][number]): boolean {
  return allocation === 'fixed';
}

/** A folder for each test. Returns the path of a name in it. */
export function useFolder(): (name: string) => string {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

/** Name of an image of the format. */
export function fileName({ name, extensions }: Format, base = 'disk'): string {
  return `${base}.${extensions[0]?.extension ?? name}`;
}

/** Runs the command and expects it to succeed. Returns its standard output. */
export async function vdkit(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(words);
  expect(status, stderr).toBe(0);
  return stdout;
}

/** Names the format to a command where content does not. */
export function named({ name, fallback }: Format): string[] {
  return fallback === true ? ['--format', name] : [];
}

/** Words that make an image this way. */
export function wordsOf({ variant, options }: MakeWay): string[] {
  const pairs = options === '' ? [] : options.split(',').flatMap((pair) => ['--option', pair]);
  return [...(variant === '' ? [] : ['--variant', variant]), ...pairs];
}

/** Bytes of a unit of images made this way. */
export function unitOf({ configKeys }: Format, { options }: MakeWay): number {
  const key = configKeys.find(({ role }) => role === 'unit')?.name;
  return unitOfWay({ options }, key, 65_536);
}

/** The disk, size and map of vdkit's command line are those of the raw disk and of the program. */
export async function expectSameForBoth(
  pairing: Pairing,
  image: PeerImage,
  wanted: Uint8Array,
  expected: string,
): Promise<void> {
  const { format, peer } = pairing;
  await expectReadByUs(pairing, image, wanted);
  await expectPeerReads(peer, image, wanted, expected);
  if (peer.map === undefined) return;
  const { extents } = JSON.parse(await vdkit('map', image.path, '--json', ...named(format)));
  expectSameMap(extents, await peerMap(peer, image, wanted.length));
}

/** vdkit's command line finds the image sound, and reads these bytes. */
export async function expectReadByUs(
  { format, peer }: Pick<Pairing, 'format' | 'peer'>,
  image: PeerImage,
  wanted: Uint8Array,
): Promise<void> {
  await expectSoundForUs(format, image, peer);
  const raw = `${image.path}.raw`;
  await vdkit('convert', image.path, raw, '--force', ...named(format), '--allow', dirname(image.path));
  expectSameBytes(await readFile(raw), wanted, 'what vdkit reads');
  await rm(raw);
}

/** The program finds the image sound, and reads these bytes, which are also those of a raw disk. */
export async function expectPeerReads(
  peer: Peer,
  image: PeerImage,
  wanted: Uint8Array,
  expected: string,
): Promise<void> {
  await peer.check?.(image);
  await expectPeerSize(peer, image, wanted.length);
  if (peer.toRaw === undefined) return peer.same?.(image, expected);
  const raw = `${image.path}.raw`;
  await peer.toRaw(image, raw);
  const found = await readFile(raw);
  expectSameBytes(found.subarray(0, wanted.length), wanted, 'what the program reads');
  expect(found.subarray(wanted.length).every((byte) => byte === 0)).toBe(true);
  await rm(raw);
}

/** The program reports this size; or, where it rounds up what others made, the next whole unit. */
export async function expectPeerSize(peer: Peer, image: PeerImage, size: number): Promise<void> {
  if (peer.size === undefined) return;
  const whole = alignUp(size, peer.rounds?.(image.way) ?? 1);
  expect(await peer.size(image)).toBeOneOf([size, whole]);
}

/** The program's map of this many bytes; of a disk that it rounds up, the rest is left out. */
export async function peerMap(peer: Peer, image: PeerImage, size: number): Promise<readonly PeerRun[]> {
  const runs = (await peer.map?.(image)) ?? [];
  if (peer.rounds === undefined) return runs;
  const inside = runs.filter(({ start }) => start < size);
  return inside.map((run) => ({ ...run, length: Math.min(run.length, size - run.start) }));
}

/** `vdkit check` finds nothing, where the format has a check; or room that the program lost. */
export async function expectSoundForUs(
  format: Format,
  { path, way }: PeerImage,
  peer: Pick<Peer, 'leaks'> = {},
): Promise<void> {
  const { status, stdout, stderr } = await runCli(['check', path, ...named(format)]);
  const sound = peer.leaks?.(way) === true ? [0, 3] : [0];
  expect(status, stdout + stderr).toBeOneOf(format.check === undefined ? [63] : sound);
}

/** The disk that vdkit opens is what the program reads: size, unit, content in small and large reads, and map. */
export async function expectSameDisk(
  { format, peer }: Pick<Pairing, 'format' | 'peer'>,
  image: PeerImage,
  raw: string,
): Promise<void> {
  await using disk = await openDisk(image.path, openOptions(format, image));
  await using wanted = await openDisk(raw, { format: 'raw' });
  await expectPeerSize(peer, image, disk.size);
  const unit = (await peer.unit?.(image)) ?? disk.blockSize;
  // Where all of a disk is stored, nothing is allocated by units.
  expect(disk.blockSize).toBe(disk.images.at(-1)?.info.allocation === 'fixed' ? 0 : unit);
  expect(disk.warnings).toEqual([]);
  expect(await compare(disk, wanted, { strict: true })).toMatchObject({ same: true, firstDifference: null });
  // Compare asks the map first; this does not.
  for (let offset = 0; offset < disk.size; offset += MIB) {
    const length = Math.min(MIB, disk.size - offset);
    const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
    await Promise.all([disk.read(offset, a), wanted.read(offset, b)]);
    expectSameBytes(a, b, `the MiB at ${offset}`);
  }
  if (peer.map === undefined) return;
  const ours: Extent[] = [];
  for await (const extent of disk.extents()) ours.push(extent);
  expectSameMap(ours, await peerMap(peer, image, disk.size));
}

/** Options to open an image. Files that it names are allowed by their names. */
export function openOptions({ name, fallback, configKeys }: Format, { path, way: { options } }: PeerImage) {
  const parts = filesOf({ configKeys }, { options }).map((file) => join(dirname(path), file));
  return { allow: ['same-directory', ...parts], ...(fallback === true ? { format: name } : {}) };
}

/** Files that options name, beside the image. */
export function filesOf({ configKeys }: Pick<Format, 'configKeys'>, { options }: Pick<MakeWay, 'options'>): string[] {
  const keys = configKeys.filter(({ role }) => role === 'part').map(({ name }) => name);
  return options.split(',').flatMap((pair) => {
    const [key = '', value = ''] = pair.split('=');
    return keys.includes(key) ? [value] : [];
  });
}
