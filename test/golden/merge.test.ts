/** Merging a chain that VirtualBox made leaves the content, the links and no more blocks than VirtualBox's own merge. */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage } from '../../src/operations/check.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { type GoldenImage, GoldenSet } from './manifest.ts';

const set = new GoldenSet('vdi');
afterAll(() => set.dispose());

function named(file: string): GoldenImage {
  const image = set.images.find((one) => one.file === file);
  if (image === undefined) throw new Error(`${file} is not in the manifest`);
  return image;
}

const CHAIN = named('vdi-chain-diff3.vdi');
const [BASE = '', DIFF1 = '', DIFF2 = '', DIFF3 = ''] = CHAIN.chain;
const unpacked = set.unpack(CHAIN);
const OPEN = { allow: ['same-directory'] } as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-merge-'));
  for (const file of CHAIN.chain) copyFileSync(join(dirname(unpacked), file), join(folder, file));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Compares one image of what is left with VirtualBox's. */
async function expectLike(file: string, golden: string): Promise<void> {
  const image = named(golden);
  const path = join(folder, file);
  await using disk = await openDisk(path, OPEN);
  expect(disk.warnings).toEqual([]);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(image.sha256OfGuestContent);
  expect(await checkImage(path)).toMatchObject({ findings: [] });
  const report = await inspect(path);
  expect(report).toMatchObject({ uuid: image.uuid, parentUuid: image.parentUuid });
  expect(report.fileSize).toBeLessThanOrEqual(image.fileSize);
}

type Step = readonly [from: number, to: number, expected: readonly (readonly [file: string, golden: string])[]];

/** Each step merges, and says which images are then like which of VirtualBox's. */
const CASES: readonly (readonly [title: string, steps: readonly Step[]])[] = [
  [
    'forward, step by step',
    [
      [
        1,
        2,
        [
          [DIFF2, 'vdi-mfwd-step1-diff2.vdi'],
          [DIFF3, 'vdi-mfwd-step1-diff3.vdi'],
        ],
      ],
      [1, 2, [[DIFF3, 'vdi-mfwd-step2-diff3.vdi']]],
      [0, 1, [[DIFF3, 'vdi-mfwd-step3-diff3.vdi']]],
    ],
  ],
  [
    'backward, step by step',
    [
      [3, 2, [[DIFF2, 'vdi-mbwd-step1-diff2.vdi']]],
      [2, 1, [[DIFF1, 'vdi-mbwd-step2-diff1.vdi']]],
      [1, 0, [[BASE, 'vdi-mbwd-step3-base.vdi']]],
    ],
  ],
  [
    'in the middle',
    [
      [
        2,
        1,
        [
          [DIFF1, 'vdi-mmid-step1-diff1.vdi'],
          [DIFF3, 'vdi-mmid-step1-diff3.vdi'],
        ],
      ],
    ],
  ],
  ['forward at once', [[0, 3, [[DIFF3, 'vdi-mfwdall-step1-diff3.vdi']]]]],
  ['backward at once', [[3, 0, [[BASE, 'vdi-mbwdall-step1-base.vdi']]]]],
];

describe('a chain of VirtualBox is merged', () => {
  it.each(CASES)('%s', async (_, steps) => {
    let last = DIFF3;
    for (const [from, to, expected] of steps) {
      await using disk = await openDisk(join(folder, last), { ...OPEN, mode: 'write' });
      await disk.merge(from, to);
      const names = disk.images.map(({ name }) => name);
      await disk.close();
      expect(
        readdirSync(folder)
          .map((file) => join(folder, file))
          .sort(),
      ).toEqual([...names].sort());
      for (const [file, golden] of expected) await expectLike(file, golden);
      last = names.at(-1)?.slice(folder.length + 1) ?? '';
    }
  });
});
