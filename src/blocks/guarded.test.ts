import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { ImageError } from '../errors.ts';
import { ChangeGuard, imageReadOnly } from './guarded.ts';

describe('ChangeGuard', () => {
  it('lets changes pass that end well', async () => {
    const guard = new ChangeGuard('/image');
    expect(await guard.run(async () => 7)).toBe(7);
    guard.settle(true);
    guard.check();
    expect(guard.failed).toBe(false);
  });

  it.each([
    ['a change', (guard: ChangeGuard) => guard.run(() => Promise.reject(new ImageError('no-space', 'full')))],
    ['an error that is not ours', (guard: ChangeGuard) => guard.run(() => Promise.reject(new Error('a fault')))],
    ['a flush', async (guard: ChangeGuard) => guard.settle(false)],
    ['something that is told', async (guard: ChangeGuard) => guard.fail()],
  ])('refuses changes after %s failed', async (_what, fail) => {
    const guard = new ChangeGuard('/image');
    await fail(guard).catch(() => {});
    expect(guard.failed).toBe(true);
    await expectKind(() => guard.check(), 'io');
    expect(() => guard.check()).toThrow(
      expect.objectContaining({ context: expect.objectContaining({ path: '/image' }) }),
    );
    // A flush that ends well later does not mend it.
    guard.settle(true);
    await expectKind(() => guard.check(), 'io');
  });

  it('gives the error of the change on, and goes on after one that was cancelled', async () => {
    const guard = new ChangeGuard('/image');
    await expectKind(() => guard.run(() => Promise.reject(new ImageError('no-space', 'full'))), 'no-space');
    const other = new ChangeGuard('/image');
    await expectKind(() => other.run(() => Promise.reject(new ImageError('aborted', 'cancelled'))), 'aborted');
    other.check();
  });
});

describe('imageReadOnly', () => {
  it('names the image', () => {
    expect(imageReadOnly('/image')).toMatchObject({ kind: 'read-only', context: { path: '/image' } });
  });
});
