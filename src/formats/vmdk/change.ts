/** Changes of a descriptor: identities, links to the parent, names of files, and facts for virtual machines. */
import { normalizeGuid, randomGuid } from '../../binary/guid.ts';
import { ImageError } from '../../errors.ts';
import type { Config, ImageChanges, ParentLink } from '../../image/contract.ts';
import { checkGeometry } from '../../image/geometry.ts';
import { storedName } from '../../image/parent.ts';
import { CONFIG } from './config.ts';
import { formatExtent, parseExtent } from './descriptor/extents.ts';
import {
  contentId,
  KEYS,
  NO_PARENT_CID,
  randomContentId,
  randomLongContentId,
  setComment,
  setGeometry,
  setUuids,
  UNCHECKED_CID,
  uuidsOf,
} from './descriptor/facts.ts';
import type { DescriptorText } from './descriptor/text.ts';

/** Adapters that VMware knows. */
export const ADAPTERS: readonly string[] = ['ide', 'buslogic', 'lsilogic', 'legacyESX'];

/** Applies `Image.set`. Throws `invalid-argument`. */
export function changeFacts(text: DescriptorText, changes: ImageChanges, path: string): void {
  const { comment, geometry = {}, uuid, modificationUuid, parentUuid, parentModificationUuid } = changes;
  checkGeometry(geometry);
  if (comment !== undefined) setComment(text, comment, path);
  const stored = (one: string | null | undefined) => (typeof one === 'string' ? normalizeGuid(one) : one);
  const uuids = {
    uuid: stored(uuid),
    modificationUuid: stored(modificationUuid),
    parentUuid: stored(parentUuid),
    parentModificationUuid: stored(parentModificationUuid),
  };
  setUuids(text, uuids, path);
  if (geometry.physical !== undefined) setGeometry(text, 'physical', geometry.physical, path);
  if (geometry.logical !== undefined) setGeometry(text, 'logical', geometry.logical, path);
}

/** Stores a link to a parent in both forms: name and content ID for VMware and QEMU, UUIDs for VirtualBox. */
export function changeParent(text: DescriptorText, parent: ParentLink | null, directory: string, path: string): void {
  // A parent that was not opened and has no name: the child keeps the name that it has.
  if (parent?.name !== '') {
    text.set(KEYS.parentHint, parent === null ? null : storedName(directory, parent.name), path);
    text.set(KEYS.parentFormat, recordedFormat(parent), path);
  }
  text.set(KEYS.parentCid, parentCidFor(parent), path);
  const { uuid: parentUuid = null, modificationUuid: parentModificationUuid = null } = parent ?? {};
  setUuids(text, { parentUuid, parentModificationUuid }, path);
}

/**
 * Content ID that a child stores of its parent. An image of another format has none: VMware takes a child without a
 * parent's ID for a whole disk.
 */
export function parentCidFor(parent: Pick<ParentLink, 'contentId'> | null | undefined): string {
  return parent === null || parent === undefined ? NO_PARENT_CID : (parent.contentId ?? UNCHECKED_CID);
}

/** The format of a parent as a descriptor records it: VMware's own is understood. */
export function recordedFormat(parent: Pick<ParentLink, 'format'> | null | undefined): string | null {
  return parent === null || parent === undefined || parent.format === 'vmdk' ? null : parent.format;
}

/** Replaces the stored names of the parent and of extents. */
export function changeNames(text: DescriptorText, names: ReadonlyMap<string, string>, path: string): void {
  const hint = text.value(KEYS.parentHint);
  const renamed = names.get(hint ?? '');
  if (hint !== null && renamed !== undefined) text.set(KEYS.parentHint, renamed, path);
  const lines = text.extents.map((line) => parseExtent(line, path));
  if (!lines.some(({ file }) => file !== null && names.has(file))) return;
  const named = lines.map((line) => ({ ...line, file: names.get(line.file ?? '') ?? line.file }));
  text.setExtents(named.map(formatExtent), path);
}

/** New identities of the content: content IDs and the modification UUID, each as long as before where it can be. */
export function changeIdentities(text: DescriptorText, path: string): void {
  const long = text.value(KEYS.longContentId) === null ? null : randomLongContentId();
  if (long !== null) text.set(KEYS.longContentId, long, path);
  if (contentId(text) !== null) text.set(KEYS.cid, newContentId(text, long), path);
  if (uuidsOf(text).uuid !== null) text.set(KEYS.modificationUuid, randomGuid(), path);
}

/** A new ID with as many digits as the old one: QEMU writes no leading zeroes, and the text keeps its length. */
function newContentId(text: DescriptorText, long: string | null): string {
  const digits = text.value(KEYS.cid)?.trim().length ?? 8;
  const id = (long ?? randomContentId()).slice(-digits);
  return digits < 8 && id === NO_PARENT_CID.slice(-digits) ? '0'.repeat(digits) : id;
}

/** Applies `Image.amend`. Throws `invalid-argument`, `unsupported`. */
export function amendFacts(text: DescriptorText, values: Config, path: string, current: Config): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) continue;
    const wanted = String(value);
    if (name === CONFIG.adapterType) text.set(KEYS.adapterType, adapterOf(wanted), path);
    else if (name === CONFIG.hardwareVersion) text.set(KEYS.hardwareVersion, hardwareOf(wanted), path);
    else if (String(current[name]) !== wanted) throw fixedKey(name, wanted, current[name], path);
  }
}

function adapterOf(wanted: string): string {
  const found = ADAPTERS.find((one) => one.toLowerCase() === wanted.toLowerCase());
  if (found !== undefined) return found;
  throw badValue(CONFIG.adapterType, wanted, ADAPTERS.join(', '));
}

function hardwareOf(wanted: string): string {
  if (/^[1-9]\d{0,2}$/.test(wanted)) return wanted;
  throw badValue(CONFIG.hardwareVersion, wanted, 'a number from 1 to 999');
}

function badValue(field: string, found: string, expected: string): ImageError {
  return new ImageError('invalid-argument', `The value of ${field} is not valid`, { field, found, expected });
}

function fixedKey(field: string, found: string, current: Config[string], path: string): ImageError {
  return new ImageError('unsupported', `The option ${field} cannot be changed in an existing image`, {
    path,
    field,
    found,
    ...(current === undefined ? {} : { expected: String(current) }),
    hint: 'Convert the image into a new one with that option.',
  });
}
