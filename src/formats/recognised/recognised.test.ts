import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomBytes, rounds } from '../../../test/conformance/random.ts';
import { dmgWithBytesBehind, tarHeader, zipBehindAnything } from '../../../test/hostile/recognised.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { probeFormat, readProbeInput } from '../../image/probe.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { openWith } from '../../testing/format-files.ts';
import { Random } from '../../testing/random.ts';
import { defaultRegistry } from '../index.ts';
import { RECOGNISED } from './index.ts';

type Piece = readonly [offset: number, content: string | readonly number[]];

/** A file of zeroes with something in it. Negative offsets count from the end. */
function file(size: number, ...pieces: Piece[]): Uint8Array {
  const bytes = new Uint8Array(size);
  for (const [offset, content] of pieces) {
    const stored = typeof content === 'string' ? new TextEncoder().encode(content) : Uint8Array.from(content);
    bytes.set(stored, offset < 0 ? size + offset : offset);
  }
  return bytes;
}

const textFile = (text: string): Uint8Array => new TextEncoder().encode(text);

function inputOf(bytes: Uint8Array, name = 'disk'): ProbeInput {
  return { name, size: bytes.length, head: bytes.subarray(0, 65_536), tail: bytes.subarray(-32_768) };
}

/**
 * `format: detail` of the probe's result, with a question mark if uncertain.
 */
function seen(bytes: Uint8Array, name = 'disk'): string {
  const { format, answer } = probeFormat(inputOf(bytes, name), defaultRegistry());
  return `${format.name}${answer.match === 'yes' ? '' : '?'}: ${answer.detail}`;
}

const be32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
const le32 = (value: number): number[] => be32(value).reverse();

/** A structure with its one's complement checksum. */
function summed(bytes: Uint8Array, field: number): number[] {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  bytes.set(be32(~sum >>> 0), field);
  return [...bytes];
}
const footer = (type: number, dataOffset: readonly number[] = new Array<number>(8).fill(0xff)): number[] =>
  summed(file(512, [0, 'conectix'], [12, be32(0x0001_0000)], [16, dataOffset], [60, be32(type)]), 64);
const at512 = [0, 0, 0, 0, 0, 0, 2, 0];
const dynamicHeader = summed(file(1024, [0, 'cxsparse']), 36);

const UUID = '01234567-89ab-cdef-0123-456789abcdef';
const CLOOP = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';
const DESCRIPTOR = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\ncreateType="monolithicFlat"\n';

