/**
 * Compressed files and archives that are wrong on purpose: each gives the disk that is in it, or an `ImageError`; never a
 * shorter disk, another file, or a temporary file that stays. Half of them are converted, too, which decodes once.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isImageError } from '../../src/errors.ts';
import { LIMITS } from '../../src/limits.ts';
import { convert } from '../../src/operations/convert.ts';
import { openDisk } from '../../src/operations/open.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { tarOf } from '../archives/tar-maker.ts';
import { zipOf } from '../archives/zip-maker.ts';
import { describeWithPeers, requirePeer } from '../peers/peers.ts';
import { changesOf, DISK, type WrongFile, wrongTars, wrongZips } from './wrapped-inputs.ts';

const NAME = '/box/a.bin';
const KINDS = ['corrupt', 'unsupported', 'limit', 'invalid-format', 'invalid-argument', 'not-found'];
const most = LIMITS.unpackedBytes;
const temporary = process.env['TMPDIR'];
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-wrapped-'));
  process.env['TMPDIR'] = folder;
});
afterAll(() => {
  if (temporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = temporary;
  rmSync(folder, { recursive: true, force: true });
});

/** The disk of a file, and the number of files around it. */
interface Outcome {
  readonly content: Uint8Array;
  readonly wrapped: boolean;
}

async function holding(bytes: Uint8Array): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const file = await provider.create(NAME);
  if (bytes.length > 0) await file.write(0, bytes);
  await file.close();
  return provider;
}

async function opened(provider: MemoryProvider, name = NAME): Promise<Outcome> {
  await using disk = await openDisk({ provider, name }, { allow: ['same-directory'] });
  if (disk.size > 2 ** 24) return { content: new Uint8Array(0), wrapped: true };
  const content = new Uint8Array(disk.size);
  await disk.read(0, content);
  return { content, wrapped: (disk.images.at(-1)?.wrappings.length ?? 0) > 0 };
}

/** Reason why the outcome is wrong, or null. `right`: what the disk may be. */
function fault({ content, wrapped }: Outcome, bytes: Uint8Array, right: readonly Uint8Array[]): string | null {
  const isEqual = (wanted: Uint8Array): boolean =>
    Buffer.from(content).subarray(0, wanted.length).equals(wanted) && content.length - wanted.length < 512;
  // What does not begin as such a file any more is a raw disk.
  if (!wrapped) return isEqual(bytes) ? null : 'it is not the file';
  return right.some(isEqual) ? null : `${content.length} other bytes`;
}

/** Plays all files and returns the number of outcomes by their kind. */
async function play(files: Iterable<WrongFile>, right: (file: WrongFile) => readonly Uint8Array[]) {
  const wrong: string[] = [];
  const seen: Record<string, number> = { files: 0, opened: 0, refused: 0 };
  for (const file of files) {
    const { title, bytes } = file;
    const isConverted = (seen['files'] ?? 0) % 2 === 0;
    const provider = await holding(bytes);
    const out = { provider, name: '/box/out.vdi' };
    const attempt = async (): Promise<Outcome> => {
      const found = await opened(provider);
      if (!isConverted) return found;
      await convert({ provider, name: NAME }, out, { allow: ['same-directory'] });
      const { content } = await opened(provider, out.name);
      return Buffer.from(content).subarray(0, found.content.length).equals(found.content)
        ? found
        : { ...found, content: content.subarray(0, 1) };
    };
    const outcome = await attempt().catch((error: unknown) => error);
    const isRefused = isImageError(outcome) && KINDS.includes(outcome.kind);
    seen['files'] = (seen['files'] ?? 0) + 1;
    seen[isRefused ? 'refused' : 'opened'] = (seen[isRefused ? 'refused' : 'opened'] ?? 0) + 1;
    const reason = isRefused
      ? null
      : outcome instanceof Error
        ? String(outcome)
        : fault(outcome as Outcome, bytes, right(file));
    if (reason !== null) wrong.push(`${title}: ${reason}`);
    const names = [];
    for await (const name of provider.list('/box')) names.push(name);
    const expected = isConverted && !isRefused ? [NAME, out.name] : [NAME];
    if (names.sort().join() !== expected.join()) wrong.push(`${title}: there are ${names.join()}`);
  }
  expect(wrong.slice(0, 20)).toEqual([]);
  expect(readdirSync(folder)).toEqual([]);
  return seen;
}

