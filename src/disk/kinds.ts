/** Kinds of the arguments of the library's entry points. */
import {
  either,
  FLAG,
  isObject,
  kindOf,
  listOf,
  NAME,
  NUMBER,
  nullable,
  OBJECT,
  oneOf,
  optional,
  withFields,
  withMethods,
} from '../arguments.ts';
import { PROVIDER, STORAGE } from '../storage/checks.ts';
import type { BlockDevice } from './device.ts';

/** Formats, filters and caches. */
export const REGISTRY = withMethods('a Registry', 'find', 'findCache', 'findFilter');
/** A filter: its name, or one of the caller's own. */
export const FILTER = either(NAME, withMethods('a filter', 'open'));
/** A disk, or another device. */
export const DEVICE = withMethods('a disk or another device', 'read', 'write', 'extentAt', 'close');
/** True for a device, false for the place of an image. */
export function isDevice(source: unknown): source is BlockDevice {
  return DEVICE.misfit(source) === null;
}

/** An open disk: it has images. */
export const DISK = withMethods('a disk', 'read', 'write', 'extentAt', 'layers', 'identities');
/** The place of an image. */
export const SOURCE = either(
  NAME,
  withFields('an object with provider and name', { provider: PROVIDER, name: NAME }),
  withFields('an object with format and config', { format: NAME, config: OBJECT }),
);
const ENTRY_FIELDS = withFields('an object with an image', { image: SOURCE });
/** The place of an image, or a disk that is open. */
export const SOURCE_OR_DEVICE = either(SOURCE, DEVICE);
/** An image of a list. */
export const INPUT = either(SOURCE, ENTRY_FIELDS);
/** An image, or all images of a chain. */
export const INPUTS = either(INPUT, listOf(INPUT));
/** Number of an image. The chain checks whether it exists. */
export const NUMBER_OF_IMAGE = kindOf(
  'the number of an image, or "last"',
  (value) => value === 'last' || (typeof value === 'number' && !Number.isNaN(value)),
);
/** Ranges of the disk. The disk checks whether they lie inside. */
export const RANGES = listOf(withFields('an object with offset and length', { offset: NUMBER, length: NUMBER }));
/** Values for keys. */
export const CONFIG = kindOf(
  'an object with texts and numbers',
  (value) => isObject(value) && Object.values(value).every((one) => typeof one === 'string' || typeof one === 'number'),
);

/** The signal that ends an operation. */
export const SIGNAL = kindOf(
  'an AbortSignal',
  (value) => isObject(value) && 'aborted' in value && 'addEventListener' in value,
);
export const GATE = withMethods('a gate', 'open', 'candidates');
export const CACHE = withFields('an object with file', { file: SOURCE, size: optional(NUMBER) });
export const SIDES = withFields('an object with cylinders, heads and sectors', {
  cylinders: NUMBER,
  heads: NUMBER,
  sectors: NUMBER,
});
export const GEOMETRY = withFields('an object with physical and logical', {
  physical: optional(nullable(SIDES)),
  logical: optional(nullable(SIDES)),
});
export const WORDS = listOf(NAME);
const LEVEL = kindOf(
  'a level from 1 to 9',
  (value) => typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 9,
);
/** Compression: at all, by method, or by level. */
export const COMPRESS = either(FLAG, oneOf('zlib', 'zstd'), LEVEL);

export { PROVIDER, STORAGE };
