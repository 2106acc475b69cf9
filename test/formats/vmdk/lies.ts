/** Descriptors that lie about their extents, with the failure that each must end in. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import type { ErrorKind } from '../../../src/errors.ts';
import { VMDK_LIMITS } from '../../../src/formats/vmdk/limits.ts';
import type { BaseImage } from '../../hostile/protocol.ts';

/** A descriptor, and the files beside it. */
export interface Lie {
  readonly name: string;
  readonly descriptor: string | Uint8Array;
  /** Sizes of files beside it by name; they are zero. */
  readonly files: Readonly<Record<string, number>>;
  /** Failures of opening it for reading and for writing, with its directory allowed. */
  readonly read: ErrorKind;
  readonly write: ErrorKind;
}

const SIZE = 64 * 1024;
const SECTORS = SIZE / SECTOR;
const FLAT = 'image-flat.vmdk';

/** A descriptor with these lines for its extents. */
export function descriptorOf(lines: readonly string[], header: readonly string[] = []): string {
  const head = ['# Disk DescriptorFile', 'version=1', 'CID=12345678', 'parentCID=ffffffff', 'createType="custom"'];
  return `${[...head, ...header, '', '# Extent description', ...lines].join('\n')}\n`;
}

function flat(file: string, offset = 0, sectors = SECTORS): string {
  return `RW ${sectors} FLAT "${file}" ${offset}`;
}

function lie(name: string, lines: readonly string[], kind: ErrorKind, header?: readonly string[]): Lie {
  return { name, descriptor: descriptorOf(lines, header), files: { [FLAT]: SIZE }, read: kind, write: kind };
}

function cut(text: string, at: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  bytes[text.indexOf(at)] = 0;
  return bytes;
}

/** Names of Windows, and long ones, are those of missing files here. */
function elsewhere(name: string, file: string): Lie {
  const isMissing = !file.includes('/');
  return { ...lie(name, [flat(file)], 'denied'), ...(isMissing ? { read: 'not-found' } : {}) };
}

const SECRETS = ['/secret/other.raw', '../secret/other.raw', './../secret/other.raw', '..\\secret\\other.raw'];
const DEVICES = ['/dev/sda', '/dev/zero', '/proc/self/environ', '\\\\.\\PhysicalDrive0'];

/** All of them. */
export const LIES: readonly Lie[] = [
  { ...lie('an extent that is the descriptor', [flat('image.vmdk', 0, 1)], 'corrupt'), write: 'denied' },
  { ...lie('the descriptor by another name', [flat('./image.vmdk', 0, 1)], 'corrupt'), write: 'denied' },
  {
    ...lie('a sparse extent that is the descriptor', [`RDONLY ${SECTORS} SPARSE "image.vmdk"`], 'invalid-format'),
    write: 'locked',
  },
  lie('an extent that is the parent', [flat(FLAT)], 'corrupt', [`parentFileNameHint="${FLAT}"`]),
  lie('an extent that is the parent, written otherwise', [flat(FLAT)], 'corrupt', [`parentFileNameHint=".\\${FLAT}"`]),
  lie('two extents in one place', [flat(FLAT), flat(FLAT)], 'corrupt'),
  lie('extents that overlap by a sector', [flat(FLAT, 0, 64), flat(FLAT, 63, 64)], 'corrupt'),
  lie('an extent inside another one', [flat(FLAT), 'RW 8 ZERO', flat(FLAT, 8, 8)], 'corrupt'),
  lie('an extent over one that is only read', [`RDONLY 64 FLAT "${FLAT}" 0`, flat(FLAT, 32, 64)], 'corrupt'),
  lie('a missing extent', [flat('image-f002.vmdk')], 'not-found'),
  lie('a sparse extent that is none', [`RW ${SECTORS} SPARSE "${FLAT}"`], 'invalid-format'),
  lie('an ESX extent that is none', [`RW ${SECTORS} VMFSSPARSE "${FLAT}"`], 'invalid-format'),
  ...SECRETS.map((file) => elsewhere(`an extent elsewhere: ${file}`, file)),
  ...DEVICES.map((file) => elsewhere(`a device: ${file}`, file)),
  lie('a URL', [flat('nbd://127.0.0.1/x')], 'denied'),
  ...['VMFSRDM', 'VMFSRAW'].map((type) =>
    lie(`a mapped device: ${type}`, [`RW ${SECTORS} ${type} "${FLAT}"`], 'unsupported'),
  ),
  lie('a negative size', [`RW -${SECTORS} FLAT "${FLAT}" 0`], 'corrupt'),
  lie('a negative offset', [`RW ${SECTORS} FLAT "${FLAT}" -1`], 'corrupt'),
  lie('no size', [`RW 0 FLAT "${FLAT}" 0`], 'corrupt'),
  lie('a size that is not a number', [`RW 1e9 FLAT "${FLAT}" 0`], 'corrupt'),
  lie('a size beyond what numbers hold', [`RW 99999999999999999999 FLAT "${FLAT}" 0`], 'corrupt'),
  lie('an offset beyond what numbers hold', [`RW ${SECTORS} FLAT "${FLAT}" 18446744073709551615`], 'corrupt'),
  lie(
    'holes that are too large together',
    Array.from({ length: 5 }, () => 'RW 9007199254740 ZERO'),
    'limit',
  ),
  lie(
    'too many extents',
    Array.from({ length: VMDK_LIMITS.extents + 1 }, () => 'RW 8 ZERO'),
    'limit',
  ),
  lie(
    'too many lines',
    Array.from({ length: VMDK_LIMITS.descriptorLines }, () => '#'),
    'limit',
  ),
  lie('a line that is too long', [`RW 8 ZERO ${'x'.repeat(70_000)}`], 'limit'),
  elsewhere('a name that is too long', 'x'.repeat(60_000)),
  lie('an unknown type', [`RW ${SECTORS} EVIL "${FLAT}"`], 'unsupported'),
  lie('a name without an end', [`RW ${SECTORS} FLAT "${FLAT}`], 'corrupt'),
  lie('no name', [`RW ${SECTORS} FLAT`], 'corrupt'),
  lie('an empty name', [`RW ${SECTORS} FLAT "" 0`], 'corrupt'),
  lie('a directory', [flat('.')], 'denied'),
  lie('no extents', [], 'corrupt'),
  {
    ...lie('a name cut off by a NUL', [], 'corrupt'),
    descriptor: cut(descriptorOf([flat('image-flat.vmdk')]), '-flat'),
  },
  {
    ...lie('a name in a code page that is not known', [flat('image-\u00e9.vmdk')], 'not-found', ['encoding="EBCDIC"']),
  },
  { ...lie('a name that its code page cannot hold', [flat('image-\u00e9.vmdk')], 'not-found', ['encoding="GBK"']) },
];

/** The same for the hostile suite: whatever is done with them, nothing but their own files may be opened. */
export function lies(): BaseImage[] {
  return LIES.map(({ name, descriptor, files }) => {
    const bytes = typeof descriptor === 'string' ? new TextEncoder().encode(descriptor) : descriptor;
    return {
      name,
      image: { name, size: bytes.length, pieces: [{ offset: 0, bytes }] },
      parts: Object.entries(files).map(([file, size]) => ({ name: file, size, pieces: [] })),
      beside: [],
      content: null,
      differencing: false,
    };
  });
}