describe('what a file is recognised as', () => {
  it.each<[string, Uint8Array]>([
    ['vmdk: VMDK sparse extent version 1', file(512, [0, 'KDMV'], [4, le32(1)])],
    ['vmdk: VMDK stream-optimised extent version 3', file(512, [0, 'KDMV'], [4, le32(3)], [8, le32(0x3_0001)])],
    ['vmdk: VMDK ESX sparse extent version 1', file(2048, [0, 'COWD'], [4, le32(1)])],
    ['vmdk?: VMDK ESX sparse extent version 2', file(512, [0, 'COWD'], [4, le32(2)])],
    ['vmdk: VMDK seSparse extent', file(512, [0, [0xbe, 0xba, 0xfe, 0xca]])],
    ['vmdk: VMDK descriptor file (monolithicFlat)', textFile(DESCRIPTOR)],
    ['vmdk: VMDK descriptor file (monolithicFlat)', textFile(`\ufeff${DESCRIPTOR.replaceAll('\n', '\r\n')}`)],
    ['vmdk: VMDK descriptor file', textFile('#disk descriptor file\nencoding="UTF-8"\n')],
    ['vmdk: VMDK descriptor file (vmfs)', textFile('# other\n\nversion = 2\nCreateType="vmfs"\n')],
    ['vmdk?: VMDK descriptor file', textFile('version=1\n')],
    ['vmdk: VMDK descriptor file (monolithicFlat)', file(4096, [0, DESCRIPTOR])],
    ['vhd: fixed VHD', file(4608, [-512, footer(2)])],
    ['vhd: differencing VHD', file(4608, [-512, footer(4)])],
    ['vhd: fixed VHD', file(4096 + 511, [-511, footer(2).slice(0, 511)])],
    ['vhd: fixed VHD', file(512, [0, footer(2)])],
    ['vhd: VHD of unknown type 7', file(4608, [-512, footer(7)])],
    ['vhd: VHD of unknown type 0', file(4608, [-512, footer(0)])],
    ['vhd?: VHD of unknown type 7', file(4608, [-512, footer(7)], [-100, [1]])],
    ['vhd: VHD of unknown type 9 without its footer', file(4096, [0, footer(9, at512)], [512, dynamicHeader])],
    ['vhd: dynamic VHD without its footer', file(4096, [0, footer(3, at512)], [512, dynamicHeader])],
    ['vhd?: dynamic VHD without its footer', file(4096, [0, footer(3, at512)], [512, dynamicHeader], [1000, [1]])],
    ['vhd: dynamic VHD', file(4608, [0, footer(3, at512)], [512, dynamicHeader], [-512, footer(3, at512)])],
    ['vhdx: VHDX', file(65_536, [0, 'vhdxfile'])],
    ['qcow: QCOW version 1', file(48, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 1]])],
    ['qcow2: QCOW2 version 2', file(72, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 2]])],
    ['qcow2: QCOW2 version 9', file(112, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 9]])],
    ['qed: QED', file(64, [0, 'QED'])],
    ['parallels: Parallels disk', file(64, [0, 'WithoutFreeSpace'], [16, le32(2)])],
    ['parallels: Parallels disk with the extended signature', file(64, [0, 'WithouFreSpacExt'], [16, le32(2)])],
    ['dmg: DMG version 4', file(3001, [-512, 'koly'], [-508, be32(4)], [-504, be32(512)])],
    ['dmg?: DMG version 0', file(3000, [-512, 'koly'])],
    ['dmg: encrypted DMG version 2', file(4096, [0, 'encrcdsa'])],
    ['dmg: encrypted DMG version 1', file(4096, [-8, 'cdsaencr'])],
    ['dmg?: XAR archive that may hold a DMG', file(4096, [0, 'xar!'])],
    ['dmg?: DMG of an obsolete layout', file(4096, [0, 'koly'])],
    ['vci: VCI cache image version 1', file(1024, [0, 'VCI'], [4, le32(1)])],
    ['cue: CUE sheet', textFile('FILE "a b.bin" BINARY\r\n  TRACK 01 MODE1/2352\r\n    INDEX 01 00:00:00\r\n')],
    ['cue: CUE sheet', textFile('\ufeffREM x\nPERFORMER "y"\nfile a.wav wave\n\nREM z\n\ttrack 1 audio\n')],
    ['cue?: CUE sheet', textFile('FILE "a.bin" BINARY\n')],
    ['toc: TOC file', textFile('CATALOG "0123456789012"\nCD_ROM_XA\n\n// Track 1\nTRACK MODE2_FORM1\n')],
    ['toc: TOC file', textFile('CD_DA\n')],
    ['viso: VISO', textFile(`--iprt-iso-maker-file-marker=${UUID} -J /a`)],
    ['viso: VISO', textFile(`\n --iprt-iso-maker-file-marker-bourne-sh ${UUID.toUpperCase()}\n/a`)],
    ['cloop: cloop version 2.0', file(512, [0, CLOOP], [128, be32(65_536)])],
    ['cloop?: cloop version 2.0', file(512, [0, CLOOP])],
    [
      'bochs: Bochs growing redolog version 2.0',
      file(512, [0, 'Bochs Virtual HD Image'], [32, 'Redolog'], [48, 'Growing'], [64, le32(0x2_0000)]),
    ],
  ])('%s', (expected, bytes) => {
    expect(seen(bytes)).toBe(expected);
  });
});

