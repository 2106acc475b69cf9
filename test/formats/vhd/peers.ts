/** Programs that have VHD. QEMU opens differencing images as if they had no parent, and destroys them when it writes. */
import { FOOTER, HEADER } from '../../../src/formats/vhd/layout.ts';
import type { Sample } from '../../hostile/descriptor.ts';
import { libvhdi } from '../../peers/libyal.ts';
import { qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

const SUBFORMATS: Readonly<Record<string, string>> = { '': 'dynamic', dynamic: 'dynamic', fixed: 'fixed' };
/** The largest disk that QEMU takes. */
const LONGEST = 2040 * 1024 ** 3;

const MIXED = 'no single sectors of a child';

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

/** Of an image of VirtualBox: QEMU up to 9 takes the geometry for the size, which is smaller. */
function isSizedByGeometry({ bytes, golden }: Sample): boolean {
  if (bytes === null || !golden) return false;
  const { cylinders, heads, sectors, currentSize } = FOOTER.decode(bytes.subarray(-FOOTER.size));
  return cylinders * heads * sectors * 512 !== currentSize;
}

/** True if the table has more entries than the disk needs. */
function hasSurplus({ bytes }: Sample): boolean {
  if (bytes === null) return false;
  const { type, dataOffset, currentSize } = FOOTER.decode(bytes.subarray(-FOOTER.size));
  if (type === 2) return false;
  const { entries, blockSize } = HEADER.decode(bytes.subarray(Number(dataOffset), Number(dataOffset) + HEADER.size));
  return entries * blockSize >= currentSize + blockSize;
}

function cannotReadByQemu(sample: Sample): string | null {
  if (sample.differencing) return 'no differencing images';
  return isSizedByGeometry(sample) ? 'the size of the geometry' : null;
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vpc',
    checks: false,
    cannot: cannotByQemu,
    cannotRead: cannotReadByQemu,
    // A fixed image begins as its disk.
    blind: ({ variant }) => variant === 'fixed' || variant === 'azure',
    options: optionsOfQemu,
    // Of blocks it does not look into the file.
    holes: ({ variant }) => variant === 'fixed' || variant === 'azure',
    longest: LONGEST,
    longestFixed: LONGEST,
  }),
  // It finds a parent by the relative name, beside the image.
  sevenZip({
    format: 'vhd',
    cannot: () => null,
    cannotRead: (sample) => (hasSurplus(sample) ? 'no more entries than the disk needs' : null),
  }),
  libvhdi({
    cannot: () => null,
    cannotMount: ({ over }) => (over ? MIXED : null),
    cannotRead: ({ differencing }) => (differencing ? MIXED : null),
    // It reads every byte of a disk.
    longest: 1024 ** 3,
  }),
];
