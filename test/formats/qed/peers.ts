/** Programs that have QED: QEMU alone. */
import { qemu } from '../../peers/qemu.ts';
import type { PeerKit } from '../peer-kit.ts';

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'qed',
    checks: true,
    backing: true,
    cannot: () => null,
  }),
];
