/** VHD images whose checksums are right and whose numbers and names are not. Sparse: nearly all of each is a hole. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import {
  BAT_UNUSED,
  CREATOR,
  DISK_TYPE,
  FEATURES,
  FOOTER,
  FOOTER_COOKIE,
  type Footer,
  HEADER,
  HEADER_COOKIE,
  type Header,
  LOCATOR,
  NO_OFFSET,
  PLATFORM,
  VERSION_1_0,
} from '../../../src/formats/vhd/layout.ts';
import type { BaseImage } from '../../hostile/protocol.ts';

const BLOCK = 128 * 1024;
/** Sectors of a block with its bitmap. */
const SLOT = BLOCK / SECTOR + 1;
const UUID = '6f1d0000-0000-4000-8000-000000000001';
const OTHER = '6f1d0000-0000-4000-8000-000000000002';
const TABLE = 1536;
const NAMES = 4096;
const FILE = 4 * BLOCK + 3 * SECTOR;

const FOOTER_FIELDS: Footer = {
  cookie: FOOTER_COOKIE,
  features: FEATURES,
  version: VERSION_1_0,
  dataOffset: BigInt(SECTOR),
  timestamp: 0,
  creator: CREATOR.windows,
  creatorVersion: 0x000a_0000,
  creatorOs: 0x5769_326b,
  originalSize: 2 * BLOCK,
  currentSize: 2 * BLOCK,
  cylinders: 7,
  heads: 4,
  sectors: 17,
  type: DISK_TYPE.dynamic,
  checksum: 0,
  uuid: UUID,
  savedState: 0,
  rest: new Uint8Array(FOOTER.fields.rest.size),
};

const HEADER_FIELDS: Header = {
  cookie: HEADER_COOKIE,
  next: NO_OFFSET,
  tableOffset: TABLE,
  version: VERSION_1_0,
  entries: 2,
  blockSize: BLOCK,
  checksum: 0,
  parentUuid: '00000000-0000-0000-0000-000000000000',
  parentTimestamp: 0,
  reserved: 0,
  parentName: new Uint8Array(HEADER.fields.parentName.size),
  locators: new Uint8Array(HEADER.fields.locators.size),
  rest: new Uint8Array(HEADER.fields.rest.size),
};

/** The checksum of the specification. */
function summed(bytes: Uint8Array, field: number): Uint8Array {
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  new DataView(bytes.buffer).setUint32(field, 0xffff_ffff - sum);
  return bytes;
}

interface Wanted {
  readonly footer?: Partial<Footer>;
  readonly copy?: Partial<Footer>;
  readonly header?: Partial<Header>;
  readonly table?: readonly number[];
  readonly name?: Uint8Array;
  readonly size?: number;
  readonly beside?: BaseImage['beside'];
}

function image(name: string, wanted: Wanted): BaseImage {
  const { footer = {}, copy = footer, header = {}, table = [BAT_UNUSED, BAT_UNUSED], size = FILE } = wanted;
  const entries = new Uint8Array(table.length * 4);
  for (const [index, entry] of table.entries()) new DataView(entries.buffer).setUint32(index * 4, entry);
  const foot = (fields: Partial<Footer>) => summed(FOOTER.encode({ ...FOOTER_FIELDS, ...fields }), 64);
  const pieces = [
    { offset: 0, bytes: foot(copy) },
    { offset: SECTOR, bytes: summed(HEADER.encode({ ...HEADER_FIELDS, ...header }), 36) },
    { offset: TABLE, bytes: entries },
    ...(wanted.name === undefined ? [] : [{ offset: NAMES, bytes: wanted.name }]),
    { offset: size - SECTOR, bytes: foot(footer) },
  ];
  const beside = wanted.beside ?? [];
  return {
    name,
    image: { name: 'image.vhd', size, pieces },
    beside,
    content: null,
    differencing: footer.type === DISK_TYPE.differencing,
  };
}

/** Tables that are as long as they get: all blocks unused, or all in one place. */
export function hollow(): readonly BaseImage[] {
  const entries = 2 ** 24;
  const size = TABLE + 4 * entries + 4 * SECTOR;
  const long = (name: string, from: number): BaseImage => {
    const made = image(name, {
      footer: { currentSize: entries * SECTOR },
      header: { entries, blockSize: SECTOR },
      table: [BAT_UNUSED, (size - 3 * SECTOR) / SECTOR],
      size,
    });
    const filled = { offset: TABLE + from * 4, bytes: new Uint8Array(1024).fill(0xff) };
    return { ...made, image: made.image && { ...made.image, pieces: [...made.image.pieces, filled] } };
  };
  return [long('a table of zeroes', 2), long('a table of zeroes with an end', entries - 256)];
}

