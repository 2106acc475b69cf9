/** Programs that have VHDX. QEMU has no differencing images; neither replays a log when it reads. */
import { NULL_GUID } from '../../../src/binary/guid.ts';
import { HEADER, HEADER_OFFSETS, REGION_OFFSETS, REGION_TABLE } from '../../../src/formats/vhdx/layout.ts';
import type { Sample } from '../../hostile/descriptor.ts';
import { libvhdi } from '../../peers/libyal.ts';
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

/** A file whose log has to be replayed. */
function isLogged({ bytes }: Sample): boolean {
  return bytes !== null && HEADER.get(bytes, 'logGuid', HEADER_OFFSETS[0]) !== NULL_GUID;
}

/** Regions and metadata of other programs. */
function isStrange({ bytes }: Sample): boolean {
  return bytes !== null && REGION_TABLE.get(bytes, 'count', REGION_OFFSETS[0]) > 2;
}

/** A new child has no sector bitmap: it takes the first bytes of the file for one. */
const NO_BITMAP = 'no child without a sector bitmap';
/** A block of zeroes in a child shows the parent. */
const ZEROES = 'no zeroes that hide a parent';

function cannotReadSample(sample: Sample): string | null {
  if (isLogged(sample)) return 'no log';
  return isStrange(sample) ? 'no items of users' : null;
}

export const peers: readonly PeerKit[] = [
  qemu({
    format: 'vhdx',
    checks: true,
    mapless: true,
    // So it reads every byte of a disk.
    longest: 4 * 1024 ** 3,
    longestFixed: 4 * 1024 ** 3,
    cannot: cannotByQemu,
    cannotRead: (sample) => (sample.differencing ? 'no differencing images' : cannotReadSample(sample)),
    options: optionsOfQemu,
  }),
  // Over a parent it reads an image that lies beside it.
  sevenZip({ format: 'vhdx', cannot: () => null, cannotRead: cannotReadSample }),
  libvhdi({
    cannot: () => null,
    cannotMount: ({ over }) => (over ? NO_BITMAP : null),
    cannotRead: (sample) => (sample.differencing ? ZEROES : cannotReadSample(sample)),
    // It reads every byte of a disk.
    longest: 1024 ** 3,
  }),
];
