/** Facts of a descriptor, by the names that the rest of the format uses. */
import { isNullGuid, NULL_GUID, normalizeGuid, randomGuid } from '../../../binary/guid.ts';
import { SECTOR } from '../../../binary/numbers.ts';
import { ImageError, isImageError } from '../../../errors.ts';
import type { Geometry } from '../../../image/geometry.ts';
import type { DescriptorText } from './text.ts';

/** Content ID that stands for "no parent". */
export const NO_PARENT_CID = 'ffffffff';
/** Content ID of a parent that is not compared: it has none, or its long content ID counts. */
export const UNCHECKED_CID = 'fffffffe';

/** Keys of the descriptor, written once. */
export const KEYS = {
  version: 'version',
  encoding: 'encoding',
  cid: 'CID',
  parentCid: 'parentCID',
  createType: 'createType',
  parentHint: 'parentFileNameHint',
  parentFormat: 'ddb.parentFormat', // of a parent in another format; VMware ignores the entry
  changeTracking: 'changeTrackPath',
  adapterType: 'ddb.adapterType',
  hardwareVersion: 'ddb.virtualHWVersion',
  toolsVersion: 'ddb.toolsVersion',
  longContentId: 'ddb.longContentID',
  comment: 'ddb.comment',
  uuid: 'ddb.uuid.image',
  modificationUuid: 'ddb.uuid.modification',
  parentUuid: 'ddb.uuid.parent',
  parentModificationUuid: 'ddb.uuid.parentmodification',
} as const;

/** Keys of the two geometries. */
export const GEOMETRY_KEYS = {
  physical: ['ddb.geometry.cylinders', 'ddb.geometry.heads', 'ddb.geometry.sectors'],
  logical: ['ddb.geometry.biosCylinders', 'ddb.geometry.biosHeads', 'ddb.geometry.biosSectors'],
} as const;

/** The UUIDs of VirtualBox; null where unset, or where the text is not one. */
export interface DescriptorUuids {
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly parentUuid: string | null;
  readonly parentModificationUuid: string | null;
}

/** The content ID of a descriptor, eight digits; null if it has none or an unreadable one. */
export function contentId(text: DescriptorText): string | null {
  return cidOf(text.value(KEYS.cid));
}

/** The content ID of the parent; null without a parent, or where it is not compared. */
export function parentContentId(text: DescriptorText): string | null {
  const cid = cidOf(text.value(KEYS.parentCid));
  return cid === NO_PARENT_CID || cid === UNCHECKED_CID ? null : cid;
}

/** The stored name of the parent, as VMware and QEMU store it; null without one. */
export function parentHint(text: DescriptorText): string | null {
  return text.value(KEYS.parentHint) || null;
}

/** True for a child by any link: the name or content ID of VMware and QEMU, the UUID of VirtualBox. */
export function hasParent(text: DescriptorText): boolean {
  const cid = cidOf(text.value(KEYS.parentCid));
  return (cid !== null && cid !== NO_PARENT_CID) || parentHint(text) !== null || uuidsOf(text).parentUuid !== null;
}

/** A new content ID. `fffffffe` and `ffffffff` have meanings. */
export function randomContentId(): string {
  const [value = 0] = crypto.getRandomValues(new Uint32Array(1));
  return Math.min(value, 0xffff_fffd).toString(16).padStart(8, '0');
}

/** A new long content ID: 32 digits, the last eight of which are the content ID. */
export function randomLongContentId(): string {
  return `${randomGuid().replaceAll('-', '').slice(0, 24)}${randomContentId()}`;
}

/** Identities that VirtualBox stores. */
export function uuidsOf(text: DescriptorText): DescriptorUuids {
  return {
    uuid: uuidOf(text, KEYS.uuid),
    modificationUuid: uuidOf(text, KEYS.modificationUuid),
    parentUuid: uuidOf(text, KEYS.parentUuid),
    parentModificationUuid: uuidOf(text, KEYS.parentModificationUuid),
  };
}

/** Stores identities; null becomes the UUID that means none. */
export function setUuids(
  text: DescriptorText,
  uuids: { readonly [Name in keyof DescriptorUuids]?: string | null | undefined },
  path: string,
): void {
  for (const name of ['uuid', 'parentUuid', 'modificationUuid', 'parentModificationUuid'] as const) {
    const uuid = uuids[name];
    if (uuid !== undefined) text.set(KEYS[name], uuid ?? NULL_GUID, path);
  }
}