describe('files that hold a disk, or files, in another form', () => {
  it.each<[string, Uint8Array, string?]>([
    ['gzip: a gzip-compressed file', file(600, [0, [0x1f, 0x8b, 8, 8]])],
    ['xz: an xz-compressed file', file(600, [0, [0xfd]], [1, '7zXZ\0'])],
    ['bzip2: a bzip2-compressed file', file(600, [0, 'BZh91AY&SY'])],
    ['zstd: a zstd-compressed file', file(600, [0, [0x28, 0xb5, 0x2f, 0xfd]])],
    ['zstd: a zstd-compressed file', file(600, [0, [0x50, 0x2a, 0x4d, 0x18]])],
    ['lz4: an lz4-compressed file', file(600, [0, [4, 0x22, 0x4d, 0x18, 0x64]])],
    ['zip: a zip archive', file(600, [0, 'PK\u0003\u0004'])],
    ['zip?: a zip archive behind something else', zipBehindAnything()],
    ['7z: a 7-Zip archive', file(600, [0, '7z'], [2, [0xbc, 0xaf, 0x27, 0x1c]])],
    ['rar: a RAR archive', file(600, [0, 'Rar!\u001a\u0007\0'])],
    ['tar: a tar archive', tarHeader('disk.raw', 'ustar\x0000')],
    ['tar: a tar archive', tarHeader('disk.raw', 'ustar  \0')],
    ['tar?: a tar archive', tarHeader('disk.raw', '')],
    ['tar: an appliance (OVA): an archive of disks and their description', tarHeader('vm.ovf', 'ustar\x0000')],
    ['tar: an appliance (OVA): an archive of disks and their description', tarHeader('d', 'ustar\x0000'), 'vm.ova'],
    ['luks: a disk that LUKS encrypts', file(4096, [0, 'LUKS'], [4, [0xba, 0xbe, 0, 2]])],
    ['ewf: a forensic image (EWF)', file(600, [0, 'EVF'], [3, [9, 0x0d, 0x0a, 0xff, 0]])],
    ['sparseimage: Apple sparse image version 3', file(4096, [0, 'sprs'], [4, be32(3)])],
    ['sparseimage?: Apple sparse image version 9', file(4096, [0, 'sprs'], [4, be32(9)])],
    ['asif: an Apple sparse image (ASIF)', file(4096, [0, 'shdw'], [4, be32(1)], [8, be32(512)])],
    ['simg: an Android sparse image', file(4096, [0, [0x3a, 0xff, 0x26, 0xed, 1, 0]])],
    ['dmg?: DMG version 4 with 300 bytes behind its trailer', dmgWithBytesBehind()],
    [
      'parallels: Parallels disk descriptor (DiskDescriptor.xml)',
      textFile('\ufeff<?xml version="1.0"?>\r\n<!-- one -->\n<Parallels_disk_image Version="1.0">'),
    ],
    [
      'ovf: the description of an appliance (OVF)',
      textFile('<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">'),
    ],
  ])('%s', (expected, bytes, name = 'disk') => {
    expect(seen(bytes, name)).toBe(expected);
  });

  it('leave a DMG whose first chunk is compressed alone', () => {
    const pi = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const trailer: Piece[] = [
      [-512, 'koly'],
      [-508, be32(4)],
      [-504, be32(512)],
    ];
    const bytes = file(3001, [0, 'BZh9'], [4, pi], ...trailer);
    expect(probeFormat(inputOf(bytes), defaultRegistry())).toMatchObject({ format: { name: 'dmg' }, warnings: [] });
  });

  it('are behind an image that says what it is, whatever its guest wrote', () => {
    // The end of the file is the guest's in many formats.
    const bytes = file(1024, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 3]]);
    const end = zipBehindAnything();
    const both = new Uint8Array(bytes.length + end.length);
    both.set(bytes);
    both.set(end, bytes.length);
    expect(seen(both)).toBe('qcow2: QCOW2 version 3');
  });
});

