/** DMG images put together by hand: a chunk of each kind, with tables in a property list or in a resource fork. */
import { zlibSync } from 'fflate';
import { crc32 } from '../../../src/binary/crc32.ts';
import { SECTOR } from '../../../src/binary/numbers.ts';
import { CHUNK, FORK, TABLE, TRAILER, TYPE } from '../../../src/formats/dmg/layout.ts';

/** A chunk: its kind and its part of the disk. */
export interface MadeChunk {
  readonly type: number;
  readonly content: Uint8Array;
  /** Stored instead of what its kind makes of the content. */
  readonly stored?: Uint8Array;
}

/** A table: chunks behind each other, from a sector on. */
export interface MadeTable {
  readonly name: string;
  readonly firstSector: number;
  readonly chunks: readonly MadeChunk[];
}

/** An image to put together. */
export interface DmgRecipe {
  readonly tables: readonly MadeTable[];
  readonly sectors: number;
  readonly where: 'xml' | 'fork';
  /** Replaces the property list that belongs to the tables. */
  readonly xml?: string;
  /** Bytes before the data, which chunks do not count. */
  readonly dataOffset?: number;
  /** Bytes behind the trailer. */
  readonly behind?: number;
  /** Changes a chunk of a table before it is stored. */
  readonly lie?: (chunk: ReturnType<typeof CHUNK.decode>, number: number) => ReturnType<typeof CHUNK.decode>;
}

/** A made image, with the places of its structures. */
export interface MadeDmg {
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
  readonly trailerOffset: number;
  /** File offsets of the tables, where they are in a resource fork. */
  readonly tableOffsets: readonly number[];
}

/** 1024 bytes in the forms of programs that have encoders: bzip2 and xz. */
const STORED_BZIP2 =
  'QlpoOTFBWSZTWRkx5Z8AAAD/////////////////////////////////////////////wAHdKiIG1VUAaGgNAAMjJiNAAaAGTIGTTBMhkAAMJo0MgBoGmgDTQNNDQyAZBoMTRkBiaAAGmRoA0AACTAATAAEwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAASYACYAAmAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAkqlAANGjTEANMgBppo00BkBoaaAZNABoMgaAA0aBoaABkyMTTEBoGgAMmho0Gho0ZBoaABoDCA0nquwnw4MKAFBChJxogUUKMFHCkBcKUhiRS0UxDGimoYhN9SRU0VRFVRVkVdFYRWUVpDjXAroMYMgV4K+DKDKhmRYEM6MA0hYQsQNQWMLIFlCzBZwtAWkLUk3JPDeBaALSBagLWBbALaA4AOIFuAt4F3STYkm1JNgPt1BuBvC5IvKL0i9oviLeK+icBOKL0i9oviG8L6D66odkX9DujAIwKMEhuDBhhAwoYYMOGIDEg8BigxYNq1+NB5B6DHBjwyAZEMkD2GTDKBlQbFlll1mFmVmlm1nFnVEvgZ8NAD6GhDRA1rPGfNAaEhDRGjNIaU0xCmnIY1BqTVEg1GsNaa415DmwIg2JsjZm0NqRJtiKNubg3I0qLW6W7W8UYurvTfG/OAcE4RwyOI84hxTjHHJA5AzrkrlLlqRUkpNcxSi5q5ylV6eedA6J0jpnUXZUku0u2u4q0SZ3TvEod88BKkseE8R4zyEueU8x5yYl2HoXpXqXrXsXtXuTSe8+B8T5EyfM+h9T7H3PwTRNk4Tp+T9H7P4f0/xPH/F3JFOFCQGTHlnw=';
const STORED_XZ =
  '/Td6WFoAAAFpIt42AgAhARYAAAB0L+Wj4AP/ARxdAAAAUlAKhPmbsoAhqWnWJ+A+BlpfBI1T1AS6OVcFCcFVJN6duHFZMWChn/lvSXPyyOqMuhqLKWkhgP4zg3sfRAqRRlh9ZnQaPrJUMsU3tszNPL/zpojVybEwqiqtJCn0V/fAqe5Ww9ABpRTxguAPdnTKHqLu7psMrlhXqpWJJjJEMXXire+NgyWLWz8Yv4fAOTc775SgXU9ZXpb8IUCV8ww8vWnX0c+Ej6nIZtuDmIhMbgv4ypcasydXQhGyYCoous3Z6zmu21fQ673kXtBbcsQ7R8a+kx+2hFX3kVLQr4LNZe84wPVHxvUXZlzMflJSszzPs9QTjK3YQmYmgeRYyfK6Bm6h6t8z6XaCVgKznF8AdC1YTE7Vi5TJU+gAAK7SKKoAAbQCgAgAAF0xhNs+MA2LAgAAAAABWVo=';

/** The bytes that the two forms hold. */
export function storedContent(): Uint8Array {
  return Uint8Array.from({ length: 1024 }, (_, at) => (at >> 6) ** 2 + (at & 63));
}

