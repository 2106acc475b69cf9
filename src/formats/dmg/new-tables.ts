/** The end of a new DMG: a property list with one block table, and the trailer. As plain as VirtualBox needs it. */
import { crc32 } from '../../binary/crc32.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { CHUNK, MAGIC, SUM, SUM_BITS, TABLE, TABLE_MAGIC, TRAILER, TYPE, VERSION } from './layout.ts';

/** A chunk in the file. */
export interface WrittenChunk {
  readonly guestOffset: number;
  readonly size: number;
  readonly fileOffset: number;
  readonly storedBytes: number;
}

/** An image whose data is written. */
export interface Written {
  /** In the order of the disk. */
  readonly chunks: readonly WrittenChunk[];
  /** Kind of the chunks. */
  readonly type: number;
  readonly size: number;
  readonly unit: number;
  readonly dataLength: number;
  readonly sums: { readonly table: number; readonly data: number };
}

const NAME = 'whole disk (unknown partition : 0)';
/** Sectors that readers need beside those of a chunk, as Apple states them. */
const BUFFERS = 8;
const DEVICE = 0xffff_fffe;
const FLATTENED = 1;
/** Bytes that become letters at a time: a multiple of 3. */
const LETTERS = 3 * 4096;

/** Tables and trailer, which follow the data. */
export function endOf(written: Written): Uint8Array {
  const { dataLength, size, sums } = written;
  const list = new TextEncoder().encode(propertyList(tableOf(written)));
  const master = new Uint8Array(4);
  new DataView(master.buffer).setUint32(0, sums.table);
  const trailer = TRAILER.encode({
    magic: MAGIC,
    version: VERSION,
    headerSize: TRAILER.size,
    flags: FLATTENED,
    runningOffset: 0,
    dataOffset: 0,
    dataLength,
    forkOffset: 0,
    forkLength: 0,
    segment: 1,
    segments: 1,
    segmentId: new Uint8Array(16),
    dataSumKind: SUM.crc32,
    dataSumBits: SUM_BITS,
    dataSum: sums.data,
    dataSumRest: new Uint8Array(124),
    xmlOffset: dataLength,
    xmlLength: list.length,
    reserved1: new Uint8Array(64),
    signatureOffset: 0,
    signatureLength: 0,
    reserved2: new Uint8Array(40),
    masterSumKind: SUM.crc32,
    masterSumBits: SUM_BITS,
    masterSum: crc32(master),
    masterSumRest: new Uint8Array(124),
    variant: 1,
    sectorCount: size / SECTOR,
    reserved3: new Uint8Array(12),
  });
  const bytes = new Uint8Array(list.length + TRAILER.size);
  bytes.set(list);
  bytes.set(trailer, list.length);
  return bytes;
}

function tableOf({ chunks, type, size, unit, dataLength, sums }: Written): Uint8Array {
  const rows: Uint8Array[] = [];
  const row = (kind: number, start: number, end: number, offset: number, length: number): void => {
    const [sector, sectorCount] = [start / SECTOR, (end - start) / SECTOR];
    rows.push(CHUNK.encode({ type: kind, comment: 0, sector, sectorCount, offset, length }));
  };
  let [guest, file] = [0, 0];
  for (const { guestOffset, size: length, fileOffset, storedBytes } of chunks) {
    if (guestOffset > guest) row(TYPE.ignore, guest, guestOffset, file, 0);
    row(type, guestOffset, guestOffset + length, fileOffset, storedBytes);
    [guest, file] = [guestOffset + length, fileOffset + storedBytes];
  }
  if (guest < size) row(TYPE.ignore, guest, size, file, 0);
  row(TYPE.end, size, size, dataLength, 0);
  const header = TABLE.encode({
    magic: TABLE_MAGIC,
    version: 1,
    firstSector: 0,
    sectorCount: size / SECTOR,
    dataOffset: 0,
    buffers: unit / SECTOR + BUFFERS,
    descriptor: DEVICE,
    reserved: new Uint8Array(24),
    sumKind: SUM.crc32,
    sumBits: SUM_BITS,
    sum: sums.table,
    sumRest: new Uint8Array(124),
    chunkCount: rows.length,
  });
  const table = new Uint8Array(TABLE.size + rows.length * CHUNK.size);
  table.set(header);
  for (const [index, bytes] of rows.entries()) table.set(bytes, TABLE.size + index * CHUNK.size);
  return table;
}

function propertyList(table: Uint8Array): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>resource-fork</key>
	<dict>
		<key>blkx</key>
		<array>
			<dict>
				<key>Attributes</key>
				<string>0x0050</string>
				<key>CFName</key>
				<string>${NAME}</string>
				<key>Data</key>
				<data>
				${base64(table)}
				</data>
				<key>ID</key>
				<string>0</string>
				<key>Name</key>
				<string>${NAME}</string>
			</dict>
		</array>
	</dict>
</dict>
</plist>
`;
}

function base64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += LETTERS) {
    let letters = '';
    for (const byte of bytes.subarray(at, at + LETTERS)) letters += String.fromCharCode(byte);
    text += btoa(letters);
  }
  return text;
}
