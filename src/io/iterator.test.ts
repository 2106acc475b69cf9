import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import type { BlockDevice } from '../disk/device.ts';
import type { RegionList } from '../image/regions.ts';
import { HeldDevice } from '../testing/held-device.ts';
import { IoIterator, type IoSelection } from './iterator.ts';

const disk = new HeldDevice(100 * 512);

/** A disc: sectors of audio, then sectors of 2048 bytes, then sectors with 96 bytes of subchannels behind the data. */
const DISC: RegionList = {
  unit: 'blocks',
  regions: [
    {
      offset: 0,
      length: 10,
      blockSize: 2352,
      dataForm: 'cdda',
      metadataForm: 'none',
      dataBytes: 2352,
      metadataBytes: 0,
    },
    {
      offset: 10,
      length: 5,
      blockSize: 2048,
      dataForm: 'mode1-2048',
      metadataForm: 'none',
      dataBytes: 2048,
      metadataBytes: 0,
    },
    {
      offset: 15,
      length: 4,
      blockSize: 2448,
      dataForm: 'cdda',
      metadataForm: 'raw',
      dataBytes: 2352,
      metadataBytes: 96,
    },
  ],
};
const [SECOND, THIRD] = [10 * 2352, 10 * 2352 + 5 * 2048];
const disc: BlockDevice = Object.assign(new HeldDevice(THIRD + 4 * 2448), { regions: DISC });

const rangesOf = (iterator: IoIterator) => [...iterator].map(({ offset, length }) => [offset, length]);

describe('an I/O iterator', () => {
  it('has its segments, in order, whatever becomes of the list', () => {
    const segments = [
      { start: 512, size: 100 },
      { start: 0, size: 7 },
    ];
    const iterator = new IoIterator(disk, segments);
    segments.length = 0;
    expect(iterator).toMatchObject({ device: disk, unit: 'bytes', segmentCount: 2, totalBytes: 107, contiguous: null });
    expect([iterator.segment(0), iterator.segment(1)]).toEqual([
      { start: 512, size: 100, select: ['main-data'] },
      { start: 0, size: 7, select: ['main-data'] },
    ]);
    expect(rangesOf(iterator)).toEqual([
      [512, 100],
      [0, 7],
    ]);
    // It has no position: it can be gone through again.
    expect(rangesOf(iterator)).toEqual(rangesOf(iterator));
    expect(Object.isFrozen(iterator.segment(0))).toBe(true);
  });

  it('counts in bytes or in sectors', () => {
    const inBytes = new IoIterator(disk, [{ start: 512, size: 1024 }]);
    const inBlocks = new IoIterator(disk, [{ start: 1, size: 2 }], { unit: 'blocks' });
    expect([inBytes.unit, inBlocks.unit]).toEqual(['bytes', 'blocks']);
    expect(inBlocks.contiguous).toEqual({ offset: 512, length: 1024 });
    expect(inBlocks.contiguous).toEqual(inBytes.contiguous);
  });

  it('joins what follows each other, and keeps what does not', () => {
    const iterator = new IoIterator(disk, [
      { start: 0, size: 512 },
      { start: 512, size: 512 },
      { start: 512, size: 512 },
    ]);
    expect(rangesOf(iterator)).toEqual([
      [0, 1024],
      [512, 512],
    ]);
    expect(iterator.segmentCount).toBe(3);
  });

  it('counts the sectors of every region in their own size', () => {
    expect(new IoIterator(disc, [{ start: 9, size: 7 }], { unit: 'blocks' })).toMatchObject({
      totalBytes: 2352 + 5 * 2048 + 2352,
    });
    expect(rangesOf(new IoIterator(disc, [{ start: 10, size: 2 }], { unit: 'blocks' }))).toEqual([[SECOND, 4096]]);
    expect(rangesOf(new IoIterator(disc, [{ start: SECOND - 1, size: 2 }]))).toEqual([[SECOND - 1, 2]]);
  });

  it.each<[readonly IoSelection[], number, number]>([
    [[], 0, 2352],
    [['main-data'], 0, 2352],
    [['post-metadata'], 2352, 96],
    [['main-data', 'post-metadata'], 0, 2448],
    [['available'], 0, 2448],
    [['available', 'checksum'], 0, 2448],
  ])('takes of sectors what %j selects', (select, from, length) => {
    const iterator = new IoIterator(disc, [{ start: 16, size: 2, select }], { unit: 'blocks' });
    const first = THIRD + 2448 + from;
    const whole = length === 2448;
    expect(rangesOf(iterator)).toEqual(
      whole
        ? [[first, 4896]]
        : [
            [first, length],
            [first + 2448, length],
          ],
    );
    expect(iterator.totalBytes).toBe(2 * length);
  });

  it.each<IoSelection>(['pre-metadata', 'post-metadata', 'checksum'])(
    'says no to %s, which a hard disk does not have',
    async (part) => {
      const make = () => new IoIterator(disk, [{ start: 0, size: 1, select: ['main-data', part] }]);
      await expectKind(make, 'unsupported');
      expect(make).toThrow(expect.objectContaining({ status: 'VERR_NOT_SUPPORTED' }));
    },
  );

  it('takes all that a hard disk has as its data', () => {
    const iterator = new IoIterator(disk, [{ start: 3, size: 5, select: ['available'] }]);
    expect(iterator.contiguous).toEqual({ offset: 3, length: 5 });
  });

  it.each<[string, () => unknown, string]>([
    ['no segments', () => new IoIterator(disk, []), 'invalid-argument'],
    ['an empty segment', () => new IoIterator(disk, [{ start: 0, size: 0 }]), 'invalid-argument'],
    ['half a byte', () => new IoIterator(disk, [{ start: 0.5, size: 1 }]), 'invalid-argument'],
    ['a place before the medium', () => new IoIterator(disk, [{ start: -1, size: 1 }]), 'invalid-argument'],
    ['a place behind it', () => new IoIterator(disk, [{ start: 100 * 512, size: 1 }]), 'out-of-bounds'],
    ['more than there is', () => new IoIterator(disk, [{ start: 1, size: 100 * 512 }]), 'out-of-bounds'],
    ['sectors behind it', () => new IoIterator(disk, [{ start: 99, size: 2 }], { unit: 'blocks' }), 'out-of-bounds'],
    ['a huge size', () => new IoIterator(disk, [{ start: 2 ** 53 - 1, size: 2 ** 53 - 1 }]), 'out-of-bounds'],
    [
      'an unknown unit',
      () => new IoIterator(disk, [{ start: 0, size: 1 }], { unit: 'pages' as 'bytes' }),
      'invalid-argument',
    ],
    [
      'an unknown part',
      () => new IoIterator(disk, [{ start: 0, size: 1, select: ['all' as IoSelection] }]),
      'invalid-argument',
    ],
    [
      'parts of half a sector',
      () => new IoIterator(disc, [{ start: THIRD, size: 100, select: ['main-data'] }]),
      'invalid-argument',
    ],
  ])('refuses %s', async (_, make, kind) => {
    await expectKind(make, kind as 'invalid-argument');
  });

  it('refuses the number of a segment that is not there with VERR_OUT_OF_RANGE', () => {
    const iterator = new IoIterator(disk, [{ start: 0, size: 1 }]);
    for (const index of [-1, 1, 0.5]) {
      expect(() => iterator.segment(index)).toThrow(
        expect.objectContaining({ kind: 'out-of-bounds', status: 'VERR_OUT_OF_RANGE' }),
      );
    }
  });
});
