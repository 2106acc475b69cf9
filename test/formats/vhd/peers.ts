/** Programs that have VHD. QEMU opens differencing images as if they had no parent, and destroys them when it writes. */
import { qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

const SUBFORMATS: Readonly<Record<string, string>> = { '': 'dynamic', dynamic: 'dynamic', fixed: 'fixed' };
/** The largest disk that QEMU takes. */
const LONGEST = 2040 * 1024 ** 3;

/** Its options; those that only vdkit has are passed on, so that QEMU refuses them. */
function optionsOfQemu({ variant, options }: MakeWay): string {
  const first = `subformat=${SUBFORMATS[variant] ?? variant},force_size=on`;
  return [first, options].filter((pair) => pair !== '').join(',');
}

function cannotByQemu({ variant, options, over }: MakeWay, what: 'read' | 'make'): string | null {
  if (over) return 'no differencing images';
  if (what === 'read') return null;
  if (options !== '') return 'blocks of 2 MiB only';
  return SUBFORMATS[variant] === undefined ? 'no such subformat' : null;
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vpc',
    checks: false,
    cannot: cannotByQemu,
    cannotRead: ({ differencing }) => (differencing ? 'no differencing images' : null),
    options: optionsOfQemu,
    // Of blocks it does not look into the file.
    holes: ({ variant }) => variant === 'fixed' || variant === 'azure',
    longest: LONGEST,
    longestFixed: LONGEST,
  }),
  // It finds a parent by the relative name, beside the image.
  sevenZip({ format: 'vhd', cannot: () => null }),
];