describe('raw disks', () => {
  it.each<[string, Uint8Array]>([
    ['an MBR', file(4096, [0, [0xeb, 0x63, 0x90]], [446, [0x80, 1, 1, 0, 0x83]], [510, [0x55, 0xaa]])],
    ['a GPT', file(4096, [446, [0, 0, 2, 0, 0xee]], [510, [0x55, 0xaa]], [512, 'EFI PART'])],
    ['NTFS', file(4096, [0, [0xeb, 0x52, 0x90]], [3, 'NTFS    '], [510, [0x55, 0xaa]])],
    ['FAT', file(4096, [0, [0xeb, 0x3c, 0x90]], [3, 'mkfs.fat'], [510, [0x55, 0xaa]])],
    ['exFAT', file(4096, [0, [0xeb, 0x76, 0x90]], [3, 'EXFAT   '], [510, [0x55, 0xaa]])],
    ['BitLocker', file(4096, [0, [0xeb, 0x58, 0x90]], [3, '-FVE-FS-'], [510, [0x55, 0xaa]])],
    ['ext4', file(4096, [1080, [0x53, 0xef]])],
    ['XFS', file(4096, [0, 'XFSB'])],
    ['APFS', file(4096, [32, 'NXSB'])],
    ['HFS+', file(4096, [1024, 'H+'])],
    ['LVM', file(4096, [512, 'LABELONE'], [536, 'LVM2 001'])],
    ['swap', file(8192, [4086, 'SWAPSPACE2'])],
    ['squashfs', file(4096, [0, 'hsqs'])],
    ['a script', textFile('#!/bin/sh\ntar -xf disk.tar\n')],
    ['a page of the web', textFile('<!DOCTYPE html><html><Envelope/></html>')],
    ['a gzip signature with reserved flags', file(600, [0, [0x1f, 0x8b, 8, 0xe0]])],
    ['BZh without a block', file(600, [0, 'BZh9'])],
    ['the digits of cpio without its fields', file(600, [0, '070701'])],
    ['CISO without its header', file(600, [0, 'CISO'], [4, [1, 2, 3, 4]])],
    ['MSCF without its zeroes', file(600, [0, 'MSCF'], [4, [1]])],
    ['the word ustar in its place', file(600, [257, 'ustar'])],
    ['a header of tar with a wrong sum and no magic', tarHeader('disk.raw', '').fill(1, 300, 301)],
    ['the end of a zip archive that does not end there', Uint8Array.from([...zipBehindAnything(), 0])],
    ['a DMG in the middle of other files', Uint8Array.from([...new Uint8Array(5000), ...dmgWithBytesBehind()])],
  ])('with %s in them are raw', (_name, bytes) => {
    expect(seen(bytes)).toBe('raw?: raw hdd image');
  });

  it('with an ISO 9660 file system in them are raw', () => {
    const disc = file(40_960, [32_769, 'CD001'], [32_768, [1]], [34_816, [255]], [34_817, 'CD001']);
    expect(seen(disc)).toBe('raw?: raw optical image');
  });

  it('with anything at their start are raw', () => {
    const random = new Random(19);
    for (let round = 0; round < rounds(4000, 400_000); round++) {
      expect(seen(randomBytes(random, 512))).toBe('raw?: raw hdd image');
    }
  });
});

describe('what is not taken for an image', () => {
  it.each<[string, Uint8Array]>([
    ['a VHD cookie in the first sector of a raw disk', file(4096, [0, footer(2)])],
    ['a dynamic footer copy without its header', file(4096, [0, footer(3, at512)])],
    ['a footer copy whose header lies beyond the head', file(4096, [0, footer(3)])],
    ['QCOW version 0', file(512, [0, 'QFI'], [3, [0xfb]])],
    ['a shell script', textFile('#!/bin/sh\n#V2.0 Format\necho hello\n')],
    ['a marker without a UUID', textFile('--iprt-iso-maker-file-marker=none')],
    ['a FILE line of another kind', textFile('FILE "a.bin" PICTURE\n  TRACK 01 AUDIO\n')],
    ['a letter to the TITLE department', textFile('TITLE page\nDear reader\n')],
    ['text with a version later on', textFile('hello\nversion=1\n')],
    ['a Bochs image that is cut off', file(60, [0, 'Bochs Virtual HD Image'])],
    ['four letters', textFile('KDMV')],
    ['zeroes', file(4096)],
  ])('%s', (_name, bytes) => {
    expect(seen(bytes)).toBe('raw?: raw hdd image');
  });

  it('is no sure VHD when the checksum does not fit', () => {
    const damaged = file(4608, [-512, footer(2)], [-100, [1]]);
    expect(seen(damaged)).toBe('vhd?: fixed VHD');
    const copy: Piece[] = [
      [0, footer(3, at512)],
      [512, dynamicHeader],
    ];
    const withCopy = file(4608, ...copy, [-512, footer(3, at512)], [-100, [1]]);
    expect(seen(withCopy)).toBe('vhd: dynamic VHD without its footer');
  });
});

describe('names that say something else', () => {
  it('are pointed out', () => {
    const warnings = (bytes: Uint8Array, name: string) => probeFormat(inputOf(bytes, name), defaultRegistry()).warnings;
    const qcow2 = file(512, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 3]]);
    expect(warnings(file(4096), 'a.vdi')).toEqual([expect.stringContaining('named like a vdi image')]);
    expect(warnings(qcow2, 'a.vmdk')).toEqual(['a.vmdk is named like a vmdk image but is a qcow2 image.']);
    for (const name of ['a.qcow2', 'a.qcow', 'a.img', 'a']) expect(warnings(qcow2, name)).toEqual([]);
  });

  it('are pointed out when a guest can have written one of two signatures', () => {
    const both = file(4608, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 3]], [-512, footer(2)]);
    const { format, warnings } = probeFormat(inputOf(both), defaultRegistry());
    expect(format.name).toBe('vhd');
    expect(warnings).toEqual([expect.stringContaining('could also be qcow2')]);
  });
});

