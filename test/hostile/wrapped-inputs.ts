/** Compressed files and archives that are wrong on purpose. */
import { HEADER } from '../../src/formats/recognised/inside/tar-layout.ts';
import { Random } from '../../src/testing/random.ts';
import { base256, longName, ovfOf, paxPart, type TarPart, tarOf } from '../archives/tar-maker.ts';
import { type ZipPart, zipOf } from '../archives/zip-maker.ts';
import { randomBytes } from '../conformance/random.ts';

/** A file to open. */
export interface WrongFile {
  readonly title: string;
  readonly bytes: Uint8Array;
}

/** The disk in all of them: random bytes and zeroes. */
export const DISK = Uint8Array.from(Buffer.concat([randomBytes(new Random(3), 5000), Buffer.alloc(3192)]));
const OTHER = new Uint8Array(1024).fill(7);
/** Places at each end of a file that are changed one by one. */
const ENDS = 40;
/** Places all over it. */
const PLACES = 40;

/** Cut off, changed bit by bit at both ends and all over, and with other bytes behind it. */
export function* changesOf(sound: Uint8Array): Generator<WrongFile> {
  const random = new Random(5);
  const spread = Array.from({ length: PLACES }, (_, n) => Math.floor(((n + 0.5) * sound.length) / PLACES));
  const ends = Array.from({ length: ENDS }, (_, n) => [n, sound.length - 1 - n]).flat();
  const places = [...new Set([...ends, ...spread])].filter((at) => at >= 0 && at < sound.length);
  for (const at of places) yield { title: `cut off at ${at}`, bytes: sound.slice(0, at) };
  for (const at of places) {
    const bytes = sound.slice();
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    yield { title: `a changed bit at ${at}`, bytes };
  }
  for (const [what, behind] of [
    ...[1, 3, 4, 8, 511, 512].map((length) => [`${length} zeroes`, new Uint8Array(length)] as const),
    ...[1, 7, 600].map((length) => [`${length} bytes`, new Uint8Array(length).fill(0xa5)] as const),
    ...[2, 5, 12].map((length) => [`a start of ${length} bytes`, sound.subarray(0, length)] as const),
  ]) {
    yield { title: `followed by ${what}`, bytes: joined(sound, behind) };
  }
}

/** Names that lead out of an archive, or look like it. */
export const TRICKS = [
  ...['/etc/passwd.img', '../disk.img', '../../../../tmp/disk.img', 'a/../../disk.img', './../disk.img', '..', '.', ''],
  ...[
    'C:\\disk.img',
    'c:disk.img',
    '\\\\server\\share\\disk.img',
    '..\\disk.img',
    'a\\..\\..\\disk.img',
    '//x/disk.img',
  ],
  ...[
    'disk.img\0.txt',
    'disk.img/',
    'a//disk.img',
    'a/./disk.img',
    '\u202edisk.gmi',
    'disk.img\n',
    '\u001b[2Jdisk.img',
  ],
  ...['CON.img', 'nul', 'aux.vdi', 'disk.img:stream', '~/disk.img', '$HOME/disk.img', `${'a/'.repeat(60)}x.img`],
] as const;

const disk = (name = 'disk.img'): TarPart & ZipPart => ({ name, content: DISK });

