/** The start (or end) of one file of each format that is recognised but not opened. */

/** A file that its format's probe takes. */
export interface RecognisedSample {
  readonly format: string;
  readonly bytes: Uint8Array;
}

/** All samples; some formats have several forms. */
export function recognisedSamples(): RecognisedSample[] {
  return [
    {
      format: 'toc',
      bytes: text('CD_ROM\n\n// Track 1\nTRACK MODE1\nNO COPY\nDATAFILE "disc.bin" 00:10:00\n'),
    },
    { format: 'vci', bytes: binary('VCI\0', 512, { 4: [1, 0, 0, 0] }) },
    ...wrapperSamples(),
  ];
}

/** Files that hold a disk, or files, in another form. */
function wrapperSamples(): RecognisedSample[] {
  const signed: readonly (readonly [format: string, signature: string])[] = [
    ['gzip', '\x1f\x8b\x08\x00'],
    ['xz', '\xfd7zXZ\0\0\x04'],
    ['bzip2', 'BZh9\x31\x41\x59\x26\x53\x59'],
    ['bzip2', 'BZh1\x17\x72\x45\x38\x50\x90'],
    ['zstd', '\x28\xb5\x2f\xfd\x04'],
    ['zstd', '\x5d\x2a\x4d\x18\x04'],
    ['lz4', '\x04\x22\x4d\x18\x64'],
    ['lzip', 'LZIP\x01\x0c'],
    ['7z', '7z\xbc\xaf\x27\x1c\0\x04'],
    ['rar', 'Rar!\x1a\x07\x00'],
    ['rar', 'Rar!\x1a\x07\x01\x00'],
    ['wim', 'MSWIM\0\0\0'],
    ['luks', 'LUKS\xba\xbe\0\x01'],
    ['luks', 'LUKS\xba\xbe\0\x02'],
    ['ewf', 'EVF\x09\r\n\xff\0'],
    ['ewf', 'EVF2\r\n\x81\0'],
    ['aff', 'AFF10\r\n\0'],
    ['asif', 'shdw\0\0\0\x01\0\0\x02\0'],
    ['simg', '\x3a\xff\x26\xed\x01\x00'],
    ['chd', 'MComprHD'],
    ['cab', 'MSCF\0\0\0\0'],
    ['cpio', `070701${'0'.repeat(104)}`],
    ['cpio', `070707${'1'.repeat(70)}`],
    ['ar', '!<arch>\ndebian-binary'],
    ['lzop', '\x89LZO\0\r\n\x1a\n'],
    ['ad1', 'ADSEGMENTEDFILE\0'],
    ['partclone', 'partclone-image\0'],
    ['partimage', 'PaRtImAgE-VoLuMe\0'],
    ['cso', 'CISO\x18\0\0\0'],
    ['mds', 'MEDIA DESCRIPTOR\x01\x03'],
    ['ccd', '[CloneCD]\r\nVersion=3\r\n'],
    ['daa', `DAA${'\0'.repeat(13)}`],
    ['wbfs', 'WBFS\0\0\x12\x34'],
    ['zip', 'PK\x03\x04'],
    ['zip', 'PK\x05\x06'],
  ];
  return [
    ...signed.map(([format, signature]) => ({ format, bytes: binary(signature, 1024, {}) })),
    { format: 'zip', bytes: zipBehindAnything() },
    { format: 'tar', bytes: tarHeader('disk.ovf', 'ustar\x0000') },
    // Its member is cut off.
    { format: 'tar', bytes: tarHeader('disk.raw', 'ustar  \0', 4096) },
    { format: 'tar', bytes: tarHeader('disk.raw', '', 4096) },
    { format: 'ovf', bytes: text('<?xml version="1.0"?>\n<!-- made by hand -->\n<ovf:Envelope xmlns:ovf="ovf">\n') },
  ];
}

/** The end of an archive with one file, after some bytes that are none of it. */
export function zipBehindAnything(): Uint8Array {
  const end = binary('PK\x05\x06', 22, { 8: [1], 10: [1], 12: [50], 16: [100], 20: [3] });
  return Uint8Array.from([...new Uint8Array(700).fill(0x90), ...end, ...ascii('end')]);
}

/** The first header of an archive, with a block of zeroes. `length`: of its member. */
export function tarHeader(name: string, magic: string, length = 512): Uint8Array {
  const numbers = { 100: ascii('0000644'), 108: ascii('0000000'), 116: ascii('0000000') };
  const bytes = binary(name, 1024, {
    ...numbers,
    124: ascii(length.toString(8).padStart(11, '0')),
    136: ascii('00000000000'),
    148: ascii('        '),
    156: ascii('0'),
    257: ascii(magic),
  });
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.set(ascii(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  return bytes;
}

/** 2,000 bytes of data, the trailer that says so, and 300 bytes that do not belong to it. */
export function dmgWithBytesBehind(): Uint8Array {
  const bytes = new Uint8Array(2000 + 512 + 300).fill(7);
  bytes.set(binary('koly', 512, { 4: [0, 0, 0, 4], 8: [0, 0, 2, 0], 32: [0, 0, 0, 0, 0, 0, 7, 208] }), 2000);
  return bytes;
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
    lines('', '<?x?>'),
    lines('<!--', '-'),
    lines('<!-- x -->', '<!-->'),
    lines('<', 'a'),
    lines('', '<!x>'),
    lines('PK', 'PK\x05\x06'),
    lines('', 'koly\0\0\0\x04\0\0\x02\0'),
  ].map(text);
}

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
