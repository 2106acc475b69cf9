/** Programs that have Parallels images: QEMU alone. It makes those with the extended signature only. */
import { qemu } from '../../peers/qemu.ts';
import type { PeerKit } from '../peer-kit.ts';

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'parallels',
    checks: true,
    cannot: () => null,
    cannotRead: ({ name }) => {
      if (name === 'unknown section') return 'no sections of an extension that it does not know';
      return name.startsWith('bundle') ? 'no directories' : null;
    },
    options: ({ options }) => options,
    // It counts the sectors of a disk in 31 bits and stops with an assertion.
    longest: 2 ** 41 - 1,
  }),
];
