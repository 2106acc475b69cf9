/** Images that other programs wrote read as their manifest says, and as the kit of their format adds. */
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { InspectReport } from '../../src/disk/options.ts';
import { isImageError } from '../../src/errors.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { KITS } from '../conformance/kits.ts';
import { expectedContent, fillPattern } from './content.ts';
import { type GoldenImage, GoldenSet, goldenFolders, type Run } from './manifest.ts';

/** Content above this is not read whole, but wherever it or the manifest says that there is data. */
const HASH_WHOLE_MAX = 512 * 1024 * 1024;
const PIECE = 4 * 1024 * 1024;
const OPTIONS = { allow: ['same-directory'] } as const;

describe('content rule', () => {
  it('gives the bytes that the README names', () => {
    const bytes = new Uint8Array(65536);
    fillPattern(bytes, 'A', 0);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      'ac13f2eb3fc5bfb9a80c8e40e67f0c90821eda286c9da7175b8532f011d7a724',
    );
  });
});

const KNOWN = KITS.flatMap(({ format, golden }) => ('without' in golden ? [] : [{ format, ...golden }]));

it('every folder belongs to the kit of a format', () => {
  const cases = KITS.flatMap(({ golden }) => ('without' in golden && golden.cases !== undefined ? [golden.cases] : []));
  expect(goldenFolders()).toEqual([...KNOWN.map(({ folder }) => folder), ...cases].sort());
});

describe.each(KNOWN)('$format', ({ format, folder, facts, namesParents = true }) => {
  const set = new GoldenSet(folder);
  afterAll(() => set.dispose());

  const damaged = set.images.filter((image) => image.damage !== undefined);
  const sound = set.images.filter((image) => image.damage === undefined);

  it.each(sound)('$file', async (image) => {
    const path = set.unpack(image);
    expect(image.format.toLowerCase()).toBe(format);
    const options = namesParents ? OPTIONS : { ...OPTIONS, parent: parentsOf(path, image) };
    await checkHeaders(path, image, { facts: facts(image), options });
    await checkContent(path, image, options);
    await checkAllocation(path, image);
  });

  it.runIf(damaged.length > 0).each(damaged)('$file is refused or read, never worse', async (image) => {
    const path = set.unpack(image);
    try {
      await using disk = await openDisk(path, OPTIONS);
      await readWhole(disk, () => {});
    } catch (error) {
      if (!isImageError(error)) throw error;
      expect(error.kind).toBeOneOf(['invalid-format', 'corrupt', 'unsupported', 'io']);
    }
  });
});

/** Options that find the images below. */
type Chained = typeof OPTIONS & { readonly parent?: readonly string[] };

/** Paths of the images below, base first. */
function parentsOf(path: string, { chain }: GoldenImage): string[] {
  return chain.slice(0, -1).map((file) => join(dirname(path), file));
}

async function checkHeaders(
  path: string,
  image: GoldenImage,
  { facts, options }: { readonly facts: Partial<InspectReport>; readonly options: Chained },
): Promise<void> {
  const report = await inspect(path, { ...options, chain: true });
  expect(report).toMatchObject({
    format: image.format.toLowerCase(),
    virtualSize: image.virtualSize,
    fileSize: [image.fileSize, ...(image.extents ?? []).map(({ size }) => size)].reduce((sum, size) => sum + size),
    blockSize: image.blockSize,
    ...facts,
  });
  expect(report.comment ?? '').toBe(image.comment ?? '');
  expect(report.chain?.map(({ file }) => file.split(/[/\\]/).at(-1))).toEqual(image.chain);
}

async function checkContent(path: string, image: GoldenImage, options: Chained): Promise<void> {
  await using disk = await openDisk(path, options);
  expect(disk.size).toBe(image.virtualSize);
  if (disk.size <= HASH_WHOLE_MAX) {
    const hash = createHash('sha256');
    await readWhole(disk, (bytes) => hash.update(bytes));
    expect(hash.digest('hex')).toBe(image.sha256OfGuestContent);
    return;
  }
  const ops = image.contentOps ?? [];
  for await (const { offset, length, state } of disk.extents()) {
    if (state === 'data') await compareRange(disk, image, offset, length);
  }
  for (const op of ops)
    await compareRange(disk, image, ...(op[0] === 'zero' ? ([op[1], op[2]] as const) : ([op[2], op[3]] as const)));
}

async function compareRange(disk: ChainDisk, image: GoldenImage, offset: number, length: number): Promise<void> {
  for (let at = offset; at < offset + length; at += PIECE) {
    const bytes = new Uint8Array(Math.min(PIECE, offset + length - at));
    await disk.read(at, bytes);
    const same = Buffer.compare(bytes, expectedContent(image.contentOps ?? [], at, bytes.length)) === 0;
    expect(same, `content of ${bytes.length} bytes at ${at}`).toBe(true);
  }
}

/** Checks the allocation in the image itself, without its parents. */
async function checkAllocation(path: string, image: GoldenImage): Promise<void> {
  if (image.allocatedRuns == null || image.blockSize === null) return;
  await using disk = await openDisk(path, { ...OPTIONS, withoutParents: true });
  const found: Record<'data' | 'zero', [start: number, end: number][]> = { data: [], zero: [] };
  for await (const { offset, length, state } of disk.extents()) {
    if (state !== 'data' && state !== 'zero') continue;
    const runs = found[state];
    const last = runs.at(-1);
    if (last !== undefined && last[1] === offset) last[1] = offset + length;
    else runs.push([offset, offset + length]);
  }
  const inBytes = (runs: readonly Run[]) =>
    runs.map(([first, count]) => {
      const unit = image.blockSize ?? 0;
      return [first * unit, Math.min((first + count) * unit, image.virtualSize)];
    });
  expect(found).toEqual({ data: inBytes(image.allocatedRuns.data), zero: inBytes(image.allocatedRuns.zero) });
}

async function readWhole(disk: ChainDisk, use: (bytes: Uint8Array) => void): Promise<void> {
  const buffer = new Uint8Array(PIECE);
  for (let at = 0; at < disk.size; at += PIECE) {
    const bytes = buffer.subarray(0, Math.min(PIECE, disk.size - at));
    await disk.read(at, bytes);
    use(bytes);
  }
}
