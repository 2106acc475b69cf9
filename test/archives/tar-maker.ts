/** Tar archives made by hand, in every dialect, and with what no program writes. */
import { HEADER, MAGIC } from '../../src/formats/recognised/inside/tar-layout.ts';

const BLOCK = 512;

/** A member of an archive. */
export interface TarPart {
  readonly name: string;
  readonly content?: Uint8Array;
  /** Default `0`, a file. */
  readonly type?: string;
  /** Default: that of the content. */
  readonly size?: number | Uint8Array;
  readonly magic?: string;
  readonly prefix?: string;
  /** Default: the right one. */
  readonly checksum?: string;
}

/** The bytes of an archive with two blocks of zeroes at its end. */
export function tarOf(parts: readonly TarPart[], end = 2 * BLOCK): Uint8Array {
  return Uint8Array.from(Buffer.concat([...parts.flatMap(blocksOf), new Uint8Array(end)]));
}

/** Records of pax in front of the next member, or with `g` of all. */
export function paxPart(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): TarPart {
  const content = Object.entries(records).map(([key, value]) => record(key, value));
  return { name: 'PaxHeaders/x', type, content: Buffer.from(content.join('')) };
}

/** A long name of GNU tar for the next member. */
export function longName(name: string): TarPart {
  return { name: '././@LongLink', type: 'L', content: Buffer.from(`${name}\0`), magic: MAGIC.gnu };
}

/** A number in base 256. */
export function base256(value: number): Uint8Array {
  const field = new Uint8Array(12);
  field[0] = 0x80;
  new DataView(field.buffer).setBigUint64(4, BigInt(value));
  return field;
}

/** An OVF with these disks. */
export function ovfOf(
  disks: readonly { readonly href: string; readonly attributes?: string; readonly disk?: string }[],
): Uint8Array {
  const files = disks.map(
    ({ href, attributes = '' }, at) => `<File ovf:id="f${at}" ovf:href="${href}" ${attributes}/>`,
  );
  const list = disks.map(
    ({ disk = '' }, at) => `<Disk ovf:diskId="d${at}" ovf:fileRef="f${at}" ovf:capacity="1" ${disk}/>`,
  );
  return Buffer.from(
    '<?xml version="1.0"?>\n<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" ' +
      'xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">\n' +
      `<References>${files.join('')}</References>\n<DiskSection><Info>Disks</Info>${list.join('')}</DiskSection>\n</Envelope>\n`,
  );
}

function record(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  const length = [1, 2, 3, 4, 5].map((digits) => digits + rest).find((total) => `${total}`.length + rest === total);
  return `${length} ${key}=${value}\n`;
}

function blocksOf({ name, content = new Uint8Array(0), ...how }: TarPart): Uint8Array[] {
  const { type = '0', size = content.length, magic = MAGIC.ustar, prefix = '', checksum } = how;
  const digits = (value: number, width: number): string => value.toString(8).padStart(width - 1, '0');
  const field = (value: string | Uint8Array, width: number): Uint8Array => {
    const bytes = new Uint8Array(width);
    bytes.set(Buffer.from(value as Uint8Array).subarray(0, width));
    return bytes;
  };
  const header = HEADER.encode({
    name: field(name, 100),
    mode: digits(0o644, 8),
    owner: digits(0, 8),
    group: digits(0, 8),
    size: field(typeof size === 'number' ? digits(size, 12) : size, 12),
    modified: digits(0, 12),
    checksum: '        ',
    type: type.charCodeAt(0),
    linkName: field('', 100),
    magic: field(magic, 8),
    ownerName: field('', 32),
    groupName: field('', 32),
    deviceMajor: field('', 8),
    deviceMinor: field('', 8),
    prefix: field(prefix, 155),
    padding: field('', 12),
  });
  const sum = header.reduce((total, byte) => total + byte, 0);
  HEADER.put(header, 'checksum', checksum ?? `${digits(sum, 7)}\0 `);
  return [header, content, new Uint8Array((BLOCK - (content.length % BLOCK)) % BLOCK)];
}
