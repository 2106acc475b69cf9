/** Failures are told apart by their kind, and nothing but an ImageError may come out. */
import { expect } from 'vitest';
import { type ErrorKind, ImageError } from '../../src/errors.ts';

/** Expects that the work throws or rejects with an ImageError of one of these kinds. */
export async function expectKind(work: () => unknown, ...kinds: readonly ErrorKind[]): Promise<void> {
  let failure: unknown;
  try {
    await work();
  } catch (error) {
    failure = error;
  }
  expect(failure, `a failure of kind ${kinds.join(' or ')}`).toBeInstanceOf(ImageError);
  if (failure instanceof ImageError) expect(kinds, failure.message).toContain(failure.kind);
}
