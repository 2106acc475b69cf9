/**
 * Decoding and checking of VDI headers: after `parseHeader` returns, the rest of this format may trust every number.
 */

import { isNullGuid } from '../../binary/guid.ts';
import { alignDown, alignUp, divCeil, isPowerOfTwo, SECTOR } from '../../binary/numbers.ts';
import { type ErrorDetails, hex32, ImageError, withContext } from '../../errors.ts';
import type { Geometry } from '../../image/geometry.ts';
import { LIMITS } from '../../limits.ts';
import {
  FLAGS_KNOWN,
  HEADER,
  HEADER_SIZE_1_1,
  HEADER_SIZE_1_1_PLUS,
  IMAGE_TYPE,
  OLD_HEADER,
  PREHEADER,
  SIGNATURE,
  VERSION_0_2,
} from './layout.ts';
import { VDI_LIMITS } from './limits.ts';

/** Checked content of a header. */
export interface VdiHeader {
  readonly version: string;
  /** The layout before 1.0, which is read-only. */
  readonly old: boolean;
  readonly type: number;
  readonly flags: number;
  readonly comment: string;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Guest bytes, a multiple of 512. */
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly blockExtra: number;
  /** Entries in the map; the first `ceil(virtualSize / blockSize)` are used. */
  readonly blockCount: number;
  readonly blocksAllocated: number;
  readonly uuid: string | null;
  readonly modificationUuid: string | null;
  readonly parentUuid: string | null;
  readonly parentModificationUuid: string | null;
  /** True when unallocated blocks come from a parent, even if the header does not identify it. */
  readonly differencing: boolean;
  readonly physical: Geometry | null;
  readonly logical: Geometry | null;
  readonly warnings: readonly string[];
}

interface RawHeader {
  readonly version: number;
  readonly old: boolean;
  readonly headerSize: number;
  readonly type: number;
  readonly flags: number;
  readonly comment: string;
  readonly mapOffset: number;
  readonly dataOffset: number;
  readonly diskSize: number;
  readonly blockSize: number;
  readonly blockExtra: number;
  readonly blockCount: number;
  readonly blocksAllocated: number;
  readonly uuid: string;
  readonly modificationUuid: string;
  readonly parentUuid: string;
  readonly parentModificationUuid: string | null;
  readonly physical: Geometry;
  readonly logical: (Geometry & { readonly sectorSize: number }) | null;
}

/** Decodes and checks the first 512 bytes of a file. Throws `invalid-format`, `unsupported`, `limit` or `corrupt`. */
export function parseHeader(sector: Uint8Array, fileSize: number, path: string): VdiHeader {
  try {
    return checkHeader(decodeHeader(sector, fileSize), fileSize);
  } catch (error) {
    throw withContext(error, { path });
  }
}

function invalid(message: string, details: ErrorDetails): ImageError {
  return new ImageError('invalid-format', message, { status: 'VERR_VD_VDI_INVALID_HEADER', ...details });
}

function decodeHeader(sector: Uint8Array, fileSize: number): RawHeader {
  const signature = HEADER.get(sector, 'signature');
  if (fileSize < PREHEADER || signature !== SIGNATURE) {
    throw new ImageError('invalid-format', 'This is not a VDI image: the signature does not match', {
      status: 'VERR_VD_VDI_INVALID_SIGNATURE',
      offset: HEADER.fields.signature.offset,
      field: 'signature',
      found: hex32(signature),
      expected: hex32(SIGNATURE),
    });
  }
  const version = HEADER.get(sector, 'version');
  if (version === VERSION_0_2) return decodeOld(sector, fileSize);
  if (version >>> 16 !== 1) {
    throw new ImageError('unsupported', 'This version of VDI is not supported', {
      status: 'VERR_VD_VDI_UNSUPPORTED_VERSION',
      offset: HEADER.fields.version.offset,
      field: 'version',
      found: hex32(version),
      expected: '1.1 or 0.2',
    });
  }
  const headerSize = HEADER.get(sector, 'headerSize');
  if (headerSize < HEADER_SIZE_1_1 || fileSize < PREHEADER + HEADER_SIZE_1_1) {
    throw invalid('The VDI header is too short', {
      offset: HEADER.fields.headerSize.offset,
      field: 'headerSize',
      found: Math.min(headerSize, fileSize),
      expected: `at least ${HEADER_SIZE_1_1}`,
    });
  }
  const raw = HEADER.decode(sector);
  return {
    ...raw,
    old: false,
    physical: { cylinders: raw.physicalCylinders, heads: raw.physicalHeads, sectors: raw.physicalSectors },
    logical:
      headerSize < HEADER_SIZE_1_1_PLUS
        ? null
        : {
            cylinders: raw.logicalCylinders,
            heads: raw.logicalHeads,
            sectors: raw.logicalSectors,
            sectorSize: raw.logicalSectorSize,
          },
  };
}