describe('opening', () => {
  const bytes = file(4096, [0, 'shdw'], [4, be32(1)], [8, be32(512)]);
  async function provider(): Promise<MemoryProvider> {
    const made = new MemoryProvider();
    const storage = await made.create('/disk');
    await storage.write(0, bytes);
    await storage.close();
    return made;
  }

  it('says what the file is', async () => {
    const format = defaultRegistry().find('asif');
    const opening = openWith(format, { provider: await provider(), name: '/disk' }, { mode: 'read' });
    await expect(opening).rejects.toMatchObject({
      name: 'ImageError',
      kind: 'unsupported',
      message: 'The file is recognised as an Apple sparse image (ASIF), which vdkit cannot open',
    });
  });

  it('refuses a file that is something else', async () => {
    const format = defaultRegistry().find('vpc');
    const opening = openWith(format, { provider: await provider(), name: '/disk' }, { mode: 'read' });
    await expect(opening).rejects.toMatchObject({ kind: 'invalid-format', context: { path: '/disk' } });
  });

  it('can be cancelled', async () => {
    const signal = AbortSignal.abort();
    const source = { provider: await provider(), name: '/disk' };
    const opening = openWith(defaultRegistry().find('asif'), source, { mode: 'read', signal });
    await expect(opening).rejects.toMatchObject({ kind: 'aborted' });
  });
});

describe('every probe', () => {
  const signatures = [
    'KDMV',
    'COWD',
    'conectix',
    'cxsparse',
    'vhdxfile',
    'QFI\u00fb',
    'QED\0',
    'WithoutFreeSpace\u0002\0\0\0',
    'koly',
    'VCI\0',
    CLOOP,
    'Bochs Virtual HD Image\0',
    'FILE "x" BINARY\n',
    'version=1\n',
    '# Disk DescriptorFile\n',
    '--iprt-iso-maker-file-marker=',
    'CD001',
  ].map((text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
  const piece = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(...signatures));
  const content = fc
    .array(piece, { maxLength: 12 })
    .map((pieces) => Uint8Array.from(pieces.flatMap((one) => [...one])));

  it('is total: it answers for any bytes', () => {
    fc.assert(
      fc.property(content, fc.integer({ min: 0, max: 3000 }), fc.boolean(), (bytes, padding, atEnd) => {
        const whole = new Uint8Array(bytes.length + padding);
        whole.set(bytes, atEnd ? padding : 0);
        for (const format of defaultRegistry().formats) {
          const answer = format.probe(inputOf(whole));
          expect(['yes', 'maybe', 'no']).toContain(answer.match);
          expect(answer.reason).not.toBe('');
        }
      }),
      { numRuns: 300 },
    );
  });

  it('is total for images that are cut off anywhere', () => {
    const whole = file(4608, [0, footer(3, at512)], [512, dynamicHeader], [-512, footer(3, at512)]);
    for (let length = 0; length < whole.length; length += 7) {
      for (const format of RECOGNISED) format.probe(inputOf(whole.subarray(0, length)));
    }
  });

  it('does not believe what the input says of its size', () => {
    for (const format of defaultRegistry().formats) {
      format.probe({ name: '', size: Number.MAX_SAFE_INTEGER, head: new Uint8Array(0), tail: new Uint8Array(0) });
    }
  });

  it('answers quickly for text that nearly fits', () => {
    const blanks = textFile(`#${' \t'.repeat(30_000)}`);
    const longLine = textFile(`FILE ${'a '.repeat(30_000)}`);
    const started = performance.now();
    for (const bytes of [blanks, longLine, textFile('\n'.repeat(65_536)), textFile(' '.repeat(65_536))]) seen(bytes);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('readProbeInput', () => {
  it('gives probes both ends of a file', async () => {
    const provider = new MemoryProvider();
    const storage = await provider.create('/fixed');
    await storage.write(200_000, Uint8Array.from(footer(2)));
    expect(probeFormat(await readProbeInput(storage, '/fixed'), defaultRegistry()).format.name).toBe('vhd');
  });
});
