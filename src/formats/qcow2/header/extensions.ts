/** Header extensions (section "Header extensions"): a list of typed pieces between the header and the backing file name. */
import { alignUp } from '../../../binary/numbers.ts';
import type { StructValue } from '../../../binary/struct.ts';
import { type ErrorDetails, hex32, ImageError } from '../../../errors.ts';
import {
  BACKING_FORMAT_MAX,
  BITMAPS,
  CRYPT,
  ENCRYPTION,
  EXTENSION,
  EXTENSION_ALIGNMENT,
  EXTENSION_TYPE,
  FEATURE_NAME,
  type RawHeader,
} from '../layout.ts';
import { QCOW2_LIMITS } from '../limits.ts';
import { decodeFormat } from './backing-format.ts';

/** One extension as it is stored, known or not. */
export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Content of the known extensions; null where absent. */
export interface KnownExtensions {
  readonly backingFormat: string | null;
  readonly dataFileName: string | null;
  readonly featureNames: readonly StructValue<typeof FEATURE_NAME>[];
  readonly bitmaps: StructValue<typeof BITMAPS> | null;
  readonly encryption: StructValue<typeof ENCRYPTION> | null;
}

/**
 * QEMU's order, except that bitmaps come first: they change most, which is safest in the first sector. Unknown ones
 * follow.
 */
const ORDER: readonly number[] = [
  EXTENSION_TYPE.bitmaps,
  EXTENSION_TYPE.backingFormat,
  EXTENSION_TYPE.dataFile,
  EXTENSION_TYPE.encryption,
  EXTENSION_TYPE.featureNames,
];

/**
 * Decodes the extensions in `area`, the header cluster up to the backing file name. Throws `invalid-format`, `limit`.
 */
export function decodeExtensions(
  area: Uint8Array,
  header: Pick<RawHeader, 'headerLength' | 'cryptMethod'>,
): { readonly known: KnownExtensions; readonly extensions: readonly Extension[] } {
  const extensions: Extension[] = [];
  for (let at = header.headerLength; at + EXTENSION.size <= area.length; ) {
    const { type, length } = EXTENSION.decode(area, at);
    if (type === EXTENSION_TYPE.end) break;
    const start = at + EXTENSION.size;
    if (length > area.length - start) {
      throw invalid('A header extension does not fit into the header cluster', type, {
        offset: at,
        found: `${length} bytes`,
        expected: `at most ${area.length - start}`,
      });
    }
    if (extensions.some((one) => one.type === type)) {
      throw invalid('A header extension occurs twice', type, { offset: at });
    }
    if (extensions.length >= QCOW2_LIMITS.extensions) {
      throw new ImageError('limit', 'The header has too many extensions', {
        offset: at,
        expected: `at most ${QCOW2_LIMITS.extensions}`,
      });
    }
    extensions.push({ type, data: area.slice(start, start + length) });
    at = alignUp(start + length, EXTENSION_ALIGNMENT);
  }
  return { known: knownOf(extensions, header.cryptMethod), extensions };
}

/** The extensions as bytes, end marker included, in their order. */
export function encodeExtensions(extensions: readonly Extension[]): Uint8Array {
  const rank = ({ type }: Extension): number => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  const sorted = [...extensions].sort((a, b) => rank(a) - rank(b));
  const lengths = sorted.map(({ data }) => EXTENSION.size + alignUp(data.length, EXTENSION_ALIGNMENT));
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, EXTENSION.size));
  let at = 0;
  for (const { type, data } of sorted) {
    bytes.set(EXTENSION.encode({ type, length: data.length }), at);
    bytes.set(data, at + EXTENSION.size);
    at += EXTENSION.size + alignUp(data.length, EXTENSION_ALIGNMENT);
  }
  return bytes;
}

/** The list with one extension replaced, added, or (null) removed. */
export function withExtension(
  extensions: readonly Extension[],
  type: number,
  data: Uint8Array | null,
): readonly Extension[] {
  const others = extensions.filter((one) => one.type !== type);
  return data === null ? others : [...others, { type, data }];
}

function knownOf(extensions: readonly Extension[], cryptMethod: number): KnownExtensions {
  const find = (type: number): Uint8Array | null => extensions.find((one) => one.type === type)?.data ?? null;
  const format = find(EXTENSION_TYPE.backingFormat);
  if (format !== null && format.length > BACKING_FORMAT_MAX) {
    throw invalid('The name of the backing format is too long', EXTENSION_TYPE.backingFormat, {
      found: `${format.length} bytes`,
      expected: `at most ${BACKING_FORMAT_MAX}`,
    });
  }
  const encryption = exact(find(EXTENSION_TYPE.encryption), EXTENSION_TYPE.encryption, ENCRYPTION.size);
  if ((encryption !== null) !== (cryptMethod === CRYPT.luks)) {
    throw invalid('The encryption header does not match the encryption method', EXTENSION_TYPE.encryption, {
      found: `method ${cryptMethod}`,
    });
  }
  const bitmaps = exact(find(EXTENSION_TYPE.bitmaps), EXTENSION_TYPE.bitmaps, BITMAPS.size);
  return {
    backingFormat: format === null || format.length === 0 ? null : decodeFormat(format),
    dataFileName: textOf(find(EXTENSION_TYPE.dataFile)),
    featureNames: featureNames(find(EXTENSION_TYPE.featureNames)),
    bitmaps: bitmaps === null ? null : BITMAPS.decode(bitmaps),
    encryption: encryption === null ? null : ENCRYPTION.decode(encryption),
  };
}

function textOf(data: Uint8Array | null): string | null {
  return data === null || data.length === 0 ? null : new TextDecoder().decode(data);
}

/** Ignores a torn last entry: names are only for messages. */
function featureNames(data: Uint8Array | null): StructValue<typeof FEATURE_NAME>[] {
  const count = Math.floor((data?.length ?? 0) / FEATURE_NAME.size);
  return data === null
    ? []
    : Array.from({ length: Math.min(count, 256) }, (_, index) => FEATURE_NAME.decode(data, index * FEATURE_NAME.size));
}

function exact(data: Uint8Array | null, type: number, size: number): Uint8Array | null {
  if (data === null || data.length === size) return data;
  throw invalid('A header extension has the wrong length', type, {
    found: `${data.length} bytes`,
    expected: `${size} bytes`,
  });
}

function invalid(message: string, type: number, details: ErrorDetails): ImageError {
  return new ImageError('invalid-format', message, { field: `header extension ${hex32(type)}`, ...details });
}