/** The header before 1.0: the map follows at 420, the data after the map. */
function decodeOld(sector: Uint8Array, fileSize: number): RawHeader {
  if (fileSize < OLD_HEADER.size) {
    throw invalid('The VDI header is cut off', { found: `${fileSize} bytes`, expected: `${OLD_HEADER.size} bytes` });
  }
  const raw = OLD_HEADER.decode(sector);
  return {
    ...raw,
    old: true,
    headerSize: OLD_HEADER.size,
    mapOffset: OLD_HEADER.size,
    dataOffset: OLD_HEADER.size + 4 * raw.blockCount,
    blockExtra: 0,
    parentModificationUuid: null,
    physical: { cylinders: raw.physicalCylinders, heads: raw.physicalHeads, sectors: raw.physicalSectors },
    logical: null,
  };
}

function checkHeader(raw: RawHeader, fileSize: number): VdiHeader {
  checkKind(raw);
  checkSizes(raw);
  checkPlaces(raw, fileSize);
  const warnings: string[] = [];
  if (raw.diskSize % SECTOR !== 0) {
    warnings.push(`The disk size ${raw.diskSize} is not a multiple of 512; the partial sector at the end is ignored.`);
  }
  if (isNullGuid(raw.modificationUuid)) warnings.push('The modification UUID is null; VirtualBox refuses such images.');
  if (isNullGuid(raw.uuid)) warnings.push('The image has no UUID, so it cannot be the parent of a differencing image.');
  const kind = parentKind(raw);
  if (kind === 'merged') {
    warnings.push('The differencing image has no parent UUID; ranges that it does not store read as zero.');
  }
  if (kind === 'unnamed') warnings.push('The differencing image does not identify its parent.');
  if (raw.type === IMAGE_TYPE.undo) warnings.push('This is an undo image, an obsolete kind of differencing image.');
  return {
    version: raw.old ? '0.2' : `${raw.version >>> 16}.${raw.version & 0xffff}`,
    old: raw.old,
    type: raw.type,
    flags: raw.flags,
    comment: raw.comment,
    mapOffset: raw.mapOffset,
    dataOffset: raw.dataOffset,
    virtualSize: alignDown(raw.diskSize, SECTOR),
    blockSize: raw.blockSize,
    blockExtra: raw.blockExtra,
    blockCount: raw.blockCount,
    blocksAllocated: raw.blocksAllocated,
    uuid: known(raw.uuid),
    modificationUuid: known(raw.modificationUuid),
    parentUuid: known(raw.parentUuid),
    parentModificationUuid: known(raw.parentModificationUuid),
    differencing: kind === 'named' || kind === 'unnamed',
    physical: raw.physical.cylinders === 0 ? null : raw.physical,
    logical: raw.logical === null || raw.logical.cylinders === 0 ? null : geometryOf(raw.logical),
    warnings,
  };
}

/**
 * Kind of parent. `unnamed`: a parent without a UUID cannot be stored in the header. `merged`: VirtualBox merged the
 * base into the image, which is complete since; it clears the UUID of the parent but leaves its modification UUID.
 */
function parentKind(raw: RawHeader): 'none' | 'named' | 'unnamed' | 'merged' {
  if (!isNullGuid(raw.parentUuid)) return 'named';
  if (raw.type !== IMAGE_TYPE.diff && raw.type !== IMAGE_TYPE.undo) return 'none';
  return known(raw.parentModificationUuid) === null ? 'unnamed' : 'merged';
}

function known(uuid: string | null): string | null {
  return uuid === null || isNullGuid(uuid) ? null : uuid;
}

function geometryOf(logical: Geometry): Geometry {
  return { cylinders: logical.cylinders, heads: logical.heads, sectors: logical.sectors };
}

function checkKind(raw: RawHeader): void {
  if (raw.type < IMAGE_TYPE.dynamic || raw.type > IMAGE_TYPE.diff) {
    throw invalid('The image type is unknown', {
      offset: raw.old ? OLD_HEADER.fields.type.offset : HEADER.fields.type.offset,
      field: 'type',
      found: raw.type,
      expected: '1 (dynamic), 2 (fixed), 3 (undo) or 4 (differencing)',
    });
  }
  if (!raw.old && (raw.flags & ~FLAGS_KNOWN) !== 0) {
    throw invalid('The image has unknown flags', {
      offset: HEADER.fields.flags.offset,
      field: 'flags',
      found: hex32(raw.flags),
      expected: `no bits outside ${hex32(FLAGS_KNOWN)}`,
    });
  }
  if (raw.logical !== null && raw.logical.sectorSize !== SECTOR) {
    throw invalid('The sector size of the logical geometry is not 512', {
      offset: HEADER.fields.logicalSectorSize.offset,
      field: 'logicalSectorSize',
      found: raw.logical.sectorSize,
      expected: SECTOR,
    });
  }
}

