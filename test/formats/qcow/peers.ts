/** Programs that have QCOW version 1: QEMU, and 7-Zip for images without a backing file. */

import { rounds } from '../../conformance/random.ts';
import { qemu } from '../../peers/qemu.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

const GIB = 1024 ** 3;

function cannotByQemu({ options }: MakeWay, what: 'read' | 'make'): string | null {
  return what === 'make' && options !== '' ? 'no choice of clusters' : null;
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'qcow',
    checks: false,
    backing: true,
    // It walks clusters of 4 KiB.
    // QEMU's driver takes seconds a GiB of nothing.
    longest: rounds(4, 64) * GIB,
    longestGrown: rounds(5, 258) * GIB,
    cannot: cannotByQemu,
    cannotWrite: ({ over, options }) =>
      over && options !== '' ? 'no copy of what the backing file has in the rest of a cluster' : null,
  }),
];
