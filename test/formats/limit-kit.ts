/**
 * The part of a format's kit about the bounds in its `limits.ts`. `test/hostile/limits.test.ts` reaches each of them and
 * goes past it.
 */

/** A way to a bound. */
export interface BoundTest {
  /** Reads or makes an image with this amount of what is bounded, and returns the amount found. Rejects beyond the bound. */
  reach(amount: number): Promise<number>;
  /** Distance from the bound to the next amount that an image can have. Default 1. */
  readonly step?: number;
}

/** Bounds of a format, and the way to each. */
export interface LimitKit<Bounds extends Readonly<Record<string, number>> = Readonly<Record<string, number>>> {
  /** The object exported by the format's `limits.ts`. */
  readonly bounds: Bounds;
  readonly tests: { readonly [Name in keyof Bounds]: BoundTest };
}
