/** Programs that have VDI. Both read blocks of 1 MiB only, and no differencing images. */
import { qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

/** Position of the first block of a small image by QEMU. */
const DATA = 1024;

function cannotRead({ options, over }: MakeWay): string | null {
  if (over) return 'no differencing images';
  return options.includes('AllocationBlockSize') ? 'blocks of 1 MiB only' : null;
}

const STATIC: Readonly<Record<string, string>> = { '': 'off', dynamic: 'off', fixed: 'on' };

/** Its options; those that only vdkit has are passed on, so that QEMU refuses them. */
function optionsOfQemu({ variant, options }: MakeWay): string {
  const first = STATIC[variant] === undefined ? `variant=${variant}` : `static=${STATIC[variant]}`;
  return [first, options].filter((pair) => pair !== '').join(',');
}

function cannotByQemu(way: MakeWay, what: 'read' | 'make'): string | null {
  const { variant, options } = way;
  if (what === 'read' || way.over) return cannotRead(way);
  if (STATIC[variant] === undefined) return 'dynamic and static images only';
  return options === '' ? null : 'no such option';
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vdi',
    checks: true,
    cannot: cannotByQemu,
    cannotRead: ({ golden, differencing }) => (golden && !differencing ? null : 'blocks of 1 MiB only'),
    options: optionsOfQemu,
    holes: ({ variant }) => variant === 'fixed',
    packed: (bytes) => DATA + bytes,
  }),
  sevenZip({
    format: 'vdi',
    cannot: cannotRead,
    cannotRead: ({ golden, differencing }) => (golden && !differencing ? null : 'blocks of 1 MiB only'),
  }),
];