/** Tar archives with headers that lie. */
export function* wrongTars(): Generator<WrongFile> {
  const sizes: readonly (number | Uint8Array | string)[] = [
    ...[0, 1, 511, 512, DISK.length - 1, DISK.length + 1, 2 ** 32, 8 ** 11 - 1, base256(0), base256(DISK.length + 1)],
    ...[base256(2 ** 52), new Uint8Array(12).fill(0xff), new Uint8Array(12).fill(0x80), '-1', '+7', '0x10', '', '9'],
    ...['77777777777777', ' 20000 ', '\0', '1e3', '20000\x007'],
  ];
  for (const size of sizes) {
    const field = typeof size === 'string' ? Buffer.from(size, 'latin1') : size;
    yield { title: `a size of ${String(size)}`, bytes: tarOf([{ ...disk(), size: field }]) };
    yield { title: `another member with a size of ${size}`, bytes: tarOf([{ ...disk('a.txt'), size: field }, disk()]) };
  }
  for (const type of [...'1234567ABDLKMNSVXxg', '\x80', ' ']) {
    yield { title: `type ${type}`, bytes: tarOf([{ ...disk(), type }]) };
    yield { title: `type ${type} in front`, bytes: tarOf([{ ...disk('a.img'), type }, disk()]) };
  }
  for (const value of ['-1', '0', '1', '1e3', ' 5', '99999999999999999999', '0x10', '', `${DISK.length + 512}`]) {
    yield { title: `a pax size of ${value}`, bytes: tarOf([paxPart({ size: value }), disk()]) };
    yield { title: `a pax size of ${value} for all`, bytes: tarOf([paxPart({ size: value }, 'g'), disk()]) };
  }
  for (const text of ['', '\n', '0 a=b\n', '5 a=b\n', '999999999 a=b\n', '6 a=b\n6 a=b', 'a=b\n', '8 =abcd\n', '1\n'])
    yield { title: `records ${text}`, bytes: tarOf([{ name: 'x', type: 'x', content: Buffer.from(text) }, disk()]) };
  yield* nestedTars();
  for (const name of TRICKS) {
    yield { title: `the name ${name}`, bytes: tarOf([{ ...disk(name.slice(0, 100)) }]) };
    yield {
      title: `the name ${name} in front`,
      bytes: tarOf([{ ...disk(name.slice(0, 100)), content: OTHER }, disk()]),
    };
    yield { title: `the pax name ${name}`, bytes: tarOf([paxPart({ path: name }), disk('x')]) };
    yield { title: `the long name ${name}`, bytes: tarOf([longName(name), disk('x')]) };
    const ovf = { name: 'a.ovf', content: ovfOf([{ href: name.replace(/[&<"]/g, '').replaceAll('\0', '') }]) };
    yield { title: `the href ${name}`, bytes: tarOf([ovf, disk()]) };
  }
  yield* fieldChanges(tarOf([disk()]), HEADER, 0, (bytes) => sumHeader(bytes));
}

function* nestedTars(): Generator<WrongFile> {
  let nested: Uint8Array = DISK;
  for (let depth = 0; depth < 40; depth++) nested = tarOf([{ name: `${depth}.tar`, content: nested }]);
  yield { title: '40 archives in each other', bytes: nested };
  const many = Array.from({ length: 20_000 }, (_, n) => ({ name: `${n}.txt` }));
  yield { title: '20,000 members', bytes: tarOf([...many, disk()]) };
  yield { title: '5,000 disks', bytes: tarOf(Array.from({ length: 5000 }, (_, n) => ({ name: `${n}.img` }))) };
  const records = Array.from({ length: 2000 }, () => paxPart({ path: 'disk.img' }));
  yield { title: '2,000 records in front of a member', bytes: tarOf([...records, disk()]) };
  yield { title: 'a long name without a member', bytes: tarOf([longName('disk.img')]) };
  yield { title: 'twice one name', bytes: tarOf([disk(), disk()]) };
  for (const [what, text] of [
    ['entities', '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><Envelope>&c;</Envelope>'],
    ['an external entity', '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Envelope>&b;</Envelope>'],
    ['deep elements', `<Envelope>${'<a>'.repeat(20_000)}`],
    ['no end', '<Envelope><References>'],
    ['nothing', ''],
  ] as const) {
    yield { title: `an OVF with ${what}`, bytes: tarOf([{ name: 'a.ovf', content: Buffer.from(text) }, disk()]) };
  }
}

/** Zip archives with records that lie. */
export function* wrongZips(): Generator<WrongFile> {
  const numbers = [0, 1, 7, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff];
  for (const method of [0, 8]) {
    const part = { ...disk(), method };
    for (const value of numbers) {
      for (const name of ['crc', 'storedSize', 'size', 'localOffset']) {
        yield { title: `${method}: entry ${name} ${value}`, bytes: zipOf([{ ...part, entry: { [name]: value } }]) };
      }
      const short = value & 0xffff;
      for (const name of ['flags', 'method', 'nameLength', 'extraLength', 'commentLength', 'volume', 'needed']) {
        yield { title: `${method}: entry ${name} ${short}`, bytes: zipOf([{ ...part, entry: { [name]: short } }]) };
      }
      for (const name of ['nameLength', 'extraLength', 'method', 'flags']) {
        yield { title: `${method}: local ${name} ${short}`, bytes: zipOf([{ ...part, local: { [name]: short } }]) };
      }
      for (const name of ['volume', 'directoryVolume', 'entriesHere', 'entries', 'commentLength']) {
        yield { title: `${method}: end ${name} ${short}`, bytes: zipOf([part], { end: { [name]: short } }) };
      }
      for (const name of ['directorySize', 'directoryOffset']) {
        yield { title: `${method}: end ${name} ${value}`, bytes: zipOf([part], { end: { [name]: value } }) };
      }
    }
  }
  for (const name of TRICKS) {
    yield { title: `the name ${name}`, bytes: zipOf([disk(name)]) };
    yield { title: `the name ${name} in front`, bytes: zipOf([{ name, content: OTHER }, disk()]) };
  }
  const overlapping = { ...disk('b.img'), entry: { localOffset: 0 } };
  yield { title: 'two members in one place', bytes: zipOf([disk('a.txt'), overlapping]) };
  yield { title: 'twice one name', bytes: zipOf([disk(), disk()]) };
  const many = Array.from({ length: 20_000 }, (_, n) => ({ name: `${n}.txt` }));
  yield { title: '20,000 members', bytes: zipOf([...many, disk()], { wide: true }) };
  let nested: Uint8Array = DISK;
  for (let depth = 0; depth < 10; depth++) nested = zipOf([{ name: `${depth}.zip`, content: nested }]);
  yield { title: '10 archives in each other', bytes: nested };
}

/** Each field of the header with bytes of 0, of 0xff, and of digits, and a checksum that fits. */
function* fieldChanges(
  sound: Uint8Array,
  table: typeof HEADER,
  offset: number,
  seal: (bytes: Uint8Array) => void,
): Generator<WrongFile> {
  for (const [name, { offset: at, size }] of Object.entries(table.fields)) {
    for (const byte of [0, 0xff, 0x37, 0x20, 0x80]) {
      const bytes = sound.slice();
      bytes.fill(byte, offset + at, offset + at + size);
      if (name !== 'checksum') seal(bytes);
      yield { title: `${name} of ${byte}`, bytes };
    }
  }
}

function sumHeader(bytes: Uint8Array): void {
  const header = bytes.subarray(0, HEADER.size);
  HEADER.put(header, 'checksum', '        ');
  const sum = header.reduce((total, byte) => total + byte, 0);
  HEADER.put(header, 'checksum', `${sum.toString(8).padStart(6, '0')}\0 `);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  return Uint8Array.from(Buffer.concat([first, second]));
}