function checkSizes(raw: RawHeader): void {
  const fields = raw.old ? OLD_HEADER.fields : HEADER.fields;
  if (!isPowerOfTwo(raw.blockSize) || raw.blockSize < LIMITS.blockSizeMin || raw.blockSize > LIMITS.blockSizeMax) {
    throw invalid('The block size is not valid', {
      offset: fields.blockSize.offset,
      field: 'blockSize',
      found: raw.blockSize,
      expected: `a power of two from ${LIMITS.blockSizeMin} to ${LIMITS.blockSizeMax}`,
    });
  }
  const extraFits = raw.blockExtra === 0 || (isPowerOfTwo(raw.blockExtra) && raw.blockExtra <= LIMITS.blockSizeMax);
  if (!extraFits) {
    throw invalid('The number of extra bytes per block is not valid', {
      offset: HEADER.fields.blockExtra.offset,
      field: 'blockExtra',
      found: raw.blockExtra,
      expected: `0 or a power of two up to ${LIMITS.blockSizeMax}`,
    });
  }
  if (raw.diskSize < SECTOR) {
    throw invalid('The disk size is 0', {
      offset: fields.diskSize.offset,
      field: 'diskSize',
      found: raw.diskSize,
      expected: 'at least 512',
    });
  }
  const needed = divCeil(alignDown(raw.diskSize, SECTOR), raw.blockSize);
  if (raw.blockCount < needed) {
    throw invalid('The block map is too short for the disk', {
      offset: fields.blockCount.offset,
      field: 'blockCount',
      found: raw.blockCount,
      expected: `at least ${needed}`,
    });
  }
  if (raw.blockCount > VDI_LIMITS.blocks) {
    throw new ImageError('limit', 'The block map exceeds its size limit', {
      offset: fields.blockCount.offset,
      field: 'blockCount',
      found: raw.blockCount,
      expected: `at most ${VDI_LIMITS.blocks}`,
    });
  }
}

function checkPlaces(raw: RawHeader, fileSize: number): void {
  const mapEnd = raw.mapOffset + 4 * raw.blockCount;
  const headerEnd = raw.old ? OLD_HEADER.size : PREHEADER + HEADER_SIZE_1_1;
  if (raw.mapOffset < headerEnd) {
    throw invalid('The block map overlaps the header', {
      offset: HEADER.fields.mapOffset.offset,
      field: 'mapOffset',
      found: raw.mapOffset,
      expected: `at least ${headerEnd}`,
    });
  }
  if (raw.mapOffset % 4 !== 0) {
    throw invalid('The block map does not begin at a multiple of 4', {
      offset: HEADER.fields.mapOffset.offset,
      field: 'mapOffset',
      found: raw.mapOffset,
      expected: 'a multiple of 4',
    });
  }
  if (raw.dataOffset < mapEnd) {
    throw invalid('The data area overlaps the block map', {
      offset: HEADER.fields.dataOffset.offset,
      field: 'dataOffset',
      found: raw.dataOffset,
      expected: `at least ${mapEnd}`,
    });
  }
  if (mapEnd > fileSize) {
    throw new ImageError('corrupt', 'The file ends inside the block map: the image was cut off', {
      offset: raw.mapOffset,
      field: 'block map',
      found: `a file of ${fileSize} bytes`,
      expected: `at least ${mapEnd} bytes`,
      hint: 'Copy the image again from where it came from.',
    });
  }
}

/** Reason why a sound image is read-only, or null: entries and header must be writable sector by sector. */
export function layoutObstacle(header: VdiHeader): string | null {
  const mapEnd = header.mapOffset + 4 * header.blockCount;
  if (header.old) return 'images of version 0.2 can only be read; convert it in order to write';
  if (header.type === IMAGE_TYPE.undo) return 'undo images can only be read';
  if (header.mapOffset < SECTOR) return 'its block map shares a sector with the header; convert it to write';
  if (alignUp(mapEnd, SECTOR) > header.dataOffset)
    return 'its block map shares a sector with data; convert it to write';
  return null;
}
