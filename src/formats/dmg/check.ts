/** The check of a DMG: every chunk is decoded, and all checksums are compared. */
import { crc32 } from '../../binary/crc32.ts';
import { crc32Zeroes } from '../../binary/crc32-zeroes.ts';
import { isImageError } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { Turns } from '../../storage/turns.ts';
import { DmgImage } from './image.ts';
import { SUM, SUM_BITS, TYPE } from './layout.ts';
import { openSource } from './source.ts';
import type { DmgChunk, DmgTable } from './tables.ts';
import type { Trailer } from './trailer.ts';

/** Bytes read at a time. */
const PIECE = 1024 * 1024;
/** Small steps that such a piece counts as. */
const PIECE_STEPS = 128;

/** Checks an image. Throws for a file of another format, and for tables that cannot be read. */
export async function checkImage(files: ImageFiles, { signal }: OperationOptions): Promise<readonly Finding[]> {
  const source = await openSource(files);
  const { trailer, tables, data, segments } = source;
  const found = new FindingList();
  const work = { storage: data, image: new DmgImage(source), found, turns: new Turns(signal, 'The check') };
  for (const warning of work.image.info.warnings) found.add('warning', 'trailer', warning, { repairable: false });
  for (const [index, table] of tables.entries()) await checkTable(work, table, index);
  // Of several files nothing tells which data the checksum is of; the tables have theirs.
  if (segments.length === 0) await checkDataFork(work, trailer);
  checkMaster(found, trailer, tables);
  return found.list;
}

interface Work {
  readonly storage: Storage;
  readonly image: DmgImage;
  readonly found: FindingList;
  readonly turns: Turns;
}

async function checkTable(work: Work, table: DmgTable, index: number): Promise<void> {
  let sum: number | null = 0;
  for (const chunk of table.chunks) {
    try {
      sum = await sumOf(work, chunk, sum ?? 0);
    } catch (error) {
      if (!isImageError(error) || error.kind === 'aborted' || error.kind === 'io') throw error;
      const { guestOffset, fileOffset } = chunk;
      const say = `The chunk for the disk's offset ${guestOffset} cannot be read: ${error.message}.`;
      work.found.add('corruption', 'chunk', say, { guestOffset, fileOffset, repairable: false });
      return;
    }
  }
  if (table.sum === null || table.sum === sum) return;
  const say = `The content of table ${index} (${table.name}) does not have the checksum that is stored for it.`;
  work.found.add('corruption', 'table-checksum', say, { guestOffset: table.guestOffset, repairable: false });
}

/** The checksum continued over a chunk. */
async function sumOf({ storage, image, turns }: Work, chunk: DmgChunk, previous: number): Promise<number> {
  const turn = turns.take();
  if (turn !== undefined) await turn;
  const { type, guestOffset, size } = chunk;
  if (type === TYPE.ignore) return previous;
  if (type === TYPE.zero) return crc32Zeroes(size, previous);
  image.map(guestOffset, size);
  let sum = previous;
  const piece = new Uint8Array(Math.min(PIECE, size));
  for (let at = 0; at < size; at += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, size - at));
    if (type === TYPE.raw) await storage.read(chunk.fileOffset + at, part);
    else await image.readEncoded(guestOffset + at, part);
    const wait = turns.take(PIECE_STEPS);
    if (wait !== undefined) await wait;
    sum = crc32(part, sum);
  }
  return sum;
}

async function checkDataFork({ storage, found, turns }: Work, trailer: Trailer): Promise<void> {
  const { dataSumKind, dataSumBits, dataSum, dataOffset, dataLength } = trailer;
  if (dataSumKind !== SUM.crc32 || dataSumBits !== SUM_BITS) return;
  let sum = 0;
  const piece = new Uint8Array(Math.min(PIECE, dataLength));
  for (let at = 0; at < dataLength; at += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, dataLength - at));
    await storage.read(dataOffset + at, part);
    const wait = turns.take(PIECE_STEPS);
    if (wait !== undefined) await wait;
    sum = crc32(part, sum);
  }
  if (sum === dataSum) return;
  const say = 'The data of the image does not have the checksum that is stored for it.';
  found.add('corruption', 'data-checksum', say, { fileOffset: dataOffset, repairable: false });
}

/** The master checksum is that of the checksums of all tables. */
function checkMaster(found: FindingList, trailer: Trailer, tables: readonly DmgTable[]): void {
  const { masterSumKind, masterSumBits, masterSum, fileOffset } = trailer;
  if (masterSumKind !== SUM.crc32 || masterSumBits !== SUM_BITS || tables.length === 0) return;
  const sums = new DataView(new ArrayBuffer(4 * tables.length));
  for (const [index, { sum }] of tables.entries()) {
    if (sum === null) return;
    sums.setUint32(4 * index, sum);
  }
  if (crc32(new Uint8Array(sums.buffer)) === masterSum) return;
  const say = 'The checksums of the block tables do not have the checksum that is stored for them.';
  found.add('corruption', 'master-checksum', say, { fileOffset, repairable: false });
}
