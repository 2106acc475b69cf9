/** Allocated runs of one image, in any stored form. */
import { assert } from '../../errors.ts';
import type { Image, Mapping } from '../../image/contract.ts';
import type { OperationOptions, ReadTarget } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';

/** A run allocated in the image itself. */
export type StoredMapping = Extract<Mapping, { readonly kind: 'data' | 'encoded' }>;

/** True for a run allocated in the image. */
export function isStored(mapping: Mapping): mapping is StoredMapping {
  return mapping.kind === 'data' || mapping.kind === 'encoded';
}

/** Fills the target from a run of the image, or from a part of it that begins there. */
export function readStored(
  image: Image,
  mapping: StoredMapping,
  offset: number,
  target: Uint8Array,
  options?: OperationOptions,
): Promise<void> {
  return mapping.kind === 'data'
    ? readPadded(mapping.storage, mapping.fileOffset, target, options)
    : readEncoded(image, offset, target, options);
}

/** Lets the image decode its own stored form. */
export function readEncoded(
  image: Image,
  offset: number,
  target: ReadTarget,
  options?: OperationOptions,
): Promise<void> {
  assert(image.readEncoded !== undefined, 'an image with encoded runs reads them');
  return image.readEncoded(offset, target, options);
}
