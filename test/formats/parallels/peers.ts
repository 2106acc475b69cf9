/** Programs that have Parallels images: QEMU alone. It makes those with the extended signature only. */
import { qemu } from '../../peers/qemu.ts';
import type { PeerKit } from '../peer-kit.ts';

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'parallels',
    checks: true,
    cannot: () => null,
    // It would take the place of the first cluster of classic images that leave it open for another one.
    cannotWrite: () => null,
    options: ({ options }) => options,
  }),
];
