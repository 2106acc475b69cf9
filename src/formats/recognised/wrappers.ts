/**
 * Compressed, packed or encrypted files. As raw disks they would be misread silently. One row each; formats that need
 * more than a signature have separate files.
 */

import { fieldAt, hasText } from '../../binary/look.ts';
import type { Format, ProbeInput } from '../../image/contract.ts';
import type { Compression } from './inside/compressed.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** Signature, version and length of a DMG's trailer, which ends the file. */
const DMG_TRAILER = { size: 512, start: 'koly\0\0\0\x04\0\0\x02\0' } as const;

interface Wrapper {
  readonly name: string;
  /** For a compressed file, the method instead of title and detail. */
  readonly compresses?: string;
  readonly title?: string;
  /** Without dots. */
  readonly extensions: readonly string[];
  readonly detail?: string;
  /** One byte per letter, from the start of the file. */
  readonly signatures: readonly string[];
  /** Finds what is inside; absent: not supported. */
  readonly unwrap?: Format['unwrap'];
  /** Additional condition on the first bytes. */
  readonly fits?: (head: Uint8Array) => boolean;
}

const WRAPPERS: readonly Wrapper[] = [
  {
    name: 'gzip',
    compresses: 'Gzip',
    extensions: ['gz', 'tgz'],
    signatures: ['\x1f\x8b\x08'], // RFC 1952, 2.3: the method is always 8
    fits: (head) => ((head[3] ?? 0xff) & 0xe0) === 0, // reserved flags
    unwrap: compressed('gzip'),
  },
  {
    name: 'xz',
    compresses: 'XZ',
    extensions: ['xz', 'txz'],
    signatures: ['\xfd7zXZ\0'],
    unwrap: compressed('xz'),
  },
  {
    name: 'bzip2',
    compresses: 'Bzip2',
    extensions: ['bz2', 'tbz2'],
    signatures: ['BZh'],
    fits: isBzip2,
    unwrap: compressed('bzip2'),
  },
  {
    name: 'zstd',
    compresses: 'Zstandard',
    extensions: ['zst', 'tzst'],
    // RFC 8878, 3.1: a frame, or one to skip.
    signatures: ['\x28\xb5\x2f\xfd', ...[...'PQRSTUVWXYZ[\\]^_'].map((first) => `${first}*M\x18`)],
    unwrap: compressed('zstd'),
  },
  {
    name: 'lz4',
    compresses: 'LZ4',
    extensions: ['lz4'],
    signatures: ['\x04\x22\x4d\x18'],
    fits: (head) => ((head[4] ?? 0) & 0xc2) === 0x40, // version 1, and a reserved bit
  },
  {
    name: 'lzip',
    compresses: 'Lzip',
    extensions: ['lz'],
    signatures: ['LZIP\x01'],
  },
  {
    name: '7z',
    title: '7-Zip Archive',
    extensions: ['7z'],
    detail: 'a 7-Zip archive',
    signatures: ['7z\xbc\xaf\x27\x1c'],
  },
  {
    name: 'rar',
    title: 'RAR Archive',
    extensions: ['rar'],
    detail: 'a RAR archive',
    signatures: ['Rar!\x1a\x07\x00', 'Rar!\x1a\x07\x01'],
  },
  {
    name: 'wim',
    title: 'Windows Imaging File',
    extensions: ['wim', 'esd'],
    detail: 'a Windows imaging file (files, not a disk)',
    signatures: ['MSWIM\0\0\0'],
  },
  {
    name: 'luks',
    title: 'LUKS Encrypted Disk',
    extensions: ['luks'],
    detail: 'a disk that LUKS encrypts',
    signatures: ['LUKS\xba\xbe'],
  },
  {
    name: 'ewf',
    title: 'Expert Witness Compression Format',
    extensions: ['e01', 'ex01', 'l01', 'lx01', 's01'],
    detail: 'a forensic image (EWF)',
    signatures: ['EVF\x09\r\n\xff\0', 'LVF\x09\r\n\xff\0', 'EVF2\r\n\x81\0', 'LEF2\r\n\x81\0'],
  },
  {
    name: 'aff',
    title: 'Advanced Forensic Format',
    extensions: ['aff'],
    detail: 'a forensic image (AFF)',
    signatures: ['AFF10\r\n\0'],
  },
  {
    name: 'asif',
    title: 'Apple Sparse Image Format',
    extensions: ['asif'],
    detail: 'an Apple sparse image (ASIF)',
    signatures: ['shdw\0\0\0\x01'],
  },
  {
    name: 'simg',
    title: 'Android Sparse Image',
    extensions: ['simg'],
    detail: 'an Android sparse image',
    signatures: ['\x3a\xff\x26\xed\x01\x00'], // the magic and the major version
  },
  {
    name: 'chd',
    title: 'MAME Compressed Hunks of Data',
    extensions: ['chd'],
    detail: 'a MAME hard disk (CHD)',
    signatures: ['MComprHD'],
  },
  {
    name: 'cab',
    title: 'Microsoft Cabinet',
    extensions: ['cab'],
    detail: 'a cabinet',
    signatures: ['MSCF\0\0\0\0'], // [MS-CAB] 2.1: a reserved word follows
  },
  {
    name: 'cpio',
    title: 'cpio Archive',
    extensions: ['cpio'],
    detail: 'a cpio archive',
    signatures: ['070701', '070702', '070707'],
    fits: (head) => /^[0-9a-f]{60}$/i.test(fieldAt(head, 6, 60) ?? ''),
  },
  {
    name: 'ar',
    title: 'ar Archive',
    extensions: ['ar', 'deb'],
    detail: 'an ar archive',
    signatures: ['!<arch>\n'],
  },
  {
    name: 'lzop',
    compresses: 'Lzop',
    extensions: ['lzo'],
    signatures: ['\x89LZO\0\r\n\x1a\n'],
  },
  {
    name: 'ad1',
    title: 'AccessData Logical Image',
    extensions: ['ad1'],
    detail: 'a forensic image of files (AD1)',
    signatures: ['ADSEGMENTEDFILE\0'],
  },
  {
    name: 'partclone',
    title: 'Partclone Image',
    extensions: [],
    detail: 'a Partclone image',
    signatures: ['partclone-image'],
  },
  {
    name: 'partimage',
    title: 'Partimage Volume',
    extensions: [],
    detail: 'a Partimage volume',
    signatures: ['PaRtImAgE-VoLuMe'],
  },
  {
    name: 'cso',
    title: 'Compressed ISO',
    extensions: ['cso', 'zso', 'ciso'],
    detail: 'a compressed disc (CSO)',
    signatures: ['CISO', 'ZISO'],
    // Length of the header, or of its blocks; the version.
    fits: (head) => ['0,0,0,0', '24,0,0,0', '0,0,32,0'].includes(head.subarray(4, 8).join()) && (head[20] ?? 9) <= 2,
  },
  {
    name: 'mds',
    title: 'Alcohol 120% Descriptor',
    extensions: ['mds', 'mdx'],
    detail: 'the description of a disc (MDS)',
    signatures: ['MEDIA DESCRIPTOR\x01', 'MEDIA DESCRIPTOR\x02'],
  },
  {
    name: 'ccd',
    title: 'CloneCD Control File',
    extensions: ['ccd'],
    detail: 'the description of a disc (CloneCD)',
    signatures: ['[CloneCD]\r\n', '[CloneCD]\n'],
  },
  {
    name: 'daa',
    title: 'Direct Access Archive',
    extensions: ['daa'],
    detail: 'a compressed disc (DAA)',
    signatures: [`DAA${'\0'.repeat(13)}`],
  },
  {
    name: 'wbfs',
    title: 'Wii Backup File System',
    extensions: ['wbfs'],
    detail: 'discs of a Wii (WBFS)',
    signatures: ['WBFS\0\0'],
  },
];