/** A geometry; null if a key is missing or is not a number. */
export function geometryOf(text: DescriptorText, kind: keyof typeof GEOMETRY_KEYS): Geometry | null {
  const [cylinders, heads, sectors] = GEOMETRY_KEYS[kind].map((key) => numberOf(text.value(key)));
  if (typeof cylinders !== 'number' || typeof heads !== 'number' || typeof sectors !== 'number') return null;
  return cylinders === 0 || heads === 0 || sectors === 0 ? null : { cylinders, heads, sectors };
}

/** Stores a geometry, or removes it. */
export function setGeometry(
  text: DescriptorText,
  kind: keyof typeof GEOMETRY_KEYS,
  geometry: Geometry | null,
  path: string,
): void {
  const [cylinders, heads, sectors] = GEOMETRY_KEYS[kind];
  text.set(cylinders, geometry === null ? null : String(geometry.cylinders), path);
  text.set(heads, geometry === null ? null : String(geometry.heads), path);
  text.set(sectors, geometry === null ? null : String(geometry.sectors), path);
}

/** Most cylinders of a drive with the 16 heads of ATA. */
const ATA = { cylinders: 16_383, heads: 16 } as const;

/** Cylinders follow the size of the disk where a geometry is stored; heads and sectors stay. */
export function resizeGeometry(text: DescriptorText, size: number, path: string): void {
  for (const [kind, [cylinders, ...others]] of Object.entries(GEOMETRY_KEYS)) {
    const [heads = 0, sectors = 0] = others.map((key) => numberOf(text.value(key)) ?? 0);
    if (text.value(cylinders) === null || heads === 0 || sectors === 0) continue;
    const count = Math.floor(size / SECTOR / heads / sectors);
    const most = kind === 'physical' && heads <= ATA.heads ? ATA.cylinders : 0xffff_ffff;
    text.set(cylinders, String(Math.min(count, most)), path);
  }
}

/** Longest stored form of a comment, in bytes: VirtualBox reads no longer one. */
const COMMENT_BYTES = 1023;
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r' };
const UNESCAPED: Readonly<Record<string, string>> = { '\\\\': '\\', '\\n': '\n', '\\r': '\r' };

/** The comment; null without one. */
export function commentOf(text: DescriptorText): string | null {
  const stored = text.value(KEYS.comment);
  if (stored === null || stored === '') return null;
  return stored.replace(/\\[\\nr]/g, (pair) => UNESCAPED[pair] ?? pair);
}

/** Stores a comment, or removes it. Throws `invalid-argument` for one that does not fit. */
export function setComment(text: DescriptorText, comment: string | null, path: string): void {
  const escaped = (comment ?? '').replace(/[\\\n\r]/g, (character) => ESCAPES[character] ?? character);
  const length = new TextEncoder().encode(escaped).length;
  if (length > COMMENT_BYTES || escaped.includes('"')) {
    throw new ImageError('invalid-argument', 'The comment does not fit a VMDK image', {
      path,
      found: `${length} bytes`,
      expected: `at most ${COMMENT_BYTES} bytes without double quotes`,
      hint: 'Shorten it, or replace the quotes.',
    });
  }
  text.set(KEYS.comment, escaped === '' ? null : escaped, path);
}

function cidOf(value: string | null): string | null {
  const digits = value?.trim() ?? '';
  return /^[0-9a-f]{1,8}$/i.test(digits) ? digits.toLowerCase().padStart(8, '0') : null;
}

function uuidOf(text: DescriptorText, key: string): string | null {
  const value = text.value(key);
  if (value === null || value === '') return null;
  try {
    const uuid = normalizeGuid(value);
    return isNullGuid(uuid) ? null : uuid;
  } catch (error) {
    if (!isImageError(error)) throw error;
    return null;
  }
}

function numberOf(value: string | null): number | null {
  return value !== null && /^\d{1,10}$/.test(value.trim()) ? Number(value) : null;
}

/** createTypes of descriptions of disks of the host, in lower case. */
const DEVICE_TYPES: ReadonlySet<string> = new Set(['fulldevice', 'partitioneddevice']);
const ABSOLUTE = /^([/\\]|[a-z]:)/i;

/** True if an extent of such a name is a device, or stands for one: deleting or moving the image leaves it alone. */
export function isRawDevice(name: string, createType: string | null): boolean {
  return /^(\/dev\/|\\\\\.\\)/.test(name) || (DEVICE_TYPES.has(createType?.toLowerCase() ?? '') && ABSOLUTE.test(name));
}
