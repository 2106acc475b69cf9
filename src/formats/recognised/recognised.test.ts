import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ProbeInput } from '../../image/contract.ts';
import { probeFormat, readProbeInput } from '../../image/probe.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { defaultRegistry } from '../index.ts';
import { RECOGNISED } from './index.ts';

const NO_GATE = {
  open: () => Promise.reject(new Error('nothing is opened by name')),
  candidates: async function* () {},
};

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
  return { name, size: bytes.length, head: bytes.subarray(0, 65_536), tail: bytes.subarray(-1024) };
}

/** `format: detail` of what a file is taken for, with a question mark when it is not sure. */
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
    ['vhd: dynamic VHD without its footer', file(4096, [0, footer(3, at512)], [512, dynamicHeader])],
    ['vhd: dynamic VHD', file(4608, [0, footer(3, at512)], [512, dynamicHeader], [-512, footer(3, at512)])],
    ['vhdx: VHDX', file(65_536, [0, 'vhdxfile'])],
    ['qcow: QCOW version 1', file(48, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 1]])],
    ['qcow2: QCOW2 version 2', file(72, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 2]])],
    ['qcow2: QCOW2 version 9', file(112, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 9]])],
    ['qed: QED', file(64, [0, 'QED'])],
    ['parallels: Parallels disk version 2', file(64, [0, 'WithoutFreeSpace'], [16, le32(2)])],
    ['parallels: Parallels disk with extensions version 2', file(64, [0, 'WithouFreSpacExt'], [16, le32(2)])],
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

describe('what is not taken for an image', () => {
  it.each<[string, Uint8Array]>([
    ['a VHD cookie in the first sector of a raw disk', file(4096, [0, footer(2)])],
    ['a dynamic footer copy without its header', file(4096, [0, footer(3, at512)])],
    ['a footer copy whose header lies beyond the head', file(4096, [0, footer(3)])],
    ['a footer copy with a damaged header', file(4096, [0, footer(3, at512)], [512, dynamicHeader], [1000, [1]])],
    ['a VHD footer of no type', file(4608, [-512, footer(7)])],
    ['QCOW version 0', file(512, [0, 'QFI'], [3, [0xfb]])],
    ['a shell script', textFile('#!/bin/sh\n#V2.0 Format\necho hello\n')],
    ['a marker without a UUID', textFile('--iprt-iso-maker-file-marker=none')],
    ['a FILE line of another kind', textFile('FILE "a.bin" FLAC\n  TRACK 01 AUDIO\n')],
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
    expect(warnings).toEqual([expect.stringContaining('also fits qcow2')]);
  });
});

describe('opening', () => {
  const bytes = file(112, [0, 'QFI'], [3, [0xfb, 0, 0, 0, 1]]);
  async function provider(): Promise<MemoryProvider> {
    const made = new MemoryProvider();
    const storage = await made.create('/disk');
    await storage.write(0, bytes);
    await storage.close();
    return made;
  }

  it('says what the file is', async () => {
    const format = defaultRegistry().find('qcow');
    const opening = format.open({ provider: await provider(), name: '/disk' }, { mode: 'read', gate: NO_GATE });
    await expect(opening).rejects.toMatchObject({
      name: 'ImageError',
      kind: 'unsupported',
      message: 'This is recognised as QCOW version 1, which vdkit cannot open yet',
    });
  });

  it('refuses a file that is something else', async () => {
    const format = defaultRegistry().find('vpc');
    const opening = format.open({ provider: await provider(), name: '/disk' }, { mode: 'read', gate: NO_GATE });
    await expect(opening).rejects.toMatchObject({ kind: 'invalid-format', context: { path: '/disk' } });
  });

  it('can be cancelled', async () => {
    const signal = AbortSignal.abort();
    const source = { provider: await provider(), name: '/disk' };
    const opening = defaultRegistry().find('qcow').open(source, { mode: 'read', gate: NO_GATE, signal });
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
