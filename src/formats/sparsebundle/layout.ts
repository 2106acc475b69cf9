/** Apple's sparse bundles: names and keys in the directory. */

/** The property list, and the copy that is written beside it. */
export const LIST = 'Info.plist';
export const LIST_COPY = 'Info.bckup';
/** The directory of the bands. */
export const BANDS = 'bands';
/** The header of an encrypted bundle; empty in others. */
export const TOKEN = 'token';

export const BUNDLE_TYPE = 'com.apple.diskimage.sparsebundle';
export const VERSION = 1;
export const KEY = {
  type: 'diskimage-bundle-type',
  version: 'bundle-backingstore-version',
  bandBytes: 'band-size',
  diskBytes: 'size',
} as const;

/** A band is named by its number, in hexadecimal. */
export const BAND_NAME = /^(?:0|[1-9a-f][0-9a-f]{0,12})$/;

/** The first and the last letters of an encrypted token. */
export const ENCRYPTED_START = 'encrcdsa';
export const ENCRYPTED_END = 'cdsaencr';

/** Bounds that protect memory and time. */
export const LIMITS = {
  /** Bytes of the property list; Apple's have less than 1 KiB. */
  listBytes: 64 * 1024,
  /** Elements of it inside each other; Apple's have 3. */
  depth: 16,
  /** Sectors of a disk. */
  sectors: 2 ** 43,
  /** Stored bands, of which each takes some bytes of memory: 8 TiB in bands of 8 MiB. */
  bands: 2 ** 20,
  /** Files of bands that are open at a time. */
  open: 8,
} as const;
