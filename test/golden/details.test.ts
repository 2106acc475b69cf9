/** Further facts of VDI headers against the manifest, which comes from an independent reader of the format. */
import { afterAll, expect, it } from 'vitest';
import { inspect } from '../../src/operations/inspect.ts';
import { type GoldenImage, GoldenSet } from './manifest.ts';

/** Facts that the manifest has of the header of each VDI image. */
interface VdiFacts {
  readonly vdi?: {
    readonly type: number;
    readonly offsetBlocks: number;
    readonly offsetData: number;
    readonly blocks: number;
    readonly blocksAllocated: number;
  };
}

const set = new GoldenSet('vdi');
afterAll(() => set.dispose());
const images = set.images.filter((image: GoldenImage & VdiFacts) => image.damage === undefined && image.vdi);

it.each(images)('$file states the facts of its header', async (image: GoldenImage & VdiFacts) => {
  const { details, encryption } = await inspect(set.unpack(image));
  expect(details).toMatchObject({
    'header text': expect.stringMatching(/^<<< .* >>>$/),
    'header size': 400,
    'image type': expect.stringMatching(new RegExp(`^${image.vdi?.type} \\((dynamic|fixed|differencing)\\)$`)),
    'creation flags': expect.stringMatching(/^0x0000000[01]/),
    'block map offset': image.vdi?.offsetBlocks,
    'data offset': image.vdi?.offsetData,
    blocks: image.vdi?.blocks,
    'allocated blocks': image.vdi?.blocksAllocated,
    'extra bytes per block': 0,
  });
  expect(encryption ?? null).toBe(null);
});

it('covers all golden images of the format that are sound', () => {
  expect(images.length).toBeGreaterThan(40);
});
