/**
 * vd.h's open flags as numbers, for C programs: translated to disk options, and to the flags that VirtualBox opens a
 * file with. Not used by the library itself.
 */
import { checkArguments, FLAG, WHOLE } from '../../arguments.ts';
import { ImageError } from '../../errors.ts';
import type { DiskOpenOptions } from '../options.ts';

/** `VD_OPEN_FLAGS_*` of vd.h. */
export const OPEN_FLAGS = {
  readOnly: 0x001,
  honourZeroes: 0x002,
  honourSame: 0x004,
  info: 0x008,
  asyncIo: 0x010,
  shareable: 0x020,
  sequential: 0x040,
  discard: 0x080,
  ignoreFlush: 0x100,
  informAboutZeroBlocks: 0x200,
  skipConsistencyChecks: 0x400,
} as const;

const MASK = 0x7ff;

/**
 * `RTFILE_O_*` flags of VirtualBox's runtime used for images.
 */
const FILE = {
  read: 0x1,
  readWrite: 0x3,
  denyWrite: 0x20,
  denyNone: 0x80,
  create: 0x200,
  open: 0x700,
  notContentIndexed: 0x800,
} as const;

function checkFlags(flags: number): void {
  if (!Number.isInteger(flags) || (flags & ~MASK) !== 0) {
    throw new ImageError('invalid-argument', 'The open flags are not valid', {
      found: `0x${flags.toString(16)}`,
      expected: `bits of 0x${MASK.toString(16)}`,
    });
  }
  if ((flags & OPEN_FLAGS.skipConsistencyChecks) !== 0 && (flags & OPEN_FLAGS.readOnly) === 0) {
    throw new ImageError('invalid-argument', 'Consistency checks can be skipped for reading only', {
      found: `0x${flags.toString(16)}`,
      hint: 'Add the flag for read-only.',
    });
  }
}

/**
 * Disk options for a word of `VD_OPEN_FLAGS_*`: writing falls back to reading, as in VirtualBox. Flags for default
 * behaviour (asynchronous requests, reporting of unallocated ranges, reading damaged images) have no option. Throws
 * `invalid-argument` for bits unknown to vd.h.
 */
export function openOptionsOf(flags: number): DiskOpenOptions {
  checkArguments('openOptionsOf', { flags: [flags, WHOLE] });
  checkFlags(flags);
  const has = (bit: number): boolean => (flags & bit) !== 0;
  const reads = has(OPEN_FLAGS.readOnly);
  return {
    mode: reads ? 'read' : 'write',
    ...(reads ? {} : { readOnlyFallback: true }),
    ...(has(OPEN_FLAGS.honourZeroes) ? { honourZeroes: true } : {}),
    ...(has(OPEN_FLAGS.honourSame) ? { honourSame: true } : {}),
    ...(has(OPEN_FLAGS.info) ? { infoOnly: true } : {}),
    ...(has(OPEN_FLAGS.shareable) ? { shareable: true } : {}),
    ...(has(OPEN_FLAGS.sequential) ? { sequential: true } : {}),
    ...(has(OPEN_FLAGS.ignoreFlush) ? { ignoreFlush: true } : {}),
    discard: has(OPEN_FLAGS.discard),
  };
}

/**
 * vd.h's `VDOpenFlagsToFileOpenFlags`: the `RTFILE_O_*` word for opening or creating an image with these flags. Throws
 * `invalid-argument` for bits unknown to vd.h, and for creating a read-only image.
 */
export function fileOpenFlags(flags: number, create: boolean): number {
  checkArguments('fileOpenFlags', { flags: [flags, WHOLE], create: [create, FLAG] });
  checkFlags(flags);
  const reads = (flags & OPEN_FLAGS.readOnly) !== 0;
  if (reads && create) {
    throw new ImageError('invalid-argument', 'A file opened for reading only cannot be created', {
      found: `0x${flags.toString(16)}`,
      hint: 'Remove the read-only flag.',
    });
  }
  const shared = reads || (flags & OPEN_FLAGS.shareable) !== 0;
  const access = (reads ? FILE.read : FILE.readWrite) | (shared ? FILE.denyNone : FILE.denyWrite);
  return access | (create ? FILE.create | FILE.notContentIndexed : FILE.open);
}