function expectEnough(seen: Record<string, number>): void {
  expect(seen['files']).toBeGreaterThanOrEqual(200);
  expect(seen['opened']).toBeGreaterThan(5);
  expect(seen['refused']).toBeGreaterThan(80);
}

/** A file that unpacks to much more than is allowed. */
async function expectBounded(bytes: Uint8Array): Promise<void> {
  (LIMITS as { unpackedBytes: number }).unpackedBytes = 1024 * 1024;
  try {
    await expect(opened(await holding(bytes))).rejects.toMatchObject({ name: 'ImageError', kind: 'limit' });
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    (LIMITS as { unpackedBytes: number }).unpackedBytes = most;
  }
}

for (const [name, peers] of [
  ['gzip', []],
  ['xz', ['xz']],
  ['bzip2', ['bzip2']],
  ['zstd', ['zstd']],
] as const)
  describeWithPeers(peers, name, () => {
    const pack = (bytes: Uint8Array): Uint8Array => {
      if (name === 'gzip') return Uint8Array.from(gzipSync(bytes));
      const peer = requirePeer(name);
      if (typeof peer === 'string') throw new Error(peer);
      return Uint8Array.from(peer.filter(bytes, '-c', ...(name === 'zstd' ? ['--check'] : [])));
    };

    it('gives the disk or an error, whatever is wrong', { timeout: 120_000 }, async () => {
      const sound = pack(DISK);
      expectEnough(await play(changesOf(sound), () => [DISK]));
    });

    it('gives all members, also many and empty ones', async () => {
      const [one, none] = [pack(DISK), pack(new Uint8Array(0))];
      const twice = Buffer.concat([DISK, DISK]);
      const files: WrongFile[] = [
        { title: 'two', bytes: Buffer.concat([one, one]) },
        { title: 'an empty one in front', bytes: Buffer.concat([none, one, one]) },
        { title: 'empty ones all over', bytes: Buffer.concat([none, one, none, none, one, none]) },
        { title: '3,000 empty ones', bytes: Buffer.concat([...Array.from({ length: 3000 }, () => none), one, one]) },
      ];
      expect(await play(files, () => [twice])).toEqual({ files: files.length, opened: files.length, refused: 0 });
    });

    it('is unpacked to no more than is allowed', async () => {
      const bomb = pack(new Uint8Array(64 * 1024 * 1024));
      await expectBounded(bomb);
      await expectBounded(pack(bomb));
    });
  });

describe('tar', () => {
  const pieceOf = ({ bytes }: WrongFile): readonly Uint8Array[] => [DISK, ...members(bytes)];

  /** Whatever a header says of a length, a member begins at a block. */
  function* members(bytes: Uint8Array): Generator<Uint8Array> {
    for (let at = 512; at < Math.min(bytes.length, 16_384); at += 512) {
      for (const length of [1, 511, 512, DISK.length - 1, DISK.length, DISK.length + 1, 1024]) {
        yield bytes.subarray(at, at + length);
      }
    }
  }

  it('gives a member or an error, whatever is wrong', { timeout: 120_000 }, async () => {
    expectEnough(await play([...changesOfHeader(), ...wrongTars()], pieceOf));
  });

  /** Nothing tells that the data of a member was changed. */
  function changesOfHeader(): WrongFile[] {
    const sound = tarOf([{ name: 'disk.img', content: DISK }]);
    return [...changesOf(sound)].filter(({ bytes, title }) => {
      return !title.startsWith('a changed bit') || Buffer.from(bytes).includes(Buffer.from(DISK));
    });
  }
});

describe('zip', () => {
  it.each([
    ['stored', 0],
    ['compressed', 8],
  ])('gives the disk or an error, whatever is wrong: %s', { timeout: 120_000 }, async (_, method) => {
    const sound = zipOf([{ name: 'disk.img', content: DISK, method }]);
    expectEnough(await play(changesOf(sound), () => [DISK]));
  });

  it('gives the disk or an error, whatever its records say', { timeout: 120_000 }, async () => {
    expectEnough(await play(wrongZips(), () => [DISK, new Uint8Array(1024).fill(7)]));
  });

  it('is unpacked to no more than is allowed', async () => {
    await expectBounded(zipOf([{ name: 'a.img', content: new Uint8Array(64 * 1024 * 1024), method: 8 }]));
  });
});
