/** The start (or end) of one file of each format that is recognised but not opened. */

/** A file that its format's probe takes. */
export interface RecognisedSample {
  readonly format: string;
  readonly bytes: Uint8Array;
}

/** All samples; some formats have several forms. */
export function recognisedSamples(): RecognisedSample[] {
  return [
    { format: 'vmdk', bytes: binary('KDMV', 1024, { 4: [3, 0, 0, 0], 8: [3, 0, 1, 0] }) },
    { format: 'vmdk', bytes: binary('COWD', 512, { 4: [1, 0, 0, 0] }) },
    { format: 'vmdk', bytes: binary('\xbe\xba\xfe\xca', 512, {}) },
    {
      format: 'vmdk',
      bytes: text('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 8 FLAT "x.vmdk" 0\n'),
    },
    { format: 'vmdk', bytes: text('\n# comment\nversion = 1\n createType = "twoGbMaxExtentSparse"\n') },
    { format: 'vhd', bytes: dynamicVhd() },
    { format: 'vhd', bytes: fixedVhd(512) },
    { format: 'vhd', bytes: fixedVhd(511) },
    { format: 'parallels', bytes: binary('WithoutFreeSpace', 512, { 16: [2, 0, 0, 0] }) },
    { format: 'parallels', bytes: binary('WithouFreSpacExt', 512, { 16: [2, 0, 0, 0] }) },
    { format: 'dmg', bytes: trailer('koly', 1024, 512, { 4: [0, 0, 0, 4], 8: [0, 0, 2, 0] }) },
    { format: 'dmg', bytes: binary('encrcdsa', 512, {}) },
    { format: 'dmg', bytes: trailer('cdsaencr', 1024, 8, {}) },
    { format: 'dmg', bytes: binary('xar!', 512, {}) },
    { format: 'qed', bytes: binary('QED\0', 512, { 4: [0, 0, 1, 0] }) },
    { format: 'qcow', bytes: binary('QFI\xfb', 512, { 4: [0, 0, 0, 1] }) },
    { format: 'vhdx', bytes: binary('vhdxfile', 1024, {}) },
    {
      format: 'cue',
      bytes: text('REM a disc\nFILE "disc.bin" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 01 00:00:00\n'),
    },
    {
      format: 'viso',
      bytes: text('--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc\n/a=b\n'),
    },
    { format: 'vci', bytes: binary('VCI\0', 512, { 4: [1, 0, 0, 0] }) },
    { format: 'cloop', bytes: binary(CLOOP, 512, { 128: [0, 1, 0, 0], 132: [0, 0, 0, 2] }) },
    {
      format: 'bochs',
      bytes: binary('Bochs Virtual HD Image', 512, { 32: ascii('Redolog'), 48: ascii('Growing'), 66: [2] }),
    },
  ];
}

/** Text that makes a careless pattern try for a long time. */
export function slowTexts(): Uint8Array[] {
  const length = 64 * 1024;
  const lines = (start: string, body: string, end = ''): string => start + body.repeat(length / body.length) + end;
  return [
    lines('', ' '),
    lines('', '\t'),
    lines('', '\n'),
    lines('', '\r\n'),
    lines('', ' \n'),
    lines('#', ' '),
    lines('# disk', ' ', 'x'),
    lines('createType', ' '),
    lines('\n', 'createType = '),
    lines('version', ' ', '='),
    lines('version=1\n', 'createType="'),
    lines('FILE ', 'a '),
    lines('FILE', '\t', 'BINARX'),
    lines('FILE "x" BINARY\n', 'TRACK '),
    lines('', 'REM\n'),
    lines('', 'FILE \n'),
    lines('--iprt-iso-maker-file-marker=', ' '),
    lines('--iprt-iso-maker-file-marker ', '{'),
  ].map(text);
}

const CLOOP = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';

/** One byte a letter. */
function ascii(letters: string): number[] {
  return [...letters].map((letter) => letter.charCodeAt(0));
}

function text(letters: string): Uint8Array {
  return Uint8Array.from(ascii(letters));
}

type Fields = Readonly<Record<number, readonly number[]>>;

function binary(magic: string, size: number, fields: Fields): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(ascii(magic));
  for (const [offset, values] of Object.entries(fields)) bytes.set(values, Number(offset));
  return bytes;
}

function trailer(magic: string, size: number, length: number, fields: Fields): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(binary(magic, length, fields), size - length);
  return bytes;
}

function footer(type: number, dataOffset: number): Uint8Array {
  const dataBytes = [0, 0, 0, 0, 0, 0, dataOffset >> 8, dataOffset & 255];
  return summed(binary('conectix', 512, { 16: dataBytes, 63: [type] }), 64);
}

function dynamicVhd(): Uint8Array {
  const bytes = new Uint8Array(2048);
  bytes.set(footer(3, 512));
  bytes.set(summed(binary('cxsparse', 1024, {}), 36), 512);
  bytes.set(footer(3, 512), 1536);
  return bytes;
}

function fixedVhd(footerBytes: number): Uint8Array {
  const bytes = new Uint8Array(1024 + footerBytes);
  bytes.set(footer(2, 0xffff).subarray(0, footerBytes), 1024);
  return bytes;
}

/** With the complement of the sum of its bytes at `offset`. */
function summed(bytes: Uint8Array, offset: number): Uint8Array {
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  new DataView(bytes.buffer).setUint32(offset, ~sum >>> 0);
  return bytes;
}
