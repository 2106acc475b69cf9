/** Zip archives made by hand, in every form, and with what no program writes. */
import { crc32, deflateRawSync } from 'node:zlib';
import {
  ELSEWHERE,
  END,
  END64,
  ENTRY,
  FLAG,
  LOCAL,
  LOCATOR,
  SIGNATURE,
} from '../../src/formats/recognised/inside/zip-layout.ts';

type Entry = Parameters<typeof ENTRY.encode>[0];
type Local = Parameters<typeof LOCAL.encode>[0];
type End = Parameters<typeof END.encode>[0];

/** A member of an archive. */
export interface ZipPart {
  readonly name: string | Uint8Array;
  readonly content?: Uint8Array;
  /** Default 0, stored. */
  readonly method?: number;
  /** Sizes behind the data, as a program has it that writes to a pipe. */
  readonly streamed?: boolean;
  /** Numbers in the zip64 extra field. */
  readonly wide?: boolean;
  /** The bytes that are stored. Default: made by the method. */
  readonly stored?: Uint8Array;
  /** Fields that differ. */
  readonly entry?: Partial<Entry>;
  readonly local?: Partial<Local>;
}

/** Parts around the members. */
export interface ZipAround {
  readonly before?: Uint8Array;
  readonly behind?: Uint8Array;
  readonly comment?: Uint8Array;
  /** Bytes in front that the offsets count. Default 0: they count from the archive. */
  readonly counted?: number;
  /** A zip64 end record. */
  readonly wide?: boolean;
  readonly end?: Partial<End>;
}

/** The bytes of an archive. */
export function zipOf(parts: readonly ZipPart[], around: ZipAround = {}): Uint8Array {
  const { before = new Uint8Array(0), behind = new Uint8Array(0), counted = 0 } = around;
  const chunks: Uint8Array[] = [before];
  const directory: Uint8Array[] = [];
  let at = counted;
  for (const part of parts) {
    const { local, entry } = recordsOf(part, at);
    chunks.push(...local);
    directory.push(...entry);
    at += lengthOf(local);
  }
  return Uint8Array.from(
    Buffer.concat([...chunks, ...directory, ...endOf(parts.length, at, lengthOf(directory), around), behind]),
  );
}

function recordsOf(part: ZipPart, localOffset: number): { local: Uint8Array[]; entry: Uint8Array[] } {
  const { name, content = new Uint8Array(0), method = 0, streamed = false, wide = false } = part;
  const stored = part.stored ?? (method === 8 ? deflateRawSync(content) : content);
  const rawName = typeof name === 'string' ? Buffer.from(name) : name;
  const sizes = { crc: crc32(content), storedSize: stored.length, size: content.length };
  const shared = {
    needed: wide ? 45 : 20,
    flags: streamed ? FLAG.sizesBehind : 0,
    method,
    time: 0,
    date: 33,
    nameLength: rawName.length,
  };
  const extra = wide ? zip64Extra([sizes.size, sizes.storedSize, localOffset]) : new Uint8Array(0);
  const hidden = { storedSize: ELSEWHERE.u32, size: ELSEWHERE.u32 };
  const local = LOCAL.encode({
    signature: SIGNATURE.local,
    ...shared,
    ...sizes,
    ...(streamed ? { crc: 0, storedSize: 0, size: 0 } : wide ? hidden : {}),
    extraLength: extra.length,
    ...part.local,
  });
  const entry = ENTRY.encode({
    signature: SIGNATURE.entry,
    madeBy: 0x031e,
    ...shared,
    ...sizes,
    ...(wide ? hidden : {}),
    extraLength: extra.length,
    commentLength: 0,
    volume: 0,
    internal: 0,
    external: (0o100644 << 16) >>> 0,
    localOffset: wide ? ELSEWHERE.u32 : localOffset,
    ...part.entry,
  });
  const behind = streamed ? [descriptor(sizes, wide)] : [];
  return { local: [local, rawName, extra, stored, ...behind], entry: [entry, rawName, extra] };
}

function descriptor(
  { crc, storedSize, size }: { crc: number; storedSize: number; size: number },
  wide: boolean,
): Uint8Array {
  const bytes = Buffer.alloc(wide ? 24 : 16);
  bytes.write('PK\x07\x08', 0, 'latin1');
  bytes.writeUInt32LE(crc, 4);
  if (!wide) {
    bytes.writeUInt32LE(storedSize, 8);
    bytes.writeUInt32LE(size, 12);
    return bytes;
  }
  bytes.writeBigUInt64LE(BigInt(storedSize), 8);
  bytes.writeBigUInt64LE(BigInt(size), 16);
  return bytes;
}

function zip64Extra(numbers: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(4 + 8 * numbers.length);
  bytes.writeUInt16LE(1, 0);
  bytes.writeUInt16LE(8 * numbers.length, 2);
  for (const [at, number] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(number), 4 + 8 * at);
  return bytes;
}

function endOf(entries: number, offset: number, size: number, around: ZipAround): Uint8Array[] {
  const { wide = false, comment = new Uint8Array(0), before = new Uint8Array(0), counted = 0 } = around;
  const end = END.encode({
    signature: SIGNATURE.end,
    volume: 0,
    directoryVolume: 0,
    entriesHere: wide ? ELSEWHERE.u16 : entries,
    entries: wide ? ELSEWHERE.u16 : entries,
    directorySize: wide ? ELSEWHERE.u32 : size,
    directoryOffset: wide ? ELSEWHERE.u32 : offset,
    commentLength: comment.length,
    ...around.end,
  });
  if (!wide) return [end, comment];
  const end64 = END64.encode({
    signature: SIGNATURE.end64,
    recordSize: END64.size - 12,
    madeBy: 45,
    needed: 45,
    volume: 0,
    directoryVolume: 0,
    entriesHere: entries,
    entries,
    directorySize: size,
    directoryOffset: offset,
  });
  const endOffset = before.length - counted + offset + size;
  const locator = LOCATOR.encode({ signature: SIGNATURE.locator, volume: 0, endOffset, volumes: 1 });
  return [end64, locator, end, comment];
}

function lengthOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}