/** Puts an image together. */
export function buildDmg(recipe: DmgRecipe): MadeDmg {
  const { tables, sectors, where, dataOffset = 0, behind = 0, lie = (chunk) => chunk } = recipe;
  const content = new Uint8Array(sectors * SECTOR);
  const data: Uint8Array[] = [];
  let end = 0;
  const blobs = tables.map((table) => {
    let [sector, sum] = [0, 0];
    const rows = table.chunks.map(({ type, content: part, stored: own }, number) => {
      const stored = own ?? encode(type, part);
      if (type !== TYPE.ignore) sum = crc32(part, sum);
      content.set(part, (table.firstSector + sector) * SECTOR);
      const sectorCount = part.length / SECTOR;
      const row = { type, comment: 0, sector, sectorCount, offset: end, length: stored.length };
      data.push(stored);
      end += stored.length;
      sector += sectorCount;
      return CHUNK.encode(lie(row, number));
    });
    rows.push(CHUNK.encode({ type: TYPE.end, comment: 0, sector, sectorCount: 0, offset: end, length: 0 }));
    const header = TABLE.encode({
      magic: 'mish',
      version: 1,
      firstSector: table.firstSector,
      sectorCount: sector,
      dataOffset: 0,
      buffers: 0x208,
      descriptor: 0,
      reserved: new Uint8Array(24),
      sumKind: 2,
      sumBits: 32,
      sum,
      sumRest: new Uint8Array(124),
      chunkCount: rows.length,
    });
    return { sum, bytes: joined([header, ...rows]) };
  });
  const dataBytes = joined(data);
  const start = dataOffset + dataBytes.length;
  const meta = where === 'xml' ? new TextEncoder().encode(recipe.xml ?? plist(tables, blobs)) : fork(blobs);
  const trailerOffset = start + meta.length;
  const sums = new DataView(new ArrayBuffer(4 * blobs.length));
  for (const [index, { sum }] of blobs.entries()) sums.setUint32(4 * index, sum);
  const trailer = TRAILER.encode({
    magic: 'koly',
    version: 4,
    headerSize: 512,
    flags: 1,
    runningOffset: 0,
    dataOffset,
    dataLength: dataBytes.length,
    forkOffset: where === 'fork' ? start : 0,
    forkLength: where === 'fork' ? meta.length : 0,
    segment: 1,
    segments: 1,
    segmentId: new Uint8Array(16),
    dataSumKind: 2,
    dataSumBits: 32,
    dataSum: crc32(dataBytes),
    dataSumRest: new Uint8Array(124),
    xmlOffset: where === 'xml' ? start : 0,
    xmlLength: where === 'xml' ? meta.length : 0,
    reserved1: new Uint8Array(64),
    signatureOffset: 0,
    signatureLength: 0,
    reserved2: new Uint8Array(40),
    masterSumKind: 2,
    masterSumBits: 32,
    masterSum: crc32(new Uint8Array(sums.buffer)),
    masterSumRest: new Uint8Array(124),
    variant: 1,
    sectorCount: sectors,
    reserved3: new Uint8Array(12),
  });
  const tableOffsets: number[] = [];
  for (let at = start + FORK.size, index = 0; where === 'fork' && index < blobs.length; index++) {
    tableOffsets.push(at + 4);
    at += 4 + (blobs[index]?.bytes.length ?? 0);
  }
  const bytes = joined([new Uint8Array(dataOffset), dataBytes, meta, trailer, new Uint8Array(behind)]);
  return { bytes, content, trailerOffset, tableOffsets };
}

function encode(type: number, content: Uint8Array): Uint8Array {
  switch (type) {
    case TYPE.raw:
      return content;
    case TYPE.zlib:
      return zlibSync(content);
    case TYPE.adc:
      return adc(content);
    case TYPE.lzfse:
      return lzfse(content);
    case TYPE.bzip2:
      return decoded(STORED_BZIP2);
    case TYPE.lzma:
      return decoded(STORED_XZ);
    default:
      return new Uint8Array(0);
  }
}

/** Literals, and then one match of 4 bytes at a distance of 8. */
function adc(content: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < content.length; at += 128) {
    const part = content.subarray(at, at + 128);
    parts.push(Uint8Array.of(0x7f + part.length), part);
  }
  return joined(parts);
}

/** Half of it in a block of literals, the rest in LZVN codes for literals. */
function lzfse(content: Uint8Array): Uint8Array {
  const half = content.length >> 1;
  const codes: Uint8Array[] = [];
  for (let at = half; at < content.length; at += 256) {
    const part = content.subarray(at, at + 256);
    codes.push(Uint8Array.of(0xe0, part.length - 16), part);
  }
  codes.push(Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0));
  const payload = joined(codes);
  const text = (letters: string): Uint8Array => new TextEncoder().encode(letters);
  return joined([
    ...[text('bvx-'), u32(half), content.subarray(0, half)],
    ...[text('bvxn'), u32(content.length - half), u32(payload.length), payload],
    text('bvx$'),
  ]);
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function decoded(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function fork(blobs: readonly { readonly bytes: Uint8Array }[]): Uint8Array {
  const parts = blobs.flatMap(({ bytes }) => {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, bytes.length);
    return [length, bytes];
  });
  const data = joined(parts);
  const end = FORK.size + data.length;
  return joined([FORK.encode({ dataOffset: FORK.size, mapOffset: end, dataLength: data.length, mapLength: 0 }), data]);
}

/** A property list with these tables. */
export function plist(tables: readonly MadeTable[], blobs: readonly { readonly bytes: Uint8Array }[]): string {
  const entries = blobs.map(({ bytes }, index) => {
    const data = btoa(String.fromCharCode(...bytes));
    const name = tables[index]?.name.replace('&', '&amp;') ?? '';
    return `<dict><key>Attributes</key><string>0x0050</string><key>CFName</key><string>${name}</string>
<key>Data</key><data>\n${data}\n</data><key>ID</key><string>${index}</string><key>Name</key><string>${name}</string></dict>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array>${entries.join('')}</array></dict></dict></plist>\n`;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