const NUMBERS = [
  0n,
  1n,
  511n,
  512n,
  513n,
  1536n,
  4095n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

function fits(field: { readonly size: number }, value: bigint): boolean {
  return value < 2n ** BigInt(field.size * 8);
}

const FOOTER_NUMBERS = ['dataOffset', 'currentSize', 'originalSize', 'type', 'version', 'savedState'] as const;
const HEADER_NUMBERS = ['next', 'tableOffset', 'entries', 'blockSize', 'version'] as const;

/** Numbers at every bound, with the right checksum. Fields are put as bytes: no table takes what is too large for it. */
function numbers(): BaseImage[] {
  const of = (
    structure: 'footer' | 'header',
    names: readonly string[],
    table: typeof FOOTER | typeof HEADER,
  ): BaseImage[] =>
    names.flatMap((name) => {
      const field = (table.fields as Readonly<Record<string, { offset: number; size: number }>>)[name];
      if (field === undefined) throw new Error(`no field ${name}`);
      return NUMBERS.filter((value) => fits(field, value)).map((value) => {
        const made = image(`${structure} ${name} ${value}`, {});
        return { ...made, image: made.image && patched(made.image, structure, field, value) };
      });
    });
  return [...of('footer', FOOTER_NUMBERS, FOOTER), ...of('header', HEADER_NUMBERS, HEADER)];
}

function patched(
  file: NonNullable<BaseImage['image']>,
  structure: 'footer' | 'header',
  { offset, size }: { readonly offset: number; readonly size: number },
  value: bigint,
): NonNullable<BaseImage['image']> {
  const [length, sum] = structure === 'footer' ? [FOOTER.size, 64] : [HEADER.size, 36];
  const pieces = file.pieces.map((piece) => {
    if (piece.bytes.length !== length) return piece;
    const bytes = piece.bytes.slice();
    for (let at = 0; at < size; at++) bytes[offset + at] = Number((value >> BigInt(8 * (size - 1 - at))) & 0xffn);
    bytes.fill(0, sum, sum + 4);
    return { ...piece, bytes: summed(bytes, sum) };
  });
  return { ...file, pieces };
}

const CHILD = { type: DISK_TYPE.differencing } as const;

function locator(platform: number, bytes: Uint8Array, more: Partial<Parameters<typeof LOCATOR.encode>[0]> = {}) {
  const locators = new Uint8Array(HEADER.fields.locators.size);
  const { length } = bytes;
  locators.set(LOCATOR.encode({ platform, space: SECTOR, length, reserved: 0, fileOffset: NAMES, ...more }));
  return locators;
}

function utf16(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'utf16le'));
}

/** Names that leave the folder, are devices, or are the image. */
function names(): BaseImage[] {
  const all = ['..\\..\\secret.vhd', '/secret/other.raw', 'C:\\secret.vhd', '\\\\server\\share\\a.vhd', '/dev/zero'];
  const own = ['image.vhd', '.\\image.vhd', '', '\ud800', '.', '..', `${'a'.repeat(2000)}.vhd`];
  const windows = [...all, ...own].map((text) => {
    const bytes = utf16(text);
    const header = { parentUuid: OTHER, locators: locator(PLATFORM.relative, bytes) };
    return image(`a parent called ${JSON.stringify(text.slice(0, 30))}`, { footer: CHILD, header, name: bytes });
  });
  const url = new TextEncoder().encode('file:///secret/%00%ff/other.vhd');
  const odd = [
    { footer: CHILD, header: { parentUuid: OTHER, locators: locator(PLATFORM.url, url) }, name: url },
    { footer: CHILD, header: { parentUuid: UUID, locators: locator(PLATFORM.relative, utf16('image.vhd')) } },
    { footer: CHILD, header: { parentUuid: OTHER } },
    { footer: CHILD },
    { footer: CHILD, header: { locators: locator(PLATFORM.absolute, url, { length: 2 ** 32 - 1 }) } },
    { footer: CHILD, header: { locators: locator(PLATFORM.absolute, url, { fileOffset: FILE - 4 }) } },
    { footer: CHILD, header: { locators: locator(PLATFORM.relative, url, { length: 3 }) } },
  ];
  return [...windows, ...odd.map((wanted, number) => image(`an odd link ${number}`, wanted))];
}

/** Two children that each name the other. */
function cycle(): BaseImage {
  const link = (name: string, uuid: string, to: string, parentUuid: string) => {
    const bytes = utf16(to);
    const header = { parentUuid, locators: locator(PLATFORM.relative, bytes) };
    return image(name, { footer: { ...CHILD, uuid }, header, name: bytes });
  };
  const other = link('other', OTHER, 'image.vhd', UUID).image;
  const first = link('two children of each other', UUID, 'other.vhd', OTHER);
  return { ...first, beside: other === null ? [] : [{ ...other, name: 'other.vhd' }] };
}

/** Blocks over each other, over the metadata, over the footer, and beyond the end. */
function tables(): BaseImage[] {
  const last = (FILE - SECTOR) / SECTOR;
  const places = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    SLOT - 1,
    SLOT,
    SLOT + 8,
    last - SLOT,
    last - SLOT + 1,
    last - 1,
    last,
    last + 1,
    0xffff_fffe,
  ];
  return places.flatMap((place) =>
    [place, BAT_UNUSED, 16].map((other) => image(`blocks at ${place} and ${other}`, { table: [place, other] })),
  );
}

/** Images that a check of sums lets pass. */
export function lies(): readonly BaseImage[] {
  const disagree = [
    { copy: { currentSize: BLOCK } },
    { copy: { type: DISK_TYPE.fixed } },
    { copy: { dataOffset: BigInt(TABLE) } },
    { footer: { type: DISK_TYPE.fixed, dataOffset: NO_OFFSET }, copy: {} },
    { footer: { currentSize: 3 * BLOCK }, copy: {} },
  ].map((wanted, number) => image(`footers that disagree ${number}`, wanted));
  return [...numbers(), ...names(), cycle(), ...tables(), ...disagree];
}
