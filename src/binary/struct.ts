/**
 * Binary layouts as tables: one definition gives decode, encode, single-field access and the offset of every field,
 * so that a reader can lay it beside the specification. `struct` checks when the module loads that fields neither
 * overlap nor leave holes and end at the declared size.
 */
import { assert, ImageError } from '../errors.ts';
import { formatGuid, type GuidOrder, parseGuid } from './guid.ts';

export type Endian = 'little' | 'big';

/** One field: its offset, and the conversion between bytes and value. */
export interface Field<T> {
  readonly offset: number;
  readonly size: number;
  read(view: DataView, at: number, littleEndian: boolean): T;
  write(view: DataView, at: number, value: T, littleEndian: boolean): void;
}

type FieldTable = Record<string, Field<unknown>>;
type ValueOf<F> = F extends Field<infer T> ? T : never;
type Values<F extends FieldTable> = { -readonly [K in keyof F]: ValueOf<F[K]> };

/** The decoded form of a struct table. */
export type StructValue<S> = S extends Struct<infer F> ? Values<F> : never;

/** A layout; made by {@link struct}. */
export interface Struct<F extends FieldTable> {
  readonly size: number;
  readonly fields: F;
  /** Decodes all fields. Throws `invalid-format` when there are too few bytes. */
  decode(bytes: Uint8Array, at?: number): Values<F>;
  /** Encodes all fields into fresh bytes. Throws `invalid-argument` when a value does not fit its field. */
  encode(value: Values<F>): Uint8Array;
  /** Reads one field. */
  get<K extends keyof F>(bytes: Uint8Array, name: K, at?: number): ValueOf<F[K]>;
  /** Writes one field and leaves every other byte alone. */
  put<K extends keyof F>(bytes: Uint8Array, name: K, value: ValueOf<F[K]>, at?: number): void;
}

/** Defines a layout of `size` bytes. */
export function struct<F extends FieldTable>(endian: Endian, size: number, fields: F): Struct<F> {
  checkCoverage(size, fields);
  const littleEndian = endian === 'little';
  const entries = Object.entries(fields);

  return {
    size,
    fields,
    decode(bytes, at = 0) {
      const view = viewOf(bytes, at, size);
      const value: Record<string, unknown> = {};
      for (const [name, field] of entries) value[name] = field.read(view, field.offset, littleEndian);
      return value as Values<F>;
    },
    encode(value) {
      const bytes = new Uint8Array(size);
      const view = viewOf(bytes, 0, size);
      for (const [name, field] of entries) {
        writeField(name, field, view, (value as Record<string, unknown>)[name], littleEndian);
      }
      return bytes;
    },
    get(bytes, name, at = 0) {
      const field = fieldOf(fields, name);
      return field.read(viewOf(bytes, at, size), field.offset, littleEndian) as ValueOf<F[typeof name]>;
    },
    put(bytes, name, value, at = 0) {
      writeField(String(name), fieldOf(fields, name), viewOf(bytes, at, size), value, littleEndian);
    },
  };
}

function fieldOf<F extends FieldTable>(fields: F, name: keyof F): Field<unknown> {
  const field = fields[name];
  assert(field !== undefined, `field ${String(name)} exists`);
  return field;
}

function viewOf(bytes: Uint8Array, at: number, size: number): DataView {
  if (bytes.length - at < size) {
    throw new ImageError('invalid-format', 'The structure is cut off', {
      offset: at,
      found: `${Math.max(bytes.length - at, 0)} bytes`,
      expected: `${size} bytes`,
    });
  }
  return new DataView(bytes.buffer, bytes.byteOffset + at, size);
}

function writeField(name: string, field: Field<unknown>, view: DataView, value: unknown, littleEndian: boolean): void {
  try {
    field.write(view, field.offset, value, littleEndian);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ImageError('invalid-argument', 'The value does not fit into its field', {
      field: name,
      found: String(value),
      expected: error.message,
      cause: error,
    });
  }
}

