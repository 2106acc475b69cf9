/** Raw disks for the test suites. */
import type { FormatKit } from './kit.ts';
import { way } from './peer-kit.ts';

export const kit: FormatKit = {
  format: 'raw',
  golden: { without: 'a raw disk is its bytes', cases: 'raw' },
  hostile: { without: 'no byte of a raw file means anything to vdkit: there is nothing to be wrong' },
  ways: [way(''), way('', { variant: 'fixed' })],
  walk: async () => (await import('./raw/walk.ts')).walk,
  peers: async () => {
    const { qemu } = await import('../peers/qemu.ts');
    const options = ({ variant }: { readonly variant: string }) => (variant === 'fixed' ? 'preallocation=falloc' : '');
    const holes = () => true;
    return [
      qemu({ format: 'raw', checks: false, measures: true, longestFixed: 2 ** 21, cannot: () => null, holes, options }),
    ];
  },
};
