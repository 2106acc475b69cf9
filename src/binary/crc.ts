/** The engine behind CRC-32 and CRC-32C: reflected, eight bytes a step. */

const SLICES = 8;

/** Computes a checksum, or continues one: pass the result for the preceding bytes. */
export type Crc = (bytes: Uint8Array, previous?: number) => number;

/** A reflected 32-bit CRC that begins with all ones and is inverted at the end. Its tables are built at first use. */
export function makeCrc(polynomial: number): Crc {
  let tables: Uint32Array | null = null;
  return (bytes, previous = 0) => {
    tables ??= buildTables(polynomial);
    return update(tables, bytes, previous);
  };
}

/** Table `n` of 256 entries gives the effect of a byte `n` bytes before the end of a step. */
function buildTables(polynomial: number): Uint32Array {
  const tables = new Uint32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ polynomial;
    tables[byte] = crc;
  }
  for (let entry = 256; entry < tables.length; entry++) {
    const before = tables[entry - 256] ?? 0;
    tables[entry] = (before >>> 8) ^ (tables[before & 0xff] ?? 0);
  }
  return tables;
}

function update(tables: Uint32Array, bytes: Uint8Array, previous: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const table = (slice: number, byte: number): number => tables[slice * 256 + byte] ?? 0;
  let crc = ~previous;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const low = crc ^ view.getInt32(at, true);
    const high = view.getInt32(at + 4, true);
    crc =
      table(7, low & 0xff) ^
      table(6, (low >>> 8) & 0xff) ^
      table(5, (low >>> 16) & 0xff) ^
      table(4, low >>> 24) ^
      table(3, high & 0xff) ^
      table(2, (high >>> 8) & 0xff) ^
      table(1, (high >>> 16) & 0xff) ^
      table(0, high >>> 24);
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ table(0, (crc ^ view.getUint8(at)) & 0xff);
  return ~crc >>> 0;
}
