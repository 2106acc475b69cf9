import { describe, expect, it } from 'vitest';
import { fileOpenFlags, OPEN_FLAGS, openOptionsOf } from './open-flags.ts';

describe('the open flags of vd.h', () => {
  it.each([
    [OPEN_FLAGS.readOnly, false, 0x781],
    [0, false, 0x723],
    [OPEN_FLAGS.shareable, false, 0x783],
    [0, true, 0xa23],
    [OPEN_FLAGS.shareable, true, 0xa83],
    [OPEN_FLAGS.readOnly | OPEN_FLAGS.skipConsistencyChecks | OPEN_FLAGS.info, false, 0x781],
  ])('become the flags of a file: 0x%s, create %s', (flags, create, expected) => {
    expect(fileOpenFlags(flags, create)).toBe(expected);
  });

  it('cannot create what is only read', () => {
    expect(() => fileOpenFlags(OPEN_FLAGS.readOnly, true)).toThrow('cannot be created');
  });

  it('become options', () => {
    expect(openOptionsOf(0)).toEqual({ mode: 'write', readOnlyFallback: true, discard: false });
    expect(openOptionsOf(OPEN_FLAGS.readOnly | OPEN_FLAGS.skipConsistencyChecks | OPEN_FLAGS.asyncIo)).toEqual({
      mode: 'read',
      discard: false,
    });
    const all = OPEN_FLAGS.honourSame | OPEN_FLAGS.honourZeroes | OPEN_FLAGS.info | OPEN_FLAGS.shareable;
    const rest = OPEN_FLAGS.sequential | OPEN_FLAGS.discard | OPEN_FLAGS.ignoreFlush;
    expect(openOptionsOf(all | rest | OPEN_FLAGS.informAboutZeroBlocks)).toEqual({
      mode: 'write',
      readOnlyFallback: true,
      honourSame: true,
      honourZeroes: true,
      infoOnly: true,
      shareable: true,
      sequential: true,
      ignoreFlush: true,
      discard: true,
    });
  });

  it.each([0x800, -1, 0.5, OPEN_FLAGS.skipConsistencyChecks])('are refused when there are none such: %s', (flags) => {
    expect(() => openOptionsOf(flags)).toThrow(expect.objectContaining({ status: 'VERR_INVALID_PARAMETER' }));
    expect(() => fileOpenFlags(flags, false)).toThrow(expect.objectContaining({ status: 'VERR_INVALID_PARAMETER' }));
  });
});