function checkCoverage(size: number, fields: FieldTable): void {
  let end = 0;
  for (const [name, field] of Object.entries(fields)) {
    assert(field.offset === end, `struct field ${name} begins at ${field.offset}, where the one before ends at ${end}`);
    end += field.size;
  }
  assert(end === size, `struct ends at ${end}, declared ${size}`);
}

function unsigned(value: unknown, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`an integer from 0 to ${max}`);
  }
  return value;
}

/** Unsigned 8-bit integer. */
export function u8(offset: number): Field<number> {
  return {
    offset,
    size: 1,
    read: (view, at) => view.getUint8(at),
    write: (view, at, value) => view.setUint8(at, unsigned(value, 0xff)),
  };
}

/** Unsigned 16-bit integer. */
export function u16(offset: number): Field<number> {
  return {
    offset,
    size: 2,
    read: (view, at, le) => view.getUint16(at, le),
    write: (view, at, value, le) => view.setUint16(at, unsigned(value, 0xffff), le),
  };
}

/** Unsigned 32-bit integer. */
export function u32(offset: number): Field<number> {
  return {
    offset,
    size: 4,
    read: (view, at, le) => view.getUint32(at, le),
    write: (view, at, value, le) => view.setUint32(at, unsigned(value, 0xffff_ffff), le),
  };
}

/** Unsigned 64-bit integer as a bigint: flags, and numbers whose extreme values have meanings. */
export function u64(offset: number): Field<bigint> {
  return {
    offset,
    size: 8,
    read: (view, at, le) => view.getBigUint64(at, le),
    write: (view, at, value, le) => {
      if (typeof value !== 'bigint' || value < 0n || value > 0xffff_ffff_ffff_ffffn) {
        throw new RangeError('an integer from 0 to 2^64 - 1');
      }
      view.setBigUint64(at, value, le);
    },
  };
}

/** Unsigned 64-bit byte count as a number. Reading one above 2^53 - 1 throws `limit`. */
export function size64(offset: number): Field<number> {
  return {
    offset,
    size: 8,
    read: (view, at, le) => {
      const value = view.getBigUint64(at, le);
      if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw new ImageError('limit', 'The size is too large', {
          offset: at,
          found: value.toString(),
          expected: 'at most 2^53 - 1',
        });
      }
      return Number(value);
    },
    write: (view, at, value, le) => view.setBigUint64(at, BigInt(unsigned(value, Number.MAX_SAFE_INTEGER)), le),
  };
}

/** Raw bytes: reserved areas, checksummed blobs. Reading copies. */
export function bytes(offset: number, size: number): Field<Uint8Array> {
  return {
    offset,
    size,
    read: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, size).slice(),
    write: (view, at, value) => {
      if (!(value instanceof Uint8Array) || value.length !== size) throw new RangeError(`exactly ${size} bytes`);
      new Uint8Array(view.buffer, view.byteOffset + at, size).set(value);
    },
  };
}

/** Text padded with NULs, UTF-8 (so ASCII too). Reading stops at the first NUL; a missing NUL and bad UTF-8 are tolerated. */
export function text(offset: number, size: number): Field<string> {
  return {
    offset,
    size,
    read: (view, at) => {
      const raw = new Uint8Array(view.buffer, view.byteOffset + at, size);
      const end = raw.indexOf(0);
      return new TextDecoder().decode(raw.subarray(0, end === -1 ? size : end));
    },
    write: (view, at, value) => {
      const encoded = typeof value === 'string' ? new TextEncoder().encode(value) : undefined;
      if (encoded === undefined || encoded.length > size) throw new RangeError(`text of at most ${size} bytes`);
      const raw = new Uint8Array(view.buffer, view.byteOffset + at, size);
      raw.fill(0);
      raw.set(encoded);
    },
  };
}

/** A GUID as lower-case text, in either byte order. */
export function guid(offset: number, order: GuidOrder): Field<string> {
  return {
    offset,
    size: 16,
    read: (view, at) => formatGuid(new Uint8Array(view.buffer, view.byteOffset + at, 16), order),
    write: (view, at, value) => {
      new Uint8Array(view.buffer, view.byteOffset + at, 16).set(parseGuid(value, order));
    },
  };
}
