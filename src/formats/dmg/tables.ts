/** The block tables of a DMG: found in its property list or its resource fork, checked, and put into the order of the disk. */
import { hasText } from '../../binary/look.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { CHUNK, DMG_LIMITS, FORK, TABLE, TABLE_MAGIC, TYPE } from './layout.ts';
import type { Trailer } from './trailer.ts';

/** A block table as it is stored. */
export interface NamedTable {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** One chunk of the disk. */
export interface DmgChunk {
  readonly type: number;
  readonly guestOffset: number;
  /** Bytes of the disk, at least a sector. */
  readonly size: number;
  readonly fileOffset: number;
  readonly storedBytes: number;
}

/** A block table. */
export interface DmgTable {
  readonly name: string;
  readonly guestOffset: number;
  readonly size: number;
  /** CRC-32 of what its chunks hold; null where it has none, or another kind. */
  readonly sum: number | null;
  /** In the order of the table. */
  readonly chunks: readonly DmgChunk[];
}

const DISK_MAX = Number.MAX_SAFE_INTEGER;

/** All tables, in their order in the file; none: the data fork is the plain disk. Throws `corrupt`, `limit`. */
export async function readTables(storage: Storage, trailer: Trailer): Promise<DmgTable[]> {
  const { label: path } = storage;
  const { xmlOffset, xmlLength, forkOffset, forkLength } = trailer;
  let found: NamedTable[] = [];
  if (xmlLength > 0) {
    const bytes = await readPart(storage, 'property list', xmlOffset, xmlLength);
    found = (await import('./plist.ts')).tablesIn(bytes, path).filter(isTable);
  }
  if (found.length === 0 && forkLength > 0) {
    found = forkTables(await readPart(storage, 'resource fork', forkOffset, forkLength)).filter(isTable);
  }
  if (found.length === 0 && (xmlLength > 0 || forkLength > 0)) {
    throw new ImageError('corrupt', 'The DMG has no block table, which says where its disk lies', { path });
  }
  return found.map((table, index) => parseTable(table, index, trailer, path));
}

async function readPart(storage: Storage, field: string, offset: number, length: number): Promise<Uint8Array> {
  if (length > DMG_LIMITS.tablesBytes) {
    throw new ImageError('limit', `The ${field} of the DMG is too long`, {
      path: storage.label,
      field,
      found: `${length} bytes`,
      expected: `at most ${DMG_LIMITS.tablesBytes} bytes`,
    });
  }
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}

function isTable({ bytes }: NamedTable): boolean {
  return bytes.length >= TABLE.size + CHUNK.size && hasText(bytes, 0, TABLE_MAGIC);
}

/** The data of a classic resource fork: lengths and bytes behind each other. */
function forkTables(fork: Uint8Array): NamedTable[] {
  const tables: NamedTable[] = [];
  if (fork.length < FORK.size) return tables;
  const { dataOffset, dataLength } = FORK.decode(fork);
  const end = Math.min(dataOffset + dataLength, fork.length);
  const view = new DataView(fork.buffer, fork.byteOffset, fork.length);
  for (let at = dataOffset; at + 4 <= end; ) {
    const length = view.getUint32(at);
    if (at + 4 + length > end) break;
    tables.push({ name: '', bytes: fork.subarray(at + 4, at + 4 + length) });
    at += 4 + length;
  }
  return tables;
}

function parseTable({ name, bytes }: NamedTable, index: number, trailer: Trailer, path: string): DmgTable {
  const wrong = (field: string, found: string | number, expected: string): ImageError =>
    new ImageError('corrupt', 'A block table of the DMG is damaged', {
      path,
      field: `${field} of table ${index}`,
      found,
      expected,
    });
  const decode = <T>(work: () => T, field: string): T => {
    try {
      return work();
    } catch {
      throw wrong(field, 'a number of more than 53 bits', 'a place in a file or a disk');
    }
  };
  const { firstSector, sectorCount, dataOffset, sumKind, sum, chunkCount } = decode(
    () => TABLE.decode(bytes),
    'header',
  );
  if (TABLE.size + chunkCount * CHUNK.size > bytes.length) {
    throw wrong('chunk count', chunkCount, `at most ${Math.floor((bytes.length - TABLE.size) / CHUNK.size)}`);
  }
  const chunks: DmgChunk[] = [];
  for (let number = 0; number < chunkCount; number++) {
    const chunk = decode(() => CHUNK.decode(bytes, TABLE.size + number * CHUNK.size), `chunk ${number}`);
    if (chunk.type === TYPE.end) break;
    if (chunk.type === TYPE.comment || chunk.sectorCount === 0) continue;
    const guestOffset = (firstSector + chunk.sector) * SECTOR;
    const size = chunk.sectorCount * SECTOR;
    if (guestOffset + size > DISK_MAX) {
      throw wrong(`chunk ${number}`, `${chunk.sectorCount} sectors`, 'a place inside a disk');
    }
    const fileOffset = trailer.dataOffset + dataOffset + chunk.offset;
    chunks.push({ type: chunk.type, guestOffset, size, fileOffset, storedBytes: chunk.length });
  }
  const size = sectorCount * SECTOR;
  return { name, guestOffset: firstSector * SECTOR, size, sum: sumKind === 2 ? sum : null, chunks };
}

/** All chunks in the order of the disk. Throws `corrupt` where two of them overlap. */
export function sortedChunks(tables: readonly DmgTable[], path: string): DmgChunk[] {
  const chunks = tables.flatMap((table) => table.chunks);
  chunks.sort((one, other) => one.guestOffset - other.guestOffset);
  let end = 0;
  for (const { guestOffset, size } of chunks) {
    if (guestOffset < end) {
      throw new ImageError('corrupt', 'Two chunks of the DMG hold the same part of the disk', {
        path,
        guestOffset,
        expected: `no chunk before ${end}`,
      });
    }
    end = guestOffset + size;
  }
  return chunks;
}