/** What is in a compressed file. */
function compressed(compression: Compression): NonNullable<Format['unwrap']> {
  return async (storage, options) =>
    (await import('./inside/compressed.ts')).unwrapCompressed(compression, storage, options);
}

/** Files with a packed or encrypted disk, or packed files; recognised only. */
export const SIGNED_WRAPPERS: readonly Format[] = WRAPPERS.map((wrapper) =>
  recognisedFormat({
    name: wrapper.name,
    ...titles(wrapper),
    extensions: wrapper.extensions,
    unwrap: wrapper.unwrap,
    recognise: (input) => recognise(wrapper, input),
  }),
);

function titles({ compresses, title = `${compresses} Compressed File` }: Wrapper): { title: string; label: string } {
  return { title, label: title };
}

function recognise(
  { name, signatures, fits, detail = `${articleOf(name)}-compressed file` }: Wrapper,
  { head, tail }: ProbeInput,
): Recognised | null {
  const found = signatures.find((signature) => hasText(head, 0, signature));
  if (found === undefined || fits?.(head) === false) return null;
  // The first chunk of a DMG is a compressed stream, and it begins the file.
  const match = hasText(tail, tail.length - DMG_TRAILER.size, DMG_TRAILER.start) ? 'maybe' : 'yes';
  return { match, reason: `the signature ${shown(found)}`, detail };
}

/** `an xz`. */
function articleOf(name: string): string {
  return `a${/^[lx]/.test(name) ? 'n' : ''} ${name}`;
}

/** The digit is the size of a block; a block begins with the digits of π, or the end of the stream with those of √π. */
function isBzip2(head: Uint8Array): boolean {
  const level = (head[3] ?? 0) - 0x30;
  return (
    level >= 1 &&
    level <= 9 &&
    (hasText(head, 4, '\x31\x41\x59\x26\x53\x59') || hasText(head, 4, '\x17\x72\x45\x38\x50\x90'))
  );
}

/** Letters as they are, everything else in hexadecimal. */
function shown(signature: string): string {
  if (/^[\x21-\x7e]+$/.test(signature)) return signature;
  return [...signature].map((letter) => letter.charCodeAt(0).toString(16).padStart(2, '0')).join(' ');
}
