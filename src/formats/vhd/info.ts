/** Facts about VHD images that do not depend on their type, and changes of them. */
import { isNullGuid, NULL_GUID, normalizeGuid } from '../../binary/guid.ts';
import { ImageError } from '../../errors.ts';
import type { ImageChanges } from '../../image/contract.ts';
import { checkGeometry } from '../../image/geometry.ts';
import type { plainInfo } from '../../image/plain-info.ts';
import type { FoundFooter } from './footer.ts';
import { geometryFor, geometrySize } from './geometry.ts';
import type { Footer } from './layout.ts';

/** Facts that both kinds of images have. */
export function commonInfo(footer: Footer, warnings: readonly string[]): Parameters<typeof plainInfo>[0] {
  const { cylinders, heads, sectors, currentSize, uuid } = footer;
  const size = geometrySize(footer);
  const differs = size?.isMeant
    ? [`By its geometry the disk has ${size.bytes} bytes, which ${size.by} take for its size.`]
    : [];
  return {
    format: 'vhd',
    virtualSize: currentSize,
    blockSize: null,
    version: '1.0',
    uuid: isNullGuid(uuid) ? null : uuid,
    geometry: { physical: cylinders === 0 ? null : { cylinders, heads, sectors }, logical: null },
    warnings: [...warnings, ...differs],
  };
}

/** Warnings about footers that are missing or damaged. */
export function footerWarnings({ end, copy }: FoundFooter, path: string): string[] {
  const warnings: string[] = [];
  if (end === 'missing') warnings.push(`${path} lacks its footer: the copy at its start is used.`);
  if (end === 'wrong checksum') warnings.push(`The checksum of the footer of ${path} is wrong.`);
  if (end === 'before zeroes')
    warnings.push(`${path} has zeroes behind its footer: it was growing when it was cut off.`);
  if (end === 'short') warnings.push(`${path} has a footer of 511 bytes, which some programs do not read.`);
  if (copy === 'missing') warnings.push(`${path} lacks the copy of its footer at its start.`);
  if (copy === 'wrong checksum' || copy === 'differs')
    warnings.push(`The copy of the footer of ${path} differs from it.`);
  return warnings;
}

/** The footer with changes of it. Throws `unsupported` for those that no VHD image stores. */
export function changedFooter(footer: Footer, changes: ImageChanges, path: string): Footer {
  const { comment, geometry = {}, uuid, modificationUuid, parentUuid, parentModificationUuid } = changes;
  checkGeometry(geometry);
  const refused = [
    [typeof comment === 'string' && comment !== '', 'comment'],
    [typeof modificationUuid === 'string', 'modification UUID'],
    [typeof parentUuid === 'string', 'parent UUID'],
    [typeof parentModificationUuid === 'string', 'modification UUID of the parent'],
    [geometry.logical !== null && geometry.logical !== undefined, 'logical geometry'],
  ].find(([given]) => given);
  if (refused !== undefined) {
    throw new ImageError('unsupported', `This VHD image cannot store a ${refused[1]}`, { path });
  }
  const { physical } = geometry;
  const { cylinders, heads, sectors } = physical === null ? geometryFor(footer.currentSize) : (physical ?? footer);
  if (cylinders > 0xffff) {
    throw new ImageError('invalid-argument', 'The geometry has too many cylinders for a VHD image', {
      path,
      found: cylinders,
      expected: 'at most 65535',
    });
  }
  const stored = uuid === undefined ? footer.uuid : uuid === null ? NULL_GUID : normalizeGuid(uuid);
  return { ...footer, cylinders, heads, sectors, uuid: stored };
}
