/** Sparse images that are wrong or odd. Bytes are written as the documents have them, without the layout tables. */
import { describe, expect, it } from 'vitest';
import { Disk, detectFormat } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const NODE = 4096;
const BAND = 1024;
const SECTORS = 14;

/** Seven bands of two sectors; the second slot holds the first band, the first one the third band. */
function image(change: (view: DataView) => void = () => {}, length = NODE + 2 * BAND): Uint8Array {
  const bytes = new Uint8Array(Math.max(length, NODE + 2 * BAND));
  bytes.set([0x73, 0x70, 0x72, 0x73, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, SECTORS]);
  const view = new DataView(bytes.buffer);
  view.setUint32(32, SECTORS);
  view.setUint32(64, 3);
  view.setUint32(68, 1);
  bytes.fill(0x33, NODE, NODE + BAND);
  bytes.fill(0x11, NODE + BAND, NODE + 2 * BAND);
  change(view);
  return bytes.slice(0, length);
}

async function placed(bytes: Uint8Array): Promise<{ provider: MemoryProvider; name: string }> {
  const provider = new MemoryProvider();
  const file = await provider.create('/a.sparseimage');
  await file.write(0, bytes);
  await file.close();
  return { provider, name: '/a.sparseimage' };
}

async function bandsOf(bytes: Uint8Array): Promise<(number | undefined)[]> {
  await using disk = await Disk.open(await placed(bytes));
  const content = new Uint8Array(disk.size);
  await disk.read(0, content);
  return Array.from({ length: Math.ceil(content.length / BAND) }, (_, band) => {
    const [first, ...rest] = content.subarray(band * BAND, (band + 1) * BAND);
    return rest.every((byte) => byte === first) ? first : undefined;
  });
}

describe('a sparse image', () => {
  it('reads bands at the place of their numbers, and zeroes elsewhere', async () => {
    expect(await bandsOf(image())).toEqual([0x11, 0, 0x33, 0, 0, 0, 0]);
  });

  it('is detected by its content', async () => {
    expect(await detectFormat(await placed(image()))).toMatchObject({ format: 'sparseimage' });
  });

  it('reads bands of a second node, which lie behind it', async () => {
    const second = NODE + 2 * BAND;
    const bytes = image(
      (view) => {
        view.setUint32(24, second);
        view.setUint32(second, 0x73707273);
        view.setUint32(second + 56 + 4, 7);
        new Uint8Array(view.buffer).fill(0x77, second + NODE + BAND);
      },
      second + NODE + 2 * BAND,
    );
    expect(await bandsOf(bytes)).toEqual([0x11, 0, 0x33, 0, 0, 0, 0x77]);
  });

  it('takes the older number of sectors when the newer one is zero', async () => {
    expect(await bandsOf(image((view) => view.setUint32(32, 0)))).toHaveLength(7);
  });

  it('reads all but the band that is cut off', async () => {
    await using disk = await Disk.open(await placed(image(undefined, NODE + BAND + 512)));
    const sector = new Uint8Array(512);
    await disk.read(0, sector);
    expect(sector[0]).toBe(0x11);
    await expect(disk.read(512, sector)).rejects.toMatchObject({ kind: 'corrupt', context: { field: 'band 1' } });
    await disk.read(2 * BAND, sector);
    expect(sector[0]).toBe(0x33);
  });

  const circle = (view: DataView): void => view.setUint32(24, NODE);
  it.each<[string, string, (view: DataView) => void]>([
    ['corrupt', 'a band with two places', (view) => view.setUint32(68, 3)],
    ['corrupt', 'a band beyond the disk', (view) => view.setUint32(68, 8)],
    ['invalid-format', 'two numbers of sectors', (view) => view.setUint32(32, SECTORS - 2)],
    ['invalid-format', 'no sectors', (view) => [16, 32].forEach((at) => void view.setUint32(at, 0))],
    ['invalid-format', 'bands without sectors', (view) => view.setUint32(8, 0)],
    ['invalid-format', 'a second node among the bands', circle],
    ['invalid-format', 'a second node beyond the end', (view) => view.setUint32(24, NODE + 2 * BAND)],
    ['limit', 'bands of 512 MiB', (view) => view.setUint32(8, 2 ** 20)],
    ['limit', 'a disk of 2^53 bytes', (view) => view.setUint32(28, 2 ** 12)],
    ['unsupported', 'version 4', (view) => view.setUint32(4, 4)],
  ])('is refused as %s with %s', async (kind, _, change) => {
    const opening = Disk.open({ image: await placed(image(change)), format: 'sparseimage' });
    await expect(opening).rejects.toMatchObject({ name: 'ImageError', kind, context: { path: '/a.sparseimage' } });
  });
});
