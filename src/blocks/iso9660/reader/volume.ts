/** Descriptors of an ISO 9660 image, and its boot catalog. */
import { ImageError } from '../../../errors.ts';
import type { Storage } from '../../../storage/contract.ts';
import {
  BLOCK,
  BOOT_ENTRY,
  BOOT_RECORD,
  DESCRIPTOR,
  EL_TORITO,
  JOLIET_ESCAPES,
  RECORD,
  SECTION,
  STANDARD_ID,
  SYSTEM_BLOCKS,
  VALIDATION,
  VOLUME,
} from '../layout.ts';
import type { IsoTexts } from '../tree.ts';

/** Descriptors that are looked at. */
const MOST_DESCRIPTORS = 64;

/** A name space: the place of its root, and its texts. */
export interface SpacePlace {
  readonly block: number;
  readonly bytes: number;
  readonly texts: IsoTexts;
}

/** The name spaces of an image. */
export interface IsoVolume {
  readonly primary: SpacePlace;
  readonly joliet: SpacePlace | null;
  /** Block of the boot catalog; null: it has none. */
  readonly catalog: number | null;
}

/** An entry of a boot catalog. */
export interface CatalogEntry {
  readonly platform: number;
  readonly bootable: boolean;
  readonly media: number;
  readonly segment: number;
  readonly sectors: number;
  readonly block: number;
}

/** Reads `length` bytes. Throws `corrupt` beyond the end of the image. */
export async function readAt(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  if (offset + length > storage.size) throw isoCorrupt(storage, `bytes up to ${offset + length}`, storage.size);
  const bytes = new Uint8Array(length);
  if (length > 0) await storage.read(offset, bytes);
  return bytes;
}

/** The error for an image that says what cannot be. */
export function isoCorrupt(storage: Storage, found: string, expected: string | number): ImageError {
  return new ImageError('corrupt', 'The ISO image is damaged, or not one', { path: storage.label, found, expected });
}

/** Reads the descriptors. Throws `corrupt`, `unsupported`. */
export async function readVolume(storage: Storage): Promise<IsoVolume> {
  let primary: SpacePlace | null = null;
  let joliet: SpacePlace | null = null;
  let catalog: number | null = null;
  for (let at = SYSTEM_BLOCKS; at < SYSTEM_BLOCKS + MOST_DESCRIPTORS; at++) {
    const bytes = await readAt(storage, at * BLOCK, BLOCK);
    const { type, id } = VOLUME.decode(bytes);
    if (latin(id) !== STANDARD_ID) throw isoCorrupt(storage, `no descriptor in block ${at}`, STANDARD_ID);
    if (type === DESCRIPTOR.end) break;
    if (type === DESCRIPTOR.primary) primary ??= spaceOf(storage, bytes, false);
    if (type === DESCRIPTOR.supplementary && isJoliet(bytes)) joliet ??= spaceOf(storage, bytes, true);
    const record = type === DESCRIPTOR.boot ? BOOT_RECORD.decode(bytes) : null;
    if (record !== null && latin(record.system) === EL_TORITO) catalog ??= record.catalog;
  }
  if (primary === null) throw isoCorrupt(storage, 'no primary descriptor', 'a descriptor of type 1');
  return { primary, joliet, catalog };
}

function spaceOf(storage: Storage, bytes: Uint8Array, isWide: boolean): SpacePlace {
  const volume = VOLUME.decode(bytes);
  if (volume.blockSize !== BLOCK) {
    throw new ImageError('unsupported', 'The ISO image has blocks of another length', {
      path: storage.label,
      found: volume.blockSize,
      expected: BLOCK,
    });
  }
  const root = RECORD.decode(volume.root);
  const text = (field: Uint8Array): string => (isWide ? wide(field) : latin(field)).replace(/[\s\0]+$/, '');
  const texts = {
    volume: text(volume.volume),
    system: text(volume.system),
    volumeSet: text(volume.volumeSet),
    publisher: text(volume.publisher),
    preparer: text(volume.preparer),
    application: text(volume.application),
    copyright: text(volume.copyright),
    abstract: text(volume.abstract),
    bibliography: text(volume.bibliography),
  };
  return { block: root.extent + root.attributeLength, bytes: root.bytes, texts };
}

function isJoliet(bytes: Uint8Array): boolean {
  const escapes = latin(VOLUME.get(bytes, 'escapes'));
  return Object.values<string>(JOLIET_ESCAPES).includes(escapes);
}

/** The images of a boot catalog. Throws `corrupt`, `unsupported` for more than one block. */
export async function readCatalog(storage: Storage, block: number): Promise<CatalogEntry[]> {
  const bytes = await readAt(storage, block * BLOCK, BLOCK);
  const { header, platform, key } = VALIDATION.decode(bytes);
  if (header !== 1 || key[0] !== 0x55 || key[1] !== 0xaa) throw isoCorrupt(storage, 'no boot catalog', '01 … 55 AA');
  const entries = [entryAt(bytes, 32, platform)];
  for (let at = 64; at + 32 <= BLOCK; ) {
    const section = SECTION.decode(bytes, at);
    if (section.header !== 0x90 && section.header !== 0x91) break;
    at += 32;
    for (let left = section.entries; left > 0; at += 32) {
      if (at + 32 > BLOCK) throw isoCorrupt(storage, 'a boot catalog of several blocks', 'one block');
      // Extensions of the entry before it.
      if (bytes[at] === 0x44) continue;
      entries.push(entryAt(bytes, at, section.platform));
      left--;
    }
    if (section.header === 0x91) break;
  }
  return entries;
}

function entryAt(bytes: Uint8Array, at: number, platform: number): CatalogEntry {
  const { indicator, media, segment, sectors, block } = BOOT_ENTRY.decode(bytes, at);
  return { platform, bootable: indicator === 0x88, media: media & 0x0f, segment, sectors, block };
}

/** Letters of a byte each, up to a NUL. */
export function latin(bytes: Uint8Array): string {
  const text = new TextDecoder('latin1').decode(bytes);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** UTF-16 in big-endian order; a byte that is left over is none. */
export function wide(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    text += String.fromCharCode((bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0));
  }
  return text;
}
