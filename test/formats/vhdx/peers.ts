/** Programs that have VHDX. Neither has differencing images. */
import { qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

const SUBFORMATS: Readonly<Record<string, string>> = { '': 'dynamic', dynamic: 'dynamic', fixed: 'fixed' };

/** Its options; those that only vdkit has are passed on, so that QEMU refuses them. */
function optionsOfQemu({ variant, options }: MakeWay): string {
  return [`subformat=${SUBFORMATS[variant] ?? variant}`, options].filter((pair) => pair !== '').join(',');
}

function cannotByQemu({ variant, options, over }: MakeWay, what: 'read' | 'make'): string | null {
  if (over) return 'no differencing images';
  if (options.includes('logical_sector_size=4096')) return 'sectors of 512 bytes only';
  if (what === 'read') return null;
  return SUBFORMATS[variant] === undefined ? 'no such subformat' : null;
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vhdx',
    checks: true,
    cannot: cannotByQemu,
    cannotRead: ({ differencing }) => (differencing ? 'no differencing images' : null),
    options: optionsOfQemu,
    holes: () => true,
  }),
  sevenZip({
    format: 'vhdx',
    cannot: ({ over }) => (over ? 'parents only beside the image' : null),
    cannotRead: ({ differencing }) => (differencing ? 'parents only beside the image' : null),
  }),
];
